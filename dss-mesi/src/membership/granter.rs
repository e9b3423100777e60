//! The leader's side of leases.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::LeaseConfig;
use crate::view::{Incarnation, Member, NodeId, Timestamp, View};

/// What the leader of the view's group knows about everybody's lease. Every node has one; it does
/// nothing where its node does not lead.
///
/// | time | what the driver does |
/// | --- | --- |
/// | this node becomes leader | [`handle_leadership`](Self::handle_leadership) |
/// | it is leader no longer | [`handle_leadership_lost`](Self::handle_leadership_lost) |
/// | a view was applied | [`handle_view`](Self::handle_view) |
/// | a renewal arrives | [`handle_renewal`](Self::handle_renewal); then a linearizable read of the view; then [`grant`](Self::grant), and the lease goes to the member |
/// | [`poll_timeout`](Self::poll_timeout) | [`expired`](Self::expired), and a removal is proposed for each |
///
/// Nothing here is stored or replicated: the next leader knows from the way in which it came into
/// office which leases can still run. [Why that is safe](super).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGranter {
    config: LeaseConfig,
    /// The last term that this node led, whether it still does or not.
    last_term: Option<u64>,
    office: Option<Office>,
}

/// What a leader knows. It goes with its office.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Office {
    term: u64,
    /// Until then a lease from an earlier leader may run, of any member, known here or not.
    inherited_until: Timestamp,
    view: View,
    /// One for each member of the view.
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

/// A renewal that has arrived and is not granted yet. It cannot be kept or repeated: it ends in
/// [`LeaseGranter::grant`], or is dropped where the leader could not confirm that it leads.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease is granted by `LeaseGranter::grant`, after a linearizable read of the view"]
pub struct Renewal {
    term: u64,
    member: Member,
    received_at: Timestamp,
}

impl LeaseGranter {
    /// A granter that does not lead.
    #[must_use]
    pub fn new(config: LeaseConfig) -> Self {
        Self { config, last_term: None, office: None }
    }

    /// This node leads in `term`; `view` is the newest that it has applied, which may be behind.
    /// `by_transfer` says whether its predecessor asked it to, as opposed to voters that had waited
    /// an election timeout: then the predecessor's leases can still run.
    ///
    /// Terms only rise: news of one that was led before changes nothing, so that a repeated
    /// notification does not make the leader forget what it has granted.
    pub fn handle_leadership(&mut self, now: Timestamp, term: u64, view: &View, by_transfer: bool) {
        if self.last_term.is_some_and(|last_term| term <= last_term) {
            return;
        }
        let inherited_until = if by_transfer { now + self.config.granter_span() } else { now };
        let mut office =
            Office { term, inherited_until, view: View::default(), leases: BTreeMap::new() };
        office.take_view(now, view);
        self.last_term = Some(term);
        self.office = Some(office);
    }

    /// This node leads no longer. What it granted is the next leader's concern.
    pub fn handle_leadership_lost(&mut self) {
        self.office = None;
    }

    /// A view was applied. Older ones than the newest known are ignored. New members, and new
    /// lives of old ones, have no lease yet and get their patience from now on.
    pub fn handle_view(&mut self, now: Timestamp, view: &View) {
        if let Some(office) = &mut self.office {
            office.take_view(now, view);
        }
    }

    /// A renewal has arrived. This only takes note of the time: next, begin a linearizable read of
    /// the view, and give what it returns to [`grant`](Self::grant).
    ///
    /// A member that this node does not know yet is let through: the view of that read decides.
    ///
    /// # Errors
    ///
    /// Where there is no need to read: this node does not lead, the member's removal is under way,
    /// or a newer life of it is known.
    pub fn handle_renewal(&self, now: Timestamp, member: Member) -> Result<Renewal, Refused> {
        let office = self.office.as_ref().ok_or(Refused::NotLeader)?;
        match office.leases.get(&member.node) {
            Some(lease) if lease.incarnation > member.incarnation => Err(Refused::Superseded),
            Some(lease) if lease.is_expired_life(member) => Err(Refused::Expired),
            Some(_) | None => Ok(Renewal { term: office.term, member, received_at: now }),
        }
    }

