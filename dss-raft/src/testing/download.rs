//! How snapshots travel: beside the messages of the core, part by part, over the same network.
//!
//! As a driver does, a node that is offered a snapshot fetches it from whoever offers it, and gives
//! the offer to its core once it has all of it. Parts get lost; the next offer goes on where the
//! last one came to an end.

use super::violation::Violation;
use super::workload::Workload;
use super::world::{Event, World, position_of};
use crate::message::{Message, MessageBody};
use crate::types::{LogId, NodeId};

/// A snapshot that is being fetched.
#[derive(Debug)]
pub(super) struct Download {
    from: NodeId,
    /// The newest offer of it.
    offer: Message,
    last: LogId,
    length: usize,
    received: usize,
}

/// A part that was asked for, or its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// The snapshot that it is a part of.
    last: LogId,
    offset: usize,
}

impl<W: Workload> World<W> {
    /// A message arrives: for the core, unless it offers what must be fetched first.
    pub(super) fn deliver(
        &mut self,
        from: NodeId,
        to: usize,
        message: Message,
    ) -> Result<(), Violation> {
        let (last, length) = match &message.body {
            MessageBody::InstallSnapshot { snapshot, .. }
                if snapshot.data.len() > self.options.snapshot_part_bytes =>
            {
                (snapshot.last, snapshot.data.len())
            }
            _ => {
                return self.input(to, |raft, now| raft.handle_message(now, from, message));
            }
        };
        let Some(running) = &mut self.hosts[to].running else { return Ok(()) };
        match &mut running.download {
            Some(download) if download.last == last && download.from == from => {
                download.offer = message;
            }
            other => {
                let download = Download { from, offer: message, last, length, received: 0 };
                *other = Some(download);
            }
        }
        self.ask_for_part(to);
        Ok(())
    }

    fn ask_for_part(&mut self, at: usize) {
        let Some(running) = &self.hosts[at].running else { return };
        let Some(Download { from, last, received, .. }) = &running.download else { return };
        let part = Part { last: *last, offset: *received };
        let Some(to) = position_of(*from) else { return };
        for delay in self.network.deliveries(&mut self.random, at, to).into_iter().flatten() {
            self.queue.push(self.now + delay, Event::PartAsked { from: at, to, part });
        }
    }

    /// A node is asked for a part: it sends it, or says that it has it no more.
    pub(super) fn send_part(&mut self, at: usize, to: usize, part: Part) {
        if self.hosts[at].running.is_none() {
            return;
        }
        let has_it = self.hosts[at].disk.has_snapshot(part.last);
        for delay in self.network.deliveries(&mut self.random, at, to).into_iter().flatten() {
            self.queue.push(self.now + delay, Event::PartSent { to, part, has_it });
        }
    }

    /// A part arrives.
    pub(super) fn receive_part(
        &mut self,
        at: usize,
        part: Part,
        has_it: bool,
    ) -> Result<(), Violation> {
        let part_bytes = self.options.snapshot_part_bytes;
        let Some(running) = &mut self.hosts[at].running else { return Ok(()) };
        let Some(download) = &mut running.download else { return Ok(()) };
        if download.last != part.last {
            return Ok(());
        }
        if !has_it {
            running.download = None;
            return Ok(());
        }
        if download.received != part.offset {
            // One that came before: the next one is on its way.
            return Ok(());
        }
        download.received += part_bytes;
        if download.received < download.length {
            self.ask_for_part(at);
            return Ok(());
        }
        let Some(Download { from, offer, .. }) = running.download.take() else { return Ok(()) };
        self.report.downloaded += 1;
        self.input(at, |raft, now| raft.handle_message(now, from, offer))
    }
}
