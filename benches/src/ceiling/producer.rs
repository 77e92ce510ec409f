//! The producer: keeps the window of every stream full and times each frame.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use super::link::{Connector, Receiver, Sender};
use super::node::{ACK_BYTES, sample_frame};
use super::options::{Mode, Options};

/// Length of the intervals whose throughput shows the spread within a run.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// What arrived inside the measured time.
pub(crate) struct Measured {
    pub(crate) acked_frames: u64,
    pub(crate) latency_us: Histogram<u64>,
    pub(crate) frames_by_interval: Vec<u64>,
}

struct Tally {
    begin: Instant,
    end: Instant,
    measured: Measured,
}

impl Tally {
    fn record(&mut self, sent: Instant, acked: Instant) {
        if acked < self.begin || acked >= self.end {
            return;
        }
        self.measured.acked_frames += 1;
        let latency_us = u64::try_from((acked - sent).as_micros()).unwrap_or(u64::MAX);
        self.measured.latency_us.saturating_record(latency_us);
        let interval = (acked - self.begin).as_micros() / INTERVAL.as_micros();
        if let Some(frames) = self.measured.frames_by_interval.get_mut(interval as usize) {
            *frames += 1;
        }
    }
}

/// Drives the node at `port`. `mark` is called when the measured time begins and when it ends.
pub(crate) async fn produce(
    options: &Options,
    directory: &Path,
    port: u16,
    mut mark: impl FnMut(),
) -> Result<Measured> {
    let connector = Connector::connect(options, directory, port).await?;
    let intervals = (options.duration / INTERVAL.as_secs_f64()).floor() as usize;
    let begin = Instant::now() + Duration::from_secs_f64(options.warmup);
    let end = begin + Duration::from_secs_f64(options.duration);
    let tally = Arc::new(Mutex::new(Tally {
        begin,
        end,
        measured: Measured {
            acked_frames: 0,
            latency_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            frames_by_interval: vec![0; intervals],
        },
    }));
    let frame = sample_frame(options.frame_bytes());

    let mut streams = tokio::task::JoinSet::new();
    for stream in 0..options.stream_count() {
        let (sender, receiver) = connector.open().await?;
        if options.mode == Mode::Receive {
            streams.spawn(take_frames(options.frame_bytes(), end, sender, receiver, tally.clone()));
            continue;
        }
        let pace = Pace { interval: options.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)), end };
        streams.spawn(drive_stream(options.window_of(stream), frame.clone(), pace, sender, receiver, tally.clone()));
    }
    tokio::time::sleep_until(begin.into()).await;
    mark();
    tokio::time::sleep_until(end.into()).await;
    mark();
    let drained = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(outcome) = streams.join_next().await {
            outcome.context("a stream's task failed")??;
        }
        anyhow::Ok(())
    });
    drained.await.context("frames in flight were not acknowledged within 5 seconds after the end")??;
    let tally = Arc::into_inner(tally).context("a stream outlived the run")?.into_inner().expect("no task panicked");
    if tally.measured.acked_frames == 0 {
        bail!("no frame was acknowledged within the measured time");
    }
    Ok(tally.measured)
}

/// How fast and how long.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two frames of a stream, at least. The runtime's timer rounds it up to milliseconds.
    interval: Option<Duration>,
    end: Instant,
}

async fn drive_stream(
    window: usize,
    frame: Bytes,
    pace: Pace,
    mut sender: Sender,
    receiver: Receiver,
    tally: Arc<Mutex<Tally>>,
) -> Result<()> {
    let slots = Arc::new(Semaphore::new(window));
    let sent = Arc::new(Mutex::new(VecDeque::with_capacity(window)));
    let acks = tokio::spawn(take_acks(receiver, slots.clone(), sent.clone(), tally));
    let mut next = Instant::now();
    while Instant::now() < pace.end {
        // The end of the run is noticed after an acknowledgement; the drain bounds the wait for it.
        slots.acquire().await?.forget();
        if let Some(interval) = pace.interval {
            tokio::time::sleep_until(next.into()).await;
            next = Instant::now() + interval;
        }
        sent.lock().expect("no task panicked").push_back(Instant::now());
        sender.send(frame.clone()).await?;
    }
    sender.finish().await?;
    acks.await?
}

/// Asks the node to send and takes what comes. A frame's time is counted from the frame before it.
async fn take_frames(
    frame_bytes: usize,
    end: Instant,
    mut sender: Sender,
    mut receiver: Receiver,
    tally: Arc<Mutex<Tally>>,
) -> Result<()> {
    sender.send(Bytes::from_static(&[0; ACK_BYTES])).await?;
    let mut before = Instant::now();
    while before < end {
        receiver.frame(frame_bytes).await?.context("the node stopped sending")?;
        let now = Instant::now();
        tally.lock().expect("no task panicked").record(before, now);
        before = now;
    }
    Ok(())
}

async fn take_acks(
    mut receiver: Receiver,
    slots: Arc<Semaphore>,
    sent: Arc<Mutex<VecDeque<Instant>>>,
    tally: Arc<Mutex<Tally>>,
) -> Result<()> {
    let mut pending = BytesMut::new();
    loop {
        let arrived = receiver.count_messages(ACK_BYTES, &mut pending).await?;
        if arrived == 0 {
            return Ok(());
        }
        let now = Instant::now();
        {
            let mut sent = sent.lock().expect("no task panicked");
            let mut tally = tally.lock().expect("no task panicked");
            for _ in 0..arrived {
                let sent_at = sent.pop_front().context("an acknowledgement came for a frame that was not sent")?;
                tally.record(sent_at, now);
            }
        }
        slots.add_permits(arrived);
    }
}
