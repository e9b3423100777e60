//! The snapshots of a group that are on their way into its log.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::download::{Download, Source};
use super::group_snapshots::GroupSnapshots;
use super::inputs::Event;
use crate::core::Raft;
use crate::message::{Message, MessageBody, SnapshotPart};
use crate::output::Persist;
use crate::ports::Transport;
use crate::types::NodeId;

/// Stands between a group's core, which knows snapshots by their descriptors, and their bytes.
pub(super) struct Snapshots {
    of_group: GroupSnapshots,
    transport: Arc<dyn Transport>,
    events: mpsc::UnboundedSender<Event>,
    download: Option<Download>,
    /// Finished ones of which the core has been told and that no write has named.
    unnamed: Vec<Bytes>,
}

impl Snapshots {
    pub(super) fn new(
        of_group: GroupSnapshots,
        transport: Arc<dyn Transport>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self { of_group, transport, events, download: None, unnamed: Vec::new() }
    }

    /// Keeps the message back where it offers a snapshot whose bytes have to be fetched first.
    ///
    /// The first offer of a snapshot begins to fetch it, a repeated one takes the place of the one
    /// before, that of another snapshot ends what was begun.
    pub(super) fn hold_offer(
        &mut self,
        raft: &Raft,
        from: NodeId,
        message: Message,
    ) -> Option<Message> {
        let MessageBody::InstallSnapshot { snapshot, .. } = &message.body else {
            return Some(message);
        };
        let status = raft.status();
        if message.term < status.term || snapshot.last.index <= status.commit_index {
            // It has something to say to this, and no use for the bytes.
            return Some(message);
        }
        let descriptor = snapshot.data.clone();
        match &mut self.download {
            Some(download) if download.from == from && download.descriptor == descriptor => {
                download.offer = message;
            }
            _ => {
                let source = Source {
                    group: self.of_group.group,
                    from,
                    descriptor,
                    transport: Arc::clone(&self.transport),
                    store: Arc::clone(&self.of_group.store),
                    events: self.events.clone(),
                };
                self.download = Some(Download::start(source, message));
            }
        }
        None
    }

    pub(super) fn take_in(&self, from: NodeId, part: SnapshotPart) {
        if let Some(download) = &self.download {
            download.offer_part(from, part);
        }
    }

    /// What is offered by anybody but the leader is of no use any more.
    pub(super) fn led_by(&mut self, leader: Option<NodeId>) {
        self.download.take_if(|download| leader.is_some_and(|leader| leader != download.from));
    }

    /// A download has ended: the offer to be given to the core, under this node's descriptor.
    pub(super) fn fetched(
        &mut self,
        from: NodeId,
        descriptor: &Bytes,
        fetched: Option<Bytes>,
    ) -> Option<Message> {
        let is_current =
            |download: &mut Download| download.from == from && download.descriptor == descriptor;
        let download = self.download.take_if(is_current);
        let own = fetched?;
        self.unnamed.push(own.clone());
        let mut offer = download?.offer.clone();
        if let MessageBody::InstallSnapshot { snapshot, .. } = &mut offer.body {
            snapshot.data = own;
        }
        Some(offer)
    }

    /// The core is about to be told of a finished snapshot.
    pub(super) fn finished(&mut self, descriptor: Bytes) {
        self.unnamed.push(descriptor);
    }

    /// The core wants this written.
    pub(super) fn named_in(&mut self, persist: &Persist) {
        if let Some(snapshot) = &persist.snapshot {
            self.unnamed.retain(|descriptor| *descriptor != snapshot.data);
        }
    }

    /// Forgets the finished ones for which the core had no use.
    pub(super) fn discard_unnamed(&mut self) {
        for descriptor in self.unnamed.drain(..) {
            let GroupSnapshots { group, store } = self.of_group.clone();
            tokio::task::spawn_blocking(move || store.discard(group, &descriptor));
        }
    }
}
