//! The leader's side of leases.

mod office;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::office::Office;
use super::config::LeaseConfig;
use super::table::{ViewCommand, ViewTable};
use crate::view::{Member, Timestamp};

/// What the leader of the view's group knows about everybody's lease. Every node has one; it does
/// nothing where its node does not lead.
///
/// | time | what the driver does |
/// | --- | --- |
/// | this node becomes leader | [`handle_leadership`](Self::handle_leadership) |
/// | it is leader no longer | [`handle_leadership_lost`](Self::handle_leadership_lost) |
/// | a command was applied to the table | [`handle_table`](Self::handle_table) |
/// | a renewal arrives | [`handle_renewal`](Self::handle_renewal); then a linearizable read of the table; then [`grant`](Self::grant), and the lease goes to the member |
/// | [`poll_timeout`](Self::poll_timeout) | [`handle_timeout`](Self::handle_timeout), and proposes what it returns |
///
/// Nothing here is stored or replicated: the next leader knows from the way in which it came into
/// office which leases can still run. [Why that is safe](super).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGranter {
    config: LeaseConfig,
    /// The last term that this node led, whether it still does or not.
    last_term: Option<u64>,
    /// There while this node leads, as far as it knows.
    office: Option<Office>,
}

/// A renewal that has arrived and is not granted yet. It cannot be kept or repeated: it ends in
/// [`LeaseGranter::grant`], or is dropped where the leader could not confirm that it leads.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease is granted by `LeaseGranter::grant`, after a linearizable read of the table"]
pub struct Renewal {
    term: u64,
    member: Member,
    received_at: Timestamp,
}

impl Renewal {
    /// The term in which it arrived.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Whose it is.
    #[must_use]
    pub fn member(&self) -> Member {
        self.member
    }
}

impl LeaseGranter {
    /// A granter that does not lead.
    #[must_use]
    pub fn new(config: LeaseConfig) -> Self {
        Self { config, last_term: None, office: None }
    }

    /// This node leads in `term`; `table` is as far as it has applied, which may be behind.
    /// `by_transfer` says whether its predecessor asked it to, as opposed to voters that had waited
    /// an election timeout: then the predecessor's leases can still run.
    ///
    /// Terms only rise: news of one that was led before changes nothing, so that a repeated
    /// notification does not make the leader forget what it has granted.
    pub fn handle_leadership(
        &mut self,
        now: Timestamp,
        term: u64,
        table: &ViewTable,
        by_transfer: bool,
    ) {
        if self.last_term.is_some_and(|last_term| term <= last_term) {
            return;
        }
        let inherited_until = if by_transfer { now + self.config.granter_span() } else { now };
        self.last_term = Some(term);
        self.office = Some(Office::new(now, term, inherited_until));
        self.handle_table(now, table);
    }

    /// This node leads no longer. What it granted is the next leader's concern.
    pub fn handle_leadership_lost(&mut self) {
        self.office = None;
    }

    /// Commands were applied. Tables behind the newest known are ignored. New members, and new
    /// lives of old ones, have no lease yet and get their patience from now on.
    pub fn handle_table(&mut self, now: Timestamp, table: &ViewTable) {
        if let Some(office) = &mut self.office {
            office.take_in(now, table);
            // Its successor is in office.
            if table.office() > office.term() {
                self.office = None;
            }
        }
    }

    /// A renewal has arrived. This only takes note of the time: next, begin a linearizable read of
    /// the table on this node, and give what it returns to [`grant`](Self::grant).
    ///
    /// A member that this node does not know yet is let through: the table of that read decides.
    ///
    /// # Errors
    ///
    /// Where there is no need to read: this node does not lead, the member's removal is under way,
    /// or a newer life of it is known.
    pub fn handle_renewal(&self, now: Timestamp, member: Member) -> Result<Renewal, Refused> {
        let office = self.office.as_ref().ok_or(Refused::NotLeader)?;
        match office.check(member) {
            Ok(()) | Err(Refused::NotMember) => {
                Ok(Renewal { term: office.term(), member, received_at: now })
            }
            Err(refused) => Err(refused),
        }
    }

    /// Leadership is confirmed: a linearizable read that was begun after the renewal arrived has
    /// returned `table`, and *after that* this node was still the leader of `term`. Both are
    /// needed: other leaders confirm reads as well. Returns the lease to send to the member, which
    /// counts it from when *it* sent the renewal.
    ///
    /// # Errors
    ///
    /// Where the member is not in the view, its removal was asked for meanwhile, this node has lost
    /// the leadership in which the renewal arrived, or has not taken office in it yet.
    #[expect(clippy::needless_pass_by_value, reason = "one renewal is good for one grant")]
    pub fn grant(
        &mut self,
        now: Timestamp,
        renewal: Renewal,
        term: u64,
        table: &ViewTable,
    ) -> Result<Duration, Refused> {
        let Renewal { term: arrived_in, member, received_at } = renewal;
        self.handle_table(now, table);
        let office = self.office.as_mut().ok_or(Refused::NotLeader)?;
        if [arrived_in, term, table.office()] != [office.term(); 3] {
            return Err(Refused::NotLeader);
        }
        office.extend(member, received_at + self.config.granter_span())?;
        Ok(self.config.lease())
    }

    /// What to propose: that this leader takes office, until the table says that it has; then the
    /// removal of members whose lease is certainly over, and patience with them too. From here on
    /// those are refused, until the view is without them; if it still has them a lease later (a
    /// proposal may fail), their removal is returned again.
    ///
    /// Renewals that are waiting should be handled first, lest a pause of this node is held against
    /// the members.
    #[must_use = "the commands are to be proposed; the members in them are refused from now on"]
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<ViewCommand> {
        match &mut self.office {
            Some(office) => office.due_commands(now, &self.config),
            None => Vec::new(),
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` where this node does not
    /// lead, or nobody takes part.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.office.as_ref()?.due_at(&self.config)
    }
}

/// Why a member gets no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// This node does not lead, not any more, or not in office yet: look for the leader, and renew
    /// again soon.
    #[error("this node does not lead the group of the view")]
    NotLeader,
    /// This life is not in the view: it must join, as a new life if it was there before.
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
