//! What a driver does: it performs a node's outputs, in order.

use std::collections::VecDeque;
use std::time::Duration;

use super::host::Task;
use super::violation::Violation;
use super::workload::Workload;
use super::world::{Event, World, position_of};
use crate::core::Raft;
use crate::entry::Payload;
use crate::message::Message;
use crate::output::{Leadership, Output, ProposalFate, RoleKind};
use crate::types::{LogIndex, NodeId, ProposalId, ReadId};

use super::checker::Serial;

impl<W: Workload> World<W> {
    /// Polls and performs everything, then checks the node.
    pub(super) fn drain(&mut self, at: usize) -> Result<(), Violation> {
        let committed = self.checker.committed();
        while let Some(running) = &mut self.hosts[at].running
            && let Some(output) = running.raft.poll_output()
        {
            self.perform(at, output)?;
        }
        self.begin_sync(at);
        self.begin_applying(at)?;
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(()) };
        self.checker.observe(at, host.node, &running.raft)?;
        if let Some(deadline) = running.raft.poll_timeout() {
            let wake_at = running.clock.when(deadline).max(self.now);
            if running.wake_at.is_none_or(|scheduled| wake_at < scheduled) {
                running.wake_at = Some(wake_at);
                self.queue.push(wake_at, Event::Wake { at, life: host.life });
            }
        }
        if self.checker.committed() > committed {
            self.check_leaders()?;
        }
        Ok(())
    }

    /// Every leader of a later term must have what was committed.
    fn check_leaders(&self) -> Result<(), Violation> {
        for host in &self.hosts {
            if let Some(running) = &host.running
                && running.raft.leads()
            {
                self.checker.leads_completely(host.node, &running.raft)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, at: usize, output: Output) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(()) };
        let node = host.node;
        match output {
            Output::Persist(persist) => {
                self.checker.writes(at, node, &persist)?;
                host.disk.write(persist);
            }
            Output::Send { to, message, after } => match after {
                Some(after) if after > running.durable => {
                    running.held.push_back((after, to, message));
                }
                _ => self.transmit(at, to, message),
            },
            Output::Apply(entries) => {
                self.checker.applies(at, node, running.raft.term(), &entries)?;
                running.tasks.push_back(Task::Apply(entries));
            }
            Output::Restore { snapshot, after } => {
                self.report.installed += 1;
                self.checker.restores(at, node, snapshot.last)?;
                running.tasks.push_back(Task::Restore { snapshot, after });
            }
            Output::TakeSnapshot { index } => running.tasks.push_back(Task::TakeSnapshot(index)),
            Output::Proposal { proposal, fate } => self.settle(at, proposal, fate)?,
            Output::Read { read, index } => self.answer(at, read, index)?,
            Output::Leadership(Leadership { role: RoleKind::Leader, .. }) => {
                self.report.elections += 1;
                self.threaten(at);
            }
            Output::Leadership(_) => {}
        }
        Ok(())
    }

    pub(super) fn transmit(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(to) = position_of(to).filter(|to| *to < self.hosts.len()) else { return };
        let [first, second] = self.network.deliveries(&mut self.random, from, to);
        let from = self.hosts[from].node;
        if let Some(delay) = second {
            let message = message.clone();
            self.queue.push(self.now + delay, Event::Deliver { from, to, message });
        }
        if let Some(delay) = first {
            self.queue.push(self.now + delay, Event::Deliver { from, to, message });
        }
    }

    fn begin_sync(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let failed = host.running.as_ref().is_none_or(|running| running.storage_failed);
        if failed || !host.disk.is_waiting() {
            return;
        }
        host.disk.begin_sync();
        /// How much slower a slow disk is.
        const SLOWNESS: u32 = 20;
        let slowness = if self.now < host.slow_until { SLOWNESS } else { 1 };
        let span = self.random.span(Duration::ZERO, self.options.sync_max) * slowness;
        self.queue.push(self.now + span, Event::Synced { at, life: host.life });
    }

    /// A sync has ended: what waited for it is sent.
    pub(super) fn synced(&mut self, at: usize) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        let Some(running) = host.running.as_mut().filter(|running| !running.storage_failed) else {
            return Ok(());
        };
        let node = host.node;
        let synced = host.disk.end_sync();
        let synced = synced.map_err(|gap| Violation::WriteOrder { node, index: gap.0 })?;
        let Some(seq) = synced else { return Ok(()) };
        running.durable = seq;
        let held = std::mem::take(&mut running.held);
        let (due, held): (VecDeque<_>, _) = held.into_iter().partition(|(after, ..)| *after <= seq);
        running.held = held;
        for (_, to, message) in due {
            self.transmit(at, to, message);
        }
        self.begin_applying(at)?;
        self.input(at, |raft, now| raft.handle_persisted(now, seq))
    }

    /// Lets the state machine do what it may, at once or after a while.
    fn begin_applying(&mut self, at: usize) -> Result<(), Violation> {
        if self.options.apply_max.is_zero() {
            while self.apply_next(at)? {}
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(()) };
        if !running.is_applying && !running.tasks.is_empty() {
            running.is_applying = true;
            let span = self.random.span(Duration::ZERO, self.options.apply_max);
            self.queue.push(self.now + span, Event::Applied { at, life: host.life });
        }
        Ok(())
    }

    pub(super) fn applied(&mut self, at: usize) -> Result<(), Violation> {
        let Some(running) = &mut self.hosts[at].running else { return Ok(()) };
        running.is_applying = false;
        // As a driver does: everything that has gathered meanwhile, at once.
        for _ in 0..running.tasks.len() {
            if !self.apply_next(at)? {
                return Ok(());
            }
        }
        self.begin_applying(at)
    }

    /// Does the state machine's next task, where there is one that need not wait for the disk.
    fn apply_next(&mut self, at: usize) -> Result<bool, Violation> {
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(false) };
        let node = host.node;
        match running.tasks.pop_front() {
            None => return Ok(false),
            Some(Task::Restore { snapshot, after }) => {
                if after > running.durable {
                    running.tasks.push_front(Task::Restore { snapshot, after });
                    return Ok(false);
                }
                let index = snapshot.last.index;
                (running.machine.restore(&snapshot.data))
                    .map_err(|_| Violation::Restore { node, index })?;
                running.applied = index;
            }
            Some(Task::TakeSnapshot(index)) => {
                let data = running.machine.snapshot();
                self.checker.has_state(node, index, &data)?;
                let span = self.random.span(Duration::ZERO, self.options.apply_max);
                let event = Event::SnapshotTaken { at, life: host.life, index, data };
                self.queue.push(self.now + span, event);
                return Ok(true);
            }
            Some(Task::Apply(entries)) => {
                for entry in entries.iter() {
                    if let Payload::Command(command) = &entry.payload
                        && let Some((serial, command)) = Serial::of(command)
                    {
                        let again = std::mem::take(&mut running.applies_twice);
                        let (to_user, replies) = running.machine.apply(entry.id.index, &command);
                        if again {
                            let _ = running.machine.apply(entry.id.index, &command);
                        }
                        if running.replies.remove(&entry.id.index) {
                            self.callers.replied(serial, replies.registers)?;
                            self.workload.acknowledged(&to_user, replies.user)?;
                        }
                    }
                    running.applied = entry.id.index;
                }
            }
        }
        let applied = running.applied;
        running.raft.handle_applied(running.clock.read(self.now), applied);
        self.serve_reads(at)?;
        Ok(true)
    }

    fn settle(
        &mut self,
        at: usize,
        proposal: ProposalId,
        fate: ProposalFate,
    ) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(()) };
        let node = host.node;
        if running.changes.remove(&proposal) {
            self.report.changes += u64::from(matches!(fate, ProposalFate::Committed(_)));
            return Ok(());
        }
        let Some(serial) = running.proposals.remove(&proposal) else {
            return Err(Violation::SecondFate { node, proposal });
        };
        match fate {
            ProposalFate::Unknown => self.report.unknown += 1,
            ProposalFate::Rejected => {
                self.report.rejected += 1;
                self.checker.rejects(serial);
                self.callers.refused(serial);
            }
            ProposalFate::Committed(index) => {
                self.report.acknowledged += 1;
                if let Some(recovery) = &mut self.recovery {
                    recovery.acknowledged += 1;
                }
                running.replies.insert(index);
                self.checker.acknowledges(node, index, serial);
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        at: usize,
        read: ReadId,
        index: Option<LogIndex>,
    ) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(()) };
        let Some(question) = running.reads.remove(&read) else {
            return Err(Violation::SecondAnswer { node: host.node, read });
        };
        match index {
            None => self.report.reads_failed += 1,
            Some(index) => running.ready.push((index, question)),
        }
        self.serve_reads(at)
    }

    /// Serves the reads whose entry is applied.
    fn serve_reads(&mut self, at: usize) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        let Some(running) = &mut host.running else { return Ok(()) };
        let applied = running.applied;
        let mut waiting = Vec::new();
        for (index, question) in running.ready.drain(..) {
            if index > applied {
                waiting.push((index, question));
                continue;
            }
            self.callers.answered(question, running.machine.value(question.key));
            self.workload.read(&running.machine.user)?;
            self.report.reads += 1;
            if let Some(recovery) = &mut self.recovery {
                recovery.reads[at] += 1;
            }
        }
        running.ready = waiting;
        Ok(())
    }

    /// Tells a node that its disk has failed.
    pub(super) fn fail_storage(&mut self, at: usize) -> Result<(), Violation> {
        if let Some(running) = &mut self.hosts[at].running {
            running.storage_failed = true;
            running.held.clear();
        }
        self.input(at, Raft::handle_storage_failed)
    }
}
