//! The audit log of a node that runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::chain::{Key, Mac};
use super::entry::{Entry, Outcome, append_entry, append_header};
use super::files::{Files, FolderFiles, Tail, newest_chain};
use crate::config::AuditConfig;
use crate::control_group::{AuditHead, Chain};
use crate::hex;

/// How many entries one write takes.
const BATCH_MAX: usize = 1_024;
/// How long to wait before a log that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How much has to be free on the disk for mutations to be accepted: what those under way may
/// still have written down, many times over.
const ROOM_MIN: u64 = 8 << 20;
/// How many bytes are kept for when the log can be written again.
const UNWRITTEN_MAX: usize = 16 << 20;

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the key of the audit log {} cannot be used", .path.display())]
    Key { path: PathBuf, source: io::Error },
    #[error("the audit log in {} cannot be used", .path.display())]
    Log { path: PathBuf, source: io::Error },
}

/// It could not be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub(crate) struct NotWritten;

/// Writes down what is done. Clones share it.
#[derive(Clone)]
pub(crate) struct AuditLog(Arc<Shared>);

struct Shared {
    node: String,
    /// Where it is, for whoever reads it.
    folder: PathBuf,
    chain: Chain,
    /// Not bounded: every request has at most one in it, and waits for it.
    sender: mpsc::UnboundedSender<Item>,
    status: Arc<Status>,
    written: watch::Receiver<Tail>,
    /// How far it went when it was opened.
    begin: Tail,
}

struct Status {
    is_writable: AtomicBool,
    lost: AtomicU64,
}

struct Item {
    /// Nothing, from who only waits for what came before.
    what: Option<(Entry, Outcome)>,
    /// Whoever waits for it to be durable.
    done: Option<oneshot::Sender<()>>,
}

/// An entry of which the outcome is not known yet. Where it is dropped before that, the log says
/// so: the client has gone, and whether anything was done is unknown.
pub(crate) struct Record {
    log: AuditLog,
    entry: Option<Entry>,
}

