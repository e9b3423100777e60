//! Requests that are taken back: they leave the queue, and no lock stays with somebody who has
//! not heard of it.

use dss_lock::{Outcome, Reply, Wait};

use crate::script::{S, Script, X, granted, lock, named, request};

#[test]
fn a_cancelled_wait_leaves_the_queue_and_lets_others_pass() {
    let mut script = Script::default();
    script.take("r1", "l", S);
    script.wait("w", "l", X);
    let writer = script.attempt();
    script.wait("r2", "l", S);
    script.cancel(writer, "w", "l");
    assert_eq!(script.ended(), ["w cancelled l", "r2 got l"]);
    assert_eq!(script.queue("l"), [""; 0]);
}

#[test]
fn a_grant_that_raced_the_cancellation_is_released() {
    let mut script = Script::default();
    script.take("a", "l", X);
    script.wait("b", "l", X);
    let abandoned = script.attempt();
    script.wait("c", "l", X);
    script.release("a", "l");
    script.cancel(abandoned, "b", "l");
    assert_eq!(script.ended(), ["b got l", "c got l"]);
    script.cancel(abandoned, "b", "l");
    assert_eq!(script.holders("l"), ["c"]);
}

#[test]
fn a_cancellation_ends_no_other_wait_or_grant() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let first = script.attempt();
    script.release("a", "l");
    script.take("a", "l", X);
    script.cancel(first, "a", "l");
    assert_eq!(script.holders("l"), ["a"]);
    script.wait("b", "l", X);
    let waiting = script.attempt();
    script.cancel(waiting, "b", "other");
    script.cancel(waiting, "c", "l");
    script.cancel(first, "b", "l");
    assert_eq!(script.queue("l"), ["b"]);
}

#[test]
fn a_wait_that_a_repeat_has_joined_goes_on() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let ask = || named("1", request("b", "l", X, Wait::Forever));
    script.acquire(ask());
    let first = script.attempt();
    script.acquire(ask());
    let second = script.attempt();
    script.cancel(first, "b", "l");
    assert_eq!(script.queue("l"), ["b"]);
    script.cancel(second, "b", "l");
    assert_eq!(script.queue("l"), [""; 0]);
    // Nobody has been given an answer, so the request is made anew.
    assert_eq!(script.acquire(ask()), Reply::Waiting);
}

#[test]
fn a_grant_that_a_repeat_was_told_of_stays() {
    let mut script = Script::default();
    let ask = || named("1", request("a", "l", X, Wait::Try));
    script.acquire(ask());
    let first = script.attempt();
    let told = script.acquire(ask());
    script.cancel(first, "a", "l");
    assert_eq!(script.holders("l"), ["a"]);
    assert!(script.table.is_valid(&lock("l"), granted(&told).token));
}

#[test]
fn a_grant_that_was_asked_for_again_stays_with_whoever_was_told() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let first = script.attempt();
    script.take("a", "l", X);
    let again = script.attempt();
    script.cancel(again, "a", "l");
    assert_eq!(script.holders("l"), ["a"]);
    script.cancel(first, "a", "l");
    assert_eq!(script.holders("l"), [""; 0]);
}

#[test]
fn an_answer_that_was_taken_back_is_not_given_to_a_repeat() {
    let mut script = Script::default();
    let ask = || named("1", request("a", "l", X, Wait::Try));
    script.acquire(ask());
    let abandoned = script.attempt();
    script.cancel(abandoned, "a", "l");
    script.take("b", "l", X);
    let reply = script.acquire(ask());
    assert!(matches!(reply, Reply::Ended(Outcome::Held { .. })), "{reply:?}");
}

#[test]
fn an_upgrade_that_was_taken_back_falls_back_to_shared() {
    let mut script = Script::default();
    let shared = script.take("a", "l", S);
    script.take("b", "l", S);
    script.wait("a", "l", X);
    let upgrade = script.attempt();
    script.wait("c", "l", S);
    script.release("b", "l");
    assert_eq!(script.ended(), ["a got l"]);
    script.cancel(upgrade, "a", "l");
    assert_eq!(script.ended(), ["c got l"]);
    assert_eq!(script.holders("l"), ["a", "c"]);
    assert!(script.table.is_valid(&lock("l"), shared));
}

#[test]
fn an_upgrade_whose_shared_grant_was_taken_back_falls_back_to_nothing() {
    let mut script = Script::default();
    script.take("a", "l", S);
    let shared = script.attempt();
    script.take("a", "l", X);
    let upgrade = script.attempt();
    script.cancel(shared, "a", "l");
    assert_eq!(script.holders("l"), ["a"]);
    script.cancel(upgrade, "a", "l");
    assert_eq!(script.holders("l"), [""; 0]);
}
