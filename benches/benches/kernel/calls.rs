//! One system call for each step.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use anyhow::{Result, ensure};
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use nix::sys::sendfile::sendfile;

use crate::chain::{FRAME_BYTES, Frames};

/// What a pipe holds at most without rights.
const PIPE_BYTES: i32 = 1 << 20;

pub(crate) fn lead(file: &File, followers: &mut [TcpStream], frames: &mut Frames) -> Result<()> {
    while let Some((position, frame)) = frames.next() {
        file.write_all_at(frame, position)?;
        for follower in &mut *followers {
            follower.write_all(frame)?;
        }
    }
    Ok(())
}

pub(crate) fn lead_with_sendfile(file: &File, followers: &mut [TcpStream], frames: &mut Frames) -> Result<()> {
    while let Some((position, frame)) = frames.next() {
        file.write_all_at(frame, position)?;
        for follower in &mut *followers {
            let mut from = i64::try_from(position)?;
            let end = from + FRAME_BYTES as i64;
            while from < end {
                let left = (end - from) as usize;
                let sent = sendfile(follower.as_fd(), file.as_fd(), Some(&mut from), left)?;
                ensure!(sent > 0, "the file is shorter than what was written to it");
            }
        }
    }
    Ok(())
}

pub(crate) fn follow(file: &File, leader: &mut TcpStream, frames: &mut Frames) -> Result<()> {
    while let Some((position, frame)) = frames.next() {
        leader.read_exact(frame)?;
        file.write_all_at(frame, position)?;
    }
    Ok(())
}

/// Unread: a follower that checks what it appends would still have to look at every byte.
pub(crate) fn follow_with_splice(file: &File, leader: &mut TcpStream, frames: &mut Frames) -> Result<()> {
    let (out, into) = nix::unistd::pipe()?;
    fcntl(&into, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))?;
    while let Some((position, frame)) = frames.next() {
        let mut at = i64::try_from(position)?;
        let end = at + frame.len() as i64;
        while at < end {
            let mut held = splice(&*leader, None, &into, None, (end - at) as usize, SpliceFFlags::SPLICE_F_MOVE)?;
            ensure!(held > 0, "the leader ended early");
            while held > 0 {
                held -= splice(&out, None, file, Some(&mut at), held, SpliceFFlags::SPLICE_F_MOVE)?;
            }
        }
    }
    Ok(())
}
