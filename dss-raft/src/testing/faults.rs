//! What goes wrong.

use std::time::Duration;

use super::PlantedBug;
use super::violation::Violation;
use super::workload::Workload;
use super::world::{Event, Recovery, World, node_at};
use crate::entry::Configuration;

/// A kind of fault. Each comes again and again, at random times around a mean.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Crash,
    Partition,
    Heal,
    /// A node is heard by nobody, for about as long as it takes to elect another.
    Silence(usize),
    SlowDisk,
    Transfer,
    /// A node stops for a while, and does not know it.
    Pause,
    /// Somebody asks for other members.
    Change,
    /// Somebody asks this node for other members.
    ChangeNow(usize),
    /// A node loses its storage.
    Wipe,
}

impl<W: Workload> World<W> {
    pub(super) fn schedule_faults(&mut self) {
        let regular = [Fault::Crash, Fault::Partition, Fault::SlowDisk, Fault::Transfer];
        for fault in regular.into_iter().chain([Fault::Change, Fault::Pause]) {
            self.schedule(fault);
        }
        if self.options.wipes {
            // Once all have stored whose log is whose, and not in the end.
            let (from, to) = (self.options.duration / 3, self.options.duration * 2 / 3);
            let at = self.random.span(from, to);
            self.queue.push(at, Event::Fault(Fault::Wipe));
        }
    }

    fn schedule(&mut self, fault: Fault) {
        let every = match fault {
            Fault::Crash => self.options.crash_every,
            Fault::Partition => self.options.partition_every,
            Fault::SlowDisk => self.options.slow_disk_every,
            Fault::Transfer => self.options.transfer_every,
            Fault::Change => self.options.change_every,
            Fault::Pause => self.options.pause_every,
            Fault::Heal | Fault::Silence(_) | Fault::ChangeNow(_) | Fault::Wipe => return,
        };
        if !every.is_zero() {
            let wait = self.random.span(Duration::ZERO, every * 2);
            self.queue.push(self.now + wait, Event::Fault(fault));
        }
    }

    pub(super) fn inflict(&mut self, fault: Fault) -> Result<(), Violation> {
        if self.recovery.is_some() {
            return Ok(());
        }
        self.schedule(fault);
        let at = self.choose_victim();
        match fault {
            Fault::Crash => self.crash_some(at),
            Fault::Partition => {
                self.partition(at);
                Ok(())
            }
            Fault::Heal => {
                self.network.heal();
                Ok(())
            }
            Fault::Silence(at) => {
                for to in 0..self.hosts.len() {
                    self.network.cut(at, to);
                }
                let span = self.random.span(Duration::ZERO, self.options.election_timeout * 4);
                self.queue.push(self.now + span, Event::Fault(Fault::Heal));
                Ok(())
            }
            Fault::SlowDisk => {
                let span = self.random.span(Duration::ZERO, self.options.slow_disk_every);
                self.hosts[at].slow_until = self.now + span;
                Ok(())
            }
            Fault::Change => self.change_members(at),
            Fault::Pause => {
                let span = self.random.span(Duration::ZERO, self.options.election_timeout * 4);
                self.hosts[at].paused_until = self.now + span;
                // Before it notices anything else, it serves whoever asked meanwhile.
                self.queue.push(self.now + span, Event::Read { at });
                Ok(())
            }
            Fault::ChangeNow(at) => self.change_members(at),
            Fault::Wipe => self.wipe(at),
            Fault::Transfer => {
                let Some(leader) = self.leader_from(at) else { return Ok(()) };
                let anyone = self.random.below(2) == 0;
                let to = self.hosts[at].node;
                self.input(leader, |raft, now| {
                    // Being refused is a fine outcome too.
                    let _ = raft.transfer_leadership(now, (!anyone).then_some(to));
                })
            }
        }
    }

    /// Has a new leader crash soon, perhaps, or be heard no more.
    pub(super) fn threaten(&mut self, at: usize) {
        if self.recovery.is_some() {
            return;
        }
        if !self.options.change_every.is_zero() && self.random.below(4) == 0 {
            // At the earliest moment, when it matters most what is committed.
            self.queue.push(self.now, Event::Fault(Fault::ChangeNow(at)));
        }
        if self.random.below(1000) >= self.options.depose_permille {
            return;
        }
        // A few messages, and a few syncs: long enough to replicate something somewhere.
        let longest = (self.options.delay_max + self.options.sync_max) * 3;
        let span = self.random.span(Duration::ZERO, longest);
        let life = self.hosts[at].life;
        let event = match self.random.below(2) {
            0 => Event::PowerOff { at, life },
            _ => Event::Fault(Fault::Silence(at)),
        };
        self.queue.push(self.now + span, event);
    }

    /// Often the leader, whose loss matters most.
    fn choose_victim(&mut self) -> usize {
        let count = self.hosts.len() as u64;
        let start = usize::try_from(self.random.below(count)).unwrap_or(0);
        if self.random.below(2) == 0 { start } else { self.leader_from(start).unwrap_or(start) }
    }

    /// One node crashes, or several at once, or all of them, or a disk fails under a node.
    fn crash_some(&mut self, at: usize) -> Result<(), Violation> {
        match self.random.below(8) {
            0 => {
                self.fail_storage(at)?;
                let span = self.random.span(Duration::ZERO, self.options.crash_every);
                self.queue.push(self.now + span, Event::PowerOff { at, life: self.hosts[at].life });
                Ok(())
            }
            kind @ 1..=3 => {
                let victims = if kind == 1 { u64::MAX } else { self.random.next() };
                for other in 0..self.hosts.len() {
                    if other == at || (victims >> other) & 1 == 1 {
                        self.crash(other)?;
                    }
                }
                Ok(())
            }
            _ => self.crash(at),
        }
    }

