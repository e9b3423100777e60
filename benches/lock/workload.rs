//! A lock table as a state machine drives it, and commands for it.

use dss_lock::{
    AcquireRequest, AttemptId, ClusterTime, Command, Event, LockName, LockTable, Mode, Outcome,
    Owner, OwnerId, ReleaseRequest, Reply, SessionId, Wait,
};

/// A table with a position in the log, as a state machine drives it.
#[derive(Clone, Default)]
pub(crate) struct Bench {
    pub(crate) table: LockTable,
    index: u64,
    events: Vec<Event>,
}

impl Bench {
    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.events.clear();
        self.table.apply_into(self.index, ClusterTime::ZERO, command, &mut self.events)
    }

    pub(crate) fn take(&mut self, owner: &Owner, lock: &LockName) {
        let reply = self.apply(acquire(owner, lock, Wait::Try));
        assert!(matches!(reply, Reply::Ended(Outcome::Granted(_))), "{reply:?}");
    }

    pub(crate) fn wait(&mut self, owner: &Owner, lock: &LockName) {
        assert_eq!(self.apply(acquire(owner, lock, Wait::Forever)), Reply::Waiting);
    }
}

pub(crate) fn acquire(owner: &Owner, lock: &LockName, wait: Wait) -> Command {
    let request = AcquireRequest {
        lock: lock.clone(),
        session: owner.session.clone(),
        owner: owner.owner.clone(),
        mode: Mode::Exclusive,
        wait,
        ttl: None,
        request_id: None,
        reentrant: false,
    };
    Command::Acquire { attempt: AttemptId::default(), request }
}

pub(crate) fn release(owner: &Owner, lock: &LockName) -> Command {
    let Owner { session, owner } = owner.clone();
    Command::Release(ReleaseRequest { lock: lock.clone(), session, owner, token: None })
}

pub(crate) fn cancel(owner: &Owner, lock: &LockName) -> Command {
    let attempt = AttemptId::default();
    Command::Cancel { attempt, locks: vec![lock.clone()], owner: owner.clone() }
}

/// Owners of sessions with a hundred each.
pub(crate) fn owners(count: usize) -> Vec<Owner> {
    let owner = |number: usize| Owner {
        session: SessionId::new(format!("worker-{}", number / 100)).expect("a good name"),
        owner: OwnerId::new(format!("task-{}", number % 100)).expect("a good name"),
    };
    (0..count).map(owner).collect()
}

pub(crate) fn locks(count: usize) -> Vec<LockName> {
    let lock = |number| LockName::new(format!("orders/{number}")).expect("a good name");
    (0..count).map(lock).collect()
}
