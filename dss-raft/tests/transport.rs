//! The network in memory against the conformance suite, and the suite against networks that break
//! each of its rules.

#![expect(clippy::disallowed_methods, reason = "one of the broken networks blocks")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dss_raft::testing::{Deliver, transport_conformance};
use dss_raft::{Envelope, GroupId, MemoryNetwork, NodeId, Transport};

fn connect(nodes: &[(NodeId, Deliver)]) -> Vec<Arc<dyn Transport>> {
    let network = MemoryNetwork::new();
    for (node, deliver) in nodes {
        let deliver = Arc::clone(deliver);
        network.attach_with(*node, move |from, envelope| deliver(from, envelope));
    }
    nodes.iter().map(|(node, _)| network.transport(*node)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_memory_network_conforms() {
    transport_conformance(async |nodes| connect(&nodes)).await;
}

/// What a broken transport does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Loses every other one: this is allowed.
    LosesHalf,
    /// Sends everything twice: so is this.
    Doubles,
    LosesEverythingLarge,
    NamesTheWrongSender,
    ChangesTheGroup,
    Blocks,
}

struct Broken {
    inner: Arc<dyn Transport>,
    fault: Fault,
    sent: AtomicU64,
}

impl Transport for Broken {
    fn send(&self, to: NodeId, envelope: Envelope) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::LosesHalf if number.is_multiple_of(2) => return,
            Fault::LosesEverythingLarge if envelope.encode().len() > 1 << 20 => return,
            Fault::Doubles => self.inner.send(to, envelope.clone()),
            Fault::Blocks => std::thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
        let envelope = match envelope {
            Envelope::Message { message, .. } if self.fault == Fault::ChangesTheGroup => {
                Envelope::Message { group: GroupId::new(77), message }
            }
            other => other,
        };
        self.inner.send(to, envelope);
    }
}

async fn conforms(fault: Fault) -> bool {
    let connect = async |mut nodes: Vec<(NodeId, Deliver)>| {
        if fault == Fault::NamesTheWrongSender {
            for (_, deliver) in &mut nodes {
                let inner = Arc::clone(deliver);
                *deliver = Arc::new(move |_, envelope| inner(NodeId::new(9), envelope));
            }
        }
        let broken = |inner| {
            Arc::new(Broken { inner, fault, sent: AtomicU64::new(0) }) as Arc<dyn Transport>
        };
        connect(&nodes).into_iter().map(broken).collect()
    };
    CatchUnwind(Box::pin(transport_conformance(connect))).await
}

/// Whether a future ends without a panic.
struct CatchUnwind<F>(std::pin::Pin<Box<F>>);

impl<F: Future<Output = ()>> Future for CatchUnwind<F> {
    type Output = bool;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<bool> {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)));
        match polled {
            Ok(poll) => poll.map(|()| true),
            Err(_) => std::task::Poll::Ready(false),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn losses_and_doubles_are_allowed() {
    assert!(conforms(Fault::LosesHalf).await);
    assert!(conforms(Fault::Doubles).await);
}

#[tokio::test(start_paused = true)]
async fn every_other_fault_is_found() {
    let faults = [Fault::LosesEverythingLarge, Fault::NamesTheWrongSender, Fault::ChangesTheGroup];
    for fault in faults {
        assert!(!conforms(fault).await, "{fault:?}");
    }
}

#[tokio::test]
async fn a_transport_that_blocks_is_found() {
    assert!(!conforms(Fault::Blocks).await);
}
