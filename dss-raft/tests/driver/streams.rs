//! Snapshots on their way: large ones, over a network that loses, from a leader that restarts.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Envelope, FileStorage, Group, GroupId, Identity, LogIndex,
    MemoryNetwork, MemoryStorage, Node, NodeId, RestoreError, RoleKind, SnapshotError,
    SnapshotImage, StateMachine, Transport,
};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, GROUP, command, id};

/// Keeps every command, in order, and streams them.
#[derive(Default)]
struct Archive {
    commands: Arc<Vec<Bytes>>,
    /// Held shut, it keeps images from being written.
    gate: Gate,
}

#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set(&self, shut: bool) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = shut;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(shut, |shut| *shut));
    }
}

impl StateMachine for Archive {
    type Reply = usize;

    fn apply(&mut self, _: LogIndex, command: &Bytes) -> usize {
        Arc::make_mut(&mut self.commands).push(command.clone());
        self.commands.len()
    }

    fn snapshot(&self) -> Bytes {
        unreachable!("it is streamed")
    }

    fn restore(&mut self, _: &Bytes) -> Result<(), RestoreError> {
        unreachable!("it is streamed")
    }

    fn freeze(&self) -> SnapshotImage {
        let (commands, gate) = (Arc::clone(&self.commands), self.gate.clone());
        SnapshotImage::streamed(move |output| {
            gate.pass();
            commands.iter().try_for_each(|command| {
                output.write_all(&u64::try_from(command.len()).unwrap_or(0).to_le_bytes())?;
                output.write_all(command)
            })
        })
    }

    fn restore_from(&mut self, input: &mut dyn Read) -> Result<(), RestoreError> {
        let broken = |_| RestoreError { problem: "it ends within a command" };
        let mut commands = Vec::new();
        loop {
            let mut length = [0; 8];
            match input.read_exact(&mut length) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(broken(error)),
            }
            let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
            let mut command = vec![0; length];
            input.read_exact(&mut command).map_err(broken)?;
            commands.push(command.into());
        }
        self.commands = Arc::new(commands);
        Ok(())
    }
}

/// Loses, doubles and cuts what parts of snapshots it carries, as a test says.
struct Faulty {
    inner: Arc<dyn Transport>,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    parts: AtomicU64,
    /// Every so many parts, one is lost and one is doubled and one has a bit flipped; 0 is never.
    fault_every: AtomicU64,
    /// How many parts arrive before no more do, if it is set.
    cut_after: AtomicU64,
    /// No part arrives.
    cut: AtomicBool,
}

impl Transport for Faulty {
    fn send(&self, to: NodeId, envelope: Envelope) {
        let Envelope::SnapshotPart(mut part) = envelope else {
            return self.inner.send(to, envelope);
        };
        if self.wire.cut.load(Ordering::Relaxed) {
            return;
        }
        let number = self.wire.parts.fetch_add(1, Ordering::Relaxed);
        if number + 1 == self.wire.cut_after.load(Ordering::Relaxed) {
            self.wire.cut.store(true, Ordering::Relaxed);
        }
        match self.wire.fault_every.load(Ordering::Relaxed) {
            0 => {}
            every if number % every == 1 => return,
            every if number % every == 2 => {
                self.inner.send(to, Envelope::SnapshotPart(part.clone()));
            }
            every if number % every == 3 => {
                if let Some(content) = &mut part.content {
                    let mut bytes = content.bytes.to_vec();
                    if let Some(byte) = bytes.last_mut() {
                        *byte ^= 1;
                    }
                    content.bytes = bytes.into();
                }
            }
            _ => {}
        }
        self.inner.send(to, Envelope::SnapshotPart(part));
    }
}

struct Archives {
    network: MemoryNetwork,
    wire: Arc<Wire>,
    gate: Gate,
    disks: BTreeMap<NodeId, MemoryStorage>,
    nodes: BTreeMap<NodeId, Node>,
    groups: BTreeMap<NodeId, Group<Archive>>,
    starts: u64,
}

