//! What a leader knows about leases. It goes with its office.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Refused;
use crate::membership::config::LeaseConfig;
use crate::membership::table::{ViewCommand, ViewTable};
use crate::view::{Epoch, Incarnation, Member, NodeId, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Office {
    term: u64,
    /// Until then a lease from an earlier leader may run, of any member, known here or not.
    inherited_until: Timestamp,
    /// When to propose that this leader takes office; `None` once it has.
    announce_at: Option<Timestamp>,
    /// The newest view taken in.
    epoch: Epoch,
    /// One for each member of that view.
    leases: BTreeMap<NodeId, Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    incarnation: Incarnation,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// From `over_at` on the member certainly acts no longer, unless it is granted more.
    Running { over_at: Timestamp },
    /// Its removal was asked for: it gets nothing more, and if it is still there at `again_at` the
    /// removal is asked for again.
    Expired { again_at: Timestamp },
}

impl Office {
    pub(super) fn new(now: Timestamp, term: u64, inherited_until: Timestamp) -> Self {
        Self {
            term,
            inherited_until,
            announce_at: Some(now),
            epoch: Epoch::ZERO,
            leases: BTreeMap::new(),
        }
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn take_in(&mut self, now: Timestamp, table: &ViewTable) {
        if table.office() == self.term && self.announce_at.take().is_some() {
            // Nobody could be granted anything before, so patience begins here.
            for lease in self.leases.values_mut() {
                lease.hold_until(now);
            }
        }
        let view = table.view();
        if view.epoch <= self.epoch {
            return;
        }
        self.epoch = view.epoch;
        self.leases.retain(|node, lease| view.incarnation(*node) == Some(lease.incarnation));
        for member in &view.members {
            // Whoever is new *here* may have a lease from the leader before.
            let over_at = now.max(self.inherited_until);
            self.leases.entry(member.node).or_insert(Lease {
                incarnation: member.incarnation,
                standing: Standing::Running { over_at },
            });
        }
    }

    /// Whether this life may be granted a lease.
    pub(super) fn check(&self, member: Member) -> Result<(), Refused> {
        let lease = self.leases.get(&member.node).ok_or(Refused::NotMember)?;
        match (lease.incarnation.cmp(&member.incarnation), lease.standing) {
            (Ordering::Less, _) => Err(Refused::NotMember),
            (Ordering::Greater, _) => Err(Refused::Superseded),
            (Ordering::Equal, Standing::Expired { .. }) => Err(Refused::Expired),
            (Ordering::Equal, Standing::Running { .. }) => Ok(()),
        }
    }

    /// Grants this life a lease that is over at `over_at`.
    pub(super) fn extend(&mut self, member: Member, over_at: Timestamp) -> Result<(), Refused> {
        self.check(member)?;
        if let Some(lease) = self.leases.get_mut(&member.node) {
            lease.hold_until(over_at);
        }
        Ok(())
    }

    pub(super) fn due_commands(
        &mut self,
        now: Timestamp,
        config: &LeaseConfig,
    ) -> Vec<ViewCommand> {
        let term = self.term;
        if let Some(announce_at) = &mut self.announce_at {
            if *announce_at > now {
                return Vec::new();
            }
            *announce_at = now + config.renewal_interval();
            return vec![ViewCommand::TakeOffice { term }];
        }
        let mut removals = Vec::new();
        for (node, lease) in &mut self.leases {
            if lease.due_at(config) <= now {
                lease.standing = Standing::Expired { again_at: now + config.lease() };
                let member = Member { node: *node, incarnation: lease.incarnation };
                removals.push(ViewCommand::Remove { member, term });
            }
        }
        removals
    }

    pub(super) fn due_at(&self, config: &LeaseConfig) -> Option<Timestamp> {
        self.announce_at.or_else(|| self.leases.values().map(|lease| lease.due_at(config)).min())
    }
}

impl Lease {
    /// Puts off the end of a lease that runs; never brings it forward.
    fn hold_until(&mut self, until: Timestamp) {
        if let Standing::Running { over_at } = &mut self.standing {
            *over_at = (*over_at).max(until);
        }
    }

    /// When a removal is to be asked for.
    fn due_at(&self, config: &LeaseConfig) -> Timestamp {
        match self.standing {
            Standing::Running { over_at } => over_at + config.patience(),
            Standing::Expired { again_at } => again_at,
        }
    }
}
