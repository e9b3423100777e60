//! Between a group's state machine and the storage of its snapshots.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::StartGroupError;
use super::inputs::Event;
use crate::ports::{
    SnapshotImage, SnapshotReader, SnapshotStore, SnapshotWriter, StateMachine, StorageError,
};
use crate::types::{GroupId, LogIndex};

/// One group's snapshots in a store.
#[derive(Clone)]
pub(super) struct GroupSnapshots {
    pub(super) group: GroupId,
    pub(super) store: Arc<dyn SnapshotStore>,
}

impl GroupSnapshots {
    /// Writes the image on a thread that may block, while everything else goes on; ends in
    /// [`Event::SnapshotTaken`] or [`Event::SnapshotFailed`].
    pub(super) fn store(
        &self,
        index: LogIndex,
        image: SnapshotImage,
        events: mpsc::UnboundedSender<Event>,
    ) {
        let Self { group, store } = self.clone();
        tokio::spawn(async move {
            let wanted = events.clone();
            let write = move || write(&*store, group, image, &wanted);
            // A machine that panics while its image is written has a snapshot less, not a state.
            let event = match tokio::task::spawn_blocking(write).await {
                Ok(Ok(descriptor)) => Event::SnapshotTaken { index, descriptor },
                Ok(Err(_)) | Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    Event::SnapshotFailed { index }
                }
            };
            let _ = events.send(event);
        });
    }

    /// Makes the machine what the snapshot says. Blocks.
    pub(super) fn restore<M: StateMachine>(
        &self,
        descriptor: &Bytes,
        machine: &mut M,
    ) -> Result<(), StartGroupError> {
        let reader = self.store.open(self.group, descriptor)?;
        let mut input = Input { reader, offset: 0, piece: Bytes::new(), failure: None };
        let restored = machine.restore_from(&mut input);
        match input.failure {
            Some(failure) => Err(failure.into()),
            None => Ok(restored?),
        }
    }
}

/// How long to wait after a snapshot that failed (a full disk, most of the time) before another is
/// tried.
const RETRY: Duration = Duration::from_secs(10);
/// How much is given to the storage at once.
const PIECE_BYTES: usize = 64 << 10;

fn write(
    store: &dyn SnapshotStore,
    group: GroupId,
    image: SnapshotImage,
    events: &mpsc::UnboundedSender<Event>,
) -> io::Result<Bytes> {
    let mut writer = store.create(group).map_err(io::Error::other)?;
    let output = Output { writer: &mut *writer, events };
    let mut output = io::BufWriter::with_capacity(PIECE_BYTES, output);
    image.write_to(&mut output)?;
    output.flush()?;
    drop(output);
    writer.finish().map_err(io::Error::other)
}

/// A snapshot as something to write to, for as long as somebody wants it.
struct Output<'a> {
    writer: &'a mut dyn SnapshotWriter,
    events: &'a mpsc::UnboundedSender<Event>,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.events.is_closed() {
            return Err(io::Error::other("the group has stopped"));
        }
        self.writer.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A snapshot as something to read from, which remembers why that failed.
struct Input {
    reader: Box<dyn SnapshotReader>,
    offset: u64,
    piece: Bytes,
    failure: Option<StorageError>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.reader.read_at(self.offset, PIECE_BYTES) {
                Ok(piece) => self.piece = piece,
                Err(error) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("the snapshot cannot be read"));
                }
            }
            self.offset += self.piece.len() as u64;
        }
        let taken = self.piece.split_to(self.piece.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