impl Archives {
    async fn start() -> Self {
        let mut archives = Self {
            network: MemoryNetwork::new(),
            wire: Arc::default(),
            gate: Gate::default(),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            starts: 0,
        };
        for node in [1, 2, 3].map(id) {
            archives.start_node(node).await;
        }
        archives
    }

    async fn start_node(&mut self, node: NodeId) {
        let inner = self.network.transport(node);
        let transport = Faulty { inner, wire: Arc::clone(&self.wire) };
        let disk = self.disks.entry(node).or_default().clone();
        let started = Node::start(disk, Arc::new(transport));
        self.network.attach(node, &started);
        self.starts += 1;
        // Nothing is taken unless it is asked for, and two of five MiB are kept behind that.
        let config = Config::new(node, self.starts).compaction(u64::MAX, 8 << 20);
        let members = Configuration::of_voters([1, 2, 3].map(id));
        let machine = Archive { gate: self.gate.clone(), ..Archive::default() };
        let group = started.start_group(GROUP, config, members, machine).await;
        self.groups.insert(node, group.expect("nothing is wrong with the disk"));
        self.nodes.insert(node, started);
    }

    fn crash(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.groups.remove(&node);
    }

    async fn leader(&self) -> NodeId {
        let elected = async {
            loop {
                let leads = |group: &&Group<_>| group.status().role == RoleKind::Leader;
                if let Some(group) = self.groups.values().find(leads) {
                    return group.status().node;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), elected).await.expect("a majority elects a leader")
    }

    /// Adds commands of 100 KiB each.
    async fn fill(&self, commands: u8) {
        let leader = self.leader().await;
        for number in 0..commands {
            let command = vec![number; 100 << 10].into();
            self.groups[&leader].propose(command).await.expect("it leads");
        }
    }

    async fn holds(&self, node: NodeId, commands: usize) -> bool {
        let count = self.groups[&node].read_local(|archive| archive.commands.len()).await;
        count == Ok(commands)
    }

    async fn converged(&self, node: NodeId, commands: usize) {
        let same = async {
            while !self.holds(node, commands).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), same).await.expect("it catches up");
    }

