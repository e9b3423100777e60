//! What every transport must do, as a test that any implementation can be put to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use crate::line::LineState;
use crate::message::{Body, Dirty, Message, Payload, Want};
use crate::ports::Transport;
use crate::version::{RequestId, Seq, Version};
use crate::view::{Epoch, NodeId};

/// How often a message is sent before it counts as one that never arrives: any may be lost, but
/// caches and homes go on only where a repetition comes through.
const TRIES: usize = 40;

/// How long is waited after each try.
const PAUSE: Duration = Duration::from_millis(100);

/// How many messages are sent at once, to see that nobody is held up.
const FLOOD: u64 = 10_000;

/// How long that may take: what blocks on a receiver, or on a time-out, takes longer.
const FLOOD_MAX: Duration = Duration::from_secs(10);

/// The longest value of the default configuration.
const LONGEST: usize = 1 << 20;

/// What a transport has handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The node that it came to.
    pub at: NodeId,
    /// The node that it comes from, as the receiver is told.
    pub from: NodeId,
    /// What came.
    pub message: Message,
}

/// Puts transports to the test: those of two nodes or more that can reach one another.
///
/// For the tests of implementations. Whatever arrives at any of the nodes must be put into
/// `arrivals`. Nothing else may be sent meanwhile, and there must be no node with the largest of
/// all numbers.
///
/// # Panics
///
/// Where the transports do anything but what [`Transport`] says, or lose everything.
pub async fn transport_conformance(
    transports: &BTreeMap<NodeId, Arc<dyn Transport>>,
    arrivals: &mut UnboundedReceiver<Arrival>,
) {
    assert!(transports.len() > 1, "somebody has to receive");
    let mut test = Test { transports, arrivals, sent: BTreeSet::new() };
    test.what_arrives_is_what_was_sent().await;
    test.nobody_is_held_up().await;
    test.threads_do_not_mix_messages_up().await;
}

struct Test<'a> {
    transports: &'a BTreeMap<NodeId, Arc<dyn Transport>>,
    arrivals: &'a mut UnboundedReceiver<Arrival>,
    /// Everything that may arrive, now or late, encoded: from where, to where, and what.
    sent: BTreeSet<(NodeId, NodeId, Bytes)>,
}

impl Test<'_> {
    /// Every message comes through unchanged, sooner or later, between any two nodes; and nothing
    /// comes that was not sent.
    async fn what_arrives_is_what_was_sent(&mut self) {
        for (from, to) in self.pairs() {
            for body in bodies() {
                let message = Message { epoch: Epoch::new(u64::from(u32::MAX) + 7), body };
                self.comes_through(from, to, message).await;
            }
        }
    }

    /// A sender waits for nobody: not for a node that does not exist, nor for one that is slow to
    /// take what it is sent. What is too much may be dropped; later messages must come through.
    async fn nobody_is_held_up(&mut self) {
        for (from, to) in self.pairs() {
            let transport = &self.transports[&from];
            let begun = Instant::now();
            for number in 0..FLOOD {
                transport.send(NodeId::new(u64::MAX), numbered(1, number));
                transport.send(to, numbered(2, number));
            }
            let took = begun.elapsed();
            assert!(took < FLOOD_MAX, "{} messages from {from} took {took:?}", 2 * FLOOD);
            let flood = (0..FLOOD).map(|number| numbered(2, number));
            self.sent.extend(flood.map(|message| (from, to, message.encode())));
            self.comes_through(from, to, numbered(3, 0)).await;
            // Everybody has had the chance to come: what is late is known by its absence from here.
            while timeout(PAUSE, self.arrival()).await.is_ok() {}
            self.sent.clear();
        }
    }

    /// Parts of a node send at the same time.
    async fn threads_do_not_mix_messages_up(&mut self) {
        const EACH: u64 = 100;
        let (from, to) = self.pairs()[0];
        let transport = &self.transports[&from];
        let long = |thread| Body::Put {
            key: Bytes::from(format!("conformance/{thread}")),
            data: dirty(Some(vec![thread; 10_000].into())),
        };
        let long = |thread| Message { epoch: Epoch::new(4), body: long(thread) };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    (0..EACH).for_each(|_| transport.send(to, long(thread)));
                });
            }
        });
        self.sent.extend((0..4).map(|thread| (from, to, long(thread).encode())));
        self.comes_through(from, to, numbered(5, 0)).await;
    }

    /// Sends until it arrives.
    async fn comes_through(&mut self, from: NodeId, to: NodeId, message: Message) {
        let expected = Arrival { at: to, from, message };
        self.sent.insert((from, to, expected.message.encode()));
        for _ in 0..TRIES {
            self.transports[&from].send(to, expected.message.clone());
            let until = Instant::now() + PAUSE;
            while let Ok(arrival) = tokio::time::timeout_at(until, self.arrival()).await {
                if arrival == expected {
                    return;
                }
            }
        }
        panic!("{TRIES} times sent and never arrived: {expected:?}");
    }

    /// The next to arrive, which somebody must have sent.
    async fn arrival(&mut self) -> Arrival {
        let arrival = self.arrivals.recv().await.expect("the test holds nodes that may receive");
        let known = (arrival.from, arrival.at, arrival.message.encode());
        assert!(self.sent.contains(&known), "nobody sent {arrival:?}");
        arrival
    }

    fn pairs(&self) -> Vec<(NodeId, NodeId)> {
        let nodes = || self.transports.keys().copied();
        nodes()
            .flat_map(|from| nodes().map(move |to| (from, to)))
            .filter(|it| it.0 != it.1)
            .collect()
    }
}

