//! A group's queue of what peers send: bounded by number and by bytes, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::message::{Message, MessageBody, SnapshotPart};
use crate::types::NodeId;

/// How many messages wait at most. A leader has a few dozen under way per follower; what does not
/// fit is dropped, as the network might have, and sent again.
const MESSAGES_MAX: usize = 4096;
/// How many bytes of entries and snapshots wait at most (one message may exceed it alone).
const BYTES_MAX: usize = 64 << 20;

/// What a peer sent.
pub(super) enum Delivery {
    /// For the core.
    Message(Message),
    /// For the core, together with messages for other groups: answered likewise.
    Batched(Message),
    /// For the download of a snapshot.
    Part(SnapshotPart),
}

struct Queued {
    from: NodeId,
    delivery: Delivery,
    weight: usize,
}

/// Where peers' messages go in.
#[derive(Clone)]
pub(super) struct InboxSender {
    queue: mpsc::Sender<Queued>,
    bytes: Arc<AtomicUsize>,
}

/// Where the core task takes them out.
pub(super) struct Inbox {
    queue: mpsc::Receiver<Queued>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn inbox() -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (InboxSender { queue: sender, bytes: Arc::clone(&bytes) }, Inbox { queue: receiver, bytes })
}

impl InboxSender {
    /// Queues it, or drops it where there is no room.
    pub(super) fn offer(&self, from: NodeId, delivery: Delivery) {
        let weight = weight(&delivery);
        if self.bytes.fetch_add(weight, Ordering::Relaxed) > BYTES_MAX
            || self.queue.try_send(Queued { from, delivery, weight }).is_err()
        {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

impl Inbox {
    pub(super) async fn recv(&mut self) -> Option<(NodeId, Delivery)> {
        let queued = self.queue.recv().await;
        queued.map(|queued| self.took(queued))
    }

    pub(super) fn try_recv(&mut self) -> Option<(NodeId, Delivery)> {
        let queued = self.queue.try_recv().ok();
        queued.map(|queued| self.took(queued))
    }

    fn took(&self, Queued { from, delivery, weight }: Queued) -> (NodeId, Delivery) {
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        (from, delivery)
    }
}

fn weight(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Message(message) | Delivery::Batched(message) => match &message.body {
            MessageBody::Append { entries, .. } => entries.weight(),
            _ => 0,
        },
        Delivery::Part(part) => part.content.as_ref().map_or(0, |content| content.bytes.len()),
    }
}
