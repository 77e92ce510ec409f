//! What a run says: the settings that make two results comparable, and the measurements.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::options::{Congestion, Crypto, Mode, Options, Runtime, Transport};
use super::producer::{INTERVAL, Measured};

/// Time from sending a frame to its acknowledgement.
#[derive(Debug, Clone, Serialize)]
pub struct LatencyReport {
    /// Frames measured.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile; absent with fewer than 100 samples beyond it.
    pub p999: Option<u64>,
    /// Largest.
    pub max: u64,
}

impl LatencyReport {
    fn of(histogram: &Histogram<u64>) -> LatencyReport {
        LatencyReport {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: (histogram.len() >= 100_000).then(|| histogram.value_at_quantile(0.999)),
            max: histogram.max(),
        }
    }
}

/// CPU time of each process within the measured time.
#[derive(Debug, Clone, Serialize)]
pub struct CpuReport {
    /// Producer.
    pub producer_s: f64,
    /// Leader.
    pub leader_s: f64,
    /// Followers together.
    pub followers_s: f64,
    /// All of them for each gigabyte (10⁹ bytes) of user data.
    pub total_s_per_gb: f64,
}

/// One run of the ceiling.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of these fields.
    pub schema_version: u32,
    /// What carried the bytes.
    pub transport: Transport,
    /// What was measured.
    pub mode: Mode,
    /// Copies of every byte.
    pub replication_factor: u32,
    /// Bytes of one frame.
    pub batch_bytes: usize,
    /// Frames in flight over all streams.
    pub in_flight: usize,
    /// Bytes in flight over all streams.
    pub bytes_in_flight: usize,
    /// Streams or connections.
    pub streams: usize,
    /// Frames per second on each stream, at most; absent without a limit.
    pub rate_frames_s: Option<f64>,
    /// Runtime of every process.
    pub runtime: Runtime,
    /// Crypto provider; absent without TLS.
    pub crypto: Option<Crypto>,
    /// Congestion control.
    pub congestion: Congestion,
    /// Size at which each process empties its file and begins again.
    pub file_mib: u64,
    /// Seconds measured.
    pub duration_s: f64,
    /// Seconds before them.
    pub warmup_s: f64,
    /// Frames acknowledged.
    pub acked_frames: u64,
    /// Megabytes (10⁶ bytes) of user data acknowledged per second.
    pub acked_mb_s: f64,
    /// The same in MiB (2²⁰ bytes).
    pub acked_mib_s: f64,
    /// Megabytes per second of each half second: the spread.
    pub interval_mb_s: Vec<f64>,
    /// Time from send to acknowledgement, microseconds.
    pub latency_us: LatencyReport,
    /// CPU time.
    pub cpu: CpuReport,
}

impl Report {
    pub(crate) fn new(options: &Options, measured: &Measured, cpu_s: &[f64]) -> Report {
        let frame_bytes = options.frame_bytes();
        let bytes = measured.acked_frames as f64 * frame_bytes as f64;
        let total_s: f64 = cpu_s.iter().sum();
        let per_interval = |frames: &u64| *frames as f64 * frame_bytes as f64 / INTERVAL.as_secs_f64() / 1e6;
        Report {
            schema_version: 1,
            transport: options.transport,
            mode: options.mode,
            replication_factor: options.replication_factor,
            batch_bytes: frame_bytes,
            in_flight: options.frames_in_flight(),
            bytes_in_flight: options.frames_in_flight() * frame_bytes,
            streams: options.stream_count(),
            rate_frames_s: options.rate,
            runtime: options.runtime,
            crypto: (options.transport != Transport::Tcp).then_some(options.crypto),
            congestion: options.congestion,
            file_mib: options.file_mib,
            duration_s: options.duration,
            warmup_s: options.warmup,
            acked_frames: measured.acked_frames,
            acked_mb_s: bytes / options.duration / 1e6,
            acked_mib_s: bytes / options.duration / f64::from(1 << 20),
            interval_mb_s: measured.frames_by_interval.iter().map(per_interval).collect(),
            latency_us: LatencyReport::of(&measured.latency_us),
            cpu: CpuReport {
                producer_s: cpu_s[0],
                leader_s: cpu_s[1],
                followers_s: cpu_s[2..].iter().fold(0.0, |sum, seconds| sum + seconds),
                total_s_per_gb: total_s / (bytes / 1e9),
            },
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lowest = self.interval_mb_s.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.interval_mb_s.iter().copied().fold(0.0, f64::max);
        writeln!(
            f,
            "{:?} {:?}, RF {}: {} B x {} in flight on {} streams, {:?}, {:?}",
            self.transport,
            self.mode,
            self.replication_factor,
            self.batch_bytes,
            self.in_flight,
            self.streams,
            self.runtime,
            self.congestion
        )?;
        writeln!(
            f,
            "  {:.0} MB/s (half seconds: {lowest:.0} to {highest:.0}), {:.1} cpu s/GB (producer {:.2} s, leader {:.2} s, followers {:.2} s)",
            self.acked_mb_s, self.cpu.total_s_per_gb, self.cpu.producer_s, self.cpu.leader_s, self.cpu.followers_s
        )?;
        let latency = &self.latency_us;
        write!(
            f,
            "  send to ack: p50 {} us, p90 {} us, p99 {} us, max {} us ({} frames)",
            latency.p50, latency.p90, latency.p99, latency.max, latency.count
        )
    }
}
