//! A disk in memory that crashes, tears, forgets, fails and flips bits where a test says so.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};
use crate::core::Random;

/// Clones share the disk.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since they were last synced.
    pending_names: Vec<NameChange>,
    /// The names of all files that were ever created.
    created: Vec<String>,
    /// Changes and syncs so far.
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// Syncs fail from this operation on.
    syncs_fail_from: Option<u64>,
    /// Writes fail beyond this many bytes in all files.
    capacity: Option<usize>,
}

#[derive(Default, Clone)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Set(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

/// What a crash leaves of what was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loss {
    /// Everything: only the process died.
    Nothing,
    /// Nothing.
    Everything,
    /// Any part of the writes, in pieces of this many bytes, and any of the changes of names.
    Parts { piece: usize, seed: u64 },
}

impl World {
    /// Counts an operation; fails from the crash on. The operation at the crash is still seen by
    /// `apply`, so that a part of it may have happened.
    fn operation<R>(&mut self, apply: impl FnOnce(&mut Self) -> io::Result<R>) -> io::Result<R> {
        if self.crashed {
            return Err(io::Error::other("crashed"));
        }
        let crashes = self.crash_at == Some(self.operations);
        self.operations += 1;
        let result = apply(self);
        if crashes {
            self.crashed = true;
            return Err(io::Error::other("crashed"));
        }
        result
    }

    fn crashes_at_next(&self) -> bool {
        self.crash_at == Some(self.operations)
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl FaultyDisk {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn operations(&self) -> u64 {
        self.world().operations
    }

    pub(super) fn created(&self) -> Vec<String> {
        self.world().created.clone()
    }

    /// From this operation on (counted from the first ever) nothing happens any more.
    pub(super) fn crash_at(&self, operation: u64) {
        self.world().crash_at = Some(operation);
    }

    pub(super) fn crashed(&self) -> bool {
        self.world().crashed
    }

    pub(super) fn fail_syncs_from(&self, operation: u64) {
        self.world().syncs_fail_from = Some(operation);
    }

    pub(super) fn limit_to(&self, bytes: usize) {
        self.world().capacity = Some(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        let world = self.world();
        world.names.values().map(|inode| world.inodes[*inode].content.len()).sum()
    }

    /// The disk as the next start finds it.
    pub(super) fn after(&self, loss: Loss) -> Self {
        let world = self.world();
        let mut next = World::default();
        let mut random = match loss {
            Loss::Parts { seed, .. } => Random::new(seed),
            Loss::Nothing | Loss::Everything => Random::new(0),
        };
        next.names = world.durable_names.clone();
        for change in &world.pending_names {
            let kept = match loss {
                Loss::Nothing => true,
                Loss::Everything => false,
                Loss::Parts { .. } => random.below(2) == 0,
            };
            if kept {
                change.apply(&mut next.names);
            }
        }
        next.durable_names = next.names.clone();
        next.inodes = world
            .inodes
            .iter()
            .map(|inode| {
                let content = inode.after(loss, &mut random);
                Inode { durable: content.clone(), content, pending: Vec::new() }
            })
            .collect();
        Self { world: Arc::new(Mutex::new(next)) }
    }

    /// Every file and what is in it.
    pub(super) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let world = self.world();
        let content =
            |(name, inode): (&String, &usize)| (name.clone(), world.inodes[*inode].content.clone());
        world.names.iter().map(content).collect()
    }

    /// A disk with these files, all durable.
    pub(super) fn with(contents: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut world = World::default();
        for (name, content) in contents {
            world.names.insert(name.clone(), world.inodes.len());
            world.inodes.push(Inode {
                content: content.clone(),
                durable: content.clone(),
                pending: Vec::new(),
            });
        }
        world.durable_names = world.names.clone();
        Self { world: Arc::new(Mutex::new(world)) }
    }
}

impl Inode {
    fn after(&self, loss: Loss, random: &mut Random) -> Vec<u8> {
        match loss {
            Loss::Nothing => self.content.clone(),
            Loss::Everything => self.durable.clone(),
            Loss::Parts { piece, .. } => {
                let mut content = self.durable.clone();
                for (offset, bytes) in &self.pending {
                    let mut start = 0;
                    while start < bytes.len() {
                        // Pieces are aligned in the file, as sectors are.
                        let aligned = (offset + start) / piece * piece + piece;
                        let end = (aligned - offset).min(bytes.len());
                        if random.below(2) == 0 {
                            write(&mut content, offset + start, &bytes[start..end]);
                        }
                        start = end;
                    }
                }
                content
            }
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    content[offset..end].copy_from_slice(bytes);
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.world().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let world = self.world();
        Ok(world.inodes[world.inode(name)?].content.clone())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        self.world().operation(|world| {
            let inode = world.inodes.len();
            world.inodes.push(Inode::default());
            world.created.push(name.to_owned());
            world.change_name(NameChange::Set(name.to_owned(), inode));
            Ok(FaultyFile { disk: self.clone(), inode })
        })
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let inode = self.world().inode(name)?;
        Ok(FaultyFile { disk: self.clone(), inode })
    }

    fn open_to_read(&self, name: &str) -> io::Result<FaultyFile> {
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.world().operation(|world| {
            let inode = world.inode(from)?;
            world.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.world().operation(|world| {
            world.inode(name)?;
            world.change_name(NameChange::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        let crashes = self.world().crashes_at_next();
        self.world().operation(|world| {
            if world.syncs_fail_from.is_some_and(|from| world.operations > from) {
                return Err(io::Error::other("the sync failed"));
            }
            if !crashes {
                world.durable_names = world.names.clone();
                world.pending_names.clear();
            }
            Ok(())
        })
    }
}

/// An open file of a [`FaultyDisk`].
pub(super) struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
}

impl DiskFile for FaultyFile {
    fn read_at(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let world = self.disk.world();
        let content = &world.inodes[self.inode].content;
        let start = usize::try_from(offset).unwrap();
        let bytes = content.get(start..start + length);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let used = self.disk.bytes();
        self.disk.world().operation(|world| {
            let offset = usize::try_from(offset).unwrap();
            let inode = &mut world.inodes[self.inode];
            let growth = (offset + bytes.len()).saturating_sub(inode.content.len());
            if world.capacity.is_some_and(|capacity| used + growth > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            write(&mut inode.content, offset, bytes);
            inode.pending.push((offset, bytes.to_vec()));
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let crashes = self.disk.world().crashes_at_next();
        self.disk.world().operation(|world| {
            if world.syncs_fail_from.is_some_and(|from| world.operations > from) {
                // As Linux does it: what could not be written is forgotten, and a later sync that
                // has nothing to write succeeds.
                world.inodes[self.inode].pending.clear();
                return Err(io::Error::other("the sync failed"));
            }
            if !crashes {
                let inode = &mut world.inodes[self.inode];
                inode.durable.clone_from(&inode.content);
                inode.pending.clear();
            }
            Ok(())
        })
    }
}
