//! How sessions begin and end, and what goes with them.

use std::time::Duration;

use dss_lock::{
    Command, Event, Expiry, LOCKS_PER_SESSION_MAX, Limit, Outcome, Reply, SessionView, TTL_DEFAULT,
    TTL_MAX, Wait,
};

use crate::script::{S, Script, X, lock, named, request, session};

fn open(script: &mut Script, name: &str, ttl: Duration) -> SessionView {
    match script.apply(Command::OpenSession { session: session(name), ttl, lock_delay: None }) {
        Reply::Session(Ok(view)) => view,
        reply => panic!("{reply:?}"),
    }
}

fn expire(script: &mut Script, sessions: &[(&str, u64)]) {
    let sessions = sessions.iter();
    let sessions =
        sessions.map(|(name, renewal)| Expiry { session: session(name), renewal: *renewal });
    script.apply(Command::Expire { sessions: sessions.collect() });
}

fn renewal(script: &Script, name: &str) -> u64 {
    script.table.session(&session(name)).unwrap().renewal
}

#[test]
fn an_acquire_opens_its_session() {
    let mut script = Script::default();
    script.take("a", "l", X);
    let view = script.table.session(&session("a")).unwrap();
    assert_eq!((view.ttl, view.holds), (TTL_DEFAULT, vec![lock("l")]));
}

#[test]
fn an_acquire_keeps_or_changes_the_time_to_live() {
    let mut script = Script::default();
    open(&mut script, "a", Duration::from_secs(5));
    script.take("a", "l", X);
    assert_eq!(script.table.session(&session("a")).unwrap().ttl, Duration::from_secs(5));
    let mut ask = request("a", "m", X, Wait::Try);
    ask.ttl = Some(Duration::from_secs(7));
    script.acquire(ask);
    assert_eq!(script.table.session(&session("a")).unwrap().ttl, Duration::from_secs(7));
}

#[test]
fn a_time_to_live_has_bounds() {
    let mut script = Script::default();
    assert_eq!(open(&mut script, "a", Duration::MAX).ttl, TTL_MAX);
    assert!(!open(&mut script, "a", Duration::ZERO).ttl.is_zero());
}

#[test]
fn a_closed_session_gives_up_what_it_holds_and_waits_for() {
    let mut script = Script::default();
    script.take("a/1", "1", X);
    script.take("b", "2", X);
    script.wait("a/2", "2", S);
    script.wait("c", "1", X);
    script.wait("d", "2", X);
    assert_eq!(script.apply(Command::CloseSession { session: session("a") }), Reply::Closed(true));
    assert_eq!(script.ended(), ["a expired on 2", "c got 1"]);
    assert_eq!(script.queue("2"), ["d"]);
    assert_eq!(script.table.session(&session("a")), None);
    assert_eq!(script.apply(Command::CloseSession { session: session("a") }), Reply::Closed(false));
}

#[test]
fn what_a_session_gives_up_goes_to_none_that_ends_with_it() {
    let mut script = Script::default();
    script.take("a/1", "l", X);
    script.wait("a/2", "l", X);
    script.wait("b", "l", X);
    script.wait("c", "l", X);
    let dead = [("a", renewal(&script, "a")), ("b", renewal(&script, "b"))];
    expire(&mut script, &dead);
    assert_eq!(script.ended(), ["a expired on l", "b expired on l", "c got l"]);
}

#[test]
fn an_expiry_is_void_after_a_newer_sign_of_life() {
    let mut script = Script::default();
    script.take("a", "l", X);
    for sign in ["open", "acquire", "release"] {
        let seen = renewal(&script, "a");
        match sign {
            "open" => drop(open(&mut script, "a", TTL_DEFAULT)),
            "acquire" => drop(script.take("a", "m", X)),
            _ => drop(script.release("a", "m")),
        }
        expire(&mut script, &[("a", seen)]);
        assert_eq!(script.holders("l"), ["a"], "after {sign}");
    }
    let seen = renewal(&script, "a");
    expire(&mut script, &[("a", seen), ("unknown", 1)]);
    assert_eq!(script.holders("l"), [""; 0]);
}

#[test]
fn an_expiry_ends_no_later_session_of_the_same_name() {
    let mut script = Script::default();
    let seen = open(&mut script, "a", TTL_DEFAULT).renewal;
    script.apply(Command::CloseSession { session: session("a") });
    script.take("a", "l", X);
    expire(&mut script, &[("a", seen)]);
    assert_eq!(script.holders("l"), ["a"]);
}

#[test]
fn signs_of_life_and_ends_are_reported() {
    let mut script = Script::default();
    let view = open(&mut script, "a", TTL_DEFAULT);
    let renewed =
        Event::SessionRenewed { session: session("a"), ttl: TTL_DEFAULT, renewal: view.renewal };
    assert_eq!(script.events, [renewed]);
    script.events.clear();
    expire(&mut script, &[("a", view.renewal)]);
    let ended = Event::SessionEnded { session: session("a"), renewal: view.renewal };
    assert_eq!(script.events, [ended]);
}

#[test]
fn answers_go_with_their_session() {
    let mut script = Script::default();
    script.take("b", "l", X);
    let ask = || named("1", request("a", "l", X, Wait::Try));
    assert!(matches!(script.acquire(ask()), Reply::Ended(Outcome::Held { .. })));
    script.release("b", "l");
    script.apply(Command::CloseSession { session: session("a") });
    assert!(matches!(script.acquire(ask()), Reply::Ended(Outcome::Granted(_))));
}

#[test]
fn idle_owners_are_remembered_up_to_a_number() {
    let mut script = Script::default();
    script.take("b", "l", X);
    let ask = |task: usize| named("1", request(&format!("a/{task}"), "l", X, Wait::Try));
    for task in 0..=256 {
        script.acquire(ask(task));
    }
    script.release("b", "l");
    // The first one's answer was dropped for the last one's.
    assert!(matches!(script.acquire(ask(256)), Reply::Ended(Outcome::Held { .. })));
    assert!(matches!(script.acquire(ask(0)), Reply::Ended(Outcome::Granted(_))));
}

#[test]
fn a_session_has_a_bounded_number_of_locks() {
    let mut script = Script::default();
    // Without the checks of `Script::apply`, which would take minutes over so many.
    for number in 0..LOCKS_PER_SESSION_MAX as u64 {
        let attempt = dss_lock::AttemptId { term: 1, sequence: number };
        let request = request("a", &number.to_string(), X, Wait::Try);
        script.index += 1;
        let command = Command::Acquire { attempt, request };
        script.table.apply(script.index, dss_lock::ClusterTime::ZERO, command);
    }
    let refused = script.acquire(request("a", "more", X, Wait::Try));
    assert_eq!(refused, Reply::Ended(Outcome::Refused(Limit::LocksPerSession)));
    script.release("a", "7");
    script.take("a", "more", X);
}
