//! The task that gives other nodes the snapshots that this one has offered them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::blocking::blocking;
use super::download::{PART_BYTES, part_checksum};
use crate::message::{Envelope, PartContent, SnapshotPart, SnapshotRequest};
use crate::ports::{SnapshotReader, SnapshotStore, StorageError, Transport};
use crate::types::{GroupId, NodeId};

/// How many questions wait at most; what does not fit is asked again.
const REQUESTS_MAX: usize = 64;
/// For how long a snapshot stays open that nobody asks for. While it is open it can be read to its
/// end, however many newer ones there are.
const IDLE: Duration = Duration::from_secs(30);

pub(super) type RequestSender = mpsc::Sender<(NodeId, SnapshotRequest)>;

/// The server: `run` is its task.
pub(super) struct SnapshotServer {
    store: Arc<dyn SnapshotStore>,
    transport: Arc<dyn Transport>,
    requests: mpsc::Receiver<(NodeId, SnapshotRequest)>,
    open: BTreeMap<(GroupId, Bytes), Open>,
}

struct Open {
    reader: Box<dyn SnapshotReader>,
    used: Instant,
}

impl SnapshotServer {
    pub(super) fn new(
        store: Arc<dyn SnapshotStore>,
        transport: Arc<dyn Transport>,
    ) -> (RequestSender, Self) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        (sender, Self { store, transport, requests, open: BTreeMap::new() })
    }

    /// Serves until the sender is gone.
    pub(super) async fn run(mut self) {
        loop {
            // Without anything to close there is nothing to wake up for.
            let request = if self.open.is_empty() {
                self.requests.recv().await
            } else {
                match timeout(IDLE, self.requests.recv()).await {
                    Ok(request) => request,
                    Err(_) => {
                        self.close_idle();
                        continue;
                    }
                }
            };
            let Some((from, request)) = request else { return };
            let SnapshotRequest { group, descriptor, offset } = request;
            let content = self.read(group, &descriptor, offset).await.ok();
            let part = SnapshotPart { group, descriptor, offset, content };
            self.transport.send(from, Envelope::SnapshotPart(part));
            self.close_idle();
        }
    }

    async fn read(
        &mut self,
        group: GroupId,
        descriptor: &Bytes,
        offset: u64,
    ) -> Result<PartContent, StorageError> {
        let key = (group, descriptor.clone());
        let open = self.open.remove(&key);
        let (store, descriptor) = (Arc::clone(&self.store), descriptor.clone());
        let read = move || {
            let mut reader = match open {
                Some(open) => open.reader,
                None => store.open(group, &descriptor)?,
            };
            let content = read_part(&mut *reader, offset)?;
            Ok((reader, content))
        };
        let (reader, content) = blocking(read).await?;
        self.open.insert(key, Open { reader, used: Instant::now() });
        Ok(content)
    }

    fn close_idle(&mut self) {
        let now = Instant::now();
        self.open.retain(|_, open| now.duration_since(open.used) < IDLE);
    }
}

fn read_part(reader: &mut dyn SnapshotReader, offset: u64) -> Result<PartContent, StorageError> {
    let mut bytes = BytesMut::new();
    while bytes.len() < PART_BYTES {
        let at = offset.saturating_add(bytes.len() as u64);
        let piece = reader.read_at(at, PART_BYTES - bytes.len())?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    let is_last = offset.saturating_add(bytes.len() as u64) >= reader.length();
    let checksum = part_checksum(offset, is_last, &bytes);
    Ok(PartContent { bytes: bytes.freeze(), is_last, checksum })
}