impl AuditLog {
    /// The log in `folder`, gone on with. The key is made where it is missing.
    ///
    /// # Errors
    ///
    /// Where the key or the log cannot be used; nothing was changed then but for a key that was
    /// made.
    pub(crate) fn open(folder: &Path, node: &str, config: &AuditConfig) -> Result<Self, OpenError> {
        let refused = |source| OpenError::Log { path: folder.to_owned(), source };
        let (files, tail) = FolderFiles::open(folder).map_err(refused)?;
        let path = config.key_file(folder);
        let unusable = |source| OpenError::Key { path: path.clone(), source };
        let key = Key::read_or_create(&path).map_err(unusable)?;
        let chain = newest_chain(folder).map_err(refused)?;
        if chain.is_some_and(|chain| chain != hex::encode(&key.chain())) {
            let problem = "the log was begun with another key: move it away to begin a new one";
            return Err(refused(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        Ok(Self::start(Box::new(files), tail, key, node, folder, config.file_bytes_max))
    }

    /// The log in these files, which go so far.
    pub(super) fn start(
        files: Box<dyn Files>,
        tail: Tail,
        key: Key,
        node: &str,
        folder: &Path,
        file_bytes_max: u64,
    ) -> Self {
        let (sender, items) = mpsc::unbounded_channel();
        let (durable, written) = watch::channel(tail);
        let status =
            Arc::new(Status { is_writable: AtomicBool::new(true), lost: AtomicU64::new(0) });
        let shared = Shared {
            node: node.to_owned(),
            folder: folder.to_owned(),
            chain: key.chain(),
            sender,
            status: status.clone(),
            written,
            begin: tail,
        };
        let writer = Writer {
            files,
            key,
            node: node.to_owned(),
            file_bytes_max,
            durable: tail,
            next: (tail.sequence, tail.mac),
            unwritten: Vec::new(),
            is_torn: false,
        };
        tokio::spawn(run(writer, items, status, durable));
        Self(Arc::new(shared))
    }

    /// Whether what is done can be written down. Where not, nothing may be done.
    pub(crate) fn is_writable(&self) -> bool {
        self.0.status.is_writable.load(Ordering::Acquire)
    }

    /// How many entries there was no room for, not even in memory.
    pub(crate) fn lost(&self) -> u64 {
        self.0.status.lost.load(Ordering::Relaxed)
    }

    /// The number of the last entry that is durable.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.written.borrow().sequence
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Somebody is about to do this.
    pub(crate) fn begin(&self, entry: Entry) -> Record {
        Record { log: self.clone(), entry: Some(entry) }
    }

    /// Waits until all that was ended or dropped before is durable.
    ///
    /// # Errors
    ///
    /// Where that is not so.
    pub(crate) async fn flush(&self) -> Result<(), NotWritten> {
        let (done, is_done) = oneshot::channel();
        let item = Item { what: None, done: Some(done) };
        self.0.sender.send(item).map_err(|_| NotWritten)?;
        is_done.await.map_err(|_| NotWritten)
    }

    /// The head of the chain, as the cluster is to know it.
    pub(super) fn head(&self, tail: Tail) -> AuditHead {
        let Tail { sequence, mac, .. } = tail;
        AuditHead { node: self.0.node.clone(), chain: self.0.chain, sequence, mac }
    }

    /// How far the log is durable, and how far it was when it was opened.
    pub(super) fn progress(&self) -> (watch::Receiver<Tail>, Tail) {
        (self.0.written.clone(), self.0.begin)
    }
}

impl Record {
    /// This came of it. Durable on return.
    ///
    /// # Errors
    ///
    /// Where that is not so. The entry is kept, and written as soon as that is possible.
    pub(crate) async fn end(mut self, outcome: Outcome) -> Result<(), NotWritten> {
        let entry = self.entry.take().expect("it is only taken here, and when it is dropped");
        let (done, is_done) = oneshot::channel();
        let item = Item { what: Some((entry, outcome)), done: Some(done) };
        self.log.0.sender.send(item).map_err(|_| NotWritten)?;
        is_done.await.map_err(|_| NotWritten)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let routed_to = self.log.0.node.clone();
            let outcome = Outcome { status: None, code: None, routed_to };
            // Where nobody listens any more, the node is shutting down.
            let _ = self.log.0.sender.send(Item { what: Some((entry, outcome)), done: None });
        }
    }
}

/// Writes entries down, as many at once as have come.
struct Writer {
    files: Box<dyn Files>,
    key: Key,
    node: String,
    file_bytes_max: u64,
    durable: Tail,
    /// The number of the last entry that was taken, and what the chain is there.
    next: (u64, Mac),
    /// Lines that are not durable.
    unwritten: Vec<u8>,
    /// Whether the file may have more in it than what is durable.
    is_torn: bool,
}

impl Writer {
    /// Takes an entry, unless there are too many already.
    fn take(&mut self, entry: &Entry, outcome: &Outcome) -> bool {
        if self.unwritten.len() >= UNWRITTEN_MAX {
            return false;
        }
        let (sequence, mac) = self.next;
        let at = (sequence + 1, &mac);
        let mac = append_entry(&self.key, &self.node, at, (entry, outcome), &mut self.unwritten);
        self.next = (sequence + 1, mac);
        true
    }

    /// Makes all that was taken durable.
    fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let length = match self.durable.length {
            Some(length) if self.is_torn => {
                self.files.truncate(length)?;
                length
            }
            Some(length) => length,
            None => 0,
        };
        let after = length + self.unwritten.len() as u64;
        let length =
            if length == 0 || after > self.file_bytes_max { self.rotate()? } else { length };
        self.is_torn = true;
        self.files.append(&self.unwritten)?;
        self.files.sync()?;
        self.is_torn = false;
        let (sequence, mac) = self.next;
        let length = Some(length + self.unwritten.len() as u64);
        self.durable = Tail { sequence, mac, length };
        self.unwritten.clear();
        Ok(())
    }

    /// Begins the next file; how long it is.
    fn rotate(&mut self) -> io::Result<u64> {
        let Tail { sequence, mac, .. } = self.durable;
        let mut lines = Vec::new();
        append_header(&self.key, &self.node, sequence + 1, mac, &mut lines);
        self.files.begin(sequence + 1, &lines)?;
        let length = lines.len() as u64;
        self.durable.length = Some(length);
        Ok(length)
    }

    /// Whether the disk has room for what may come. Where that cannot be said, writing will tell.
    fn has_room(&self) -> bool {
        self.files.room().unwrap_or(u64::MAX) >= ROOM_MIN
    }
}

/// Writes entries down as they come, until nobody can send any more.
async fn run(
    mut writer: Writer,
    mut items: mpsc::UnboundedReceiver<Item>,
    status: Arc<Status>,
    durable: watch::Sender<Tail>,
) {
    let mut batch = Vec::new();
    loop {
        let is_writable = status.is_writable.load(Ordering::Acquire);
        let came = items.recv_many(&mut batch, BATCH_MAX);
        // While it cannot be written, it is tried again whether anything comes or not.
        let came = if is_writable { came.await } else { timeout(RETRY, came).await.unwrap_or(1) };
        let mut waiting = Vec::new();
        for Item { what, done } in batch.drain(..) {
            if what.is_none_or(|(entry, outcome)| writer.take(&entry, &outcome)) {
                waiting.extend(done);
            } else {
                status.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        let flushed = tokio::task::spawn_blocking(move || {
            let flushed = writer.flush();
            let has_room = writer.has_room();
            (writer, flushed, has_room)
        });
        let Ok((back, flushed, has_room)) = flushed.await else {
            tracing::error!("the audit log has failed: nothing can be changed any more");
            return status.is_writable.store(false, Ordering::Release);
        };
        writer = back;
        let is_now = flushed.is_ok() && has_room;
        if is_now != is_writable {
            match &flushed {
                Ok(()) if is_now => tracing::info!("the audit log can be written again"),
                Ok(()) => tracing::error!("the disk of the audit log is full: changes are refused"),
                Err(error) => tracing::error!("the audit log cannot be written: {error}"),
            }
            status.is_writable.store(is_now, Ordering::Release);
        }
        if flushed.is_ok() {
            durable.send_replace(writer.durable);
            for done in waiting {
                // Who waited for it may be gone.
                let _ = done.send(());
            }
        }
        if came == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
