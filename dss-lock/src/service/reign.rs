//! The time in which this node leads, and what is only true within it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dss_raft::{
    Group, Leadership, NodeId, ProposeError, ReadError, RoleKind, StateMachine, Submitted, Term,
    Timestamp,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::Courier;
use super::deferral::Deferral;
use super::error::ServiceError;
use super::parked::Parked;
use crate::command::{Command, StampedCommand};
use crate::leases::Leases;
use crate::machine::LockMachine;
use crate::numbers::ClusterTime;
use crate::reply::Reply;
use crate::table::LockTable;

/// How long a request waits for a node that has just been elected to learn where it stands. That
/// takes a round to the others; a node that is not done by then is cut off.
const PREPARATION_MAX: Duration = Duration::from_secs(5);

/// What the service's methods and tasks share.
pub(super) struct Inner {
    pub(super) group: Group<LockMachine>,
    /// When this service's own time began.
    origin: Instant,
    /// The reign of this node, once it has learned where the cluster stands.
    pub(super) reign: watch::Sender<Option<Reign>>,
    leases: Mutex<Leases>,
    /// The next expiry has come nearer.
    pub(super) leases_changed: Notify,
    pub(super) parked: Arc<Parked>,
    pub(super) deferral: Deferral,
    pub(super) courier: Arc<dyn Courier>,
    pub(super) runtime: Handle,
}

/// A command on its way to the log.
pub(super) type Submission = Submitted<<LockMachine as StateMachine>::Reply>;

/// A term in which this node leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reign {
    pub(super) term: Term,
    /// The cluster's time when it began: that of the last command before it. While nobody led it
    /// stood still.
    base: ClusterTime,
    since: Instant,
}

impl Reign {
    pub(super) fn begin(term: Term, base: ClusterTime) -> Self {
        Self { term, base, since: Instant::now() }
    }

    /// The cluster's time.
    pub(super) fn now(&self) -> ClusterTime {
        self.base.plus_elapsed(self.since.elapsed())
    }

    /// How long it is until the cluster's time is `deadline`.
    pub(super) fn until(&self, deadline: ClusterTime) -> Duration {
        deadline.since(self.base).saturating_sub(self.since.elapsed())
    }
}

