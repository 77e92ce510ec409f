//! Leader and follower are the same program: a node with or without nodes after it.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::link::{Acceptor, Connector, Receiver, Sender};
use super::log_file::LogFile;
use super::options::{Mode, Options};

/// Bytes of an acknowledgement.
pub(crate) const ACK_BYTES: usize = 16;

/// What a started process is told beside the options of the run.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// Ports of the nodes that get a copy of every frame
    #[arg(long = "follower", value_name = "PORT")]
    pub followers: Vec<u16>,
    /// Directory of certificate and file
    #[arg(long = "node-directory")]
    pub directory: PathBuf,
    /// Name of the file
    #[arg(long = "node-name")]
    pub name: String,
    /// Process that started this one and with which it ends
    #[arg(long)]
    pub parent: i32,
}

/// Runs one node until its peer has finished, and at most as long as the run may take.
pub async fn run_node(options: &Options, node: &NodeOptions) -> Result<()> {
    // Asked for here, not between fork and exec, so that no unsafe code is needed. The parent may be gone already.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().as_raw() != node.parent {
        bail!("the process that started this one is gone");
    }
    tokio::time::timeout(options.time_limit(), serve(options, node)).await.unwrap_or(Ok(()))
}

async fn serve(options: &Options, node: &NodeOptions) -> Result<()> {
    let log = LogFile::create(&node.directory.join(&node.name), options.file_mib << 20, options.frame_bytes())
        .context("the log file cannot be created")?;
    let log = Arc::new(log);
    let mut followers = Vec::new();
    for port in &node.followers {
        followers.push(Connector::connect(options, &node.directory, *port).await?);
    }
    let mut acceptor = Acceptor::bind(options, &node.directory).await?;
    println!("port {}", acceptor.port()?);
    std::io::stdout().flush()?;

    let frame_bytes = options.frame_bytes();
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..options.stream_count() {
        let (ack_sender, receiver) = acceptor.accept().await?;
        if options.mode == Mode::Receive {
            streams.spawn(send_without_end(frame_bytes, receiver, ack_sender));
            continue;
        }
        let mut copies = Vec::new();
        for follower in &followers {
            copies.push(follower.open().await?);
        }
        streams.spawn(serve_stream(frame_bytes, log.clone(), receiver, ack_sender, copies));
    }
    // A peer that goes away ends the run; it is no error of this node.
    while streams.join_next().await.is_some() {}
    Ok(())
}

/// Sends frames from memory, once it is asked, until the peer takes no more.
async fn send_without_end(frame_bytes: usize, mut receiver: Receiver, mut sender: Sender) -> Result<()> {
    if receiver.frame(ACK_BYTES).await?.is_none() {
        return Ok(());
    }
    let frame = sample_frame(frame_bytes);
    loop {
        sender.send(frame.clone()).await?;
    }
}

/// Bytes that do not compress and are not zero, since a page of zeros could be treated in a special way.
pub(crate) fn sample_frame(frame_bytes: usize) -> Bytes {
    (0..frame_bytes).map(|index| (index * 131 % 251) as u8).collect::<Vec<u8>>().into()
}

/// Writes each frame and hands it on; acknowledgements go back from a task of their own, so that frames pipeline.
async fn serve_stream(
    frame_bytes: usize,
    log: Arc<LogFile>,
    mut receiver: Receiver,
    ack_sender: Sender,
    copies: Vec<(Sender, Receiver)>,
) -> Result<()> {
    let (mut copy_senders, copy_receivers): (Vec<_>, Vec<_>) = copies.into_iter().unzip();
    if copy_receivers.is_empty() {
        let mut ack_sender = ack_sender;
        while let Some(frame) = receiver.frame(frame_bytes).await? {
            log.append(&frame)?;
            ack_sender.send(Bytes::from_static(&[0; ACK_BYTES])).await?;
        }
        return Ok(ack_sender.finish().await?);
    }
    // It ends when the followers have acknowledged everything and finished in their turn.
    let acks = tokio::spawn(return_acks(copy_receivers, ack_sender));
    while let Some(frame) = receiver.frame(frame_bytes).await? {
        // Followers first: the frame travels while this process writes it.
        for follower in &mut copy_senders {
            follower.send(frame.clone()).await?;
        }
        log.append(&frame)?;
    }
    for follower in &mut copy_senders {
        follower.finish().await?;
    }
    acks.await?
}

/// Acknowledges as many frames as every follower has acknowledged, together when several have arrived together.
async fn return_acks(mut followers: Vec<Receiver>, mut ack_sender: Sender) -> Result<()> {
    let mut counts = vec![0usize; followers.len()];
    let mut pending = vec![BytesMut::new(); followers.len()];
    let mut acknowledged = 0;
    loop {
        for index in 0..followers.len() {
            // The first follower leads; the others are waited for until they have reached it.
            while counts[index] <= acknowledged || (index > 0 && counts[index] < counts[0]) {
                let arrived = followers[index].count_messages(ACK_BYTES, &mut pending[index]).await?;
                if arrived == 0 {
                    return Ok(ack_sender.finish().await?);
                }
                counts[index] += arrived;
            }
        }
        let everywhere = *counts.iter().min().expect("there is at least one follower");
        ack_sender.send(Bytes::from(vec![0; (everywhere - acknowledged) * ACK_BYTES])).await?;
        acknowledged = everywhere;
    }
}
