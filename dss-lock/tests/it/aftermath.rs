//! What becomes of the locks of sessions that have ended.

use std::time::Duration;

use dss_lock::{
    AttemptId, ClusterTime, Command, Expiry, LOCKS_PER_SESSION_MAX, LockTable, Outcome,
    ReleaseOutcome, Reply, Wait,
};

use crate::script::{S, Script, X, lock, request, session};

fn expire(script: &mut Script, name: &str) {
    let renewal = script.table.session(&session(name)).unwrap().renewal;
    let sessions = vec![Expiry { session: session(name), renewal }];
    script.apply(Command::Expire { sessions });
}

fn open_with_delay(script: &mut Script, name: &str, millis: u64) {
    let (session, ttl) = (session(name), Duration::from_secs(9));
    let lock_delay = Some(Duration::from_millis(millis));
    script.apply(Command::OpenSession { session, ttl, lock_delay });
}

#[test]
fn a_lock_is_kept_back_after_an_expiry_for_as_long_as_its_holder_asked() {
    let mut script = Script::default();
    open_with_delay(&mut script, "a", 30);
    script.take("a", "l", X);
    script.wait("b", "l", X);
    expire(&mut script, "a");
    let refused = script.acquire(request("c", "l", S, Wait::Try));
    assert_eq!(refused, Reply::Ended(Outcome::Held { holders: vec![] }));
    assert_eq!(script.table.next_deadline().unwrap().as_millis(), 30);
    script.tick(29);
    assert_eq!(script.ended(), [""; 0]);
    script.tick(1);
    assert_eq!(script.ended(), ["b got l"]);
    script.release("b", "l");
    assert_eq!(script.table.lock(&lock("l")), None);
}

#[test]
fn a_lock_is_not_kept_back_after_a_release_or_a_close() {
    let mut script = Script::default();
    open_with_delay(&mut script, "a", 30);
    script.take("a", "1", X);
    script.take("a", "2", X);
    script.release("a", "1");
    script.take("b", "1", X);
    script.apply(Command::CloseSession { session: session("a") });
    script.take("b", "2", X);
}

#[test]
fn readers_may_join_readers_of_whom_one_has_expired_and_writers_may_not() {
    let mut script = Script::default();
    open_with_delay(&mut script, "a", 30);
    script.take("a", "l", S);
    script.take("b", "l", S);
    expire(&mut script, "a");
    script.take("c", "l", S);
    script.release("c", "l");
    // Even the only holder left upgrades only after the delay.
    script.wait("b", "l", X);
    script.tick(30);
    assert_eq!(script.ended(), ["b got l"]);
}

/// A session with as many locks as there may be.
fn laden() -> Script {
    let mut script = Script::default();
    for number in 0..LOCKS_PER_SESSION_MAX as u64 {
        let attempt = AttemptId { term: 1, sequence: number };
        let request = request("a", &format!("{number:05}"), X, Wait::Try);
        script.index += 1;
        script.table.apply(script.index, ClusterTime::ZERO, Command::Acquire { attempt, request });
    }
    script
}

#[test]
fn a_session_with_ten_thousand_locks_ends_in_portions() {
    let mut script = laden();
    let token = script.table.lock(&lock("09999")).unwrap().token;
    script.wait("b", "09999", X);
    script.wait("c", "00000", X);
    let renewal = script.table.session(&session("a")).unwrap().renewal;
    let sessions = vec![Expiry { session: session("a"), renewal }];
    script.index += 1;
    script.table.apply(script.index, ClusterTime::ZERO, Command::Expire { sessions });
    // It is over at once, and its name free, though its locks are not yet.
    assert_eq!(script.table.session(&session("a")), None);
    assert!(!script.table.is_valid(&lock("09999"), token));
    assert_eq!(script.holders("00000"), ["c"]);
    assert_eq!(script.holders("09999"), ["a"]);
    assert_eq!(script.release("a", "09999"), ReleaseOutcome::NotHolder);
    script.take("a", "of the next session", X);
    // A snapshot in the middle goes on as the table does.
    script.table = LockTable::restore(&script.table.snapshot()).unwrap();
    let mut commands = 0;
    while script.table.next_deadline() == Some(script.table.now()) {
        script.index += 1;
        script.table.apply(script.index, ClusterTime::ZERO, Command::Tick);
        commands += 1;
    }
    assert_eq!(script.holders("09999"), ["b"]);
    assert_eq!(script.table.check(), Ok(()));
    assert_eq!(script.table.locks("", None, 9).locks.len(), 3);
    assert!((6..=9).contains(&commands), "{commands} commands");
}

#[test]
fn a_forced_release_of_what_the_dead_still_hold_takes_it_at_once() {
    let mut script = laden();
    script.index += 1;
    let close = Command::CloseSession { session: session("a") };
    script.table.apply(script.index, ClusterTime::ZERO, close);
    script.wait("b", "09999", X);
    script.index += 1;
    let force = Command::ForceRelease { lock: lock("09999") };
    script.table.apply(script.index, ClusterTime::ZERO, force);
    assert_eq!(script.holders("09999"), ["b"]);
    assert_eq!(script.table.check(), Ok(()));
}
