//! Who gets a lock when, and who is told that it never will.

use std::time::Duration;

use dss_lock::{AcquireRequest, Command, Mode, Outcome, ReleaseOutcome, Reply, Wait};

use crate::script::{S, Script, X, granted, lock, named, request, session};

fn deadlock(cycle: &[&str]) -> Reply {
    let cycle = cycle.iter().map(|name| session(name)).collect();
    Reply::Ended(Outcome::Deadlock { cycle })
}

#[test]
fn a_free_lock_is_granted_and_a_held_one_is_not() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let refused = script.acquire(request("b", "l", X, Wait::Try));
    assert_eq!(refused, Reply::Ended(Outcome::Held { holders: vec![session("a")] }));
    let refused = script.acquire(request("b", "l", S, Wait::Try));
    assert_eq!(refused, Reply::Ended(Outcome::Held { holders: vec![session("a")] }));
    assert_eq!(script.release("a", "l"), ReleaseOutcome::Released);
    script.take("b", "l", X);
}

#[test]
fn a_release_grants_the_next_in_the_same_step() {
    let mut script = Script::default();
    let first = script.take("a", "l", X);
    script.wait("b", "l", X);
    script.wait("c", "l", X);
    script.release("a", "l");
    assert_eq!(script.ended(), ["b got l"]);
    assert_eq!(script.queue("l"), ["c"]);
    assert!(script.table.lock(&lock("l")).unwrap().token > first);
}

#[test]
fn readers_share_and_do_not_overtake_a_waiting_writer() {
    let mut script = Script::default();
    script.take("r1", "l", S);
    script.take("r2", "l", S);
    script.wait("w", "l", X);
    script.wait("r3", "l", S);
    script.wait("r4", "l", S);
    let refused = script.acquire(request("r5", "l", S, Wait::Try));
    assert!(matches!(refused, Reply::Ended(Outcome::Held { .. })), "{refused:?}");
    script.release("r1", "l");
    assert_eq!(script.ended(), [""; 0]);
    script.release("r2", "l");
    assert_eq!(script.ended(), ["w got l"]);
    script.release("w", "l");
    assert_eq!(script.ended(), ["r3 got l", "r4 got l"]);
}

#[test]
fn the_same_lock_in_the_same_mode_answers_the_same_token() {
    let mut script = Script::default();
    let exclusive = script.take("a", "x", X);
    assert_eq!(script.take("a", "x", X), exclusive);
    let shared = script.take("a", "s", S);
    script.wait("w", "s", X);
    assert_eq!(script.take("a", "s", S), shared);
}

#[test]
fn shared_is_covered_by_exclusive() {
    let mut script = Script::default();
    let token = script.take("a", "l", X);
    let reply = script.acquire(request("a", "l", S, Wait::Try));
    assert_eq!((granted(&reply).mode, granted(&reply).token), (Mode::Exclusive, token));
}

#[test]
fn an_upgrade_of_the_only_holder_is_granted_past_the_queue_with_a_new_token() {
    let mut script = Script::default();
    let shared = script.take("a", "l", S);
    script.wait("w", "l", X);
    let exclusive = script.take("a", "l", X);
    assert!(exclusive > shared);
    assert_eq!(script.holders("l"), ["a"]);
    assert_eq!(script.release_token("a", "l", Some(shared)), ReleaseOutcome::StaleToken);
    assert_eq!(script.release_token("a", "l", Some(exclusive)), ReleaseOutcome::Released);
    assert_eq!(script.ended(), ["w got l"]);
}

#[test]
fn an_upgrade_waits_in_front_for_the_other_holders() {
    let mut script = Script::default();
    script.take("a", "l", S);
    script.take("b", "l", S);
    script.wait("w", "l", X);
    script.wait("a", "l", X);
    assert_eq!(script.queue("l"), ["a", "w"]);
    script.release("b", "l");
    assert_eq!(script.ended(), ["a got l"]);
    assert_eq!(script.table.lock(&lock("l")).unwrap().mode, Some(X));
}

#[test]
fn two_upgrades_of_one_lock_are_a_deadlock() {
    let mut script = Script::default();
    script.take("a", "l", S);
    script.take("b", "l", S);
    script.wait("a", "l", X);
    let refused = script.acquire(request("b", "l", X, Wait::Forever));
    assert_eq!(refused, deadlock(&["b", "a"]));
    script.release("b", "l");
    assert_eq!(script.ended(), ["a got l"]);
}

#[test]
fn a_cycle_is_refused_when_it_would_close_and_named_from_the_requester_on() {
    let mut script = Script::default();
    for (who, name) in [("a", "1"), ("b", "2"), ("c", "3")] {
        script.take(who, name, X);
    }
    script.wait("a", "2", X);
    script.wait("b", "3", X);
    let refused = script.acquire(request("c", "1", X, Wait::For(Duration::from_secs(9))));
    assert_eq!(refused, deadlock(&["c", "a", "b"]));
    // Whoever is refused keeps what it holds, and giving that up sets the others free.
    script.release("c", "3");
    assert_eq!(script.ended(), ["b got 3"]);
}

