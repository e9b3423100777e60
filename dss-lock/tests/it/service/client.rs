//! Guards over the service of three nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dss_lock::{
    AcquireAllRequest, AcquireError, AcquireRequest, AnyLeader, Grant, LockGuard, LockLost,
    LockSession, Locks, Mode, OwnerId, ReleaseError, ReleaseRequest, ServiceError, SessionError,
    SessionId, SessionInfo, SessionOptions, WithLockError,
};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, Services, end, millis};
use crate::script::{lock, session};

const TTL: Duration = Duration::from_secs(4);

/// What a client sees of a cluster, with faults of its own.
pub(crate) struct Link {
    services: Services,
    /// Nothing comes through.
    pub(crate) cut: AtomicBool,
    /// The server's time to live is shorter by so many thousandths than the client thinks, which
    /// is a client whose clock runs slow by as much.
    pub(crate) slow_permille: AtomicU32,
}

impl Link {
    pub(crate) fn new(cluster: &Cluster) -> Arc<Self> {
        let services = Arc::clone(&cluster.services);
        Arc::new(Self { services, cut: AtomicBool::new(false), slow_permille: AtomicU32::new(0) })
    }

    /// The nodes that run.
    fn to(&self) -> AnyLeader {
        AnyLeader::new(self.services.lock().unwrap().values().cloned())
    }

    /// A request that is not answered while nothing comes through.
    async fn pass(&self) -> Result<(), ServiceError> {
        if !self.cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        sleep(millis(100)).await;
        Err(ServiceError::OutcomeUnknown)
    }
}

#[async_trait]
impl Locks for Link {
    async fn open(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Duration,
    ) -> Result<SessionInfo, SessionError> {
        self.pass().await?;
        let ttl = ttl * (1_000 - self.slow_permille.load(Ordering::Relaxed)) / 1_000;
        self.to().open(session, ttl, lock_delay).await
    }

    async fn renew(&self, session: SessionId) -> Result<SessionInfo, SessionError> {
        self.pass().await?;
        self.to().renew(session).await
    }

    async fn close(&self, session: SessionId) -> Result<(), SessionError> {
        self.pass().await?;
        self.to().close(session).await
    }

    async fn acquire(&self, request: AcquireRequest) -> Result<Grant, AcquireError> {
        self.pass().await?;
        self.to().acquire(request).await
    }

    async fn acquire_all(&self, request: AcquireAllRequest) -> Result<Vec<Grant>, AcquireError> {
        self.pass().await?;
        self.to().acquire_all(request).await
    }

    async fn release(&self, request: ReleaseRequest) -> Result<(), ReleaseError> {
        self.pass().await?;
        self.to().release(request).await
    }

    async fn downgrade(&self, request: ReleaseRequest) -> Result<Grant, ReleaseError> {
        self.pass().await?;
        self.to().downgrade(request).await
    }
}

pub(crate) async fn open(link: &Arc<Link>, name: &str) -> LockSession {
    let options = SessionOptions::new(session(name)).ttl(TTL);
    LockSession::open(Arc::clone(link) as Arc<dyn Locks>, options).await.unwrap()
}

