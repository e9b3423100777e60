//! Commands that are proposed again and again count once, on every node, whatever crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dss_raft::sessions::{
    Session, SessionCommand, SessionId, SessionLimits, SessionReply, Sessions,
};
use dss_raft::testing::{Broken, Failure, Options, Workload, check_seeds, seeds, simulate};
use dss_raft::{LogIndex, RestoreError, StateMachine};

const NOW: Duration = Duration::from_secs(1);

/// Remembers every command, and which came twice.
#[derive(Debug, Clone, Default)]
struct Ledger {
    seen: BTreeSet<Bytes>,
    twice: bool,
}

impl StateMachine for Ledger {
    type Reply = Bytes;

    fn apply(&mut self, _: LogIndex, command: &Bytes) -> Bytes {
        self.twice |= !self.seen.insert(command.clone());
        Bytes::from(self.seen.len().to_le_bytes().to_vec())
    }

    fn snapshot(&self) -> Bytes {
        let mut bytes = vec![u8::from(self.twice)];
        self.seen.iter().for_each(|command| bytes.extend_from_slice(command));
        bytes.into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let (twice, commands) =
            snapshot.split_first().ok_or(RestoreError { problem: "it is empty" })?;
        self.twice = *twice == 1;
        self.seen = commands.chunks(8).map(Bytes::copy_from_slice).collect();
        Ok(())
    }
}

/// One client that repeats what it has proposed, without waiting for replies.
struct Impatient {
    session: Session,
    open: Vec<SessionCommand>,
    registered: bool,
    forgetful: bool,
}

impl Impatient {
    fn new(forgetful: bool) -> Self {
        // Registered below, by the first command of all: its index is found by looking.
        let session = Session::new(SessionId::new(0));
        Self { session, open: Vec::new(), registered: false, forgetful }
    }
}

impl Workload for Impatient {
    type Machine = Sessions<Ledger>;

    fn machine(&mut self) -> Sessions<Ledger> {
        let mut machine = Sessions::new(Ledger::default(), SessionLimits::default());
        if self.forgetful {
            machine.forget_in_snapshots();
        }
        machine
    }

    fn command(&mut self, random: u64) -> Bytes {
        if !self.registered {
            return SessionCommand::Register.encode(NOW);
        }
        if random.is_multiple_of(2) && !self.open.is_empty() {
            let nth = usize::try_from(random / 2).unwrap_or(0) % self.open.len();
            return self.open[nth].encode(NOW);
        }
        let (_, command) = self.session.begin(Bytes::copy_from_slice(&random.to_le_bytes()));
        self.open.push(command.clone());
        command.encode(NOW)
    }

    fn acknowledged(&mut self, _: &Bytes, reply: SessionReply) -> Result<(), Broken> {
        if let SessionReply::Registered(id) = reply
            && !self.registered
        {
            self.session = Session::new(id);
            self.registered = true;
        }
        Ok(())
    }

    fn read(&mut self, machine: &Sessions<Ledger>) -> Result<(), Broken> {
        if machine.machine().twice { Err(Broken("a command was applied twice")) } else { Ok(()) }
    }
}

fn run(seed: u64, forgetful: bool) -> Result<dss_raft::testing::Report, Failure> {
    simulate(Options::swarm(seed), Impatient::new(forgetful))
}

#[test]
fn repeated_commands_count_once_under_every_mixture_of_faults() {
    let report = check_seeds(seeds(200), |seed| run(seed, false)).unwrap_or_else(|failure| {
        panic!("{failure} ({:?})", failure.violation);
    });
    assert!(report.acknowledged > 0, "{report:?}");
}

#[test]
fn a_session_table_that_is_dropped_at_a_snapshot_is_found() {
    let found = (0..200).find_map(|seed| run(seed, true).err());
    println!("| SessionsNotInSnapshot | {found:?} |");
    assert!(found.is_some());
}

fn register(machine: &mut Sessions<Ledger>, at: u64, now: Duration) -> Session {
    match machine.apply(LogIndex::new(at), &SessionCommand::Register.encode(now)) {
        SessionReply::Registered(id) => Session::new(id),
        other => panic!("{other:?}"),
    }
}

fn limits(idle: u64, sessions: usize, replies: usize) -> SessionLimits {
    SessionLimits { idle: Duration::from_secs(idle), sessions, replies }
}

