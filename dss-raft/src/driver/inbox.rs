//! A group's queue of messages from peers: bounded by number and by bytes, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::entry::Entry;
use crate::message::{Message, MessageBody};
use crate::types::NodeId;

/// How many messages wait at most. A leader has a few dozen under way per follower; what does not
/// fit is dropped, as the network might have, and sent again.
const MESSAGES_MAX: usize = 4096;
/// How many bytes of entries and snapshots wait at most (one message may exceed it alone).
const BYTES_MAX: usize = 64 << 20;

/// A message, whom it is from, and what it weighs.
struct Delivery {
    from: NodeId,
    message: Message,
    weight: usize,
}

/// Where peers' messages go in.
#[derive(Clone)]
pub(super) struct InboxSender {
    queue: mpsc::Sender<Delivery>,
    bytes: Arc<AtomicUsize>,
}

/// Where the core task takes them out.
pub(super) struct Inbox {
    queue: mpsc::Receiver<Delivery>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn inbox() -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (InboxSender { queue: sender, bytes: Arc::clone(&bytes) }, Inbox { queue: receiver, bytes })
}

impl InboxSender {
    /// Queues the message, or drops it where there is no room.
    pub(super) fn offer(&self, from: NodeId, message: Message) {
        let weight = weight(&message);
        if self.bytes.fetch_add(weight, Ordering::Relaxed) > BYTES_MAX
            || self.queue.try_send(Delivery { from, message, weight }).is_err()
        {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

impl Inbox {
    pub(super) async fn recv(&mut self) -> Option<(NodeId, Message)> {
        let delivery = self.queue.recv().await;
        delivery.map(|delivery| self.took(delivery))
    }

    pub(super) fn try_recv(&mut self) -> Option<(NodeId, Message)> {
        let delivery = self.queue.try_recv().ok();
        delivery.map(|delivery| self.took(delivery))
    }

    fn took(&self, Delivery { from, message, weight }: Delivery) -> (NodeId, Message) {
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        (from, message)
    }
}

fn weight(message: &Message) -> usize {
    match &message.body {
        MessageBody::Append { entries, .. } => entries.iter().map(Entry::weight).sum(),
        MessageBody::InstallSnapshot { snapshot, .. } => snapshot.data.len(),
        _ => 0,
    }
}
