//! What one run of the ceiling is asked to do. The same flags are handed on to the processes it starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// QUIC with TLS 1.3, one connection per hop, one bidirectional stream per `--streams`.
    Quic,
    /// Plaintext TCP, one connection per `--streams`.
    Tcp,
    /// TCP with TLS 1.3, one connection per `--streams`.
    TcpTls,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As many frames as the window allows, for `--duration`.
    Throughput,
    /// One frame at a time on one stream: the round trip through all hops.
    PingPong,
    /// The node sends from memory and the producer only takes: what a consumer could read at most.
    Receive,
}

/// The tokio runtime of every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// One thread, as minisr's data thread.
    #[value(name = "current_thread", alias = "current-thread")]
    CurrentThread,
    /// One worker for each core.
    #[value(name = "multi_thread", alias = "multi-thread")]
    MultiThread,
}

/// The crypto provider of TLS. One so far; it is a flag so that results name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crypto {
    /// `ring`.
    Ring,
}

/// Congestion control, of quinn or of the kernel's TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// CUBIC.
    Cubic,
    /// BBR.
    Bbr,
    /// New Reno.
    Reno,
    /// Whatever the system has as its default (TCP only).
    System,
}

/// One run.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What carries the bytes
    #[arg(long, value_enum, default_value = "quic")]
    pub transport: Transport,
    /// What is measured
    #[arg(long, value_enum, default_value = "throughput")]
    pub mode: Mode,
    /// Copies of every byte: the leader and `n - 1` followers
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub replication_factor: u32,
    /// Bytes of one frame [default: 65536, in ping-pong 1024]
    #[arg(long, value_name = "BYTES")]
    pub batch_bytes: Option<usize>,
    /// Frames in flight over all streams [default: 64, in ping-pong 1]
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Streams (QUIC) or connections (TCP) [default: 8, in ping-pong 1]
    #[arg(long, value_name = "N")]
    pub streams: Option<usize>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Seconds before them that are not
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    pub warmup: f64,
    /// Frames per second on each stream, at most: how long a frame takes when processes sleep in between [default: no limit]
    #[arg(long, value_name = "FRAMES_PER_SECOND")]
    pub rate: Option<f64>,
    /// tokio runtime of every process
    #[arg(long, value_enum, default_value = "current_thread")]
    pub runtime: Runtime,
    /// Crypto provider
    #[arg(long, value_enum, default_value = "ring")]
    pub crypto: Crypto,
    /// Congestion control
    #[arg(long, value_enum, default_value = "cubic")]
    pub congestion: Congestion,
    /// Size at which each process empties its file and begins again
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    pub file_mib: u64,
    /// Where those files stand while the run lasts [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// A combination that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl Options {
    /// Bytes of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.batch_bytes.unwrap_or(match self.mode {
            Mode::Throughput | Mode::Receive => 64 * 1024,
            Mode::PingPong => 1024,
        })
    }

    /// Frames in flight over all streams.
    pub fn frames_in_flight(&self) -> usize {
        self.in_flight.unwrap_or(match self.mode {
            Mode::Throughput | Mode::Receive => 64,
            Mode::PingPong => 1,
        })
    }

    /// Streams, never more than there are frames in flight.
    pub fn stream_count(&self) -> usize {
        let streams = self.streams.unwrap_or(match self.mode {
            Mode::Throughput | Mode::Receive => 8,
            Mode::PingPong => 1,
        });
        streams.min(self.frames_in_flight())
    }

    /// Frames in flight on one stream; the first streams take what does not divide.
    pub fn window_of(&self, stream: usize) -> usize {
        let (frames, streams) = (self.frames_in_flight(), self.stream_count());
        frames / streams + usize::from(stream < frames % streams)
    }

    /// Longest time the whole run may take, start-up included.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs_f64(self.duration + self.warmup + 15.0)
    }

    /// Refuses what cannot be run, with the sentence the user reads.
    pub fn check(&self) -> Result<(), OptionsError> {
        let refuse = |sentence: &str| Err(OptionsError(sentence.to_owned()));
        if !(1..=3).contains(&self.replication_factor) {
            return refuse(
                "--replication-factor must be 1, 2 or 3: the ceiling has one leader and at most two followers",
            );
        }
        if self.mode == Mode::Receive && self.replication_factor != 1 {
            return refuse("--mode receive has one hop: --replication-factor must be 1");
        }
        if !(16..=16 * 1024 * 1024).contains(&self.frame_bytes()) {
            return refuse("--batch-bytes must be between 16 and 16777216");
        }
        if !(1..=4096).contains(&self.frames_in_flight()) {
            return refuse("--in-flight must be between 1 and 4096");
        }
        if !(1..=512).contains(&self.streams.unwrap_or(1)) {
            return refuse("--streams must be between 1 and 512");
        }
        if !(self.duration > 0.0 && self.duration <= 600.0 && self.warmup >= 0.0 && self.warmup <= 60.0) {
            return refuse("--duration must be above 0 and at most 600 seconds, --warmup at most 60");
        }
        if self.rate.is_some_and(|rate| !(1.0..=100_000.0).contains(&rate)) {
            return refuse("--rate must be between 1 and 100000 frames per second");
        }
        if self.file_mib * 1024 * 1024 < self.frame_bytes() as u64 || self.file_mib > 16 * 1024 {
            return refuse("--file-mib must hold at least one frame and be at most 16384");
        }
        if self.transport == Transport::Quic && self.congestion == Congestion::System {
            return refuse("--congestion system is for TCP: quinn has cubic, bbr and reno");
        }
        Ok(())
    }

    /// The flags that give a child process the same settings.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        fn name<T: ValueEnum>(value: T) -> String {
            value.to_possible_value().expect("no value is skipped").get_name().to_owned()
        }
        let pairs = [
            ("--transport", name(self.transport)),
            ("--mode", name(self.mode)),
            ("--replication-factor", self.replication_factor.to_string()),
            ("--batch-bytes", self.frame_bytes().to_string()),
            ("--in-flight", self.frames_in_flight().to_string()),
            ("--streams", self.stream_count().to_string()),
            ("--duration", self.duration.to_string()),
            ("--warmup", self.warmup.to_string()),
            ("--runtime", name(self.runtime)),
            ("--crypto", name(self.crypto)),
            ("--congestion", name(self.congestion)),
            ("--file-mib", self.file_mib.to_string()),
        ];
        pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}
