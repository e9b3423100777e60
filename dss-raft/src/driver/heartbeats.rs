//! The task that sends the messages of several groups that fell together in one envelope.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::message::{Envelope, Message, MessageBody};
use crate::ports::Transport;
use crate::types::{GroupId, NodeId};

type Queued = (NodeId, GroupId, Message);

/// How many messages one envelope holds at most: some tens of KiB of heartbeats.
const MESSAGES_MAX: usize = 1024;

/// Where a node's groups leave messages that others may join: what they send because time has
/// passed, and the answers to that. Whatever somebody waits for is sent at once.
#[derive(Clone)]
pub(super) struct Heartbeats {
    queue: mpsc::UnboundedSender<Queued>,
    groups: Arc<AtomicUsize>,
}

impl Heartbeats {
    /// With the receiver for [`run`].
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Queued>) {
        let (queue, queued) = mpsc::unbounded_channel();
        (Self { queue, groups: Arc::default() }, queued)
    }

    /// Another group runs on the node.
    pub(super) fn join(&self) {
        self.groups.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the message along, or gives it back where it should go on its own.
    pub(super) fn take_along(
        &self,
        to: NodeId,
        group: GroupId,
        message: Message,
    ) -> Option<Message> {
        // A single group has nobody to share with.
        let alone = self.groups.load(Ordering::Relaxed) < 2;
        let light = match &message.body {
            MessageBody::Append { entries, .. } => entries.is_empty(),
            MessageBody::Committed { .. }
            | MessageBody::AppendAccepted { .. }
            | MessageBody::AppendRejected { .. } => true,
            _ => false,
        };
        if alone || !light {
            return Some(message);
        }
        // It fails only where the node ends, and the message with it.
        let _ = self.queue.send((to, group, message));
        None
    }
}

/// Sends what has gathered, until every sender is gone.
pub(super) async fn run(
    mut queued: mpsc::UnboundedReceiver<Queued>,
    transport: Arc<dyn Transport>,
) {
    while let Some(first) = queued.recv().await {
        // The timers of all groups go off together, as do the answers to what came in one
        // envelope: whoever is about to add something has been woken already.
        tokio::task::yield_now().await;
        let mut gathered: BTreeMap<NodeId, Vec<(GroupId, Message)>> = BTreeMap::new();
        let rest = std::iter::from_fn(|| queued.try_recv().ok());
        for (to, group, message) in std::iter::once(first).chain(rest).take(MESSAGES_MAX) {
            gathered.entry(to).or_default().push((group, message));
        }
        for (to, mut messages) in gathered {
            let envelope = match (messages.len(), messages.pop()) {
                (1, Some((group, message))) => Envelope::Message { group, message },
                (_, last) => {
                    messages.extend(last);
                    Envelope::Messages(messages)
                }
            };
            transport.send(to, envelope);
        }
    }
}
