//! Kafka's wire format: bytes in, types out, no I/O.
//!
//! * [`frame`]: cuts a byte stream into length-prefixed frames, the size cap checked before anything is allocated.
//! * [`header`]: request headers, readable even when key or version are unknown, so that a refusal can be addressed.
//! * [`isr_report`]: what a leader tells about its in-sync replicas, a tagged field of Metadata.
//! * [`message`]: whole frames to and from the message types of the `kafka-protocol` crate (re-exported here), so
//!   that nothing above needs to know which versions are flexible.
//! * [`guard`]: refuses array lengths that the bytes at hand cannot hold, before the generated decoders believe them.
//! * [`scatter`]: frames whose record bytes are shared, not copied: Produce requests and Fetch responses.
//! * [`batch`]: record batch v2: a borrowed view of the header, the checks of Produce, stamping in place, iteration,
//!   a builder and a record reader.
//! * [`checksum`]: CRC-32C, of batches and of whatever else is kept on disk.
//! * [`error_code`]: Kafka's numeric error codes, and what each says about a write.
//! * [`varint`]: the variable-length integers inside batches.
//!
//! Invariants: no input makes any function here panic; nothing is allocated in proportion to a length that a peer
//! merely claims; record bytes are neither re-encoded nor copied on the way in (decoded messages share the frame's
//! buffer), and copied at most once on the way out.

pub mod batch;
pub mod checksum;
pub mod error_code;
pub mod frame;
pub mod guard;
pub mod header;
pub mod isr_report;
pub mod message;
pub mod scatter;
pub mod varint;

pub use error_code::ErrorCode;
pub use frame::{FrameError, FrameSplitter};
pub use header::{HeaderError, RequestHead};
pub use kafka_protocol::indexmap;
pub use kafka_protocol::messages;
pub use kafka_protocol::messages::ApiKey;
pub use kafka_protocol::protocol;
pub use kafka_protocol::protocol::StrBytes;
pub use message::{DecodeError, EncodeError};
pub use scatter::Chunks;
