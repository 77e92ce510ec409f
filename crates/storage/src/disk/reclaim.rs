//! Gives back, on a thread of its own, what large removed files held.
//!
//! Removing a name is quick. What the file held, its pages in memory and its place on the disk, the kernel gives back
//! when the last handle is closed, which takes 50 ms and more for each GiB; every partition of the broker would stand
//! still meanwhile. So the last handle of a large file without a name is closed here. A process that is
//! killed in between loses nothing: the kernel closes its handles.

use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

/// Files that hold less than this are closed where they are: it takes less than a millisecond.
pub(super) const LARGE_BYTES: u64 = 4 << 20;
/// Files that may wait. Whoever removes more than the thread keeps up with does the work himself, so that neither
/// handles nor room on the disk run out in secret.
const WAITING_MAX: usize = 64;

/// An open file whose last handle is closed in the background where that takes long.
#[derive(Debug)]
pub(super) struct Held(Option<File>);

impl Held {
    pub(super) const fn new(file: File) -> Self {
        Self(Some(file))
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        let is_large_and_nameless = file.metadata().is_ok_and(|it| it.nlink() == 0 && bytes_held(&it) >= LARGE_BYTES);
        if is_large_and_nameless {
            close_later(file);
        }
    }
}

/// What a file takes on the disk, reserved room included.
pub(super) fn bytes_held(metadata: &std::fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

fn close_later(file: File) {
    static WAITING: OnceLock<Option<SyncSender<File>>> = OnceLock::new();
    let waiting = WAITING.get_or_init(|| {
        let (waiting, files) = mpsc::sync_channel(WAITING_MAX);
        let closing = move || files.into_iter().for_each(drop::<File>);
        thread::Builder::new().name("reclaim".to_owned()).spawn(closing).ok().map(|_| waiting)
    });
    // What comes back is closed here.
    if let Some(Err(TrySendError::Full(file) | TrySendError::Disconnected(file))) =
        waiting.as_ref().map(|waiting| waiting.try_send(file))
    {
        drop(file);
    }
}
