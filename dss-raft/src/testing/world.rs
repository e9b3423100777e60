//! The loop: one event after the other, in virtual time.

use std::time::Duration;

use bytes::Bytes;

use super::PlantedBug;
use super::callers::Callers;
use super::checker::Checker;
use super::disk::Disk;
use super::download::Part;
use super::faults::Fault;
use super::host::{Clock, Host, RATE_ONE, Running};
use super::network::Network;
use super::options::Options;
use super::queue::Queue;
use super::registers::Beside;
use super::violation::{Failure, Violation};
use super::workload::Workload;
use crate::config::{Config, Priority};
use crate::core::{Raft, Random};
use crate::entry::Configuration;
use crate::message::Message;
use crate::types::{LogIndex, NodeId, PersistSeq, Timestamp};

/// What happened in a run: a run in which little happened has proven little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Events, each followed by all checks.
    pub steps: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that were refused.
    pub rejected: u64,
    /// Commands whose client was told that their fate is unknown.
    pub unknown: u64,
    /// Reads that were served.
    pub reads: u64,
    /// Reads that were given up.
    pub reads_failed: u64,
    /// Entries that were committed.
    pub committed: u64,
    /// Crashes, of single nodes and of all.
    pub crashes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Times that a node began to lead.
    pub elections: u64,
    /// Snapshots that were installed.
    pub installed: u64,
    /// Of them, those that took more than one part to fetch.
    pub downloaded: u64,
    /// Changes of the members that were completed.
    pub changes: u64,
}

impl Report {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.elapsed += other.elapsed;
        self.acknowledged += other.acknowledged;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.reads_failed += other.reads_failed;
        self.committed += other.committed;
        self.crashes += other.crashes;
        self.partitions += other.partitions;
        self.elections += other.elections;
        self.installed += other.installed;
        self.downloaded += other.downloaded;
        self.changes += other.changes;
    }
}

/// Runs one simulated cluster through its faults, then until it has recovered from them.
///
/// # Errors
///
/// The first property that did not hold.
pub fn simulate<W: Workload>(options: Options, workload: W) -> Result<Report, Failure> {
    let seed = options.seed;
    let mut world = World::new(options, workload);
    match world.run() {
        Ok(()) => Ok(world.report),
        Err(violation) => {
            let Report { steps, elapsed, .. } = world.report;
            Err(Failure { seed, step: steps, at: elapsed, violation })
        }
    }
}

#[derive(Debug)]
pub(super) enum Event {
    Deliver {
        from: NodeId,
        to: usize,
        message: Message,
    },
    /// A part of a snapshot is asked for.
    PartAsked {
        from: usize,
        to: usize,
        part: Part,
    },
    PartSent {
        to: usize,
        part: Part,
        has_it: bool,
    },
    Synced {
        at: usize,
        life: u64,
    },
    Wake {
        at: usize,
        life: u64,
    },
    Poll {
        at: usize,
        life: u64,
    },
    Applied {
        at: usize,
        life: u64,
    },
    SnapshotTaken {
        at: usize,
        life: u64,
        index: LogIndex,
        data: Bytes,
    },
    Client,
    /// A read that came while the node was paused.
    Read {
        at: usize,
    },
    Probe,
    Fault(Fault),
    PowerOff {
        at: usize,
        life: u64,
    },
    Start {
        at: usize,
    },
    FaultsEnd,
}

impl Event {
    /// The node that must run for it to happen.
    fn target(&self) -> Option<usize> {
        match self {
            Self::Deliver { to: at, .. }
            | Self::PartAsked { to: at, .. }
            | Self::PartSent { to: at, .. }
            | Self::Synced { at, .. }
            | Self::Wake { at, .. }
            | Self::Poll { at, .. }
            | Self::Applied { at, .. }
            | Self::SnapshotTaken { at, .. }
            | Self::Read { at } => Some(*at),
            _ => None,
        }
    }
}

pub(super) struct World<W: Workload> {
    pub(super) options: Options,
    pub(super) random: Random,
    pub(super) now: Duration,
    pub(super) queue: Queue<Event>,
    pub(super) network: Network,
    pub(super) hosts: Vec<Host<W::Machine>>,
    pub(super) checker: Checker,
    pub(super) callers: Callers,
    pub(super) workload: W,
    pub(super) report: Report,
    pub(super) operations_left: u64,
    pub(super) wiped: Option<usize>,
    /// Since faults are off.
    pub(super) recovery: Option<Recovery>,
}

/// What was done since faults are off.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) since: Duration,
    pub(super) acknowledged: u64,
    /// By node.
    pub(super) reads: Vec<u64>,
}