#[test]
fn sessions_end_by_the_time_in_the_log_and_never_apply_afterwards() {
    let mut machine = Sessions::new(Ledger::default(), limits(10, 5, 5));
    let mut idle = register(&mut machine, 1, Duration::from_secs(0));
    let mut busy = register(&mut machine, 2, Duration::from_secs(9));
    let (_, late) = idle.begin(Bytes::from_static(b"late"));
    // A time before the log's own moves nothing back.
    let (_, early) = busy.begin(Bytes::from_static(b"on time"));
    machine.apply(LogIndex::new(3), &early.encode(Duration::from_secs(10)));
    let reply = machine.apply(LogIndex::new(4), &late.encode(Duration::from_secs(1)));
    assert_eq!(reply, SessionReply::Expired);
    assert_eq!(machine.machine().seen.len(), 1);
    let alive = SessionCommand::KeepAlive { session: busy.id() };
    let reply = machine.apply(LogIndex::new(5), &alive.encode(Duration::from_secs(19)));
    assert_eq!(reply, SessionReply::Alive);
    let close = SessionCommand::Close { session: busy.id() };
    machine.apply(LogIndex::new(6), &close.encode(Duration::ZERO));
    assert!(machine.is_empty());
}

#[test]
fn replies_are_kept_until_the_client_has_them_and_no_more_than_the_limit() {
    let mut machine = Sessions::new(Ledger::default(), limits(10, 5, 2));
    let mut session = register(&mut machine, 1, NOW);
    let commands: Vec<_> = (0..4u8).map(|n| session.begin(vec![n].into())).collect();
    let apply = |machine: &mut Sessions<Ledger>, command: &SessionCommand| {
        machine.apply(LogIndex::new(9), &command.encode(NOW))
    };
    let first = apply(&mut machine, &commands[0].1);
    apply(&mut machine, &commands[1].1);
    assert_eq!(apply(&mut machine, &commands[2].1), SessionReply::Overloaded);
    assert_eq!(apply(&mut machine, &commands[0].1), first);
    session.end(1);
    session.end(2);
    let (_, next) = session.begin(Bytes::from_static(b"next"));
    assert!(matches!(apply(&mut machine, &next), SessionReply::Applied(_)));
    assert_eq!(apply(&mut machine, &commands[0].1), SessionReply::Forgotten);
}

#[test]
fn the_session_that_was_idle_longest_makes_way() {
    let mut machine = Sessions::new(Ledger::default(), limits(100, 2, 5));
    let one = register(&mut machine, 1, Duration::from_secs(1));
    let other = register(&mut machine, 2, Duration::from_secs(2));
    let alive = SessionCommand::KeepAlive { session: one.id() };
    machine.apply(LogIndex::new(3), &alive.encode(Duration::from_secs(3)));
    register(&mut machine, 4, Duration::from_secs(4));
    assert_eq!(machine.len(), 2);
    let alive = SessionCommand::KeepAlive { session: other.id() };
    assert_eq!(machine.apply(LogIndex::new(5), &alive.encode(NOW)), SessionReply::Expired);
}

#[test]
fn a_restored_machine_answers_as_the_one_it_was_taken_from_and_damage_changes_nothing() {
    let mut machine = Sessions::new(Ledger::default(), limits(100, 5, 5));
    let mut session = register(&mut machine, 1, NOW);
    let (_, command) = session.begin(Bytes::from_static(b"8 bytes."));
    let reply = machine.apply(LogIndex::new(2), &command.encode(NOW));
    let snapshot = machine.snapshot();
    let mut other = Sessions::new(Ledger::default(), limits(100, 5, 5));
    other.restore(&snapshot).unwrap();
    assert_eq!(other.apply(LogIndex::new(3), &command.encode(NOW)), reply);
    assert!(!other.machine().twice);
    assert!(other.restore(&snapshot.slice(..20)).is_err());
    assert_eq!(other.apply(LogIndex::new(4), &command.encode(NOW)), reply);
    for damaged in [&b""[..], b"\x09", b"\x03short", b"\x00longer than it is"] {
        let reply = other.apply(LogIndex::new(5), &Bytes::copy_from_slice(damaged));
        assert_eq!(reply, SessionReply::Malformed);
    }
}