    /// A cluster of which one follower is away, and the others have cut their logs behind a
    /// snapshot of a few MiB.
    async fn with_one_behind() -> (Self, NodeId) {
        let mut archives = Self::start().await;
        let leader = archives.leader().await;
        let away = id(leader.get() % 3 + 1);
        archives.crash(away);
        archives.fill(50).await;
        // For one that was there just now the log would be kept.
        sleep(Duration::from_secs(2)).await;
        for group in archives.groups.values() {
            assert!(group.snapshot().await.expect("there is room").is_some());
        }
        (archives, away)
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_arrives_over_a_network_that_loses_doubles_and_flips() {
    let (mut archives, away) = Archives::with_one_behind().await;
    archives.wire.fault_every.store(5, Ordering::Relaxed);
    archives.start_node(away).await;
    archives.converged(away, 50).await;
    assert_eq!(archives.groups[&away].metrics().snapshots_installed, 1);
    let parts = archives.wire.parts.load(Ordering::Relaxed);
    // Five MiB are twenty parts; what was lost was asked for again, and nothing else.
    assert!((20..60).contains(&parts), "{parts} parts");
    archives.fill(1).await;
    archives.converged(away, 51).await;
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_was_cut_goes_on_where_it_was() {
    let (mut archives, away) = Archives::with_one_behind().await;
    let sent = |archives: &Archives| archives.wire.parts.load(Ordering::Relaxed);
    archives.wire.cut_after.store(8, Ordering::Relaxed);
    archives.start_node(away).await;
    sleep(Duration::from_secs(10)).await;
    let before = sent(&archives);
    assert_eq!(before, 8);
    assert!(archives.holds(away, 0).await, "it is not done");
    assert_ne!(archives.groups[&away].status().role, RoleKind::PreCandidate, "it has a leader");
    archives.wire.cut.store(false, Ordering::Relaxed);
    archives.converged(away, 50).await;
    let parts = sent(&archives);
    assert!(parts < before + 20, "{parts} parts, {before} before it was cut");
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_next_sends_its_own_snapshot() {
    let (mut archives, away) = Archives::with_one_behind().await;
    archives.wire.cut.store(true, Ordering::Relaxed);
    archives.start_node(away).await;
    sleep(Duration::from_secs(3)).await;
    let old = archives.leader().await;
    archives.crash(old);
    archives.wire.cut.store(false, Ordering::Relaxed);
    // The one that is behind cannot be elected.
    archives.converged(away, 50).await;
    archives.start_node(old).await;
    archives.fill(1).await;
    for node in [1, 2, 3].map(id) {
        archives.converged(node, 51).await;
    }
}

#[tokio::test]
async fn the_state_machine_goes_on_while_its_image_is_written() {
    let archives = Archives::start().await;
    archives.fill(3).await;
    let leader = archives.leader().await;
    archives.gate.set(true);
    let group = archives.groups[&leader].clone();
    let snapshot = tokio::spawn(async move { group.snapshot().await });
    timeout(Duration::from_secs(10), archives.fill(5)).await.expect("nobody waits for the image");
    assert!(!snapshot.is_finished());
    archives.gate.set(false);
    let index = snapshot.await.unwrap().expect("there is room").expect("there was news");
    assert!(index < archives.groups[&leader].status().applied_index, "it is of before");
    assert!(archives.holds(leader, 8).await);
    assert_eq!(archives.groups[&leader].metrics().snapshots_taken, 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_taken_on_demand_and_only_for_news() {
    let mut cluster = Cluster::start(1).await;
    cluster.leader().await;
    for number in 0..10 {
        cluster.add(number).await;
    }
    let group = cluster.groups[&id(1)].clone();
    let last = group.status().applied_index;
    assert_eq!(group.snapshot().await, Ok(Some(last)));
    assert_eq!(group.snapshot().await, Ok(None));
    // Dropped futures and two at once do no harm.
    cluster.add(11).await;
    let _ = timeout(Duration::ZERO, group.snapshot()).await;
    let (one, other) = tokio::join!(group.snapshot(), group.snapshot());
    assert!(one.is_ok() && one == other, "{one:?}, {other:?}");
    cluster.crash(id(1));
    assert_eq!(group.snapshot().await, Err(SnapshotError::ShutDown));
    cluster.start_node(id(1)).await;
    cluster.leader().await;
    let total = cluster.groups[&id(1)].read(|sum| sum.total).await;
    assert_eq!(total, Ok(45 + 11));
}

#[tokio::test]
async fn a_group_on_files_restores_what_it_streamed() {
    let folder = tempfile::tempdir().unwrap();
    let identity = || Identity { cluster: "demo".to_owned(), node: id(1), name: "n1".to_owned() };
    let network = MemoryNetwork::new();
    for round in 1..=3_u8 {
        let storage = FileStorage::open_with_segments(folder.path(), identity(), 64 << 10).await;
        let node = Node::start(storage.expect("it is ours"), network.transport(id(1)));
        let config = Config::new(id(1), round.into());
        let members = Configuration::of_voters([id(1)]);
        let group = node.start_group(GroupId::new(3), config, members, Archive::default());
        let group = group.await.expect("nothing is wrong with it");
        let leads = group.leadership().wait_for(|now| now.role == RoleKind::Leader).await.is_ok();
        assert!(leads);
        let count = group.read(|archive| archive.commands.len()).await.unwrap();
        assert_eq!(count, usize::from(round - 1) * 6);
        for _ in 0..5 {
            group.propose(vec![round; 300_000].into()).await.expect("it leads");
        }
        assert!(group.snapshot().await.expect("there is room").is_some());
        group.propose(command(0)).await.expect("it leads");
        let last = group.read(|archive| archive.commands.last().cloned()).await.unwrap();
        assert_eq!(last, Some(command(0)));
        node.shutdown().await;
    }
}