impl<W: Workload> World<W> {
    fn new(options: Options, workload: W) -> Self {
        let host = |at: usize| Host {
            node: node_at(at),
            life: 0,
            disk: Disk::default(),
            slow_until: Duration::ZERO,
            paused_until: Duration::ZERO,
            running: None,
        };
        Self {
            random: Random::new(options.seed),
            now: Duration::ZERO,
            queue: Queue::new(),
            network: Network::new(&options),
            hosts: (0..options.nodes).map(host).collect(),
            checker: Checker::new(options.nodes),
            callers: Callers::new(options.registers),
            workload,
            report: Report::default(),
            operations_left: options.operations,
            wiped: None,
            recovery: None,
            options,
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        for at in 0..self.hosts.len() {
            self.start(at)?;
        }
        self.queue.push(Duration::ZERO, Event::Client);
        self.queue.push(self.options.duration, Event::FaultsEnd);
        self.schedule_faults();
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.report.steps += 1;
            self.report.elapsed = at;
            self.handle(event)?;
            if self.has_recovered()? {
                break;
            }
        }
        self.report.committed = self.checker.committed() as u64;
        self.callers.check()
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(at) = event.target()
            && self.hosts[at].paused_until > self.now
        {
            self.queue.push(self.hosts[at].paused_until, event);
            return Ok(());
        }
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::PartAsked { from, to, part } => {
                self.send_part(to, from, part);
                Ok(())
            }
            Event::PartSent { to, part, has_it } => self.receive_part(to, part, has_it),
            Event::Synced { at, life } if self.is_alive(at, life) => self.synced(at),
            Event::Wake { at, life } if self.is_alive(at, life) => {
                if let Some(running) = &mut self.hosts[at].running
                    && running.wake_at.is_some_and(|wake_at| wake_at <= self.now)
                {
                    running.wake_at = None;
                    return self.input(at, Raft::handle_timeout);
                }
                Ok(())
            }
            Event::Poll { at, life } if self.is_alive(at, life) => {
                if let Some(running) = &mut self.hosts[at].running {
                    running.poll_scheduled = false;
                }
                self.drain(at)
            }
            Event::Applied { at, life } if self.is_alive(at, life) => self.applied(at),
            Event::SnapshotTaken { at, life, index, data } if self.is_alive(at, life) => {
                self.input(at, |raft, now| raft.handle_snapshot_taken(now, index, data))
            }
            Event::PowerOff { at, life } if self.is_alive(at, life) => self.crash(at),
            Event::Client => self.act_as_client(),
            Event::Read { at } => self.read(at),
            Event::Probe => self.probe(),
            Event::Fault(fault) => self.inflict(fault),
            Event::Start { at } => self.start(at),
            Event::FaultsEnd => self.end_faults(),
            // Meant for an earlier life of the node.
            _ => Ok(()),
        }
    }

    fn is_alive(&self, at: usize, life: u64) -> bool {
        self.hosts[at].life == life && self.hosts[at].running.is_some()
    }

    /// Starts a node from its disk, where it is not running.
    pub(super) fn start(&mut self, at: usize) -> Result<(), Violation> {
        if self.hosts[at].running.is_some() {
            return Ok(());
        }
        let seed = self.random.next();
        let drift = self.random.below(self.options.clock_drift_ppm * 2 + 1);
        let rate = RATE_ONE + drift - self.options.clock_drift_ppm;
        let config = self.config(node_at(at), seed);
        let members = Configuration::of_voters((0..self.options.voters).map(node_at));
        let host = &mut self.hosts[at];
        let node = host.node;
        let restored = host.disk.restore();
        self.checker.started(at, &restored);
        let mut machine = Beside::new(self.workload.machine());
        let mut applied = LogIndex::ZERO;
        if let Some(snapshot) = &restored.snapshot {
            applied = snapshot.last.index;
            (machine.restore(&snapshot.data))
                .map_err(|_| Violation::Restore { node, index: applied })?;
        }
        let mut raft = Raft::new(config, members, restored, Timestamp::ZERO)
            .map_err(|source| Violation::Start { node, source })?;
        raft.plant(self.options.planted_bug);
        host.life += 1;
        host.running = Some(Running {
            raft,
            machine,
            clock: Clock { started: self.now, rate },
            durable: PersistSeq::ZERO,
            download: None,
            held: Default::default(),
            tasks: Default::default(),
            is_applying: false,
            applied,
            proposals: Default::default(),
            changes: Default::default(),
            replies: Default::default(),
            reads: Default::default(),
            ready: Vec::new(),
            poll_scheduled: false,
            wake_at: None,
            storage_failed: false,
            applies_twice: host.life > 1
                && self.options.planted_bug == Some(PlantedBug::ApplyTwiceAfterRestart),
        });
        self.drain(at)
    }

    fn config(&self, node: NodeId, seed: u64) -> Config {
        let mut config = Config::new(node, seed);
        config.election_timeout = self.options.election_timeout;
        config.heartbeat_interval = self.options.election_timeout / 10;
        config.compact_after_entries = self.options.compact_after_entries;
        config.append_bytes_max = self.options.append_bytes_max;
        config.in_flight_messages_max = self.options.in_flight_messages_max;
        config.in_flight_bytes_max = self.options.in_flight_bytes_max;
        config.uncommitted_bytes_max = self.options.uncommitted_bytes_max;
        config.compact_after_bytes = self.options.compact_after_bytes;
        if self.options.priorities {
            let level = node.get() % 3;
            config.priority = Priority::ALL[usize::try_from(level).unwrap_or(0)];
        }
        if self.options.lease_reads {
            let permille = self.options.clock_drift_ppm.div_ceil(500);
            config.lease_drift_permille = u32::try_from(permille).ok();
        }
        config
    }

    /// Gives a running node an input, and polls its outputs now or a little later.
    pub(super) fn input(
        &mut self,
        at: usize,
        input: impl FnOnce(&mut Raft, Timestamp),
    ) -> Result<(), Violation> {
        let Some(running) = &mut self.hosts[at].running else { return Ok(()) };
        input(&mut running.raft, running.clock.read(self.now));
        if self.options.linger_max.is_zero() {
            return self.drain(at);
        }
        if !running.poll_scheduled {
            running.poll_scheduled = true;
            let linger = self.random.span(Duration::ZERO, self.options.linger_max);
            let life = self.hosts[at].life;
            self.queue.push(self.now + linger, Event::Poll { at, life });
        }
        Ok(())
    }
}

pub(super) fn node_at(at: usize) -> NodeId {
    NodeId::new(at as u64 + 1)
}

pub(super) fn position_of(node: NodeId) -> Option<usize> {
    usize::try_from(node.get()).ok()?.checked_sub(1)
}
