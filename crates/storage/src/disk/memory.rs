//! A disk in memory that forgets like a real one: the simulator's.
//!
//! What was written is seen at once, as through the page cache, and survives the kill of a process. Each file keeps
//! an undo record of every write and truncation since it was last synced; each directory keeps a record of every
//! create, rename and remove since *it* was last synced. [`MemoryDisk::crash`] is a power loss: it asks a callback
//! how much of each survives, so that the caller decides (from its seed) and the disk needs no randomness.
//!
//! A file whose name was not synced is lost with all its bytes, synced or not.

mod fault;
mod fingerprint;
mod undo;

pub use fault::{Fault, Operation};

use super::{Disk, Entry, OpenMode};
use fault::Faults;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use undo::FileContent;

type Id = u64;

const ROOT: Id = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    File(Id),
    Directory(Id),
}

#[derive(Clone, Debug, Hash)]
enum NameChange {
    Put(String, Node),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Debug, Default)]
struct Directory {
    names: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// What leads from `durable` to `names`, in order.
    changes: Vec<NameChange>,
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

fn apply(names: &mut BTreeMap<String, Node>, change: &NameChange) {
    match change {
        NameChange::Put(name, node) => {
            names.insert(name.clone(), *node);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Inode {
    path: PathBuf,
    content: FileContent,
    /// Shared with every open handle, so that a removed file is forgotten only after the last one.
    handles: Arc<()>,
}

/// An open file of the memory disk.
#[derive(Clone, Debug)]
pub struct MemoryFile {
    id: Id,
    boot: u64,
    _open: Arc<()>,
}

/// Names a file or directory to be synced.
#[derive(Clone, Debug)]
pub struct MemorySync {
    node: Node,
    boot: u64,
    _open: Option<Arc<()>>,
}

/// Something with changes that a power loss may take.
#[derive(Debug)]
pub enum Unsynced<'a> {
    /// A file's writes and truncations.
    File {
        /// Its path when it was last opened or renamed.
        path: &'a Path,
        /// Bytes of each write, in order; 0 for a truncation.
        operations: &'a [u64],
    },
    /// A directory's creates, renames and removes.
    Directory {
        /// Its path.
        path: &'a Path,
        /// How many there are.
        operations: usize,
    },
}

/// How much of un-synced changes a power loss leaves. They survive in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Nothing.
    Nothing,
    /// Everything, as if it had been written back just in time.
    Everything,
    /// The first `operations`, and of a write that comes next the first `bytes` (a torn write).
    Prefix {
        /// Whole operations.
        operations: usize,
        /// Bytes of the write after them; not for directories.
        bytes: u64,
    },
    /// All operations, but the bytes from `from` to `to` of the file were never written back and read as zero.
    /// Only for files; clipped to what was written since the last sync.
    Hole {
        /// First lost byte.
        from: u64,
        /// Past the last lost byte.
        to: u64,
    },
}

/// The memory disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    files: BTreeMap<Id, Inode>,
    directories: BTreeMap<Id, Directory>,
    next_id: Id,
    /// Counts power losses; handles of an earlier life are refused.
    boot: u64,
    bytes_stored: u64,
    faults: Faults,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDisk {
    /// An empty disk, without bound.
    #[must_use]
    pub fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            directories: BTreeMap::from([(ROOT, Directory::default())]),
            next_id: ROOT + 1,
            boot: 1,
            bytes_stored: 0,
            faults: Faults::default(),
        }
    }

    /// Lets one kind of operation fail. See [`Fault`].
    pub fn inject(&mut self, fault: Fault) {
        self.faults.inject(fault);
    }

    /// Ends all injected faults and the bound on capacity.
    pub fn heal(&mut self) {
        self.faults = Faults::default();
    }

    /// From now on, writes that would make all files together larger than this fail with ENOSPC, after writing what
    /// fits.
    pub const fn set_capacity(&mut self, bytes: Option<u64>) {
        self.faults.capacity = bytes;
    }

    /// Bytes in all files.
    #[must_use]
    pub const fn bytes_stored(&self) -> u64 {
        self.bytes_stored
    }

    /// Flips the bits of `mask` in one stored byte, durable at once: bit rot.
    pub fn rot(&mut self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        let Node::File(id) = self.node(path)? else { return Err(io::ErrorKind::IsADirectory.into()) };
        let content = &mut self.files.get_mut(&id).expect("named files exist").content;
        content.rot(usize::try_from(position).map_err(io::Error::other)?, mask)
    }