    /// Leadership is confirmed: a linearizable read that was begun after the renewal arrived has
    /// returned `view`. Returns the lease to send to the member, which counts it from when *it*
    /// sent the renewal.
    ///
    /// # Errors
    ///
    /// Where the member is not in the view, its removal was asked for meanwhile, or this node has
    /// lost the leadership in which the renewal arrived.
    pub fn grant(
        &mut self,
        now: Timestamp,
        renewal: Renewal,
        view: &View,
    ) -> Result<Duration, Refused> {
        let Renewal { term, member, received_at } = renewal;
        let office = self.office.as_mut().ok_or(Refused::NotLeader)?;
        if office.term != term {
            return Err(Refused::NotLeader);
        }
        office.take_view(now, view);
        let Some(lease) = office.leases.get_mut(&member.node) else {
            return Err(Refused::NotMember);
        };
        if lease.incarnation > member.incarnation {
            return Err(Refused::Superseded);
        }
        if lease.incarnation < member.incarnation {
            return Err(Refused::NotMember);
        }
        match &mut lease.standing {
            Standing::Expired { .. } => Err(Refused::Expired),
            Standing::Running { over_at } => {
                *over_at = (*over_at).max(received_at + self.config.granter_span());
                Ok(self.config.lease())
            }
        }
    }

    /// The members to propose a removal for: their leases are certainly over, and patience with
    /// them is too. From here on they are refused, until the view is without them; if it still has
    /// them a lease later (a proposal may fail), they are named again.
    ///
    /// Renewals that are waiting should be handled first, lest a pause of this node is held against
    /// the members.
    #[must_use = "the members named are refused from now on, and must be removed"]
    pub fn expired(&mut self, now: Timestamp) -> Vec<Member> {
        let Some(office) = &mut self.office else {
            return Vec::new();
        };
        let mut expired = Vec::new();
        for (node, lease) in &mut office.leases {
            if lease.due_at(&self.config) <= now {
                let again_at = now + self.config.lease();
                lease.standing = Standing::Expired { again_at };
                expired.push(Member { node: *node, incarnation: lease.incarnation });
            }
        }
        expired
    }

    /// When to call [`expired`](Self::expired) next; `None` where this node does not lead, or
    /// nobody takes part.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let office = self.office.as_ref()?;
        office.leases.values().map(|lease| lease.due_at(&self.config)).min()
    }
}

impl Office {
    fn take_view(&mut self, now: Timestamp, view: &View) {
        if view.epoch <= self.view.epoch {
            return;
        }
        self.view.clone_from(view);
        self.leases.retain(|node, lease| {
            view.contains(Member { node: *node, incarnation: lease.incarnation })
        });
        // Whoever is new *here* may have a lease from the leader before.
        let over_at = now.max(self.inherited_until);
        for member in &view.members {
            self.leases.entry(member.node).or_insert(Lease {
                incarnation: member.incarnation,
                standing: Standing::Running { over_at },
            });
        }
    }
}

impl Lease {
    fn is_expired_life(&self, member: Member) -> bool {
        self.incarnation == member.incarnation && matches!(self.standing, Standing::Expired { .. })
    }

    /// When a removal is to be asked for.
    fn due_at(&self, config: &LeaseConfig) -> Timestamp {
        match self.standing {
            Standing::Running { over_at } => over_at + config.patience(),
            Standing::Expired { again_at } => again_at,
        }
    }
}

/// Why a member gets no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// This node does not lead, or not any more: ask the leader.
    #[error("this node does not lead the group of the view")]
    NotLeader,
    /// This life is not in the view: it must join.
    #[error("the member is not in the view")]
    NotMember,
    /// The lease was over for too long and the removal is under way: the node must stop acting,
    /// and join as a new life.
    #[error("the member is being removed: its lease has expired")]
    Expired,
    /// A newer life of the node takes part: this one must stop.
    #[error("a newer life of the node takes part")]
    Superseded,
}

#[cfg(test)]
mod tests;
