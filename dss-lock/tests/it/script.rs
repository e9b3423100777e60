//! A table with a log position and a clock, to write scenarios with.

use std::time::Duration;

use dss_lock::{
    AcquireRequest, AttemptId, ClusterTime, Command, Event, FencingToken, Grant, LockName,
    LockTable, Mode, Outcome, Owner, OwnerId, ReleaseOutcome, ReleaseRequest, Reply, RequestId,
    SessionId, Wait,
};

pub(crate) const X: Mode = Mode::Exclusive;
pub(crate) const S: Mode = Mode::Shared;

pub(crate) fn lock(name: &str) -> LockName {
    LockName::new(name).unwrap()
}

pub(crate) fn session(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

/// `"a"` is the nameless owner of session `a`, `"a/1"` the owner `1` of it.
pub(crate) fn owner(name: &str) -> Owner {
    let (name, task) = name.split_once('/').unwrap_or((name, ""));
    Owner { session: session(name), owner: OwnerId::new(task).unwrap() }
}

pub(crate) fn request(who: &str, name: &str, mode: Mode, wait: Wait) -> AcquireRequest {
    let Owner { session, owner } = owner(who);
    AcquireRequest {
        lock: lock(name),
        session,
        owner,
        mode,
        wait,
        ttl: None,
        request_id: None,
        reentrant: false,
    }
}

pub(crate) fn named(id: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { request_id: Some(RequestId::new(id).unwrap()), ..request }
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) table: LockTable,
    pub(crate) index: u64,
    pub(crate) now: u64,
    /// Since they were last taken.
    pub(crate) events: Vec<Event>,
}

impl Script {
    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        let now = ClusterTime::from_millis(self.now);
        let (reply, events) = self.table.apply(self.index, now, command);
        self.events.extend(events);
        // What is derived agrees with what it is derived from, and all of it survives a snapshot.
        assert_eq!(self.table.check(), Ok(()));
        let restored = LockTable::restore(&self.table.snapshot());
        assert_eq!(restored.as_ref(), Ok(&self.table));
        assert_eq!(restored.unwrap().check(), Ok(()));
        reply
    }

    /// The attempt of the command that was applied last.
    pub(crate) fn attempt(&self) -> AttemptId {
        AttemptId { term: 1, sequence: self.index }
    }

    pub(crate) fn acquire(&mut self, request: AcquireRequest) -> Reply {
        let attempt = AttemptId { term: 1, sequence: self.index + 1 };
        self.apply(Command::Acquire { attempt, request })
    }

    /// Acquires what is free.
    pub(crate) fn take(&mut self, who: &str, name: &str, mode: Mode) -> FencingToken {
        match self.acquire(request(who, name, mode, Wait::Try)) {
            Reply::Ended(Outcome::Granted(grant)) => grant.token,
            reply => panic!("{who} did not get {name}: {reply:?}"),
        }
    }

    /// Comes to wait for what is not.
    pub(crate) fn wait(&mut self, who: &str, name: &str, mode: Mode) {
        assert_eq!(self.acquire(request(who, name, mode, Wait::Forever)), Reply::Waiting);
    }

    pub(crate) fn wait_for(&mut self, who: &str, name: &str, mode: Mode, millis: u64) {
        let wait = Wait::For(Duration::from_millis(millis));
        assert_eq!(self.acquire(request(who, name, mode, wait)), Reply::Waiting);
    }

    pub(crate) fn release(&mut self, who: &str, name: &str) -> ReleaseOutcome {
        self.release_token(who, name, None)
    }

    pub(crate) fn release_token(
        &mut self,
        who: &str,
        name: &str,
        token: Option<FencingToken>,
    ) -> ReleaseOutcome {
        let Owner { session, owner } = owner(who);
        let request = ReleaseRequest { lock: lock(name), session, owner, token };
        match self.apply(Command::Release(request)) {
            Reply::Release(outcome) => outcome,
            reply => panic!("a release was answered {reply:?}"),
        }
    }

    pub(crate) fn tick(&mut self, millis: u64) {
        self.now += millis;
        self.apply(Command::Tick);
    }

    pub(crate) fn cancel(&mut self, attempt: AttemptId, who: &str, name: &str) {
        self.apply(Command::Cancel { attempt, locks: vec![lock(name)], owner: owner(who) });
    }

    /// How waits have ended since this was last asked: `"a got l"`, in order.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events);
        let ends = events.into_iter().filter_map(|event| match event {
            Event::WaitEnded { lock, owner, outcome, .. } => {
                let end = match outcome {
                    Outcome::Granted(_) | Outcome::GrantedAll(_) => "got",
                    Outcome::Deadlock { .. } => "deadlocked on",
                    Outcome::TimedOut => "timed out on",
                    Outcome::SessionExpired => "expired on",
                    Outcome::Cancelled => "cancelled",
                    other => panic!("no wait ends in {other:?}"),
                };
                Some(format!("{} {end} {lock}", owner.session))
            }
            _ => None,
        });
        ends.collect()
    }

    pub(crate) fn holders(&self, name: &str) -> Vec<String> {
        let info = self.table.lock(&lock(name));
        let holders = info.into_iter().flat_map(|info| info.holders);
        holders.map(|holder| holder.session.as_str().to_owned()).collect()
    }

    pub(crate) fn queue(&self, name: &str) -> Vec<String> {
        let info = self.table.lock(&lock(name));
        let queue = info.into_iter().flat_map(|info| info.queue);
        queue.map(|waiter| waiter.session.as_str().to_owned()).collect()
    }
}

pub(crate) fn granted(reply: &Reply) -> &Grant {
    match reply {
        Reply::Ended(Outcome::Granted(grant)) => grant,
        reply => panic!("not granted: {reply:?}"),
    }
}
