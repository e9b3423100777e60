//! Commands and snapshots as bytes: what is written is read back, anything else is refused.

use std::time::Duration;

use dss_lock::{
    AttemptId, ClusterTime, Command, DecodeError, LockTable, SnapshotError, StampedCommand, Wait,
};
use proptest::prelude::*;

use crate::script::{S, Script, X, lock, named, owner, request, session};

fn busy_table() -> Script {
    let mut script = Script::default();
    script.take("a", "1", X);
    script.take("b", "2", S);
    script.take("c", "2", S);
    script.acquire(named("up", request("b", "2", X, Wait::Forever)));
    script.wait_for("d/1", "1", S, 50);
    script.acquire(named("refused", request("e", "1", X, Wait::Try)));
    script.apply(Command::OpenSession {
        session: session("idle"),
        ttl: Duration::from_secs(9),
        lock_delay: None,
    });
    script
}

fn commands() -> Vec<Command> {
    let attempt = AttemptId { term: 3, sequence: 4 };
    vec![
        Command::OpenSession {
            session: session("a"),
            ttl: Duration::from_millis(1_500),
            lock_delay: None,
        },
        Command::CloseSession { session: session("a") },
        Command::Acquire { attempt, request: named("r", request("a/b", "l", S, Wait::Try)) },
        Command::Cancel { attempt, locks: vec![lock("l")], owner: owner("a/b") },
        Command::ForceRelease { lock: lock("l") },
        Command::Tick,
    ]
}

#[test]
fn commands_are_read_back_as_they_were_written() {
    for command in commands() {
        let stamped = StampedCommand { now: ClusterTime::from_millis(1 << 40), command };
        let bytes = stamped.encode();
        assert_eq!(StampedCommand::decode(&bytes), Ok(stamped));
        for end in 0..bytes.len() {
            assert!(StampedCommand::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(StampedCommand::decode(&longer), Err(DecodeError::Malformed));
    }
}

#[test]
fn another_version_is_refused() {
    let mut bytes =
        StampedCommand { now: ClusterTime::ZERO, command: Command::Tick }.encode().to_vec();
    bytes[0] = 99;
    assert_eq!(StampedCommand::decode(&bytes), Err(DecodeError::Version));
    let mut bytes = LockTable::new().snapshot().to_vec();
    bytes[0] = 99;
    assert_eq!(LockTable::restore(&bytes), Err(SnapshotError::Decode(DecodeError::Version)));
}

#[test]
fn a_cut_snapshot_is_refused() {
    let bytes = busy_table().table.snapshot();
    for end in 0..bytes.len() {
        assert!(LockTable::restore(&bytes[..end]).is_err(), "cut at {end}");
    }
}

/// Either damage is noticed, or what was restored is a table that works.
fn restore_and_use(bytes: &[u8]) {
    let Ok(mut table) = LockTable::restore(bytes) else { return };
    assert_eq!(LockTable::restore(&table.snapshot()).as_ref(), Ok(&table));
    let index = table.index();
    let now = table.now();
    let attempt = AttemptId { term: 9, sequence: 9 };
    for (step, name) in (1..).zip(["1", "2", "3"]) {
        let request = request("z", name, X, Wait::Forever);
        table.apply(index + 2 * step, now, Command::Acquire { attempt, request });
        table.apply(index + 2 * step + 1, now, Command::ForceRelease { lock: lock(name) });
    }
    for (step, name) in (1..).zip(["a", "b", "c", "d", "e"]) {
        let command = Command::CloseSession { session: session(name) };
        table.apply(index + 20 + step, ClusterTime::from_millis(u64::MAX), command);
    }
    assert_eq!(LockTable::restore(&table.snapshot()).as_ref(), Ok(&table));
}

#[test]
fn every_damaged_byte_of_a_snapshot_is_noticed_or_harmless() {
    let bytes = busy_table().table.snapshot();
    for place in 0..bytes.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= flip;
            restore_and_use(&damaged);
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_or_harmless(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = StampedCommand::decode(&bytes);
        restore_and_use(&bytes);
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        let _ = StampedCommand::decode(&bytes);
        restore_and_use(&bytes);
    }

    #[test]
    fn a_decoded_command_of_garbage_can_be_applied(
        mut bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        bytes[0] = 2;
        if let Ok(stamped) = StampedCommand::decode(&bytes) {
            let mut script = busy_table();
            script.table.apply(1_000, stamped.now, stamped.command);
            let restored = LockTable::restore(&script.table.snapshot());
            prop_assert_eq!(restored, Ok(script.table));
        }
    }
}
