//! The seam between the log and the file system: what the log needs of one folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::ports::StorageError;

/// One folder of a file system.
///
/// What is written is durable only once the file is synced, and a file's name only once the names
/// are synced; until then a crash may leave either state of each, and of what was written any
/// part.
pub(super) trait Disk: Send + Sync + 'static {
    type File: DiskFile;

    /// The names in the folder, in any order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// The whole of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new file, empty, in place of any other of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// An existing file, for writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// An existing file, for reading: also when its name is taken away meanwhile.
    fn open_to_read(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name, in place of any other file of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file's name away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that is open for writing or for reading.
pub(super) trait DiskFile: Send + 'static {
    /// This many bytes from `offset` on.
    fn read_at(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Writes all of `bytes` from `offset` on.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the real file system.
#[derive(Debug)]
pub(super) struct RealDisk {
    folder: PathBuf,
}

impl RealDisk {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.folder.read_dir()? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let file = File::create(self.path(name))?;
        Ok(RealFile { file, position: 0 })
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        Ok(RealFile { file, position: 0 })
    }

    fn open_to_read(&self, name: &str) -> io::Result<RealFile> {
        let file = File::open(self.path(name))?;
        Ok(RealFile { file, position: 0 })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }
}

/// Makes the names in a folder durable. Windows has no such call, and needs none: it writes them
/// through.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A file of the real file system.
#[derive(Debug)]
pub(super) struct RealFile {
    file: File,
    /// Where the next byte is written or read: calls follow each other, so seeking is the
    /// exception.
    position: u64,
}

impl RealFile {
    fn seek(&mut self, offset: u64) -> io::Result<()> {
        if self.position != offset {
            self.position = self.file.seek(SeekFrom::Start(offset))?;
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn read_at(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.seek(offset)?;
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        self.position = offset + length as u64;
        Ok(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(offset)?;
        self.file.write_all(bytes)?;
        self.position = offset + bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A disk whose errors name the operation and the file.
pub(super) struct Folder<D> {
    path: PathBuf,
    disk: D,
}

impl<D: Disk> Folder<D> {
    pub(super) fn new(path: PathBuf, disk: D) -> Self {
        Self { path, disk }
    }

    /// The path of a file in it, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn error(
        &self,
        operation: &'static str,
        name: &str,
    ) -> impl FnOnce(io::Error) -> StorageError + use<D> {
        let path = self.path(name);
        move |source| StorageError::Io { operation, path, source }
    }

    pub(super) fn names(&self) -> Result<Vec<String>, StorageError> {
        self.disk.names().map_err(self.error("could not list", ""))
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        self.disk.read(name).map_err(self.error("could not read", name))
    }

    pub(super) fn open(&self, name: &str) -> Result<D::File, StorageError> {
        self.disk.open(name).map_err(self.error("could not open", name))
    }

    pub(super) fn open_to_read(&self, name: &str) -> Result<D::File, StorageError> {
        self.disk.open_to_read(name).map_err(self.error("could not open", name))
    }

    pub(super) fn read_at(
        &self,
        file: &mut D::File,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        match file.read_at(offset, length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let problem = "the file is too short";
                Err(StorageError::Damaged { path: self.path(name), offset, problem })
            }
            read => read.map_err(self.error("could not read", name)),
        }
    }

    pub(super) fn create(&self, name: &str) -> Result<D::File, StorageError> {
        self.disk.create(name).map_err(self.error("could not create", name))
    }

    pub(super) fn write_at(
        &self,
        file: &mut D::File,
        name: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        file.write_at(offset, bytes).map_err(self.error("could not write", name))
    }

    pub(super) fn sync(&self, file: &mut D::File, name: &str) -> Result<(), StorageError> {
        file.sync().map_err(self.error("could not sync", name))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.disk.rename(from, to).map_err(self.error("could not rename", from))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.disk.remove(name).map_err(self.error("could not remove", name))
    }

    pub(super) fn sync_names(&self) -> Result<(), StorageError> {
        self.disk.sync_names().map_err(self.error("could not sync", ""))
    }

    /// A file that is there as a whole or not at all: written under another name first. The name
    /// is durable after the next [`sync_names`](Folder::sync_names).
    pub(super) fn write_whole(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let temporary = format!("{name}{TEMPORARY}");
        let mut file = self.create(&temporary)?;
        self.write_at(&mut file, &temporary, 0, bytes)?;
        self.sync(&mut file, &temporary)?;
        self.rename(&temporary, name)
    }
}

/// How the names of files end that were not finished; the next start removes them.
pub(super) const TEMPORARY: &str = ".tmp";
