//! The same steps handed to the kernel together: io_uring, one submission for each frame.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};

use crate::chain::Frames;

const ENTRIES: u32 = 8;
/// `MSG_WAITALL`: neither a send nor a receive is done before all of it is.
const ALL_OF_IT: i32 = 0x100;

pub(crate) fn lead(file: &File, followers: &mut [TcpStream], frames: &mut Frames) -> Result<()> {
    lead_by(file, followers, frames, |follower, frame| {
        opcode::Send::new(follower, frame.as_ptr(), frame.len() as u32).flags(ALL_OF_IT).build()
    })
}

pub(crate) fn lead_zero_copy(file: &File, followers: &mut [TcpStream], frames: &mut Frames) -> Result<()> {
    lead_by(file, followers, frames, |follower, frame| {
        opcode::SendZc::new(follower, frame.as_ptr(), frame.len() as u32).flags(ALL_OF_IT).build()
    })
}

fn lead_by(
    file: &File,
    followers: &mut [TcpStream],
    frames: &mut Frames,
    send: fn(Fd, &[u8]) -> squeue::Entry,
) -> Result<()> {
    let mut ring = ring()?;
    while let Some((position, frame)) = frames.next() {
        let sends = followers.iter().map(|follower| send(Fd(follower.as_raw_fd()), frame));
        let steps: Vec<squeue::Entry> = std::iter::once(write(file, position, frame)).chain(sends).collect();
        submit(&mut ring, &steps, frame)?;
    }
    Ok(())
}

pub(crate) fn follow(file: &File, leader: &mut TcpStream, frames: &mut Frames) -> Result<()> {
    let mut ring = ring()?;
    while let Some((position, frame)) = frames.next() {
        let receive = opcode::Recv::new(Fd(leader.as_raw_fd()), frame.as_mut_ptr(), frame.len() as u32)
            .flags(ALL_OF_IT)
            .build()
            // The write begins when all has come.
            .flags(squeue::Flags::IO_LINK);
        submit(&mut ring, &[receive, write(file, position, frame)], frame)?;
    }
    Ok(())
}

fn write(file: &File, position: u64, frame: &[u8]) -> squeue::Entry {
    opcode::Write::new(Fd(file.as_raw_fd()), frame.as_ptr(), frame.len() as u32).offset(position).build()
}

fn ring() -> Result<IoUring> {
    IoUring::builder().setup_single_issuer().build(ENTRIES).context("this kernel, or its settings, allow no io_uring")
}

/// Hands `steps`, each of which moves the whole frame, to the kernel, and waits until it has done with them.
fn submit(ring: &mut IoUring, steps: &[squeue::Entry], frame: &mut [u8]) -> Result<()> {
    #[allow(unsafe_code, reason = "the kernel works with memory that is only named by its address")]
    // SAFETY: the steps name `frame`, which is exclusively borrowed until all of them have ended, below; and descriptors
    // that their callers hold.
    unsafe { ring.submission().push_multiple(steps) }.context("the queue is full")?;
    let (mut results, mut expected, mut short) = (0, steps.len(), None);
    while results < expected {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // The kernel may still be at work with the memory: nobody else may get it.
            Err(_) => std::process::abort(),
            Ok(_) => {}
        }
        for entry in ring.completion() {
            results += 1;
            // Sent without a copy: a second entry says when the memory is free again.
            if cqueue::more(entry.flags()) {
                expected += 1;
            }
            if !cqueue::notif(entry.flags()) && entry.result() != frame.len() as i32 {
                short.get_or_insert(entry.result());
            }
        }
    }
    ensure!(short.is_none(), "a step moved {short:?} of {} bytes", frame.len());
    Ok(())
}