#[test]
fn a_cycle_through_the_queue_is_found() {
    let mut script = Script::default();
    script.take("a", "1", X);
    script.take("b", "2", X);
    script.wait("c", "1", X);
    script.wait("b", "1", X);
    let refused = script.acquire(request("a", "2", S, Wait::Forever));
    assert_eq!(refused, deadlock(&["a", "b"]));
}

#[test]
fn owners_of_one_session_can_deadlock_too() {
    let mut script = Script::default();
    script.take("a/1", "1", X);
    script.take("a/2", "2", X);
    script.wait("a/1", "2", X);
    assert_eq!(script.acquire(request("a/2", "1", X, Wait::Forever)), deadlock(&["a", "a"]));
}

#[test]
fn a_try_never_deadlocks() {
    let mut script = Script::default();
    script.take("a", "1", X);
    script.take("b", "2", X);
    script.wait("a", "2", X);
    let refused = script.acquire(request("b", "1", X, Wait::Try));
    assert_eq!(refused, Reply::Ended(Outcome::Held { holders: vec![session("a")] }));
}

#[test]
fn a_reader_whose_wait_would_be_a_soft_deadlock_passes_the_writer() {
    let mut script = Script::default();
    script.take("r", "l", S);
    script.take("a", "m", X);
    script.wait("w", "l", X);
    script.wait("r", "m", X);
    // `a` would wait behind `w`, which waits for `r`, which waits for `a`; but `r` alone would
    // let `a` in.
    let reply = script.acquire(request("a", "l", S, Wait::Forever));
    assert_eq!(granted(&reply).mode, S);
    assert_eq!(script.queue("l"), ["w"]);
    script.release("a", "m");
    assert_eq!(script.ended(), ["r got m"]);
}

#[test]
fn an_owner_waits_for_one_lock_at_a_time() {
    let mut script = Script::default();
    script.take("a", "1", X);
    script.take("a", "2", X);
    script.wait("b", "1", X);
    let busy = Reply::Ended(Outcome::OwnerBusy);
    assert_eq!(script.acquire(request("b", "2", X, Wait::Forever)), busy);
    assert_eq!(script.acquire(request("b", "3", X, Wait::Try)), busy);
    assert_eq!(script.acquire(request("b", "1", X, Wait::Forever)), busy);
    script.wait("b/other", "2", X);
}

#[test]
fn a_wait_times_out_by_whatever_command_passes_its_time() {
    let mut script = Script::default();
    script.take("a", "l", X);
    script.wait_for("b", "l", X, 10);
    script.wait_for("c", "l", X, 30);
    assert_eq!(script.table.next_deadline().unwrap().as_millis(), 10);
    script.tick(9);
    assert_eq!(script.ended(), [""; 0]);
    script.now = 10;
    script.take("d", "other", X);
    assert_eq!(script.ended(), ["b timed out on l"]);
    assert_eq!(script.table.next_deadline().unwrap().as_millis(), 30);
    // What is released at the very end of a wait comes too late for it.
    script.now = 30;
    script.release("a", "l");
    assert_eq!(script.ended(), ["c timed out on l"]);
    assert_eq!(script.holders("l"), [""; 0]);
}

#[test]
fn a_time_out_lets_through_whoever_it_kept_waiting() {
    let mut script = Script::default();
    script.take("r1", "l", S);
    script.wait_for("w", "l", X, 10);
    script.wait_for("r2", "l", S, 20);
    // Both times have passed at once, but the reader's came later than its turn.
    script.tick(50);
    assert_eq!(script.ended(), ["w timed out on l", "r2 got l"]);
}

#[test]
fn time_never_runs_backwards() {
    let mut script = Script::default();
    script.tick(100);
    script.take("a", "l", X);
    script.now = 40;
    script.wait_for("b", "l", X, 10);
    assert_eq!(script.table.now().as_millis(), 100);
    assert_eq!(script.table.next_deadline().unwrap().as_millis(), 110);
}

#[test]
fn a_wait_without_end_has_no_deadline() {
    let mut script = Script::default();
    script.take("a", "l", X);
    script.wait("b", "l", X);
    assert_eq!(script.table.next_deadline(), None);
    script.wait_for("c", "l", X, u64::MAX);
    script.tick(u64::MAX / 2);
    assert_eq!(script.queue("l"), ["b", "c"]);
}

