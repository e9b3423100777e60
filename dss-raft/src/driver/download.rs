//! Fetching a snapshot that a leader offers, beside the core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::blocking::blocking;
use super::inputs::Event;
use crate::message::{Envelope, Message, PartContent, SnapshotPart, SnapshotRequest};
use crate::ports::{SnapshotStore, SnapshotWriter, StorageError, Transport};
use crate::types::{GroupId, NodeId};

/// How many bytes a part has, all but the last.
pub(super) const PART_BYTES: usize = 256 << 10;
/// How many parts are asked for ahead: 2 MiB, enough for a hundred MiB a second over 20 ms.
const WINDOW: u64 = 8;
/// After how long a part is asked for again.
const RETRY: Duration = Duration::from_millis(500);

/// What fetching takes.
pub(super) struct Source {
    pub(super) group: GroupId,
    /// Who offers the snapshot.
    pub(super) from: NodeId,
    /// Under which name.
    pub(super) descriptor: Bytes,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) store: Arc<dyn SnapshotStore>,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// A snapshot that is being fetched. Dropped, it has never been.
pub(super) struct Download {
    pub(super) from: NodeId,
    pub(super) descriptor: Bytes,
    /// The newest offer of it: what the core is to be given in the end.
    pub(super) offer: Message,
    parts: mpsc::Sender<SnapshotPart>,
    task: AbortHandle,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Download {
    /// Begins to fetch; ends in [`Event::SnapshotFetched`].
    pub(super) fn start(source: Source, offer: Message) -> Self {
        // Twice the window: answers to repeated questions come too.
        let (parts, received) = mpsc::channel(2 * usize::try_from(WINDOW).unwrap_or(1));
        let (from, descriptor) = (source.from, source.descriptor.clone());
        let task = tokio::spawn(async move {
            let events = source.events.clone();
            let (from, descriptor) = (source.from, source.descriptor.clone());
            let fetched = fetch(source, received).await;
            // A core task that has gone does not want it.
            let _ = events.send(Event::SnapshotFetched { from, descriptor, fetched });
        });
        Self { from, descriptor, offer, parts, task: task.abort_handle() }
    }

    /// Takes in a part, or drops it: it is asked for again.
    pub(super) fn offer_part(&self, from: NodeId, part: SnapshotPart) {
        if from == self.from && part.descriptor == self.descriptor {
            let _ = self.parts.try_send(part);
        }
    }
}

/// What a part's checksum must be.
pub(super) fn part_checksum(offset: u64, is_last: bool, bytes: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &[u8::from(is_last)]), bytes)
}

/// The snapshot's descriptor in this node's store; `None` where it cannot be had or kept.
async fn fetch(source: Source, mut received: mpsc::Receiver<SnapshotPart>) -> Option<Bytes> {
    let (store, group) = (Arc::clone(&source.store), source.group);
    let mut writer = blocking(move || store.create(group)).await.ok()?;
    let mut window = Window::default();
    loop {
        for offset in window.ask_for(Instant::now()) {
            let descriptor = source.descriptor.clone();
            let request = SnapshotRequest { group, descriptor, offset };
            source.transport.send(source.from, Envelope::SnapshotRequest(request));
        }
        match timeout(RETRY, received.recv()).await {
            Ok(Some(part)) => window.take_in(part)?,
            // The download was dropped.
            Ok(None) => return None,
            Err(_) => {}
        }
        let ready = window.take_ready();
        if ready.is_empty() {
            continue;
        }
        let is_last = ready.iter().any(|content| content.is_last);
        writer = blocking(move || append(writer, &ready)).await.ok()?;
        if is_last {
            return blocking(move || writer.finish()).await.ok();
        }
    }
}

fn append(
    mut writer: Box<dyn SnapshotWriter>,
    parts: &[PartContent],
) -> Result<Box<dyn SnapshotWriter>, StorageError> {
    parts.iter().try_for_each(|part| writer.write(&part.bytes))?;
    Ok(writer)
}

/// What was asked for, and what has come before its turn.
#[derive(Default)]
struct Window {
    /// How much was handed out to be written.
    written: u64,
    asked: BTreeMap<u64, Instant>,
    early: BTreeMap<u64, PartContent>,
    /// Where the last part begins, once it has come.
    last: Option<u64>,
    /// How often in a row nothing has come.
    silences: u32,
}

impl Window {
    /// The parts to ask for, for the first time or again. After some silence only for one, until
    /// somebody answers.
    fn ask_for(&mut self, now: Instant) -> Vec<u64> {
        const PATIENCE: u32 = 3;
        let width = if self.silences > PATIENCE { 1 } else { WINDOW };
        let wanted = (0..width).map(|part| self.written + part * PART_BYTES as u64);
        let mut offsets = Vec::new();
        for offset in wanted.filter(|offset| self.last.is_none_or(|last| *offset <= last)) {
            let asked = self.asked.get(&offset);
            let again = asked.is_some_and(|asked| now.duration_since(*asked) >= RETRY);
            if !self.early.contains_key(&offset) && (asked.is_none() || again) {
                self.silences += u32::from(again && offset == self.written);
                self.asked.insert(offset, now);
                offsets.push(offset);
            }
        }
        offsets
    }

    /// `None` where the snapshot cannot be had any more. A part that is not as it was sent is
    /// none.
    fn take_in(&mut self, part: SnapshotPart) -> Option<()> {
        let content = part.content?;
        let PartContent { bytes, is_last, checksum } = &content;
        let complete = *is_last || bytes.len() == PART_BYTES;
        if complete
            && *checksum == part_checksum(part.offset, *is_last, bytes)
            && self.asked.remove(&part.offset).is_some()
        {
            self.silences = 0;
            if *is_last {
                self.last = Some(part.offset);
            }
            self.early.insert(part.offset, content);
        }
        Some(())
    }

    /// The parts whose turn it is.
    fn take_ready(&mut self) -> Vec<PartContent> {
        let mut ready = Vec::new();
        while let Some(content) = self.early.remove(&self.written) {
            self.written += content.bytes.len() as u64;
            ready.push(content);
        }
        ready
    }
}
