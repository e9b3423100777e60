//! The granter, event by event. Its config: a lease of 800 ms that is over 808 ms (and a
//! nanosecond) after the receipt of the renewal, and 400 ms of patience.

use super::*;
use crate::view::{Incarnation, NodeId};

const LEASE: Duration = Duration::from_millis(800);
/// The term in which the granter leads.
const TERM: u64 = 7;

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

fn remove(member: Member) -> ViewCommand {
    ViewCommand::Remove { member, term: TERM }
}

/// A table in which the granter's term is in office and these have joined, in this order.
fn table(members: &[Member]) -> ViewTable {
    let mut table = ViewTable::new();
    table.apply(ViewCommand::TakeOffice { term: TERM });
    join(&table, members)
}

fn join(table: &ViewTable, members: &[Member]) -> ViewTable {
    let mut table = table.clone();
    for member in members {
        table.apply(ViewCommand::Join { member: *member });
    }
    table
}

fn without(table: &ViewTable, member: Member) -> ViewTable {
    let mut table = table.clone();
    table.apply(ViewCommand::Leave { member });
    table
}

fn idle() -> LeaseGranter {
    LeaseGranter::new(LeaseConfig::for_election_timeout(Duration::from_secs(1)).unwrap())
}

/// In office since 1,000 ms, after an election by time-out.
fn leader(table: &ViewTable) -> LeaseGranter {
    let mut granter = idle();
    granter.handle_leadership(at(1_000), TERM, table, false);
    granter
}

/// Both steps at once.
fn renew(
    granter: &mut LeaseGranter,
    now: Timestamp,
    member: Member,
    table: &ViewTable,
) -> Result<Duration, Refused> {
    let renewal = granter.handle_renewal(now, member)?;
    granter.grant(now, renewal, TERM, table)
}

#[test]
fn a_member_that_renews_is_not_removed_and_one_that_does_not_is() {
    let (loyal, lost) = (member(1, 5), member(2, 5));
    let table = table(&[loyal, lost]);
    let mut granter = leader(&table);
    assert_eq!(renew(&mut granter, at(1_100), loyal, &table), Ok(LEASE));
    assert_eq!(renew(&mut granter, at(1_100), lost, &table), Ok(LEASE));
    assert_eq!(renew(&mut granter, at(1_400), loyal, &table), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_100)));
    assert_eq!(granter.handle_timeout(at(2_308)), []);
    assert_eq!(granter.handle_timeout(removal_after(1_100)), [remove(lost)]);
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_400)));
}

#[test]
fn a_lease_is_over_a_lease_after_the_renewal_arrived_however_late_the_grant_is() {
    let member = member(1, 5);
    let table = table(&[member]);
    let mut granter = leader(&table);
    let early = granter.handle_renewal(at(1_100), member).unwrap();
    let late = granter.handle_renewal(at(1_200), member).unwrap();
    assert_eq!(granter.grant(at(1_390), late, TERM, &table), Ok(LEASE));
    assert_eq!(granter.grant(at(1_395), early, TERM, &table), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_200)));
}

#[test]
fn a_member_without_a_lease_is_forgiven_as_long_as_patience_lasts() {
    let slow = member(1, 5);
    let table = table(&[slow]);
    let mut granter = leader(&table);
    assert_eq!(renew(&mut granter, at(1_100), slow, &table), Ok(LEASE));
    // Its lease was over at 1,908 ms.
    assert_eq!(granter.handle_timeout(at(2_300)), []);
    assert_eq!(renew(&mut granter, at(2_300), slow, &table), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(2_300)));
}

#[test]
fn after_an_election_members_get_patience_to_find_the_leader() {
    let mut granter = leader(&table(&[member(1, 5)]));
    assert_eq!(granter.poll_timeout(), Some(at(1_400)));
    assert_eq!(granter.handle_timeout(at(1_400)), [remove(member(1, 5))]);
}

#[test]
fn after_a_transfer_nobody_is_removed_before_a_full_lease() {
    let mut granter = idle();
    let before = table(&[member(1, 5)]);
    granter.handle_leadership(at(1_000), TERM, &before, true);
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_000)));
    assert_eq!(granter.handle_timeout(at(2_208)), []);
    // A member that this leader learns of only later may have the predecessor's lease as well.
    granter.handle_table(at(1_100), &join(&before, &[member(2, 5)]));
    let removals = granter.handle_timeout(removal_after(1_000));
    assert_eq!(removals, [remove(member(1, 5)), remove(member(2, 5))]);
}

#[test]
fn a_grant_after_a_transfer_does_not_end_the_leases_of_the_predecessor() {
    let mut granter = idle();
    let table = table(&[member(1, 5)]);
    // The renewal had been waiting on this node since before it led.
    granter.handle_leadership(at(1_000), TERM, &table, true);
    let renewal = granter.handle_renewal(at(900), member(1, 5)).unwrap();
    assert_eq!(granter.grant(at(1_010), renewal, TERM, &table), Ok(LEASE));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_000)));
}

