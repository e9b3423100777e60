//! The granter, event by event. Its config: a lease of 800 ms that is over 808 ms (and a
//! nanosecond) after the receipt of the renewal, and 400 ms of patience.

use super::*;
use crate::view::Epoch;

const LEASE: Duration = Duration::from_millis(800);

fn at(millis: u64) -> Timestamp {
    Timestamp::since_origin(Duration::from_millis(millis))
}

/// When a member whose renewal was received at `millis` is removed.
fn removal_after(millis: u64) -> Timestamp {
    at(millis + 1_208) + Duration::from_nanos(1)
}

fn member(node: u64, incarnation: u64) -> Member {
    Member { node: NodeId::new(node), incarnation: Incarnation::new(incarnation) }
}

fn view(epoch: u64, members: &[Member]) -> View {
    View { epoch: Epoch::new(epoch), members: members.to_vec() }
}

fn idle() -> LeaseGranter {
    LeaseGranter::new(LeaseConfig::for_election_timeout(Duration::from_secs(1)).unwrap())
}

/// Leads since 1,000 ms, after an election by time-out, with these members.
fn leader(view: &View) -> LeaseGranter {
    let mut granter = idle();
    granter.handle_leadership(at(1_000), 7, view, false);
    granter
}

/// Both steps at once.
fn renew(
    granter: &mut LeaseGranter,
    now: Timestamp,
    member: Member,
    view: &View,
) -> Result<Duration, Refused> {
    let renewal = granter.handle_renewal(now, member)?;
    granter.grant(now, renewal, view)
}

#[test]
fn a_member_that_renews_is_not_removed_and_one_that_does_not_is() {
    let (loyal, lost) = (member(1, 5), member(2, 5));
    let view = view(3, &[loyal, lost]);
    let mut granter = leader(&view);
    assert_eq!(renew(&mut granter, at(1_100), loyal, &view), Ok(LEASE));
    assert_eq!(renew(&mut granter, at(1_100), lost, &view), Ok(LEASE));
    assert_eq!(renew(&mut granter, at(1_400), loyal, &view), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_100)));
    assert_eq!(granter.expired(at(2_308)), []);
    assert_eq!(granter.expired(removal_after(1_100)), [lost]);
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_400)));
}

#[test]
fn a_member_without_a_lease_is_forgiven_as_long_as_patience_lasts() {
    let slow = member(1, 5);
    let view = view(3, &[slow]);
    let mut granter = leader(&view);
    assert_eq!(renew(&mut granter, at(1_100), slow, &view), Ok(LEASE));
    // Its lease was over at 1,908 ms.
    assert_eq!(granter.expired(at(2_300)), []);
    assert_eq!(renew(&mut granter, at(2_300), slow, &view), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(2_300)));
}

#[test]
fn after_an_election_members_get_patience_to_find_the_leader() {
    let view = view(3, &[member(1, 5)]);
    let mut granter = leader(&view);
    assert_eq!(granter.poll_timeout(), Some(at(1_400)));
    assert_eq!(granter.expired(at(1_400)), [member(1, 5)]);
}

#[test]
fn after_a_transfer_nobody_is_removed_before_a_full_lease() {
    let mut granter = idle();
    granter.handle_leadership(at(1_000), 7, &view(3, &[member(1, 5)]), true);
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_000)));
    assert_eq!(granter.expired(at(2_208)), []);
    // A member that this leader learns of only later may have the predecessor's lease as well.
    let later = view(4, &[member(1, 5), member(2, 5)]);
    granter.handle_view(at(1_100), &later);
    assert_eq!(granter.expired(removal_after(1_000)), [member(1, 5), member(2, 5)]);
}

#[test]
fn a_grant_after_a_transfer_does_not_end_the_leases_of_the_predecessor() {
    let mut granter = idle();
    let view = view(3, &[member(1, 5)]);
    // The renewal had been waiting on this node since before it led.
    granter.handle_leadership(at(1_000), 7, &view, true);
    let renewal = granter.handle_renewal(at(900), member(1, 5)).unwrap();
    assert_eq!(granter.grant(at(1_010), renewal, &view), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_000)));
}

#[test]
fn who_is_being_removed_gets_nothing_until_a_view_has_decided() {
    let gone = member(1, 5);
    let before = view(3, &[gone]);
    let mut granter = leader(&before);
    let early = granter.handle_renewal(at(1_399), gone).unwrap();
    assert_eq!(granter.expired(at(1_400)), [gone]);
    // Not even if the renewal had arrived in time.
    assert_eq!(granter.grant(at(1_401), early, &before), Err(Refused::Expired));
    assert_eq!(granter.handle_renewal(at(1_402), gone), Err(Refused::Expired));
    // Another member's coming decides nothing about it.
    granter.handle_view(at(1_410), &view(4, &[gone, member(2, 1)]));
    assert_eq!(granter.handle_renewal(at(1_411), gone), Err(Refused::Expired));
    let without = view(5, &[member(2, 1)]);
    granter.handle_view(at(1_420), &without);
    assert_eq!(renew(&mut granter, at(1_421), gone, &without), Err(Refused::NotMember));
}

