//! A disk that fails as it is told to.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::chain::Key;
use super::files::{Files, FolderFiles};
use super::log::AuditLog;

/// How large its files become.
pub(crate) const FILE_BYTES: u64 = 1 << 20;

/// The folder of a log, on a disk that fails as it is told to.
pub(crate) struct Disk {
    files: FolderFiles,
    trouble: Arc<Mutex<Trouble>>,
}

/// What is wrong with a disk.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// How many bytes fit; all of them, where there is no number.
    pub(crate) room: Option<u64>,
    /// Whether nothing becomes durable.
    pub(crate) breaks_sync: bool,
    /// How often something became durable, or should have.
    pub(crate) syncs: usize,
}

impl Disk {
    /// The log of this node in `folder`, and its trouble.
    pub(crate) fn open(folder: &Path, node: &str) -> (AuditLog, Arc<Mutex<Trouble>>) {
        let trouble = Arc::new(Mutex::new(Trouble::default()));
        let (files, tail) = FolderFiles::open(folder).unwrap();
        let key = Key::read_or_create(&folder.join("audit.key")).unwrap();
        let disk = Box::new(Self { files, trouble: trouble.clone() });
        (AuditLog::start(disk, tail, key, node, folder, FILE_BYTES), trouble)
    }
}

impl Files for Disk {
    fn begin(&mut self, first: u64, lines: &[u8]) -> io::Result<()> {
        self.files.begin(first, lines)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let room = self.trouble.lock().unwrap().room;
        let fits = room.map_or(lines.len(), |room| usize::try_from(room).unwrap().min(lines.len()));
        self.files.append(&lines[..fits])?;
        if fits < lines.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut trouble = self.trouble.lock().unwrap();
        trouble.syncs += 1;
        if trouble.breaks_sync {
            return Err(io::Error::other("the disk does not answer"));
        }
        self.files.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.files.truncate(length)
    }

    fn room(&self) -> io::Result<u64> {
        Ok(self.trouble.lock().unwrap().room.unwrap_or(u64::MAX))
    }
}
