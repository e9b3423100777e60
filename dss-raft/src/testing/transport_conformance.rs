//! What every transport must do, as tests that any of them can be run against.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::storage_conformance::{entry, snapshot};
use crate::message::{
    Envelope, Message, MessageBody, PartContent, Round, SnapshotPart, SnapshotRequest,
};
use crate::ports::Transport;
use crate::types::{GroupId, LogId, LogIdentity, LogIndex, NodeId, Term};
use crate::{Entry, Payload};

/// What a transport calls with whatever arrives: in a service, `Node::deliver`.
pub type Deliver = Arc<dyn Fn(NodeId, Envelope) + Send + Sync>;

/// Runs the conformance suite; panics with what does not hold.
///
/// `connect` builds a network of these nodes, calls for each the function beside it with whatever
/// arrives there, and returns what each sends with, in the same order. Everything may take a while
/// and be lost now and then, but not always: what is sent again and again arrives within ten
/// seconds. Needs a tokio runtime with time.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use dss_raft::{MemoryNetwork, testing::transport_conformance};
///
/// transport_conformance(async |nodes| {
///     let network = MemoryNetwork::new();
///     for (node, deliver) in &nodes {
///         let deliver = deliver.clone();
///         network.attach_with(*node, move |from, envelope| deliver(from, envelope));
///     }
///     nodes.iter().map(|(node, _)| network.transport(*node)).collect()
/// })
/// .await;
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Order and losses are not among its cases: Raft needs neither the one nor the absence of the
/// other.
pub async fn transport_conformance(
    connect: impl AsyncFn(Vec<(NodeId, Deliver)>) -> Vec<Arc<dyn Transport>>,
) {
    every_envelope_arrives_as_it_was_sent(&Net::of(2, &connect).await).await;
    everybody_hears_what_is_for_him_from_whom_it_is(&Net::of(3, &connect).await).await;
    nothing_arrives_that_was_not_sent(&Net::of(2, &connect).await).await;
    sending_never_waits(&Net::of(2, &connect).await).await;
    both_directions_work_at_once(&Net::of(2, &connect).await).await;
}

type Arrived = Arc<Mutex<Vec<(NodeId, Envelope)>>>;

/// Nodes 1 to n, and what has arrived at each.
struct Net {
    transports: Vec<Arc<dyn Transport>>,
    arrived: Vec<Arrived>,
}

/// For how long something is sent again and again before it counts as lost for good.
const PATIENCE: Duration = Duration::from_secs(10);

impl Net {
    async fn of(
        nodes: u64,
        connect: &impl AsyncFn(Vec<(NodeId, Deliver)>) -> Vec<Arc<dyn Transport>>,
    ) -> Self {
        let arrived: Vec<Arrived> = (0..nodes).map(|_| Arrived::default()).collect();
        let receivers = (1..=nodes).map(NodeId::new).zip(&arrived).map(|(node, arrived)| {
            let arrived = Arc::clone(arrived);
            let deliver: Deliver = Arc::new(move |from, envelope| {
                arrived.lock().unwrap_or_else(PoisonError::into_inner).push((from, envelope));
            });
            (node, deliver)
        });
        let transports = connect(receivers.collect()).await;
        assert_eq!(transports.len(), arrived.len(), "one for each node");
        Self { transports, arrived }
    }