fn owner(name: &str) -> OwnerId {
    OwnerId::new(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_gives_its_lock_to_the_next() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let (a, b) = (open(&link, "a").await, open(&link, "b").await);
    let first = a.lock(lock("l")).acquire().await.unwrap();
    let refused = b.lock(lock("l")).try_acquire().await;
    assert!(matches!(refused, Err(AcquireError::Held { .. })), "{refused:?}");
    let token = first.token();
    let waiting = tokio::spawn(async move {
        b.lock(lock("l")).exclusive().timeout(Duration::from_secs(9)).acquire().await
    });
    sleep(millis(200)).await;
    drop(first);
    assert!(end(waiting).await.unwrap().token() > token);
}

#[tokio::test(start_paused = true)]
async fn a_guard_outlives_many_times_to_live_and_a_change_of_leaders() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let a = open(&link, "a").await;
    let guard = a.lock(lock("l")).acquire().await.unwrap();
    for _ in 0..4 {
        cluster.transfer().await;
        sleep(TTL * 2).await;
        assert_eq!(guard.check(), Ok(guard.token()));
    }
    assert_eq!(guard.release().await, Ok(()));
    assert_eq!(cluster.state("l").await, (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_at_any_moment_leaves_neither_lock_nor_guard() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let (a, b) = (open(&link, "a").await, open(&link, "b").await);
    for pause in 0..30 {
        let held = a.lock(lock("l")).acquire().await.unwrap();
        let asking = b.lock(lock("l"));
        let asking = tokio::spawn(async move { asking.acquire().await.map(drop) });
        for _ in 0..pause {
            tokio::task::yield_now().await;
        }
        drop(held);
        for _ in 0..pause {
            tokio::task::yield_now().await;
        }
        asking.abort();
        cluster.becomes("l", &[], 0).await;
        // Neither the owner nor the lock is left in a strange state.
        let again = timeout(Duration::from_secs(5), b.lock(lock("l")).acquire()).await;
        assert_eq!(again.unwrap().unwrap().release().await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_cut_off_knows_before_anybody_else_gets_the_lock() {
    let cluster = Cluster::start().await;
    let (near, far) = (Link::new(&cluster), Link::new(&cluster));
    let (a, b) = (open(&far, "a").await, open(&near, "b").await);
    let guard = a.lock(lock("l")).acquire().await.unwrap();
    let next = tokio::spawn(async move {
        let guard = b.lock(lock("l")).acquire().await.unwrap();
        (Instant::now(), guard)
    });
    sleep(TTL / 2).await;
    far.cut.store(true, Ordering::Relaxed);
    assert_eq!(guard.lost().await, LockLost::NotRenewed);
    let lost_at = Instant::now();
    assert_eq!(guard.check(), Err(LockLost::NotRenewed));
    let (granted_at, _guard) = end(next).await;
    assert!(granted_at > lost_at, "granted {:?} too early", lost_at - granted_at);
    far.cut.store(false, Ordering::Relaxed);
    // The session never comes back to life.
    sleep(TTL).await;
    assert_eq!(guard.check(), Err(LockLost::NotRenewed));
    let refused = a.lock(lock("other")).acquire().await;
    assert!(matches!(refused, Err(AcquireError::SessionExpired)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_forced_release_and_a_closed_session_are_noticed() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let a = open(&link, "a").await;
    let (taken, kept) =
        (a.lock(lock("1")).acquire().await.unwrap(), a.lock(lock("2")).acquire().await.unwrap());
    cluster.led().await.force_release(lock("1")).await.unwrap();
    assert_eq!(timeout(TTL / 2, taken.lost()).await, Ok(LockLost::Revoked));
    assert!(kept.check().is_ok());
    // It can be asked for again, and what the lost guard does is no business of the new one.
    let again = a.lock(lock("1")).acquire().await.unwrap();
    drop(taken);
    sleep(millis(500)).await;
    assert!(again.check().is_ok());
    assert_eq!(cluster.state("1").await, (vec!["a".into()], 0));
    cluster.led().await.close_session(session("a")).await.unwrap();
    assert_eq!(timeout(TTL / 2, kept.lost()).await, Ok(LockLost::Expired));
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_when_its_lock_is_lost() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let a = open(&link, "a").await;
    let done = a.lock(lock("l")).with_lock(async |token| token.get()).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(cluster.state("l").await, (vec![], 0));
    let dropped = Arc::new(AtomicBool::new(false));
    let noted = Dropped(Arc::clone(&dropped));
    let working = tokio::spawn(async move {
        let endless = async move |_| {
            let _noted = noted;
            std::future::pending::<()>().await;
        };
        a.lock(lock("l")).with_lock(endless).await
    });
    sleep(TTL * 2).await;
    assert!(!dropped.load(Ordering::Relaxed));
    link.cut.store(true, Ordering::Relaxed);
    assert_eq!(end(working).await, Err(WithLockError::Lost(LockLost::NotRenewed)));
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn an_owner_shares_what_it_holds_among_its_guards() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let a = open(&link, "a").await;
    let me = a.owner(owner("me"));
    let reader = me.lock(lock("l")).shared().acquire().await.unwrap();
    let shared = reader.token();
    let writer = me.lock(lock("l")).exclusive().acquire().await.unwrap();
    assert!(reader.token() > shared && reader.token() == writer.token());
    assert_eq!(reader.mode(), Mode::Exclusive);
    assert_eq!(writer.downgrade().await, Ok(()));
    let other = a.owner(owner("other")).lock(lock("l")).shared().try_acquire().await;
    assert!(other.is_ok(), "{other:?}");
    drop(other);
    assert_eq!(writer.release().await, Ok(()));
    assert!(reader.check().is_ok());
    assert_eq!(reader.release().await, Ok(()));
    cluster.becomes("l", &[], 0).await;
    let _both: [LockGuard; 1] = [me.lock(lock("l")).acquire().await.unwrap()];
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_between_owners_is_told_to_the_one_that_closes_it() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let (a, b) = (open(&link, "a").await, open(&link, "b").await);
    let (one, two) =
        (a.lock(lock("1")).acquire().await.unwrap(), b.lock(lock("2")).acquire().await.unwrap());
    let crossing = a.lock(lock("2"));
    let waiting = tokio::spawn(async move { crossing.acquire().await });
    sleep(millis(200)).await;
    let refused = b.lock(lock("1")).acquire().await;
    let cycle = vec![session("b"), session("a")];
    assert_eq!(refused.err(), Some(AcquireError::Deadlock { cycle }));
    drop(two);
    assert!(end(waiting).await.is_ok());
    drop(one);
    let history = cluster.led().await.deadlocks().await.unwrap();
    assert_eq!((history.len(), history[0].lock.as_str()), (1, "1"));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_last_handle() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let a = open(&link, "a").await;
    let guard = a.lock(lock("l")).acquire().await.unwrap();
    drop(a);
    sleep(TTL * 2).await;
    assert!(guard.check().is_ok());
    drop(guard);
    sleep(millis(200)).await;
    let gone = cluster.led().await.session(session("a")).await;
    assert_eq!(gone, Err(SessionError::Expired));
}