#[test]
fn a_stranger_cannot_release() {
    let mut script = Script::default();
    let token = script.take("a", "l", X);
    for who in ["b", "a/other"] {
        assert_eq!(script.release_token(who, "l", Some(token)), ReleaseOutcome::NotHolder);
    }
    assert_eq!(script.release("a", "unknown"), ReleaseOutcome::NotHolder);
    assert_eq!(script.holders("l"), ["a"]);
}

#[test]
fn a_forced_release_takes_the_lock_from_every_holder() {
    let mut script = Script::default();
    let token = script.take("a", "l", S);
    script.take("b", "l", S);
    script.wait("w", "l", X);
    script.apply(Command::ForceRelease { lock: lock("l") });
    assert_eq!(script.ended(), ["w got l"]);
    assert!(!script.table.is_valid(&lock("l"), token));
    assert_eq!(script.release("a", "l"), ReleaseOutcome::NotHolder);
    assert_eq!(script.apply(Command::ForceRelease { lock: lock("free") }), Reply::Done);
}

#[test]
fn idle_locks_are_forgotten_and_tokens_rise_on() {
    let mut script = Script::default();
    let first = script.take("a", "l", X);
    script.release("a", "l");
    assert_eq!(script.table.lock(&lock("l")), None);
    assert!(script.take("a", "l", X) > first);
}

#[test]
fn the_same_request_gets_the_same_answer() {
    let mut script = Script::default();
    let ask = |id, wait| named(id, request("a", "l", X, wait));
    let granted = script.acquire(ask("1", Wait::Try));
    script.release("a", "l");
    script.take("b", "l", X);
    assert_eq!(script.acquire(ask("1", Wait::Try)), granted);
    let held = script.acquire(ask("2", Wait::Try));
    script.release("b", "l");
    assert_eq!(script.acquire(ask("2", Wait::Try)), held);
    assert_eq!(script.holders("l"), [""; 0]);
    // Another owner's request of the same name is another request.
    let other = AcquireRequest { owner: crate::script::owner("a/2").owner, ..ask("2", Wait::Try) };
    assert!(matches!(script.acquire(other), Reply::Ended(Outcome::Granted(_))));
}

#[test]
fn a_repeat_joins_the_wait_and_is_told_its_end() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let ask = || named("1", request("b", "l", X, Wait::For(Duration::from_millis(10))));
    assert_eq!(script.acquire(ask()), Reply::Waiting);
    let first = script.attempt();
    assert_eq!(script.acquire(ask()), Reply::Waiting);
    let second = script.attempt();
    assert_eq!(script.queue("l"), ["b"]);
    script.events.clear();
    script.tick(10);
    let [dss_lock::Event::WaitEnded { attempts, .. }] = &script.events[..] else {
        panic!("{:?}", script.events)
    };
    assert_eq!(*attempts, [first, second]);
    assert_eq!(script.acquire(ask()), Reply::Ended(Outcome::TimedOut));
}

#[test]
fn answers_are_kept_for_the_latest_requests_of_an_owner() {
    let mut script = Script::default();
    script.take("b", "l", X);
    let ask = |id: usize| named(&id.to_string(), request("a", "l", X, Wait::Try));
    for id in 0..17 {
        script.acquire(ask(id));
    }
    script.release("b", "l");
    assert!(matches!(script.acquire(ask(16)), Reply::Ended(Outcome::Held { .. })));
    assert!(matches!(script.acquire(ask(0)), Reply::Ended(Outcome::Granted(_))));
}

#[test]
fn locks_are_listed_in_pages_by_prefix() {
    let mut script = Script::default();
    for name in ["a/1", "b/1", "b/2", "b/3", "c"] {
        script.take("s", name, X);
    }
    let names = |page: &dss_lock::LockPage| -> Vec<String> {
        page.locks.iter().map(|info| info.lock.to_string()).collect()
    };
    let page = script.table.locks("b/", None, 2);
    assert_eq!(
        (names(&page), page.next.as_deref()),
        (vec!["b/1".into(), "b/2".into()], Some("b/2"))
    );
    let page = script.table.locks("b/", page.next.as_deref(), 2);
    assert_eq!((names(&page), page.next), (vec!["b/3".into()], None));
    assert_eq!(names(&script.table.locks("", None, usize::MAX)).len(), 5);
    assert_eq!(names(&script.table.locks("b/", Some("a"), 9)).len(), 3);
    assert_eq!(names(&script.table.locks("b/", Some("c"), 9)).len(), 0);
}

#[test]
fn every_waiter_waits_for_every_other_holder() {
    let mut script = Script::default();
    script.take("r1", "l", S);
    script.take("r2", "l", S);
    script.wait("r1", "l", X);
    script.wait("w", "l", X);
    let edges: Vec<_> = script.table.wait_for();
    let edges: Vec<_> =
        edges.iter().map(|edge| (edge.waiter.as_str(), edge.holder.as_str())).collect();
    assert_eq!(edges, [("r1", "r2"), ("w", "r1"), ("w", "r2")]);
}