impl Inner {
    pub(super) fn new(
        group: Group<LockMachine>,
        courier: Arc<dyn Courier>,
        parked: Arc<Parked>,
    ) -> Self {
        Self {
            group,
            origin: Instant::now(),
            reign: watch::Sender::new(None),
            leases: Mutex::new(Leases::default()),
            leases_changed: Notify::new(),
            parked,
            deferral: Deferral::default(),
            courier,
            runtime: Handle::current(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::since_origin(self.origin.elapsed())
    }

    /// When the service's own time will be `deadline`.
    pub(super) fn instant(&self, deadline: Timestamp) -> Instant {
        // A time to live has an upper bound, so this cannot be out of range.
        self.origin + deadline.since(Timestamp::ZERO)
    }

    /// Looks at, or changes, what is known of who is alive.
    pub(super) fn with_leases<R>(&self, work: impl FnOnce(&mut Leases) -> R) -> R {
        let mut leases: MutexGuard<'_, Leases> =
            // Every change to it is whole before anything could panic.
            self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let before = leases.poll_timeout();
        let result = work(&mut leases);
        if let Some(after) = leases.poll_timeout()
            && before.is_none_or(|before| after < before)
        {
            self.leases_changed.notify_one();
        }
        result
    }

    pub(super) fn leadership(&self) -> Leadership {
        *self.group.leadership().borrow()
    }

    /// Says that it was not done here, and who may do it.
    pub(super) fn not_leader(&self) -> ServiceError {
        ServiceError::NotLeader { leader: self.known_leader() }
    }

    /// Another node that leads, so far as this one knows.
    pub(super) fn known_leader(&self) -> Option<NodeId> {
        let leadership = self.leadership();
        if leadership.role == RoleKind::Leader { None } else { leadership.leader }
    }

    /// The reign of this node. Where another leads that is said at once; where this one was
    /// elected just now it is waited for.
    pub(super) async fn reign(&self) -> Result<Reign, ServiceError> {
        let mut leadership = self.group.leadership();
        let mut reigns = self.reign.subscribe();
        let prepared = async {
            loop {
                let Leadership { role, term, .. } = *leadership.borrow_and_update();
                if role != RoleKind::Leader {
                    return Err(self.not_leader());
                }
                if let Some(reign) = *reigns.borrow_and_update()
                    && reign.term == term
                {
                    return Ok(reign);
                }
                let group_stopped = tokio::select! {
                    changed = leadership.changed() => changed.is_err(),
                    changed = reigns.changed() => changed.is_err(),
                };
                if group_stopped {
                    return Err(ServiceError::Unavailable);
                }
            }
        };
        timeout(PREPARATION_MAX, prepared).await.unwrap_or(Err(ServiceError::Unavailable))
    }

    /// Proposes a command, stamped with the cluster's time.
    pub(super) async fn propose(
        &self,
        reign: &Reign,
        command: Command,
    ) -> Result<Reply, ServiceError> {
        self.propose_what_is_deferred();
        Self::ended(self.submit(reign, command)?.await)
    }

    pub(super) fn submit(
        &self,
        reign: &Reign,
        command: Command,
    ) -> Result<Submission, ProposeError> {
        let stamped = StampedCommand { now: reign.now(), command };
        self.group.submit(stamped.encode())
    }

    /// What a proposal has come to.
    pub(super) fn ended(applied: <Submission as Future>::Output) -> Result<Reply, ServiceError> {
        // Only another version of this crate could refuse what this one has written.
        applied?.reply.map_err(|_| ServiceError::Unavailable)
    }

    /// Asks the table, once it is certain that this node leads as it did in `reign`: what was
    /// noted in its memory before is then known to whoever could contradict it.
    pub(super) async fn read_as_leader<R: Send + 'static>(
        &self,
        reign: &Reign,
        query: impl FnOnce(&LockTable) -> R + Send + 'static,
    ) -> Result<R, ServiceError> {
        // Whoever looks again and again sees everybody who has asked.
        self.propose_what_is_deferred();
        let read = self.group.read(move |machine| query(machine.table())).await;
        // A read is confirmed for whoever asks: only a look at the term tells that it was this
        // node that was confirmed. A change of leadership is published before later reads end.
        let Leadership { role, term, .. } = self.leadership();
        if role != RoleKind::Leader || term != reign.term {
            return Err(self.not_leader());
        }
        read.map_err(|error| match error {
            ReadError::NoLeader => self.not_leader(),
            ReadError::Overloaded => ServiceError::Overloaded,
            _ => ServiceError::Unavailable,
        })
    }

    /// Asks the table after everything that was proposed in `reign` has either been applied or
    /// been lost for good. `None` where that cannot be made certain within `limit`.
    pub(super) async fn read_after_reign<R: Send + 'static>(
        &self,
        reign: &Reign,
        limit: Duration,
        query: impl Fn(&LockTable) -> R + Clone + Send + 'static,
    ) -> Option<R> {
        /// Between two tries while no leader is known.
        const PAUSE: Duration = Duration::from_millis(50);
        let certain = async {
            let mut leadership = self.group.leadership();
            // A leader of a later term has all that was committed before, and commits an entry of
            // its own before it confirms a read: nothing older can follow.
            leadership.wait_for(|leadership| leadership.term > reign.term).await.ok()?;
            loop {
                let query = query.clone();
                match self.group.read(move |machine| query(machine.table())).await {
                    Ok(answer) => return Some(answer),
                    Err(ReadError::NoLeader | ReadError::Overloaded) => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(_) => return None,
                }
            }
        };
        timeout(limit, certain).await.ok().flatten()
    }
}
