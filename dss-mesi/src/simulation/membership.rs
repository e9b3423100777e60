//! Views and leases as the replicated membership gives them, and the faults of a run.

use std::collections::BTreeMap;

use super::plan::{LEASE, MARGIN};
use super::world::{Event, World};
use crate::flaw::Flaw;
use crate::view::{Epoch, Member, NodeId, View};

/// How often members renew their leases.
const RENEW_EVERY: u64 = LEASE / 3;

/// What the membership has decided.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) view: View,
    /// When the lease of each member surely is over.
    leases: BTreeMap<Member, u64>,
    /// Nodes that cannot reach the membership, and until when.
    cut: BTreeMap<usize, u64>,
}

impl Membership {
    pub(super) fn new() -> Self {
        Self { view: View::default(), leases: BTreeMap::new(), cut: BTreeMap::new() }
    }
}

impl World {
    /// Renews leases, lets those in who ask, and removes those whose lease is over.
    pub(super) fn supervise(&mut self) {
        self.after(RENEW_EVERY / 2, Event::Membership);
        let now = self.now;
        let mut members = self.membership.view.members.clone();
        let hasty = self.plan.config.flaw == Some(Flaw::NoLeaseWait);
        let early = if hasty { LEASE / 2 } else { 0 };
        members.retain(|member| {
            self.membership.leases.get(member).is_some_and(|end| *end > now + early)
        });
        for slot in 0..self.nodes.len() {
            let cut = self.membership.cut.get(&slot).is_some_and(|until| *until > now);
            let node = &self.nodes[slot];
            let Some(running) = node.running.as_ref() else { continue };
            if node.paused_until > now || (cut && !self.healed) {
                continue;
            }
            let member = running.member;
            let known = self.membership.leases.get(&member).copied();
            if known.is_some_and(|end| end <= now) {
                // It was removed, and learns it: this life is over.
                self.after(1, Event::Restart { slot });
                continue;
            }
            if !members.contains(&member) {
                // Its earlier life is dead, or it would not ask.
                members.retain(|other| other.node != member.node);
                members.push(member);
            }
            if known.is_none() || self.random.chance(700) || self.healed {
                self.membership.leases.insert(member, now + LEASE);
                let delay = self.random.between(1, 20_000);
                let life = self.nodes[slot].life;
                self.after(delay, Event::Lease { slot, life, until: now + LEASE - MARGIN });
            }
        }
        members.sort_by_key(|member| member.node);
        if members != self.membership.view.members {
            self.change_view(members);
        }
        self.tell_view();
    }

    fn change_view(&mut self, members: Vec<Member>) {
        let gone = self.membership.view.members.iter().filter(|old| !members.contains(old));
        let now = self.now;
        self.history.losses.extend(gone.map(|member| (now, *member)));
        let epoch = Epoch::new(self.membership.view.epoch.get() + 1);
        self.membership.view = View { epoch, members };
        self.tally.views += 1;
    }

    /// Sends the view to everybody who does not have it; now and then that takes long, so that
    /// some skip a view.
    fn tell_view(&mut self) {
        for slot in 0..self.nodes.len() {
            let Some(running) = self.nodes[slot].running.as_ref() else { continue };
            let cut = self.membership.cut.get(&slot).is_some_and(|until| *until > self.now);
            if running.cache.view().epoch < self.membership.view.epoch && (!cut || self.healed) {
                let slow = !self.healed && self.random.chance(200);
                let delay = self.random.between(1, if slow { 300_000 } else { 20_000 });
                let view = self.membership.view.clone();
                self.after(delay, Event::View { slot, view });
            }
        }
    }

    /// One of the faults of the plan.
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let next = self.random.between(1, 2 * self.plan.fault_every);
        self.after(next, Event::Fault);
        let sum: u64 = self.plan.faults.iter().sum();
        if sum == 0 {
            return Ok(());
        }
        let slot = self.random.below(self.nodes.len());
        let mut die = self.random.between(0, sum);
        let mut chosen = 0;
        while die >= self.plan.faults[chosen] {
            die -= self.plan.faults[chosen];
            chosen += 1;
        }
        let span = self.random.between(10_000, 900_000);
        match chosen {
            0 => {
                self.crash(slot);
                self.after(span, Event::Restart { slot });
            }
            1 => self.pause(slot),
            2 => {
                // Mostly in both directions, or only from the node, or only to it.
                let die = self.random.between(0, 10);
                let (from, to) = (die != 0, die > 2 || die == 0);
                self.tally.one_way_cuts += u64::from(!(from && to));
                for other in (0..self.nodes.len()).filter(|other| *other != slot) {
                    if self.random.chance(700) {
                        if from {
                            self.cut.insert((slot, other));
                        }
                        if to {
                            self.cut.insert((other, slot));
                        }
                    }
                }
            }
            _ => {
                self.membership.cut.insert(slot, self.now + span);
            }
        }
        // Partitions heal when the next fault comes, more or less.
        if chosen != 2 && self.random.chance(700) {
            self.cut.clear();
        }
        Ok(())
    }

    /// The slots of all members.
    pub(super) fn member_slots(&self) -> Vec<usize> {
        let slot = |node: NodeId| usize::try_from(node.get()).unwrap();
        self.membership.view.nodes().map(slot).collect()
    }
}
