//! Guards: a session that keeps itself alive, and locks that are given back by themselves.

mod asking;
mod guard;
mod keeper;
mod request;
mod session;
mod several;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::guard::{LockGuard, LockLost};
pub use self::request::{LockRequest, WithLockError};
pub use self::session::{LockSession, SessionOptions, SessionOwner};
pub use self::several::LocksRequest;
use crate::command::{AcquireAllRequest, AcquireRequest, ReleaseRequest};
use crate::names::SessionId;
use crate::reply::Grant;
use crate::service::{
    AcquireError, LockService, ReleaseError, ServiceError, SessionError, SessionInfo,
};

/// What a [`LockSession`] works with: locks in this process, or those of a server.
#[async_trait]
pub trait Locks: Send + Sync + 'static {
    /// Opens a session, or takes over the one of this name.
    async fn open(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Duration,
    ) -> Result<SessionInfo, SessionError>;

    /// Renews a session that lives. Acknowledged only where no leader, now or later, counts it as
    /// dead before its full time from when this was sent.
    async fn renew(&self, session: SessionId) -> Result<SessionInfo, SessionError>;

    /// Ends a session.
    async fn close(&self, session: SessionId) -> Result<(), SessionError>;

    /// Asks for a lock, and waits. Dropping the future takes the request back, whatever has become
    /// of it. A repeat with the same request id is answered as the first one was.
    async fn acquire(&self, request: AcquireRequest) -> Result<Grant, AcquireError>;

    /// Asks for several locks, which are granted together or not at all, in the order of their
    /// names; otherwise like [`acquire`](Locks::acquire). What cannot do that refuses it with
    /// [`ServiceError::Unsupported`], as it does unless this is implemented.
    async fn acquire_all(&self, request: AcquireAllRequest) -> Result<Vec<Grant>, AcquireError> {
        let _ = request;
        Err(ServiceError::Unsupported.into())
    }

    /// Gives a lock back.
    async fn release(&self, request: ReleaseRequest) -> Result<(), ReleaseError>;

    /// Makes an exclusive hold shared.
    async fn downgrade(&self, request: ReleaseRequest) -> Result<Grant, ReleaseError>;
}

#[async_trait]
impl Locks for LockService {
    async fn open(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Duration,
    ) -> Result<SessionInfo, SessionError> {
        self.open_session_with_delay(session, ttl, lock_delay).await
    }

    async fn renew(&self, session: SessionId) -> Result<SessionInfo, SessionError> {
        self.renew_session(session).await
    }

    async fn close(&self, session: SessionId) -> Result<(), SessionError> {
        self.close_session(session).await
    }

    async fn acquire(&self, request: AcquireRequest) -> Result<Grant, AcquireError> {
        LockService::acquire(self, request).await
    }

    async fn acquire_all(&self, request: AcquireAllRequest) -> Result<Vec<Grant>, AcquireError> {
        LockService::acquire_all(self, request).await
    }

    async fn release(&self, request: ReleaseRequest) -> Result<(), ReleaseError> {
        LockService::release(self, request).await
    }

    async fn downgrade(&self, request: ReleaseRequest) -> Result<Grant, ReleaseError> {
        LockService::downgrade(self, request).await
    }
}

/// The services of several nodes in one process, of which whichever leads is asked.
#[derive(Debug, Clone)]
pub struct AnyLeader {
    services: Arc<[LockService]>,
}

impl AnyLeader {
    /// Asks these, in turn.
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = LockService>) -> Self {
        Self { services: services.into_iter().collect() }
    }
}

fn session_elsewhere(error: &SessionError) -> bool {
    matches!(error, SessionError::Service(ServiceError::NotLeader { .. }))
}

fn release_elsewhere(error: &ReleaseError) -> bool {
    matches!(error, ReleaseError::Service(ServiceError::NotLeader { .. }))
}

#[async_trait]
impl Locks for AnyLeader {
    async fn open(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Duration,
    ) -> Result<SessionInfo, SessionError> {
        for service in self.services.iter() {
            match service.open_session_with_delay(session.clone(), ttl, lock_delay).await {
                Err(error) if session_elsewhere(&error) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }

    async fn renew(&self, session: SessionId) -> Result<SessionInfo, SessionError> {
        for service in self.services.iter() {
            match service.renew_session(session.clone()).await {
                Err(error) if session_elsewhere(&error) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }

    async fn close(&self, session: SessionId) -> Result<(), SessionError> {
        for service in self.services.iter() {
            match service.close_session(session.clone()).await {
                Err(error) if session_elsewhere(&error) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }

    async fn acquire(&self, request: AcquireRequest) -> Result<Grant, AcquireError> {
        for service in self.services.iter() {
            match LockService::acquire(service, request.clone()).await {
                Err(AcquireError::Service(ServiceError::NotLeader { .. })) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }

    async fn acquire_all(&self, request: AcquireAllRequest) -> Result<Vec<Grant>, AcquireError> {
        for service in self.services.iter() {
            match LockService::acquire_all(service, request.clone()).await {
                Err(AcquireError::Service(ServiceError::NotLeader { .. })) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }

    async fn release(&self, request: ReleaseRequest) -> Result<(), ReleaseError> {
        for service in self.services.iter() {
            match LockService::release(service, request.clone()).await {
                Err(error) if release_elsewhere(&error) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }

    async fn downgrade(&self, request: ReleaseRequest) -> Result<Grant, ReleaseError> {
        for service in self.services.iter() {
            match LockService::downgrade(service, request.clone()).await {
                Err(error) if release_elsewhere(&error) => {}
                answer => return answer,
            }
        }
        Err(ServiceError::NotLeader { leader: None }.into())
    }
}
