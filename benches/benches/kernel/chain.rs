//! The chain of one leader and two followers, and what a run of it took.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use minisr_storage::disk::OpenMode;
use minisr_storage::{Disk as _, RealDisk};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::{calls, ring};

/// Bytes of a frame: a full batch of the table in docs/PERFORMANCE.md.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
/// Frames that each thread keeps, one after the other in use: a broker's tails are no less, and no cache holds them.
const FRAMES_KEPT: usize = 256;
/// Bytes of each of the three files.
const FILE_BYTES: u64 = 1 << 30;
const FOLLOWERS: usize = 2;
const REPEATS: usize = 5;

/// How a leader passes a frame on.
type Lead = fn(&File, &mut [TcpStream], &mut Frames) -> Result<()>;
/// How a follower takes it.
type Follow = fn(&File, &mut TcpStream, &mut Frames) -> Result<()>;

/// What is compared.
const WAYS: [(&str, Lead, Follow); 5] = [
    ("pwrite, send; recv, pwrite (the brokers' way)", calls::lead, calls::follow),
    ("pwrite, sendfile; recv, pwrite", calls::lead_with_sendfile, calls::follow),
    ("pwrite, sendfile; splice into the file", calls::lead_with_sendfile, calls::follow_with_splice),
    ("io_uring, one submission for each frame", ring::lead, ring::follow),
    ("io_uring, sending without a copy", ring::lead_zero_copy, ring::follow),
];

/// The positions of a file, frame by frame, each with memory to use for it.
pub(crate) struct Frames {
    memory: Vec<u8>,
    next: u64,
}

impl Frames {
    fn new() -> Self {
        Self { memory: vec![7; FRAME_BYTES * FRAMES_KEPT], next: 0 }
    }

    /// Where the next frame lies in the file, and its memory.
    pub(crate) fn next(&mut self) -> Option<(u64, &mut [u8])> {
        let position = self.next * FRAME_BYTES as u64;
        let at = (self.next as usize % FRAMES_KEPT) * FRAME_BYTES;
        self.next += 1;
        (position < FILE_BYTES).then(|| (position, &mut self.memory[at..at + FRAME_BYTES]))
    }
}

/// What a run took.
struct Taken {
    mb_s: f64,
    cpu_s_gb: f64,
}

pub(crate) fn compare() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut taken: Vec<Vec<Taken>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..REPEATS {
        for ((name, lead, follow), taken) in WAYS.iter().zip(&mut taken) {
            taken.push(run(directory.path(), *lead, *follow).with_context(|| (*name).to_owned())?);
        }
    }
    println!("{:<48} {:>24} {:>24}", "", "MB/s", "CPU s per GB");
    for ((name, ..), taken) in WAYS.iter().zip(&taken) {
        let mb_s = spread(taken.iter().map(|it| it.mb_s), 0);
        let cpu_s_gb = spread(taken.iter().map(|it| it.cpu_s_gb), 2);
        println!("{name:<48} {mb_s:>24} {cpu_s_gb:>24}");
    }
    Ok(())
}

fn run(directory: &Path, lead: Lead, follow: Follow) -> Result<Taken> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (began, cpu_before) = (Instant::now(), cpu_s()?);
    thread::scope(|scope| -> Result<()> {
        let followers: Vec<_> = (0..FOLLOWERS)
            .map(|number| {
                scope.spawn(move || -> Result<()> {
                    let mut leader = TcpStream::connect(address)?;
                    let file = file(&directory.join(format!("follower-{number}")))?;
                    follow(&file, &mut leader, &mut Frames::new())?;
                    Ok(leader.write_all(b".")?)
                })
            })
            .collect();
        let mut sockets = Vec::new();
        for _ in 0..FOLLOWERS {
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        lead(&file(&directory.join("leader"))?, &mut sockets, &mut Frames::new())?;
        // All have what the leader has.
        for socket in &mut sockets {
            socket.read_exact(&mut [0])?;
        }
        for follower in followers {
            follower.join().expect("no follower panics")?;
        }
        Ok(())
    })?;
    let (elapsed_s, cpu) = (began.elapsed().as_secs_f64(), cpu_s()? - cpu_before);
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        ensure!(path.metadata()?.len() == FILE_BYTES, "{} is not whole", path.display());
        std::fs::remove_file(path)?;
    }
    Ok(Taken { mb_s: FILE_BYTES as f64 / 1e6 / elapsed_s, cpu_s_gb: cpu / (FILE_BYTES as f64 / 1e9) })
}

/// A new file with its room reserved, as a growing segment has it.
fn file(path: &Path) -> Result<File> {
    let reserved = RealDisk.open(path, OpenMode::Create)?;
    // Not every file system can.
    let _ = RealDisk.reserve(&reserved, 0, FILE_BYTES);
    Ok(File::options().read(true).write(true).open(path)?)
}

/// CPU that this process has used, the kernel's workers for it included.
fn cpu_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

fn spread(values: impl Iterator<Item = f64>, decimals: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (first, middle, last) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{middle:.decimals$} [{first:.decimals$} – {last:.decimals$}]")
}
