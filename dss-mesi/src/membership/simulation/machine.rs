//! One machine: a member of the view and a possible leader of the group.

use super::random::{Clock, Random};
use crate::membership::{LeaseConfig, LeaseGranter, LeaseHolder, ViewCommand, ViewTable};
use crate::view::{Incarnation, Member, NodeId, Timestamp};

pub(super) struct Machine {
    pub(super) clock: Clock,
    pub(super) member: Member,
    /// Whether this life was in a view that this machine has seen.
    pub(super) joined: bool,
    pub(super) holder: LeaseHolder,
    pub(super) granter: LeaseGranter,
    pub(super) table: ViewTable,
    applied: usize,
    /// The term in which this machine's Raft believes to lead.
    pub(super) leads: Option<u64>,
    /// Nothing leaves it, and little reaches it, before this real time.
    pub(super) partitioned_until: u64,
    config: LeaseConfig,
}

impl Machine {
    pub(super) fn new(node: u64, clock: Clock, config: LeaseConfig) -> Self {
        Self {
            member: Member { node: NodeId::new(node), incarnation: Incarnation::new(1) },
            joined: false,
            holder: LeaseHolder::new(config, clock.at(0)),
            granter: LeaseGranter::new(config),
            table: ViewTable::new(),
            applied: 0,
            leads: None,
            partitioned_until: 0,
            clock,
            config,
        }
    }

    /// The member begins a new life in the same process.
    pub(super) fn rejoin(&mut self, real: u64) {
        self.member.incarnation = Incarnation::new(self.member.incarnation.get() + 1);
        self.joined = false;
        self.holder = LeaseHolder::new(self.config, self.clock.at(real));
    }

    /// The process starts anew: it knows nothing, and its clock starts anywhere.
    pub(super) fn restart(&mut self, real: u64, random: &mut Random) {
        self.clock.restart(random);
        self.rejoin(real);
        self.granter = LeaseGranter::new(self.config);
        self.table = ViewTable::new();
        self.applied = 0;
        self.leads = None;
    }

    /// Applies the log up to `index`, if it has not gone further.
    pub(super) fn catch_up(&mut self, log: &[ViewCommand], index: usize, now: Timestamp) {
        for command in log.get(self.applied..index).unwrap_or_default() {
            self.table.apply(*command);
        }
        self.applied = self.applied.max(index);
        self.joined |= self.is_member();
        self.granter.handle_table(now, &self.table);
    }

    /// Whether this life is in the view, as far as this machine knows.
    pub(super) fn is_member(&self) -> bool {
        self.table.view().contains(self.member)
    }
}
