//! A memory disk's fingerprint for a model checker: names and bytes, without inode numbers.

use std::hash::{Hash, Hasher};

use super::{Directory, MemoryDisk, NameChange, Node, ROOT};

impl MemoryDisk {
    /// Feeds what decides this disk's future into `state`: what its files hold, and, when `power_may_fail`, also
    /// what a power loss would leave of them. Injected faults and the capacity are not part of it.
    pub fn fingerprint(&self, power_may_fail: bool, state: &mut impl Hasher) {
        self.boot.hash(state);
        self.hash_directory(&self.directories[&ROOT], power_may_fail, state);
    }

    fn hash_directory(&self, directory: &Directory, power_may_fail: bool, state: &mut impl Hasher) {
        directory.names.len().hash(state);
        for (name, node) in &directory.names {
            name.hash(state);
            self.hash_node(node, power_may_fail, state);
        }
        if !power_may_fail {
            return;
        }
        directory.durable.len().hash(state);
        for (name, node) in &directory.durable {
            name.hash(state);
            let is_named_so = directory.names.get(name) == Some(node);
            is_named_so.hash(state);
            if !is_named_so {
                self.hash_node(node, power_may_fail, state);
            }
        }
        directory.changes.len().hash(state);
        for change in &directory.changes {
            match change {
                NameChange::Put(name, node) => {
                    (0, name).hash(state);
                    self.hash_node(node, power_may_fail, state);
                }
                NameChange::Remove(name) => (1, name).hash(state),
                NameChange::Rename(from, to) => (2, from, to).hash(state),
            }
        }
    }

    fn hash_node(&self, node: &Node, power_may_fail: bool, state: &mut impl Hasher) {
        match node {
            Node::File(id) => {
                let content = self.files.get(id).map(|inode| &inode.content);
                match content {
                    Some(content) if power_may_fail => content.hash(state),
                    Some(content) => content.hash_bytes(state),
                    None => {}
                }
            }
            Node::Directory(id) => {
                if let Some(directory) = self.directories.get(id) {
                    self.hash_directory(directory, power_may_fail, state);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, OpenMode};

    fn print(disk: &MemoryDisk, power_may_fail: bool) -> u64 {
        let mut state = DefaultHasher::new();
        disk.fingerprint(power_may_fail, &mut state);
        state.finish()
    }

    fn with(name: &str, content: &[u8], first: &[&str]) -> MemoryDisk {
        let mut disk = MemoryDisk::new();
        disk.create_dir_all(Path::new("/d")).expect("a directory");
        for other in first {
            let path = Path::new("/d").join(other);
            drop(disk.open(&path, OpenMode::Create).expect("a file"));
            disk.remove(&path).expect("removed");
        }
        let file = disk.open(&Path::new("/d").join(name), OpenMode::Create).expect("a file");
        disk.write_at(&file, 0, &[IoSlice::new(content)]).expect("written");
        disk
    }

    #[test]
    fn fingerprint_is_of_names_and_bytes_not_of_inode_numbers() {
        let disk = with("a", b"x", &[]);
        assert_eq!(print(&disk, false), print(&with("a", b"x", &["b", "c"]), false));
        assert_ne!(print(&disk, false), print(&with("b", b"x", &[]), false));
        assert_ne!(print(&disk, false), print(&with("a", b"y", &[]), false));
    }

    #[test]
    fn fingerprint_knows_what_a_power_loss_would_take() {
        let disk = with("a", b"x", &[]);
        let mut synced = disk.clone();
        let file = synced.open(Path::new("/d/a"), OpenMode::Write).expect("there");
        synced.sync_file(&file).expect("synced");
        assert_eq!(print(&disk, false), print(&synced, false));
        assert_ne!(print(&disk, true), print(&synced, true));
    }
}