#[test]
fn a_leader_takes_office_before_it_grants_or_removes() {
    let member = member(1, 5);
    let mut before = ViewTable::new();
    before.apply(ViewCommand::TakeOffice { term: TERM - 2 });
    let before = join(&before, &[member]);
    let mut granter = leader(&before);
    let take_office = ViewCommand::TakeOffice { term: TERM };
    assert_eq!(granter.poll_timeout(), Some(at(1_000)));
    assert_eq!(granter.handle_timeout(at(1_000)), [take_office]);
    assert_eq!(renew(&mut granter, at(1_100), member, &before), Err(Refused::NotLeader));
    // The proposal was lost: once more.
    assert_eq!(granter.poll_timeout(), Some(at(1_000) + LEASE / 3));
    assert_eq!(granter.handle_timeout(at(1_300)), [take_office]);
    let mut after = before.clone();
    after.apply(take_office);
    granter.handle_table(at(1_500), &after);
    // Only from here on could the member be granted anything.
    assert_eq!(granter.poll_timeout(), Some(at(1_900)));
    assert_eq!(renew(&mut granter, at(1_600), member, &after), Ok(LEASE));
    assert_eq!(granter.handle_timeout(removal_after(1_600)), [remove(member)]);
}

#[test]
fn a_leader_whose_successor_is_in_office_leads_no_longer() {
    let known = table(&[member(1, 5)]);
    let mut granter = leader(&known);
    let mut succeeded = known.clone();
    succeeded.apply(ViewCommand::TakeOffice { term: TERM + 1 });
    let renewal = granter.handle_renewal(at(1_100), member(1, 5)).unwrap();
    assert_eq!(granter.grant(at(1_110), renewal, TERM, &succeeded), Err(Refused::NotLeader));
    assert_eq!((granter.poll_timeout(), granter.handle_timeout(at(9_000))), (None, vec![]));
}

#[test]
fn who_is_being_removed_gets_nothing_until_a_view_has_decided() {
    let gone = member(1, 5);
    let before = table(&[gone]);
    let mut granter = leader(&before);
    let early = granter.handle_renewal(at(1_399), gone).unwrap();
    assert_eq!(granter.handle_timeout(at(1_400)), [remove(gone)]);
    // Not even if the renewal had arrived in time.
    assert_eq!(granter.grant(at(1_401), early, TERM, &before), Err(Refused::Expired));
    assert_eq!(granter.handle_renewal(at(1_402), gone), Err(Refused::Expired));
    // Another member's coming decides nothing about it.
    let another = join(&before, &[member(2, 1)]);
    granter.handle_table(at(1_410), &another);
    assert_eq!(granter.handle_renewal(at(1_411), gone), Err(Refused::Expired));
    let after = without(&another, gone);
    granter.handle_table(at(1_420), &after);
    assert_eq!(renew(&mut granter, at(1_421), gone, &after), Err(Refused::NotMember));
}

#[test]
fn a_removal_that_did_not_happen_is_asked_for_again() {
    let gone = member(1, 5);
    let before = table(&[gone]);
    let mut granter = leader(&before);
    assert_eq!(granter.handle_timeout(at(1_400)), [remove(gone)]);
    assert_eq!(granter.handle_timeout(at(1_401)), []);
    assert_eq!(granter.poll_timeout(), Some(at(2_200)));
    assert_eq!(granter.handle_timeout(at(2_200)), [remove(gone)]);
    granter.handle_table(at(2_300), &without(&before, gone));
    assert_eq!(granter.poll_timeout(), None);
}

#[test]
fn a_restarted_member_starts_with_a_clean_slate() {
    let (old, new) = (member(1, 5), member(1, 6));
    let before = table(&[old]);
    let mut granter = leader(&before);
    assert_eq!(renew(&mut granter, at(1_100), old, &before), Ok(LEASE));
    // It is back before its old lease is over.
    let after = join(&before, &[new]);
    granter.handle_table(at(1_300), &after);
    assert_eq!(granter.poll_timeout(), Some(at(1_700)));
    assert_eq!(renew(&mut granter, at(1_310), new, &after), Ok(LEASE));
    assert_eq!(granter.handle_renewal(at(1_320), old), Err(Refused::Superseded));
    assert_eq!(granter.poll_timeout(), Some(removal_after(1_310)));
}