    /// Stops a node, without what its disk had not synced, and starts it again after a while.
    pub(super) fn crash(&mut self, at: usize) -> Result<(), Violation> {
        if self.hosts[at].running.is_none() {
            return Ok(());
        }
        self.power_off(at)?;
        self.report.crashes += 1;
        // Down for a moment, or long enough that others take over.
        let longest = [Duration::from_millis(200), self.options.election_timeout * 6]
            [usize::from(self.random.below(2) == 0)];
        let pause = self.random.span(Duration::ZERO, longest);
        self.queue.push(self.now + pause, Event::Start { at });
        Ok(())
    }

    /// Asks the leader, or whoever thinks it is, for members drawn at random; sometimes with a
    /// wrong idea of who they are.
    fn change_members(&mut self, at: usize) -> Result<(), Violation> {
        let Some(leader) = self.leader_from(at).filter(|_| self.wiped.is_none()) else {
            return Ok(());
        };
        let nodes = self.hosts.len() as u64;
        let some = |bits: u64, besides: u64| {
            let chosen = move |nth: &u64| (bits >> nth) & 1 == 1 && (besides >> nth) & 1 == 0;
            (0..nodes).filter(chosen).map(|nth| node_at(usize::try_from(nth).unwrap_or(0)))
        };
        let mut voters = self.random.next();
        if voters.trailing_zeros() as u64 >= nodes {
            voters = 1;
        }
        let learners = self.random.next();
        let target =
            Configuration::of_voters(some(voters, 0)).with_learners(some(learners, voters));
        self.propose_members(leader, target)
    }

    /// Asks a node that leads for these members.
    pub(super) fn propose_members(
        &mut self,
        leader: usize,
        target: Configuration,
    ) -> Result<(), Violation> {
        if let Some(running) = &mut self.hosts[leader].running {
            let expected = running.raft.status().configuration;
            let now = running.clock.read(self.now);
            // Being refused is a fine outcome too.
            if let Ok(proposal) = running.raft.change(now, &expected, target) {
                running.changes.insert(proposal);
            }
        }
        self.input(leader, |_, _| ())
    }

    /// A node loses everything, and comes back under its old name.
    fn wipe(&mut self, at: usize) -> Result<(), Violation> {
        if !self.may_lose(at) {
            // Later: as it is, the group would not survive it.
            let again = self.now + self.options.election_timeout;
            if again < self.options.duration * 2 / 3 {
                self.queue.push(again, Event::Fault(Fault::Wipe));
            }
            return Ok(());
        }
        self.crash(at)?;
        self.hosts[at].disk = Default::default();
        self.wiped = Some(at);
        Ok(())
    }

    /// Whether the loss of this node is one that a group survives: every other one knows its log, so
    /// that nobody takes it for who it was, and no change is under way, so that the others are a
    /// quorum of whatever configuration may come.
    fn may_lose(&self, at: usize) -> bool {
        let node = node_at(at);
        let Some(first) = self.hosts[0].running.as_ref() else { return false };
        let members = first.raft.status().configuration;
        let trusting = self.options.planted_bug == Some(PlantedBug::TrustAnyLog);
        let survives = members.is_quorum(|other| other != node) && !members.is_joint();
        survives
            && self.hosts.iter().all(|host| {
                host.running.as_ref().is_some_and(|running| {
                    let configuration = running.raft.status().configuration;
                    configuration.has_same_members(&members)
                        && (configuration.logs.contains_key(&node) || trusting)
                        && running.changes.is_empty()
                })
            })
    }

    fn power_off(&mut self, at: usize) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        let node = host.node;
        host.running = None;
        host.paused_until = Duration::ZERO;
        (host.disk.crash(&mut self.random))
            .map_err(|gap| Violation::WriteOrder { node, index: gap.0 })
    }

    /// Cuts links, for a while: two groups from each other, one node from all, or one direction.
    fn partition(&mut self, at: usize) {
        self.report.partitions += 1;
        let count = self.hosts.len();
        let kind = self.random.below(4);
        let side = self.random.next();
        for from in 0..count {
            for to in 0..count {
                let cut = match kind {
                    0 => (side >> from) & 1 != (side >> to) & 1,
                    1 => (from == at) != (to == at),
                    2 => from == at && to != at,
                    _ => to == at && from != at,
                };
                if cut {
                    self.network.cut(from, to);
                }
            }
        }
        let span = self.random.span(Duration::ZERO, self.options.partition_every * 2);
        self.queue.push(self.now + span, Event::Fault(Fault::Heal));
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn end_faults(&mut self) -> Result<(), Violation> {
        let reads = vec![0; self.hosts.len()];
        self.recovery = Some(Recovery { since: self.now, acknowledged: 0, reads });
        self.network.calm();
        self.options.sync_max = self.options.sync_max.min(Duration::from_millis(20));
        /// A log that is cut every few entries outruns whoever fetches its snapshot in many parts, for
        /// as long as clients keep writing: that is what its limits ask for, not a fault.
        const PART_BYTES: usize = 1 << 20;
        self.options.snapshot_part_bytes = PART_BYTES;
        for at in 0..self.hosts.len() {
            self.hosts[at].slow_until = Duration::ZERO;
            self.hosts[at].paused_until = Duration::ZERO;
            let failed = self.hosts[at].running.as_ref().is_some_and(|r| r.storage_failed);
            if failed {
                self.power_off(at)?;
            }
            self.start(at)?;
        }
        self.queue.push(self.now, Event::Probe);
        Ok(())
    }
}