    fn take(&self, node: usize) -> Vec<(NodeId, Envelope)> {
        std::mem::take(&mut *self.arrived[node].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, from: usize, to: usize, envelope: Envelope) {
        self.transports[from].send(id(to), envelope);
    }

    /// Sends it until it arrives, and checks that nothing else does.
    async fn arrives(&self, from: usize, to: usize, envelope: Envelope) {
        let begun = Instant::now();
        loop {
            self.send(from, to, envelope.clone());
            for _ in 0..20 {
                let arrived = self.take(to);
                for (sender, found) in &arrived {
                    assert_eq!(*sender, id(from), "the sender is who sent it");
                    assert!(*found == envelope, "what arrives is what was sent");
                }
                if !arrived.is_empty() {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
            assert!(begun.elapsed() < PATIENCE, "it never arrives: {}", kind(&envelope));
        }
    }

    /// Waits until nothing that was sent again is still on its way.
    async fn settle(&self) {
        let mut quiet = 0;
        while quiet < 10 {
            sleep(Duration::from_millis(5)).await;
            let some = (0..self.arrived.len()).any(|node| !self.take(node).is_empty());
            quiet = if some { 0 } else { quiet + 1 };
        }
    }
}

fn id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

fn kind(envelope: &Envelope) -> String {
    let mut text = format!("{envelope:?}");
    text.truncate(200);
    text
}

fn message(body: MessageBody) -> Message {
    Message { term: Term::new(u64::MAX), log: LogIdentity::default(), body }
}

/// An append with one command of this many bytes, told from others by its round.
fn append(number: u64, bytes: usize) -> Envelope {
    let payload = Payload::Command(vec![u8::try_from(number % 251).unwrap_or(0); bytes].into());
    let entry = Entry { id: LogId::new(Term::new(3), LogIndex::new(8)), payload };
    let body = MessageBody::Append {
        previous: LogId::new(Term::new(2), LogIndex::new(7)),
        entries: vec![entry].into(),
        commit: LogIndex::new(5),
        round: Round::new(number),
    };
    Envelope::Message { group: GroupId::new(1), message: message(body) }
}

async fn every_envelope_arrives_as_it_was_sent(net: &Net) {
    let heartbeat = |round| MessageBody::Append {
        previous: LogId::ZERO,
        entries: vec![].into(),
        commit: LogIndex::ZERO,
        round: Round::new(round),
    };
    let descriptor = Bytes::from_static(b"descriptor");
    let content = PartContent { bytes: vec![7; 256 << 10].into(), is_last: true, checksum: 9 };
    let part = |content| SnapshotPart {
        group: GroupId::new(u32::MAX),
        descriptor: descriptor.clone(),
        offset: 1 << 40,
        content,
    };
    let batch = |count: u32| {
        let one = |group| (GroupId::new(group), message(heartbeat(group.into())));
        Envelope::Messages((0..count).map(one).collect())
    };
    let mut envelopes = vec![
        batch(0),
        batch(2),
        batch(1000),
        Envelope::SnapshotRequest(SnapshotRequest {
            group: GroupId::new(0),
            descriptor: descriptor.clone(),
            offset: u64::MAX,
        }),
        Envelope::SnapshotPart(part(None)),
        Envelope::SnapshotPart(part(Some(content))),
    ];
    let bodies = [
        heartbeat(1),
        MessageBody::TimeoutNow,
        MessageBody::VoteRequest { last: LogId::ZERO, by_transfer: true },
        MessageBody::InstallSnapshot { snapshot: snapshot(4, 9).into(), round: Round::new(2) },
        MessageBody::Append {
            previous: LogId::ZERO,
            entries: (1..100).map(|index| entry(1, index)).collect::<Vec<_>>().into(),
            commit: LogIndex::new(50),
            round: Round::new(3),
        },
    ];
    envelopes.extend(
        bodies.map(|body| Envelope::Message { group: GroupId::new(9), message: message(body) }),
    );
    // The largest that a core sends by default is a MiB; a single command may be larger.
    envelopes.extend([0, 1, 70_000, 1 << 20, 3 << 20].map(|bytes| append(1, bytes)));
    for envelope in envelopes {
        net.arrives(0, 1, envelope).await;
        net.settle().await;
    }
}

async fn everybody_hears_what_is_for_him_from_whom_it_is(net: &Net) {
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            let number = (from * 3 + to) as u64;
            net.arrives(from, to, append(number, 10)).await;
            net.settle().await;
        }
    }
}

async fn nothing_arrives_that_was_not_sent(net: &Net) {
    const SENT: u64 = 2000;
    let size = |number: u64| usize::try_from(number * 37 % 4096).unwrap_or(0);
    let mut found = BTreeSet::new();
    for number in 0..SENT {
        net.send(0, 1, append(number, size(number)));
        if number % 50 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let begun = Instant::now();
    let mut quiet = 0;
    while quiet < 20 && begun.elapsed() < PATIENCE {
        let arrived = net.take(1);
        quiet = if arrived.is_empty() { quiet + 1 } else { 0 };
        for (from, envelope) in arrived {
            assert_eq!(from, id(0), "the sender is who sent it");
            let number = round_of(&envelope).unwrap_or(u64::MAX);
            assert!(number < SENT && envelope == append(number, size(number)), "it was not sent");
            found.insert(number);
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!found.is_empty(), "something arrives");
    assert!(net.take(0).is_empty(), "nobody hears himself");
}

fn round_of(envelope: &Envelope) -> Option<u64> {
    match envelope {
        Envelope::Message { message, .. } => match &message.body {
            MessageBody::Append { round, .. } => Some(round.get()),
            _ => None,
        },
        _ => None,
    }
}

async fn sending_never_waits(net: &Net) {
    /// A thousand times what sending as much into a queue takes.
    const LONGEST: Duration = Duration::from_secs(2);
    // To one that does not exist, and to one that nobody lets come to receiving: far more than
    // fits anywhere, so that whoever waits for room shows it.
    let begun = Instant::now();
    for number in 0..10_000 {
        net.transports[0].send(NodeId::new(u64::MAX), append(number, 100));
        net.send(0, 1, append(number, 1000));
        assert!(begun.elapsed() < LONGEST, "sending waits for somebody");
    }
    net.settle().await;
    net.arrives(0, 1, append(1, 1)).await;
}

async fn both_directions_work_at_once(net: &Net) {
    for number in 0..20 {
        let one = net.arrives(0, 1, append(number, 3000));
        let other = net.arrives(1, 0, append(number, 3000));
        tokio::join!(one, other);
        net.settle().await;
    }
}
