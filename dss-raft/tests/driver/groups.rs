use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dss_raft::{
    Config, Configuration, Envelope, GroupId, LogId, LogIdentity, MemoryNetwork, MemoryStorage,
    Message, MessageBody, Node, NodeId, StartGroupError, Term, Transport,
};
use tokio::time::sleep;

use crate::cluster::{Cluster, GROUP, Sum, command, id};

#[tokio::test(start_paused = true)]
async fn groups_share_a_node_and_nothing_else() {
    let mut cluster = Cluster::start(3).await;
    let mut others = Vec::new();
    for node in [1, 2, 3].map(id) {
        for group in 1..5 {
            let config = cluster.config(node);
            let members = cluster.members.clone();
            let started = cluster.nodes[&node]
                .start_group(GroupId::new(group), config, members, Sum::default())
                .await;
            others.push((group, started.expect("the group is new")));
        }
    }
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    for group in 1..5_u32 {
        let of_group: Vec<_> = others.iter().filter(|(number, _)| *number == group).collect();
        let reply = loop {
            let mut reply = None;
            for (_, handle) in &of_group {
                if let Ok(applied) = handle.propose(command(u64::from(group) * 10)).await {
                    reply = Some(applied.reply);
                    break;
                }
            }
            if let Some(reply) = reply {
                break reply;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!(reply, u64::from(group) * 10);
        for (_, handle) in of_group {
            assert_eq!(handle.read(|sum| sum.seen.clone()).await, Ok(vec![reply]));
        }
    }
    cluster.converged(&[1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_runs_once_per_node() {
    let mut cluster = Cluster::start(1).await;
    let config = cluster.config(id(1));
    let again = cluster.nodes[&id(1)]
        .start_group(GROUP, config, cluster.members.clone(), Sum::default())
        .await;
    assert!(matches!(again, Err(StartGroupError::AlreadyStarted { group: GROUP })));
    assert_eq!(cluster.add(1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn messages_for_groups_that_do_not_run_here_are_dropped() {
    let cluster = Cluster::start(1).await;
    let body = MessageBody::VoteRequest { last: LogId::ZERO, by_transfer: false };
    for group in [1, u32::MAX] {
        let message = Message { term: Term::new(9), log: LogIdentity::UNKNOWN, body: body.clone() };
        cluster.nodes[&id(1)]
            .deliver(id(2), Envelope::Message { group: GroupId::new(group), message });
    }
    assert_eq!(cluster.add(1).await, 1);
}

/// Counts what it carries.
struct Counting {
    inner: Arc<dyn Transport>,
    envelopes: Arc<AtomicU64>,
    messages: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Transport for Counting {
    fn send(&self, to: NodeId, envelope: Envelope) {
        self.envelopes.fetch_add(1, Ordering::Relaxed);
        let messages = match &envelope {
            Envelope::Messages(messages) => messages.len() as u64,
            _ => 1,
        };
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(envelope.encode().len() as u64, Ordering::Relaxed);
        self.inner.send(to, envelope);
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_of_all_groups_to_one_peer_travel_together() {
    const GROUPS: u32 = 20;
    let network = MemoryNetwork::new();
    let [envelopes, messages, bytes] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let members = Configuration::of_voters([1, 2, 3].map(id));
    let (mut nodes, mut groups) = (Vec::new(), Vec::new());
    for node in [1, 2, 3].map(id) {
        let counting = Counting {
            inner: network.transport(node),
            envelopes: Arc::clone(&envelopes),
            messages: Arc::clone(&messages),
            bytes: Arc::clone(&bytes),
        };
        let started = Node::start(MemoryStorage::new(), Arc::new(counting));
        network.attach(node, &started);
        for group in 0..GROUPS {
            let config = Config::new(node, node.get() * 1000 + u64::from(group));
            let started =
                started.start_group(GroupId::new(group), config, members.clone(), Sum::default());
            groups.push(started.await.expect("the disk is empty"));
        }
        nodes.push(started);
    }
    sleep(Duration::from_secs(10)).await;
    let count = |counter: &Arc<AtomicU64>| counter.swap(0, Ordering::Relaxed);
    count(&envelopes);
    count(&messages);
    count(&bytes);
    let writes = || groups.iter().map(|group| group.metrics().writes).sum::<u64>();
    let written = writes();
    let leaders: Vec<_> = groups.iter().map(|group| group.status().leader).collect();
    sleep(Duration::from_secs(10)).await;
    let now: Vec<_> = groups.iter().map(|group| group.status().leader).collect();
    assert_eq!(leaders, now, "nothing happens");
    assert_eq!(writes(), written, "nothing is written");
    // Two peers, a heartbeat and its answer, ten times a second, ten seconds.
    let (envelopes, messages) = (count(&envelopes), count(&messages));
    let each = count(&bytes) / messages;
    println!("{each} bytes a message");
    assert!(each <= 32, "{each} bytes a message");
    assert!(messages >= u64::from(GROUPS) * 2 * 2 * 95, "{messages} messages");
    // Six ways from node to node.
    assert!(envelopes <= 6 * 2 * 105, "{envelopes} envelopes for {messages} messages");
}