    /// Whether a power loss now could take anything.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        self.files.values().any(|inode| !inode.content.is_synced())
            || self.directories.values().any(|directory| !directory.changes.is_empty())
    }

    /// A power loss. `survives` is asked once for each directory and each file with un-synced changes, in an order
    /// that depends only on the history of the disk. All open handles become invalid. Returns whether anything was
    /// lost. (The kill of a process, without power loss, needs no call: everything stays.)
    pub fn crash(&mut self, survives: &mut dyn FnMut(&Unsynced<'_>) -> Survives) -> bool {
        let mut lost = false;
        let paths = self.directory_paths();
        for (id, directory) in &mut self.directories {
            let operations = directory.changes.len();
            if operations > 0 {
                let path = paths.get(id).map_or(Path::new("(removed)"), PathBuf::as_path);
                let keep = match survives(&Unsynced::Directory { path, operations }) {
                    Survives::Nothing => 0,
                    Survives::Prefix { operations: whole, .. } => whole.min(operations),
                    Survives::Everything | Survives::Hole { .. } => operations,
                };
                lost |= keep < operations;
                for change in directory.changes.drain(..).take(keep) {
                    apply(&mut directory.durable, &change);
                }
            }
            directory.names.clone_from(&directory.durable);
        }
        for inode in self.files.values_mut() {
            let operations = inode.content.operations();
            // A file without un-synced changes loses nothing, but a sync of it may have failed, and that is over now.
            let survives = if operations.is_empty() {
                Survives::Everything
            } else {
                survives(&Unsynced::File { path: &inode.path, operations: &operations })
            };
            lost |= inode.content.crash(survives);
        }
        self.boot += 1;
        self.forget_unreachable();
        lost
    }

    /// The paths of all directories that have a name now.
    fn directory_paths(&self) -> BTreeMap<Id, PathBuf> {
        let mut paths = BTreeMap::from([(ROOT, PathBuf::from("/"))]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            for (name, node) in &self.directories[&id].names {
                if let Node::Directory(child) = node {
                    paths.insert(*child, paths[&id].join(name));
                    open.push(*child);
                }
            }
        }
        paths
    }

    /// Drops files and directories that neither a name, now or durable, nor an open handle leads to.
    fn forget_unreachable(&mut self) {
        let mut reached_files = BTreeSet::new();
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let directory = &self.directories[&id];
            let changed = directory.changes.iter().filter_map(|change| match change {
                NameChange::Put(_, node) => Some(node),
                NameChange::Remove(_) | NameChange::Rename(..) => None,
            });
            for node in directory.names.values().chain(directory.durable.values()).chain(changed) {
                match node {
                    Node::File(file) => {
                        reached_files.insert(*file);
                    }
                    Node::Directory(child) => {
                        if reached.insert(*child) {
                            open.push(*child);
                        }
                    }
                }
            }
        }
        self.directories.retain(|id, _| reached.contains(id));
        self.files.retain(|id, inode| reached_files.contains(id) || Arc::strong_count(&inode.handles) > 1);
        self.bytes_stored = self.files.values().map(|inode| inode.content.len() as u64).sum();
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Directory(ROOT);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Directory(id) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            node = *self.directories[&id].names.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn directory(&self, path: &Path) -> io::Result<Id> {
        match self.node(path)? {
            Node::Directory(id) => Ok(id),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory that holds the last name of `path`, and that name.
    fn parent(&self, path: &Path) -> io::Result<(Id, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("/")))?, name.to_owned()))
    }

    fn directory_mut(&mut self, id: Id) -> &mut Directory {
        self.directories.get_mut(&id).expect("named directories exist")
    }

    fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id - 1
    }

    fn inode(&mut self, file: &MemoryFile) -> io::Result<&mut Inode> {
        if file.boot != self.boot {
            return Err(io::Error::other("a file handle does not outlive a power loss"));
        }
        Ok(self.files.get_mut(&file.id).expect("an open file exists"))
    }

    fn check(&mut self, operation: Operation, file: &MemoryFile) -> io::Result<()> {
        let path = self.inode(file)?.path.clone();
        self.faults.check(operation, &path)
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type SyncHandle = MemorySync;

    fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut id = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            id = match self.directories[&id].names.get(name) {
                Some(Node::Directory(child)) => *child,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let child = self.new_id();
                    self.directories.insert(child, Directory::default());
                    self.directory_mut(id).change(NameChange::Put(name.to_owned(), Node::Directory(child)));
                    child
                }
            };
        }
        Ok(())
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<MemoryFile> {
        self.faults.check(Operation::Open, path)?;
        let id = match self.node(path) {
            Ok(Node::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(Node::File(id)) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == OpenMode::Create => {
                let (parent, name) = self.parent(path)?;
                let id = self.new_id();
                let inode = Inode { path: path.to_owned(), content: FileContent::default(), handles: Arc::default() };
                self.files.insert(id, inode);
                self.directory_mut(parent).change(NameChange::Put(name, Node::File(id)));
                id
            }
            Err(error) => return Err(error),
        };
        let inode = self.files.get_mut(&id).expect("named files exist");
        if mode == OpenMode::Create && inode.content.len() > 0 {
            self.bytes_stored -= inode.content.len() as u64;
            inode.content.truncate(0);
        }
        Ok(MemoryFile { id, boot: self.boot, _open: Arc::clone(&inode.handles) })
    }

    fn len(&mut self, file: &MemoryFile) -> io::Result<u64> {
        Ok(self.inode(file)?.content.len() as u64)
    }

    fn write_at(&mut self, file: &MemoryFile, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let path = self.inode(file)?.path.clone();
        let mut data = Vec::with_capacity(buffers.iter().map(|buffer| buffer.len()).sum());
        buffers.iter().for_each(|buffer| data.extend_from_slice(buffer));
        let position = usize::try_from(position).map_err(io::Error::other)?;
        let mut result = Ok(());
        if let Err((error, written)) = self.faults.check_write(&path, data.len()) {
            data.truncate(written);
            result = Err(error);
        }
        let len = self.inode(file)?.content.len();
        let room = self.faults.capacity.map(|capacity| capacity.saturating_sub(self.bytes_stored));
        let grows = (position + data.len()).saturating_sub(len);
        if let Some(room) = room.filter(|room| grows as u64 > *room) {
            data.truncate(data.len() - (grows - usize::try_from(room).expect("less than a usize")).min(data.len()));
            result = Err(io::ErrorKind::StorageFull.into());
        }
        let content = &mut self.inode(file)?.content;
        if !data.is_empty() {
            content.write(position, &data);
        }
        let grown = content.len() - len;
        self.bytes_stored += grown as u64;
        result
    }

    fn read_at(&mut self, file: &MemoryFile, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check(Operation::Read, file)?;
        let position = usize::try_from(position).map_err(io::Error::other)?;
        Ok(self.inode(file)?.content.read(position, buffer))
    }

    fn truncate(&mut self, file: &MemoryFile, len: u64) -> io::Result<()> {
        self.check(Operation::Truncate, file)?;
        let content = &mut self.inode(file)?.content;
        let before = content.len() as u64;
        if before != len {
            content.truncate(usize::try_from(len).map_err(io::Error::other)?);
            self.bytes_stored = self.bytes_stored - before + len;
        }
        Ok(())
    }

    fn reserve(&mut self, file: &MemoryFile, _position: u64, _bytes: u64) -> io::Result<()> {
        // Memory has no places to settle: there is nothing to do.
        self.check(Operation::Reserve, file)
    }

    fn sync_handle(&mut self, file: &MemoryFile) -> MemorySync {
        MemorySync { node: Node::File(file.id), boot: file.boot, _open: Some(Arc::clone(&file._open)) }
    }

    fn dir_sync_handle(&mut self, path: &Path) -> io::Result<MemorySync> {
        Ok(MemorySync { node: Node::Directory(self.directory(path)?), boot: self.boot, _open: None })
    }

    fn sync(&mut self, handle: &MemorySync) -> io::Result<()> {
        if handle.boot != self.boot {
            return Err(io::Error::other("a sync handle does not outlive a power loss"));
        }
        match handle.node {
            Node::File(id) => {
                let inode = self.files.get_mut(&id).expect("an open file exists");
                let result = self.faults.check(Operation::Sync, &inode.path);
                inode.content.sync(result.is_ok());
                result
            }
            Node::Directory(id) => {
                let path = self.directory_paths().remove(&id).unwrap_or_default();
                self.faults.check(Operation::SyncDir, &path)?;
                // A directory that was removed meanwhile has nothing left to sync.
                if let Some(directory) = self.directories.get_mut(&id) {
                    directory.changes.clear();
                    directory.durable.clone_from(&directory.names);
                    self.forget_unreachable();
                }
                Ok(())
            }
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.check(Operation::Rename, from)?;
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        if from_parent != to_parent {
            return Err(io::Error::other("renaming into another directory is not needed and not offered"));
        }
        if let Node::File(id) = self.node(from)? {
            self.files.get_mut(&id).expect("named files exist").path = to.to_owned();
        }
        self.directory_mut(from_parent).change(NameChange::Rename(from_name, to_name));
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.faults.check(Operation::Remove, path)?;
        match self.node(path)? {
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
            Node::File(_) => {
                let (parent, name) = self.parent(path)?;
                self.directory_mut(parent).change(NameChange::Remove(name));
                Ok(())
            }
        }
    }

    fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let _ = self.directory(path)?;
        for entry in self.list(path)? {
            let child = path.join(entry.name);
            if entry.is_directory { self.remove_dir_all(&child)? } else { self.remove(&child)? }
        }
        let (parent, name) = self.parent(path)?;
        self.directory_mut(parent).change(NameChange::Remove(name));
        Ok(())
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<Entry>> {
        let id = self.directory(path)?;
        let entry = |(name, node): (&String, &Node)| Entry {
            name: name.clone(),
            is_directory: matches!(node, Node::Directory(_)),
        };
        Ok(self.directories[&id].names.iter().map(entry).collect())
    }

    fn exists(&mut self, path: &Path) -> io::Result<bool> {
        match self.node(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn boot_id(&mut self) -> io::Result<Option<String>> {
        Ok(Some(format!("memory-boot-{}", self.boot)))
    }
}
