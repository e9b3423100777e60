//! Entering a lock again, holding it less, and several at once.

use std::time::Duration;

use dss_lock::{
    AcquireAllRequest, AcquireRequest, AttemptId, Command, DowngradeOutcome, LOCKS_PER_REQUEST_MAX,
    Limit, Mode, Outcome, ReleaseOutcome, ReleaseRequest, Reply, Resolution, Wait,
};

use crate::script::{S, Script, X, granted, lock, named, owner, request, session};

fn reentrant(request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { reentrant: true, ..request }
}

fn all(who: &str, locks: &[(&str, Mode)], wait: Wait) -> AcquireAllRequest {
    let locks = locks.iter().map(|(name, mode)| (lock(name), *mode)).collect();
    let owner = owner(who);
    let (session, owner) = (owner.session, owner.owner);
    AcquireAllRequest { locks, session, owner, wait, ttl: None, request_id: None }
}

fn acquire_all(script: &mut Script, request: AcquireAllRequest) -> Reply {
    let attempt = AttemptId { term: 1, sequence: script.index + 1 };
    script.apply(Command::AcquireAll { attempt, request })
}

fn downgrade(script: &mut Script, who: &str, name: &str) -> DowngradeOutcome {
    let owner = owner(who);
    let (session, owner) = (owner.session, owner.owner);
    let request = ReleaseRequest { lock: lock(name), session, owner, token: None };
    match script.apply(Command::Downgrade(request)) {
        Reply::Downgrade(outcome) => outcome,
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn a_lock_entered_twice_takes_two_releases() {
    let mut script = Script::default();
    let token = script.take("a", "l", X);
    let again = script.acquire(reentrant(request("a", "l", X, Wait::Try)));
    assert_eq!(granted(&again).token, token);
    script.wait("b", "l", X);
    assert_eq!(script.release("a", "l"), ReleaseOutcome::StillHeld { entries: 1 });
    assert_eq!(script.ended(), [""; 0]);
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
    assert_eq!(script.ended(), ["b got l"]);
}

#[test]
fn an_entry_that_is_taken_back_counts_no_more() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let first = script.attempt();
    script.acquire(reentrant(request("a", "l", X, Wait::Try)));
    let second = script.attempt();
    script.cancel(second, "a", "l");
    script.cancel(second, "a", "l");
    assert_eq!(script.holders("l"), ["a"]);
    script.acquire(reentrant(request("a", "l", X, Wait::Try)));
    script.cancel(first, "a", "l");
    assert_eq!(script.holders("l"), ["a"]);
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn an_entry_repeated_under_its_id_counts_once() {
    let mut script = Script::default();
    script.take("a", "l", X);
    for _ in 0..3 {
        script.acquire(named("again", reentrant(request("a", "l", X, Wait::Try))));
    }
    assert_eq!(script.release("a", "l"), ReleaseOutcome::StillHeld { entries: 1 });
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn an_entry_that_a_repeat_was_told_of_is_not_taken_back() {
    let mut script = Script::default();
    script.take("a", "l", X);
    script.acquire(named("again", reentrant(request("a", "l", X, Wait::Try))));
    let first = script.attempt();
    script.acquire(named("again", reentrant(request("a", "l", X, Wait::Try))));
    script.cancel(first, "a", "l");
    assert_eq!(script.release("a", "l"), ReleaseOutcome::StillHeld { entries: 1 });
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn a_repeat_of_an_entry_that_was_taken_back_enters_anew() {
    let mut script = Script::default();
    script.take("a", "l", X);
    script.acquire(named("again", reentrant(request("a", "l", X, Wait::Try))));
    let first = script.attempt();
    script.cancel(first, "a", "l");
    script.acquire(named("again", reentrant(request("a", "l", X, Wait::Try))));
    assert_eq!(script.release("a", "l"), ReleaseOutcome::StillHeld { entries: 1 });
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn a_repeat_of_the_first_entry_after_it_was_taken_back_enters_anew() {
    let mut script = Script::default();
    script.acquire(named("outer", reentrant(request("a", "l", X, Wait::Try))));
    let first = script.attempt();
    script.acquire(named("inner", reentrant(request("a", "l", X, Wait::Try))));
    script.cancel(first, "a", "l");
    script.acquire(named("inner", reentrant(request("a", "l", X, Wait::Try))));
    script.acquire(named("outer", reentrant(request("a", "l", X, Wait::Try))));
    assert_eq!(script.release("a", "l"), ReleaseOutcome::StillHeld { entries: 1 });
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn an_upgrade_that_is_taken_back_leaves_the_entries_of_others() {
    let mut script = Script::default();
    script.take("a", "l", S);
    script.take("a", "l", X);
    let upgrade = script.attempt();
    script.acquire(reentrant(request("a", "l", X, Wait::Try)));
    script.cancel(upgrade, "a", "l");
    assert_eq!(script.release("a", "l"), ReleaseOutcome::StillHeld { entries: 1 });
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn an_upgrade_that_counts_falls_back_as_any_other() {
    let mut script = Script::default();
    script.take("a", "l", S);
    script.acquire(reentrant(request("a", "l", X, Wait::Try)));
    let upgrade = script.attempt();
    script.wait("b", "l", S);
    script.cancel(upgrade, "a", "l");
    assert_eq!(script.ended(), ["b got l"]);
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
}

#[test]
fn a_downgrade_keeps_the_token_and_lets_readers_in() {
    let mut script = Script::default();
    let token = script.take("a", "l", X);
    script.wait("r1", "l", S);
    script.wait("r2", "l", S);
    script.wait("w", "l", X);
    script.wait("r3", "l", S);
    let DowngradeOutcome::Downgraded(grant) = downgrade(&mut script, "a", "l") else {
        panic!("it was a's");
    };
    assert_eq!((grant.token, grant.mode), (token, S));
    assert_eq!(script.ended(), ["r1 got l", "r2 got l"]);
    assert_eq!(script.queue("l"), ["w", "r3"]);
    assert_eq!(downgrade(&mut script, "w", "l"), DowngradeOutcome::NotHolder);
}

#[test]
fn several_locks_are_granted_together_or_not_at_all() {
    let mut script = Script::default();
    script.take("a", "2", X);
    let wanted = [("3", X), ("1", S), ("2", X), ("1", X)];
    let refused = acquire_all(&mut script, all("b", &wanted, Wait::Try));
    assert_eq!(refused, Reply::Ended(Outcome::Held { holders: vec![session("a")] }));
    assert_eq!(acquire_all(&mut script, all("b", &wanted, Wait::Forever)), Reply::Waiting);
    assert_eq!(script.holders("1"), [""; 0]);
    assert_eq!(script.queue("1"), ["b"]);
    // What it waits for first in line is given to nobody behind it.
    script.wait("c", "3", X);
    script.release("a", "2");
    assert_eq!(script.ended(), ["b got 1"]);
    for name in ["1", "2", "3"] {
        let info = script.table.lock(&lock(name)).unwrap();
        assert_eq!((info.mode, info.holders[0].session.as_str()), (Some(X), "b"));
    }
    script.release("b", "3");
    assert_eq!(script.ended(), ["c got 3"]);
}

#[test]
fn a_request_for_several_names_some_and_holds_none_or_all() {
    let mut script = Script::default();
    let refused = Reply::Ended(Outcome::Refused(Limit::LocksPerRequest));
    assert_eq!(acquire_all(&mut script, all("a", &[], Wait::Try)), refused);
    let names: Vec<String> = (0..=LOCKS_PER_REQUEST_MAX).map(|n| n.to_string()).collect();
    let many: Vec<(&str, Mode)> = names.iter().map(|name| (name.as_str(), X)).collect();
    assert_eq!(acquire_all(&mut script, all("a", &many, Wait::Try)), refused);
    script.take("a", "1", X);
    let both = [("1", X), ("2", X)];
    let held = Reply::Ended(Outcome::AlreadyHolds { lock: lock("1") });
    assert_eq!(acquire_all(&mut script, all("a", &both, Wait::Try)), held);
    script.take("a", "2", X);
    let same = acquire_all(&mut script, all("a", &both, Wait::Try));
    let Reply::Ended(Outcome::GrantedAll(grants)) = same else { panic!("{same:?}") };
    assert_eq!(grants.len(), 2);
}

#[test]
fn a_deadlock_through_a_request_for_several_is_found() {
    let mut script = Script::default();
    script.take("a", "1", X);
    script.take("b", "2", X);
    // `c` is first in line for 3, which is free, and waits for `a`.
    acquire_all(&mut script, all("c", &[("1", X), ("3", X)], Wait::Forever));
    script.wait("b", "1", X);
    let refused = script.acquire(request("a", "2", X, Wait::Forever));
    assert!(matches!(refused, Reply::Ended(Outcome::Deadlock { .. })), "{refused:?}");
    // Behind `c` alone there is no deadlock with a holder, so it is let past.
    let passed = script.acquire(request("a", "3", X, Wait::Forever));
    assert_eq!(granted(&passed).mode, X);
    let history: Vec<_> = script.table.deadlocks().map(|found| found.resolution).collect();
    assert_eq!(history, [Resolution::Refused, Resolution::LetPast]);
}

#[test]
fn waits_for_several_are_cancelled_and_time_out_as_one() {
    let mut script = Script::default();
    script.take("a", "1", X);
    let both = [("1", X), ("2", X)];
    let span = Wait::For(Duration::from_millis(10));
    acquire_all(&mut script, all("b", &both, span));
    script.wait("c", "2", X);
    script.tick(10);
    assert_eq!(script.ended(), ["b timed out on 1", "c got 2"]);
    acquire_all(&mut script, all("b", &both, Wait::Forever));
    let attempt = script.attempt();
    script.release("a", "1");
    script.release("c", "2");
    assert_eq!(script.ended(), ["b got 1"]);
    // A grant that nobody has heard of is taken back whole.
    let locks = vec![lock("1"), lock("2")];
    script.apply(Command::Cancel { attempt, locks, owner: owner("b") });
    assert_eq!((script.holders("1"), script.holders("2")), (vec![], vec![]));
}

/// It waited for the other holder alone, and is put back behind `j`, who waits for `k`, who waits
/// behind it.
fn upgrade_that_will_close_a_cycle() -> Script {
    let mut script = Script::default();
    script.take("a", "l", S);
    script.take("b", "l", S);
    script.take("k", "n", X);
    let request = all("j", &[("l", S), ("n", X)], Wait::Forever);
    assert_eq!(acquire_all(&mut script, request), Reply::Waiting);
    script.wait("a", "l", X);
    script.wait("k", "l", S);
    script
}

#[test]
fn an_upgrade_deadlocked_by_a_release_leaves_nothing_of_its_owner() {
    let mut script = upgrade_that_will_close_a_cycle();
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
    assert_eq!(script.ended(), ["a deadlocked on l", "k got l"]);
    assert_eq!(script.release("a", "l"), ReleaseOutcome::NotHolder);
}

#[test]
fn an_upgrade_deadlocked_by_a_cancellation_leaves_nothing_of_its_owner() {
    let mut script = upgrade_that_will_close_a_cycle();
    let shared = AttemptId { term: 1, sequence: 1 };
    script.cancel(shared, "a", "l");
    assert_eq!(script.ended(), ["a deadlocked on l", "k got l"]);
}

#[test]
fn upgrades_deadlocked_by_force_leave_nothing_of_their_owners() {
    let mut script = upgrade_that_will_close_a_cycle();
    script.apply(Command::ForceRelease { lock: lock("l") });
    assert_eq!(script.ended(), ["a deadlocked on l", "k got l"]);
}

#[test]
fn an_upgrade_is_not_deadlocked_by_what_is_taken_back_with_it() {
    let mut script = Script::default();
    acquire_all(&mut script, all("a", &[("l", S), ("m", X)], Wait::Try));
    let attempt = script.attempt();
    script.take("b", "l", S);
    script.take("k", "n", X);
    acquire_all(&mut script, all("j", &[("l", X), ("n", X)], Wait::Forever));
    script.wait("a", "l", X);
    script.wait("k", "m", X);
    // Behind `j`, who waits for `k`, who waits for the other half of what `a` gives up.
    let locks = vec![lock("l"), lock("m")];
    script.apply(Command::Cancel { attempt, locks, owner: owner("a") });
    assert_eq!(script.ended(), ["k got m"]);
    assert_eq!(script.queue("l"), ["j", "a"]);
}