fn numbered(kind: u64, number: u64) -> Message {
    let key = Bytes::from_static(b"conformance/number");
    let body = Body::Invalidate { key, recall: Seq { epoch: Epoch::new(kind), count: number } };
    Message { epoch: Epoch::new(kind), body }
}

fn version() -> Version {
    Version { epoch: Epoch::new(u64::MAX), grant: 1 << 40, write: u64::MAX }
}

fn dirty(value: Option<Bytes>) -> Dirty {
    Dirty { grant: version().seq(), version: version(), value }
}

/// A message of each kind, with the smallest and the largest of what may be in it.
fn bodies() -> Vec<Body> {
    let (request, seq, version) = (RequestId(u64::MAX), version().seq(), Some(version()));
    let all: Bytes = (0..=255).collect();
    let keys = [Bytes::new(), all.clone()];
    let values = [None, Some(Bytes::new()), Some(all), Some(vec![0xa5; LONGEST].into())];
    let mut bodies = vec![Body::Surrender, Body::SurrenderAck, Body::Hint { lines: Vec::new() }];
    for value in values {
        let key = keys[1].clone();
        let (data, payload) = (dirty(value.clone()), Payload::Value(value));
        bodies.extend([
            Body::Ack { key: key.clone(), recall: seq, kept: true, data: Some(data.clone()) },
            Body::Put { key: key.clone(), data: data.clone() },
            Body::WriteThrough { key: key.clone(), data },
            Body::Grant { key, request, seq, exclusive: false, version, payload },
        ]);
    }
    for key in keys {
        let payload = Payload::Same;
        bodies.extend([
            Body::Get { key: key.clone(), request, want: Want::Exclusive, have: version },
            Body::Ack { key: key.clone(), recall: seq, kept: false, data: None },
            Body::Hint { lines: vec![(key.clone(), seq); 300] },
            Body::Inspect { key: key.clone(), request },
            Body::Peek { key: key.clone(), request },
            Body::Peeked { key: key.clone(), request, state: LineState::Modified, version },
            Body::Grant { key: key.clone(), request, seq, exclusive: true, version, payload },
            Body::Invalidate { key: key.clone(), recall: seq },
            Body::Downgrade { key: key.clone(), recall: seq },
            Body::PutAck { key: key.clone(), grant: seq },
            Body::WriteThroughAck { key: key.clone(), version: dirty(None).version },
            Body::Inspected {
                key,
                request,
                version: None,
                holders: (0..9).map(NodeId::new).collect(),
                exclusive: true,
            },
        ]);
    }
    bodies
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;
    use crate::InMemoryNetwork;

    #[tokio::test]
    async fn the_network_in_memory_conforms() {
        let network = InMemoryNetwork::new();
        let (sender, mut arrivals) = unbounded_channel();
        let nodes = [1, 2, 3].map(NodeId::new);
        for at in nodes {
            let sender = sender.clone();
            network.attach_receiver(at, move |from, message| {
                sender.send(Arrival { at, from, message }).unwrap();
            });
        }
        let transports = nodes.map(|node| (node, network.transport(node)));
        transport_conformance(&transports.into(), &mut arrivals).await;
    }

    /// Two nodes with a transport that does `change` to what it carries.
    async fn put_to_the_test(change: fn(Arrival) -> Option<Arrival>) {
        struct Changing {
            node: NodeId,
            change: fn(Arrival) -> Option<Arrival>,
            arrivals: UnboundedSender<Arrival>,
        }
        impl Transport for Changing {
            fn send(&self, to: NodeId, message: Message) {
                let exists = to.get() < 3;
                let arrival = Arrival { at: to, from: self.node, message };
                if let Some(arrival) = (self.change)(arrival).filter(|_| exists) {
                    // The test may be over.
                    let _ = self.arrivals.send(arrival);
                }
            }
        }
        let (sender, mut arrivals) = unbounded_channel();
        let transports = [1, 2].map(NodeId::new).map(|node| {
            let changing = Changing { node, change, arrivals: sender.clone() };
            (node, Arc::new(changing) as Arc<dyn Transport>)
        });
        transport_conformance(&transports.into(), &mut arrivals).await;
    }

    #[tokio::test]
    async fn one_that_changes_nothing_conforms() {
        put_to_the_test(Some).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "never arrived")]
    async fn one_that_loses_what_is_long_does_not() {
        put_to_the_test(|arrival| (arrival.message.encode().len() < 100_000).then_some(arrival))
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "nobody sent")]
    async fn one_that_takes_the_receiver_for_the_sender_does_not() {
        put_to_the_test(|arrival| Some(Arrival { from: arrival.at, ..arrival })).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "nobody sent")]
    async fn one_that_takes_empty_values_for_none_does_not() {
        put_to_the_test(|mut arrival| {
            if let Body::Put { data, .. } = &mut arrival.message.body {
                data.value = data.value.take().filter(|value| !value.is_empty());
                data.version.write -= 1;
            }
            Some(arrival)
        })
        .await;
    }
}
