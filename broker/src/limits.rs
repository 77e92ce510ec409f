//! Bounds that are no settings, each with its reason, and compile-time checks between them.
//!
//! A bound here protects the broker from one peer; what an operator may want to change is in [`crate::config`].

use std::time::Duration;

/// Requests of one connection that are admitted but not answered. More stay unread, so the peer feels it as
/// backpressure. Twice the deepest pipeline that the load generator and the ceiling program use.
pub const REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX: usize = 256;

/// Memory that the replies of one connection may take before they are written; beyond it no further request is read.
/// A single reply may be larger, since a first batch is always returned whole.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// Request bytes that one connection handles before others get their turn: a follower's fetch should leave while the
/// next batches are still being read.
pub const TURN_BYTES_MAX: usize = 128 << 10;

/// How long a peer may take over one frame, from its first byte to its last, before the bytes it sent are taken to be
/// the start of something that never ends; and as long for taking what is written to it. A frame is given [`FRAME_TIME_PER_MIB`] more for each MiB it claims.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// See [`FRAME_TIME_MAX`]: 1 MiB a second is the slowest link that large frames are accepted from.
pub const FRAME_TIME_PER_MIB: Duration = Duration::from_secs(1);

/// Memory taken for a frame on the word of its length prefix alone. Beyond it the buffer grows as bytes come.
pub const FRAME_BYTES_TRUSTED: usize = 1 << 20;

/// How much memory a decoded request without records may take for each of its bytes while it waits for its answer.
/// ([`minisr_wire::guard`] bounds the bytes.)
pub const DECODED_BYTES_PER_BYTE: usize = 40;

/// Replies that are ready together are written together, up to about this many bytes.
pub const WRITE_BYTES_MAX: usize = 1 << 20;

/// Replies smaller than this are copied into one buffer with their neighbours; larger ones are written as they are.
pub const COALESCE_BYTES_MAX: usize = 4 << 10;

/// How long answers may still leave a connection whose peer has sent its last request, and how long a stop waits for
/// the answers under way.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a new TLS or QUIC connection may take over its handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// The longest a fetch may wait for data, whatever it asks for.
pub const FETCH_WAIT_MS_MAX: u64 = 60_000;

/// The longest a produce request may wait for its acknowledgement, whatever it asks for.
pub const PRODUCE_TIMEOUT_MS_MAX: u64 = 600_000;

/// The longest an administrative request waits for the controller, whatever it asks for.
pub const ADMIN_TIMEOUT_MS_MAX: u64 = 60_000;

const _: () = assert!(COALESCE_BYTES_MAX < WRITE_BYTES_MAX);
const _: () = assert!(minisr_wire::frame::READ_AHEAD_BYTES < FRAME_BYTES_TRUSTED);
const _: () = assert!(DRAIN_TIME_MAX.as_millis() < FRAME_TIME_MAX.as_millis());
