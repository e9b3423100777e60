//! What is replicated.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::types::LogIndex;

/// What is replicated: a deterministic machine that every node runs.
///
/// Neither clock nor randomness nor anything else that differs between nodes may reach it; time,
/// where it needs one, is in the command.
pub trait StateMachine: Send + 'static {
    /// What applying a command answers the node that proposed it. Not replicated.
    type Reply: Send + 'static;

    /// Applies the command at `index`. Commands come in order, each exactly once since the
    /// snapshot that was last restored.
    ///
    /// A command that makes no sense is answered as an error in `Reply`: to panic would take every
    /// node down, one restart after the other.
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Self::Reply;

    /// The whole state, so that [`restore`](StateMachine::restore) on another node continues
    /// exactly here.
    fn snapshot(&self) -> Bytes;

    /// The whole state as it is now, to be written out while the machine goes on.
    ///
    /// By default [`snapshot`](StateMachine::snapshot). A machine whose state is large overrides
    /// this and [`restore_from`](StateMachine::restore_from), and no longer holds up commands while
    /// its state is serialised, nor needs memory for all of those bytes: it hands out a cheap copy
    /// of itself (a persistent map, an `Arc` to copy on write, an iterator of its database).
    ///
    /// ```
    /// use std::{collections::BTreeMap, io::Write as _, sync::Arc};
    /// use dss_raft::SnapshotImage;
    ///
    /// struct Names(Arc<BTreeMap<u64, String>>);
    ///
    /// impl Names {
    ///     fn freeze(&self) -> SnapshotImage {
    ///         // `apply` uses `Arc::make_mut`: it copies once, if this is still being written.
    ///         let names = Arc::clone(&self.0);
    ///         SnapshotImage::streamed(move |output| {
    ///             names.iter().try_for_each(|(number, name)| writeln!(output, "{number} {name}"))
    ///         })
    ///     }
    /// }
    /// ```
    fn freeze(&self) -> SnapshotImage {
        self.snapshot().into()
    }

    /// Replaces the state by `snapshot`.
    ///
    /// # Errors
    ///
    /// Where the bytes are not a snapshot of this machine. The state is then as before.
    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError>;

    /// Replaces the state by the snapshot whose bytes `input` reads: what
    /// [`freeze`](StateMachine::freeze) has written. By default
    /// [`restore`](StateMachine::restore) with all of them.
    ///
    /// # Errors
    ///
    /// Where they are not a snapshot of this machine, or could not be read. The machine is then
    /// not used any more.
    fn restore_from(&mut self, input: &mut dyn Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        // Why the reader failed is reported by whoever made it.
        let read = input.read_to_end(&mut bytes);
        read.map_err(|_| RestoreError { problem: "it cannot be read" })?;
        self.restore(&bytes.into())
    }
}

type Stream = dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send;

/// The state of a machine at one moment, on its way to the storage.
pub struct SnapshotImage {
    kind: ImageKind,
}

enum ImageKind {
    Whole(Bytes),
    Streamed(Box<Stream>),
}

impl SnapshotImage {
    /// One that `write` writes, on a thread that may block.
    ///
    /// An error of the output must be passed on.
    pub fn streamed(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        Self { kind: ImageKind::Streamed(Box::new(write)) }
    }

    /// Writes the bytes of the snapshot.
    ///
    /// # Errors
    ///
    /// Those of the output, and of whatever the image reads from.
    pub fn write_to(self, output: &mut dyn Write) -> io::Result<()> {
        match self.kind {
            ImageKind::Whole(bytes) => output.write_all(&bytes),
            ImageKind::Streamed(write) => write(output),
        }
    }
}

impl From<Bytes> for SnapshotImage {
    fn from(bytes: Bytes) -> Self {
        Self { kind: ImageKind::Whole(bytes) }
    }
}

impl From<Vec<u8>> for SnapshotImage {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl std::fmt::Debug for SnapshotImage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.kind {
            ImageKind::Whole(bytes) => format!("{} bytes", bytes.len()),
            ImageKind::Streamed(_) => "streamed".to_owned(),
        };
        formatter.debug_tuple("SnapshotImage").field(&kind).finish()
    }
}

/// The bytes given to [`StateMachine::restore`] are no snapshot of that machine.
#[derive(Debug, thiserror::Error)]
#[error("not a snapshot of this state machine: {problem}")]
pub struct RestoreError {
    /// What is wrong with them.
    pub problem: &'static str,
}
