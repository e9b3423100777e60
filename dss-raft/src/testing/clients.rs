//! What clients do, and when the cluster counts as recovered.

use std::time::Duration;

use super::violation::Violation;
use super::workload::Workload;
use super::world::{Event, World};
use crate::entry::Configuration;

impl<W: Workload> World<W> {
    /// One operation of some client, on some node.
    pub(super) fn act_as_client(&mut self) -> Result<(), Violation> {
        if self.recovery.is_some() || self.operations_left == 0 {
            return Ok(());
        }
        self.operations_left -= 1;
        let mean = self.options.duration / u32::try_from(self.options.operations).unwrap_or(1);
        let pause = self.random.span(Duration::ZERO, mean * 2);
        self.queue.push(self.now + pause, Event::Client);
        let at = self.choose_node();
        if self.hosts[at].paused_until > self.now {
            return Ok(());
        }
        if self.random.below(1000) < self.options.read_permille {
            return self.read(at);
        }
        let count = 1 + self.random.below(self.options.burst_max);
        self.propose(at, count)
    }

    /// Mostly whoever leads, or thinks it does; sometimes anyone.
    fn choose_node(&mut self) -> usize {
        let count = self.hosts.len() as u64;
        let start = usize::try_from(self.random.below(count)).unwrap_or(0);
        if self.random.below(4) == 0 {
            return start;
        }
        self.leader_from(start).unwrap_or(start)
    }

    /// A node that thinks it leads, looked for from `start` on.
    pub(super) fn leader_from(&self, start: usize) -> Option<usize> {
        let count = self.hosts.len();
        (0..count)
            .map(|step| (start + step) % count)
            .find(|at| self.hosts[*at].running.as_ref().is_some_and(|running| running.raft.leads()))
    }

    pub(super) fn read(&mut self, at: usize) -> Result<(), Violation> {
        let Some(running) = &mut self.hosts[at].running else { return Ok(()) };
        let question = self.callers.ask(&mut self.random);
        let read = running.raft.read(running.clock.read(self.now));
        running.reads.insert(read, question);
        self.input(at, |_, _| ())
    }

    fn propose(&mut self, at: usize, count: u64) -> Result<(), Violation> {
        let Some(running) = &mut self.hosts[at].running else { return Ok(()) };
        /// Clients are patient: where so much is waiting, they propose nothing more.
        const WAITING_MAX: usize = 64;
        for _ in 0..count {
            if running.proposals.len() >= WAITING_MAX {
                break;
            }
            let serial = self.checker.next_serial();
            let to_register = self.callers.propose(serial, self.now, &mut self.random);
            let to_user = self.workload.command(self.random.next());
            let command = serial.label(&to_register.with(&to_user));
            match running.raft.propose(running.clock.read(self.now), command) {
                Ok(proposal) => {
                    running.proposals.insert(proposal, serial);
                }
                Err(_) => {
                    self.report.rejected += 1;
                    self.checker.rejects(serial);
                    self.callers.refused(serial);
                }
            }
        }
        self.input(at, |_, _| ())
    }

    /// While the cluster recovers: a few operations at a time, until they succeed.
    pub(super) fn probe(&mut self) -> Result<(), Violation> {
        /// Short beside what an election takes, long beside what an operation takes.
        const EVERY: Duration = Duration::from_millis(100);
        self.queue.push(self.now + EVERY, Event::Probe);
        self.restore_members()?;
        if self.is_served() {
            // Silence, in which the nodes can come to agree.
            return Ok(());
        }
        for at in 0..self.hosts.len() {
            self.read(at)?;
        }
        // New voters that get one entry at a time are not to be outrun.
        if let Some(leader) = self.leader_from(0).filter(|_| self.is_complete()) {
            self.propose(leader, 2)?;
        }
        Ok(())
    }

    /// Whether faults are off and the cluster serves and agrees; a violation where it takes too
    /// long to.
    pub(super) fn has_recovered(&mut self) -> Result<bool, Violation> {
        /// Far more than elections with the default timeout take, and new voters that are sent
        /// thousands of entries one by one.
        const PATIENCE: Duration = Duration::from_secs(600);
        let Some(recovery) = &self.recovery else { return Ok(false) };
        let waited = self.now - recovery.since;
        if !self.is_served() || !self.is_complete() || !self.agrees() {
            return if waited < PATIENCE { Ok(false) } else { Err(Violation::NotLive { waited }) };
        }
        for host in &self.hosts {
            let Some(running) = &host.running else { continue };
            let state = running.machine.snapshot();
            self.checker.has_state(host.node, running.applied, &state)?;
        }
        Ok(true)
    }

    /// Every node, as a voter.
    fn everybody(&self) -> Configuration {
        Configuration::of_voters(self.hosts.iter().map(|host| host.node))
    }

    /// Whether every node is a voter, and has what it once promised.
    fn is_complete(&self) -> bool {
        let everybody = self.everybody();
        self.hosts.iter().all(|host| {
            host.running.as_ref().is_some_and(|running| {
                let status = running.raft.status();
                status.configuration.has_same_members(&everybody)
                    && status.strangers.is_empty()
                    && running.changes.is_empty()
            })
        })
    }

    /// Makes every node a voter again: one that lost its storage is removed first.
    fn restore_members(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.leader_from(0).filter(|_| !self.is_complete()) else {
            return Ok(());
        };
        let Some(running) = &self.hosts[leader].running else { return Ok(()) };
        let status = running.raft.status();
        let mut target = self.everybody();
        for stranger in &status.strangers {
            if status.configuration.is_member(*stranger) {
                target.voters.remove(stranger);
            }
        }
        if status.configuration.has_same_members(&target) {
            return Ok(());
        }
        self.propose_members(leader, target)
    }

    /// Whether commands and reads have succeeded since faults are off.
    fn is_served(&self) -> bool {
        /// Enough that the last ones were both proposed and committed after the faults.
        const COMMANDS: u64 = 10;
        self.recovery.as_ref().is_some_and(|r| r.acknowledged >= COMMANDS && !r.reads.contains(&0))
    }

    /// Whether every node has applied everything, and owes its clients nothing.
    fn agrees(&self) -> bool {
        self.hosts.iter().all(|host| {
            host.running.as_ref().is_some_and(|running| {
                running.applied.get() == self.checker.committed() as u64
                    && running.raft.log().last().index == running.applied
                    && running.proposals.is_empty()
                    && running.reads.is_empty()
                    && running.ready.is_empty()
            })
        })
    }
}
