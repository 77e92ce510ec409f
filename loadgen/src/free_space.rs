//! Has the file system read its map of free space before a throughput is measured.
//!
//! ext4 keeps one bitmap for each 128 MiB of disk and reads it when it first takes room there: a small read in the queue
//! of a disk that is busy writing, 5 to 90 ms each time, and whoever appends waits for it. A machine that has booted has
//! read them all: mounting does that. One that was resumed from a snapshot has forgotten them, and then a cluster that
//! writes a gigabyte a second waits for eight of them each second. So all sides are measured with the map in memory.
//!
//! Asking for the map (`FS_IOC_GETFSMAP`) makes the file system read it; the answer is not looked at. No rights are
//! needed, and it takes a tenth of a second for 250 GB. Other file systems answer from memory or not at all, which
//! changes nothing.

use std::fs::File;
use std::io;
use std::path::Path;

/// Reads the map of the file system that holds `path`, if it has one and is asked on Linux.
///
/// # Errors
/// It has none, or cannot be opened.
#[cfg(target_os = "linux")]
pub fn load(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let mut question = linux::FsmapHead::everything();
    linux::get(&file, &mut question)
}

/// Nothing to do elsewhere.
///
/// # Errors
/// It cannot be opened.
#[cfg(not(target_os = "linux"))]
pub fn load(path: &Path) -> io::Result<()> {
    File::open(path).map(drop)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd as _;

    /// `struct fsmap` of `linux/fsmap.h`: a place on the disk, or the end of a range of them.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Fsmap {
        device: u32,
        flags: u32,
        physical: u64,
        owner: u64,
        offset: u64,
        length: u64,
        reserved: [u64; 3],
    }

    /// `struct fsmap_head`, without room for records behind it: then they are counted only.
    #[repr(C)]
    pub(super) struct FsmapHead {
        iflags: u32,
        oflags: u32,
        count: u32,
        entries: u32,
        reserved: [u64; 6],
        keys: [Fsmap; 2],
    }

    impl FsmapHead {
        pub(super) const fn everything() -> Self {
            let first = Fsmap { device: 0, flags: 0, physical: 0, owner: 0, offset: 0, length: 0, reserved: [0; 3] };
            let last = Fsmap {
                device: u32::MAX,
                flags: u32::MAX,
                physical: u64::MAX,
                owner: u64::MAX,
                offset: u64::MAX,
                ..first
            };
            Self { iflags: 0, oflags: 0, count: 0, entries: 0, reserved: [0; 6], keys: [first, last] }
        }
    }

    nix::ioctl_readwrite!(fs_ioc_getfsmap, b'X', 59, FsmapHead);

    #[allow(unsafe_code, reason = "no crate that is in use here has this call")]
    pub(super) fn get(file: &File, question: &mut FsmapHead) -> io::Result<()> {
        // SAFETY: the descriptor is open, and the structure is the kernel's, laid out as in `linux/fsmap.h`, exclusively
        // borrowed, and says that there is no room for records behind it.
        unsafe { fs_ioc_getfsmap(file.as_raw_fd(), question) }?;
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use super::{Fsmap, FsmapHead};

        #[test]
        fn free_space_question_has_the_size_that_its_number_says() {
            assert_eq!((size_of::<Fsmap>(), size_of::<FsmapHead>()), (64, 192));
        }
    }
}