#[test]
fn a_removal_that_did_not_happen_is_asked_for_again() {
    let gone = member(1, 5);
    let mut granter = leader(&view(3, &[gone]));
    assert_eq!(granter.expired(at(1_400)), [gone]);
    assert_eq!(granter.expired(at(1_401)), []);
    assert_eq!(granter.poll_timeout(), Some(at(2_200)));
    assert_eq!(granter.expired(at(2_200)), [gone]);
    granter.handle_view(at(2_300), &view(4, &[]));
    assert_eq!(granter.poll_timeout(), None);
}

#[test]
fn a_restarted_member_starts_with_a_clean_slate() {
    let (old, new) = (member(1, 5), member(1, 6));
    let before = view(3, &[old]);
    let mut granter = leader(&before);
    assert_eq!(renew(&mut granter, at(1_100), old, &before), Ok(LEASE));
    // It is back before its old lease is over.
    let after = view(4, &[new]);
    granter.handle_view(at(1_300), &after);
    assert_eq!(granter.poll_timeout(), Some(at(1_700)));
    assert_eq!(renew(&mut granter, at(1_310), new, &after), Ok(LEASE));
    assert_eq!(granter.handle_renewal(at(1_320), old), Err(Refused::Superseded));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_310)));
}

#[test]
fn a_restarted_member_need_not_wait_for_the_removal_of_its_old_life() {
    let (old, new) = (member(1, 5), member(1, 6));
    let mut granter = leader(&view(3, &[old]));
    assert_eq!(granter.expired(at(1_400)), [old]);
    let after = view(4, &[new]);
    granter.handle_view(at(1_500), &after);
    assert_eq!(renew(&mut granter, at(1_501), new, &after), Ok(LEASE));
}

#[test]
fn the_view_of_the_read_decides_and_not_what_was_known_before() {
    let (known, newcomer) = (member(1, 5), member(2, 5));
    let before = view(3, &[known]);
    let mut granter = leader(&before);
    // This node has not applied the join yet when the newcomer renews.
    let after = view(4, &[known, newcomer]);
    assert_eq!(renew(&mut granter, at(1_100), newcomer, &after), Ok(LEASE));
    // Nor the removal, proposed by the leader before, that its log holds.
    let renewal = granter.handle_renewal(at(1_200), known).unwrap();
    let removed = view(5, &[newcomer]);
    assert_eq!(granter.grant(at(1_210), renewal, &removed), Err(Refused::NotMember));
    // A life that has not joined is no member, though its node is one.
    let next_life = renew(&mut granter, at(1_300), member(2, 6), &removed);
    assert_eq!(next_life, Err(Refused::NotMember));
    // An older one is superseded, if only the read says so.
    let renewal = granter.handle_renewal(at(1_400), newcomer).unwrap();
    let restarted = view(6, &[member(2, 6)]);
    assert_eq!(granter.grant(at(1_410), renewal, &restarted), Err(Refused::Superseded));
}

#[test]
fn a_view_that_is_older_than_the_newest_known_is_ignored() {
    let mut granter = leader(&view(3, &[member(1, 5)]));
    let stale = view(2, &[member(1, 5), member(2, 5)]);
    assert_eq!(renew(&mut granter, at(1_100), member(2, 5), &stale), Err(Refused::NotMember));
}

#[test]
fn who_does_not_lead_grants_nothing() {
    let view = view(3, &[member(1, 5)]);
    let mut granter = idle();
    granter.handle_view(at(900), &view);
    assert_eq!(granter.handle_renewal(at(900), member(1, 5)), Err(Refused::NotLeader));
    assert_eq!((granter.poll_timeout(), granter.expired(at(9_000))), (None, vec![]));
    granter.handle_leadership(at(1_000), 7, &view, false);
    let renewal = granter.handle_renewal(at(1_100), member(1, 5)).unwrap();
    granter.handle_leadership_lost();
    assert_eq!(granter.grant(at(1_110), renewal, &view), Err(Refused::NotLeader));
    assert_eq!((granter.poll_timeout(), granter.expired(at(9_000))), (None, vec![]));
}

#[test]
fn a_renewal_from_an_earlier_term_of_office_is_not_granted() {
    let view = view(3, &[member(1, 5)]);
    let mut granter = leader(&view);
    let renewal = granter.handle_renewal(at(1_100), member(1, 5)).unwrap();
    granter.handle_leadership(at(2_500), 9, &view, false);
    assert_eq!(granter.grant(at(2_510), renewal, &view), Err(Refused::NotLeader));
    assert_eq!(granter.poll_timeout(), Some(at(2_900)));
}

#[test]
fn news_of_a_leadership_that_is_known_forgets_no_lease() {
    let view = view(3, &[member(1, 5)]);
    let mut granter = leader(&view);
    assert_eq!(renew(&mut granter, at(1_100), member(1, 5), &view), Ok(LEASE));
    let before = granter.clone();
    granter.handle_leadership(at(1_200), 7, &view, false);
    granter.handle_leadership(at(1_200), 6, &view, false);
    assert_eq!(granter, before);
    // Nor does late news bring back an office that was lost.
    granter.handle_leadership_lost();
    granter.handle_leadership(at(1_300), 7, &view, false);
    assert_eq!(granter.handle_renewal(at(1_300), member(1, 5)), Err(Refused::NotLeader));
}

#[test]
fn a_group_of_nobody_waits_for_nothing() {
    let granter = leader(&View::default());
    assert_eq!(granter.poll_timeout(), None);
}