#[test]
fn a_restarted_member_need_not_wait_for_the_removal_of_its_old_life() {
    let (old, new) = (member(1, 5), member(1, 6));
    let before = table(&[old]);
    let mut granter = leader(&before);
    assert_eq!(granter.handle_timeout(at(1_400)), [remove(old)]);
    let after = join(&before, &[new]);
    granter.handle_table(at(1_500), &after);
    assert_eq!(renew(&mut granter, at(1_501), new, &after), Ok(LEASE));
}

#[test]
fn the_table_of_the_read_decides_and_not_what_was_known_before() {
    let (known, newcomer) = (member(1, 5), member(2, 5));
    let before = table(&[known]);
    let mut granter = leader(&before);
    // This node has not applied the join yet when the newcomer renews.
    let joined = join(&before, &[newcomer]);
    assert_eq!(renew(&mut granter, at(1_100), newcomer, &joined), Ok(LEASE));
    // Nor a removal that came meanwhile.
    let renewal = granter.handle_renewal(at(1_200), known).unwrap();
    let removed = without(&joined, known);
    assert_eq!(granter.grant(at(1_210), renewal, TERM, &removed), Err(Refused::NotMember));
    // A life that has not joined is no member, though its node is one.
    let next_life = renew(&mut granter, at(1_300), member(2, 6), &removed);
    assert_eq!(next_life, Err(Refused::NotMember));
    // An older one is superseded, if only the read says so.
    let renewal = granter.handle_renewal(at(1_400), newcomer).unwrap();
    let restarted = join(&removed, &[member(2, 6)]);
    assert_eq!(granter.grant(at(1_410), renewal, TERM, &restarted), Err(Refused::Superseded));
}

#[test]
fn a_table_behind_the_newest_known_is_ignored() {
    let (known, left) = (member(1, 5), member(2, 5));
    let stale = table(&[known, left]);
    let mut granter = leader(&without(&stale, left));
    assert_eq!(renew(&mut granter, at(1_100), left, &stale), Err(Refused::NotMember));
}

#[test]
fn who_does_not_lead_grants_nothing() {
    let table = table(&[member(1, 5)]);
    let mut granter = idle();
    granter.handle_table(at(900), &table);
    assert_eq!(granter.handle_renewal(at(900), member(1, 5)), Err(Refused::NotLeader));
    assert_eq!((granter.poll_timeout(), granter.handle_timeout(at(9_000))), (None, vec![]));
    granter.handle_leadership(at(1_000), TERM, &table, false);
    let renewal = granter.handle_renewal(at(1_100), member(1, 5)).unwrap();
    granter.handle_leadership_lost();
    assert_eq!(granter.grant(at(1_110), renewal, TERM, &table), Err(Refused::NotLeader));
    assert_eq!((granter.poll_timeout(), granter.handle_timeout(at(9_000))), (None, vec![]));
}

#[test]
fn a_read_that_another_leader_confirmed_grants_nothing() {
    let table = table(&[member(1, 5)]);
    let mut granter = leader(&table);
    let renewal = granter.handle_renewal(at(1_100), member(1, 5)).unwrap();
    // The node knows by now that it leads another term; this granter does not yet.
    let granted = granter.grant(at(1_110), renewal, TERM + 2, &table);
    assert_eq!(granted, Err(Refused::NotLeader));
    assert_eq!(granter.poll_timeout(), Some(at(1_400)));
}

#[test]
fn a_renewal_from_an_earlier_term_of_office_is_not_granted() {
    let earlier = table(&[member(1, 5)]);
    let mut granter = leader(&earlier);
    let renewal = granter.handle_renewal(at(1_100), member(1, 5)).unwrap();
    let mut later = earlier.clone();
    later.apply(ViewCommand::TakeOffice { term: TERM + 2 });
    granter.handle_leadership(at(2_500), TERM + 2, &later, false);
    let granted = granter.grant(at(2_510), renewal, TERM + 2, &later);
    assert_eq!(granted, Err(Refused::NotLeader));
    assert_eq!(granter.poll_timeout(), Some(at(2_900)));
}

#[test]
fn news_of_a_leadership_that_is_known_forgets_no_lease() {
    let table = table(&[member(1, 5)]);
    let mut granter = leader(&table);
    assert_eq!(renew(&mut granter, at(1_100), member(1, 5), &table), Ok(LEASE));
    let before = granter.clone();
    granter.handle_leadership(at(1_200), TERM, &table, false);
    granter.handle_leadership(at(1_200), TERM - 1, &table, false);
    assert_eq!(granter, before);
    // Nor does late news bring back an office that was lost.
    granter.handle_leadership_lost();
    granter.handle_leadership(at(1_300), TERM, &table, false);
    assert_eq!(granter.handle_renewal(at(1_300), member(1, 5)), Err(Refused::NotLeader));
}

#[test]
fn a_group_of_nobody_waits_for_nothing() {
    assert_eq!(leader(&table(&[])).poll_timeout(), None);
}
