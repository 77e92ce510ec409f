//! Frames in pieces: the small fields in fresh buffers, the record bytes shared with whoever owns them.
//!
//! A Produce request of 64 KiB batches or a Fetch response full of them is almost all record bytes; encoding it in
//! one buffer would copy every one. Here they become pieces of their own, to be written with vectored writes.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchResponse, ProduceRequest};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use crate::header;
use crate::message::{self, EncodeError};
use crate::varint;

/// Record bytes below this size are copied: a piece of their own would cost more than the copy.
pub const SHARE_BYTES_MIN: usize = 4096;

/// A frame in pieces, in order, its length prefix included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Chunks {
    /// The pieces, none of them empty.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The pieces, by value.
    #[must_use]
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    /// Total size.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All pieces in one buffer: a copy, for tests and for transports that need it.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.pieces[..] {
            [only] => only.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        let length = bytes.len();
        Self { pieces: vec![bytes], bytes: length }
    }
}

/// Collects pieces; small fields gather in `head` until shared bytes interrupt them.
struct Scatter {
    head: BytesMut,
    /// The first piece, still writable: the frame's length goes to its front at the end.
    first: Option<BytesMut>,
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Scatter {
    /// Starts a frame whose length is not known yet.
    fn new(capacity: usize) -> Self {
        let mut head = BytesMut::with_capacity(capacity);
        head.put_i32(0);
        Self { head, first: None, pieces: Vec::new(), bytes: 0 }
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.head.extend_from_slice(bytes);
            return;
        }
        self.push_head();
        self.bytes += bytes.len();
        self.pieces.push(bytes.clone());
    }

    fn push_head(&mut self) {
        if self.head.is_empty() {
            return;
        }
        let head = self.head.split();
        self.bytes += head.len();
        if self.first.is_none() {
            self.first = Some(head);
            self.pieces.push(Bytes::new());
        } else {
            self.pieces.push(head.freeze());
        }
    }

    /// Ends the frame: the length prefix is known now.
    fn finish(mut self) -> Result<Chunks, EncodeError> {
        self.push_head();
        let bytes = self.bytes - 4;
        let length = i32::try_from(bytes).map_err(|_| EncodeError::TooLarge { bytes })?;
        let mut first = self.first.expect("a frame starts with its length, which is never shared bytes");
        first[..4].copy_from_slice(&length.to_be_bytes());
        self.pieces[0] = first.freeze();
        Ok(Chunks { pieces: self.pieces, bytes: self.bytes })
    }

    fn length(&mut self, flexible: bool, length: usize) {
        put_length(&mut self.head, flexible, length);
    }
}

fn put_length(out: &mut BytesMut, flexible: bool, length: usize) {
    if flexible {
        varint::put_unsigned(out, length as u64 + 1);
    } else {
        out.put_i32(length as i32);
    }
}

fn put_string(out: &mut BytesMut, flexible: bool, text: Option<&str>) {
    match (text, flexible) {
        (None, true) => out.put_u8(0),
        (None, false) => out.put_i16(-1),
        (Some(text), true) => varint::put_unsigned(out, text.len() as u64 + 1),
        (Some(text), false) => out.put_i16(text.len() as i16),
    }
    if let Some(text) = text {
        out.put_slice(text.as_bytes());
    }
}

/// Encodes a Produce request whose record bytes are shared. Tagged fields are not written: Produce has none.
///
/// # Errors
/// The version is not one of 3 to 11, or a string is too long.
pub fn encode_produce_request(
    correlation_id: i32,
    client_id: Option<&StrBytes>,
    request: &ProduceRequest,
    version: i16,
) -> Result<Chunks, EncodeError> {
    if !(3..=11).contains(&version) {
        return Err(EncodeError::Unencodable { version, reason: "Produce is written in versions 3 to 11".into() });
    }
    let flexible = version >= 9;
    let header_version = ProduceRequest::header_version(version);
    let head_bytes = message::request_head_bytes(client_id, header_version, version)?;
    let mut out = Scatter::new(4 + head_bytes + 128);
    let key = ApiKey::Produce as i16;
    header::put_request_head(&mut out.head, key, version, correlation_id, client_id, header_version);
    put_string(&mut out.head, flexible, request.transactional_id.as_ref().map(|id| id.as_str()));
    out.head.put_i16(request.acks);
    out.head.put_i32(request.timeout_ms);
    out.length(flexible, request.topic_data.len());
    for topic in &request.topic_data {
        if topic.name.len() > i16::MAX as usize {
            return Err(EncodeError::Unencodable { version, reason: "a topic's name is too long".into() });
        }
        put_string(&mut out.head, flexible, Some(topic.name.as_str()));
        out.length(flexible, topic.partition_data.len());
        for partition in &topic.partition_data {
            out.head.put_i32(partition.index);
            match &partition.records {
                None if flexible => out.head.put_u8(0),
                None => out.head.put_i32(-1),
                Some(records) => {
                    out.length(flexible, records.len());
                    out.share(records);
                }
            }
            if flexible {
                out.head.put_u8(0);
            }
        }
        if flexible {
            out.head.put_u8(0);
        }
    }
    if flexible {
        out.head.put_u8(0);
    }
    out.finish()
}

/// Encodes a Fetch response whose record bytes are shared.
///
/// Every field but the records is written by the generated encoder, around them: a partition without its records is
/// encoded, cut where they belong, and the pieces laid on both sides.
///
/// # Errors
/// The response cannot be expressed in this version.
pub fn encode_fetch_response(
    correlation_id: i32,
    response: &FetchResponse,
    version: i16,
) -> Result<Chunks, EncodeError> {
    encode_fetch_response_with(correlation_id, response, version, |partition, _| partition.records.as_slice())
}

/// Encodes a Fetch response whose records lie in several pieces each, all of them shared: `records` is given each
/// partition and its position among all partitions of the response.
///
/// # Errors
/// The response cannot be expressed in this version.
pub fn encode_fetch_response_with<'a>(
    correlation_id: i32,
    response: &'a FetchResponse,
    version: i16,
    records: impl Fn(&'a PartitionData, usize) -> &'a [Bytes],
) -> Result<Chunks, EncodeError> {
    let flexible = version >= 12;
    let mut out = Scatter::new(256);
    header::put_response_head(&mut out.head, correlation_id, FetchResponse::header_version(version));

    let mut envelope = FetchResponse::default();
    envelope.throttle_time_ms = response.throttle_time_ms;
    envelope.error_code = response.error_code;
    envelope.session_id = response.session_id;
    envelope.node_endpoints.clone_from(&response.node_endpoints);
    envelope.unknown_tagged_fields.clone_from(&response.unknown_tagged_fields);
    let envelope = encoded(&envelope, version)?;
    let before_bytes = 4 + if version >= 7 { 6 } else { 0 };
    let after_bytes = before_bytes + if flexible { 1 } else { 4 };
    out.head.put_slice(&envelope[..before_bytes]);

    let mut position = 0;
    out.length(flexible, response.responses.len());
    for topic in &response.responses {
        if version <= 12 {
            put_string(&mut out.head, flexible, Some(topic.topic.as_str()));
        } else {
            out.head.put_slice(topic.topic_id.as_bytes());
        }
        out.length(flexible, topic.partitions.len());
        for partition in &topic.partitions {
            put_partition(&mut out, partition, records(partition, position), version, flexible)?;
            position += 1;
        }
        if flexible {
            out.head.put_u8(0);
        }
    }
    out.head.put_slice(&envelope[after_bytes..]);
    out.finish()
}

fn put_partition(
    out: &mut Scatter,
    partition: &PartitionData,
    records: &[Bytes],
    version: i16,
    flexible: bool,
) -> Result<(), EncodeError> {
    let records_bytes: usize = records.iter().map(Bytes::len).sum();
    if records_bytes == 0 {
        out.head.put_slice(&encoded(partition, version)?);
        return Ok(());
    }
    // Without records and tagged fields the partition ends with the length of its (empty) records and, in flexible
    // versions, the number of its tagged fields: that is where the records go.
    let mut bare = PartitionData::default();
    bare.partition_index = partition.partition_index;
    bare.error_code = partition.error_code;
    bare.high_watermark = partition.high_watermark;
    bare.last_stable_offset = partition.last_stable_offset;
    bare.log_start_offset = partition.log_start_offset;
    bare.aborted_transactions.clone_from(&partition.aborted_transactions);
    bare.preferred_read_replica = partition.preferred_read_replica;
    bare.records = Some(Bytes::new());
    let length_bytes = if flexible { 1 } else { 4 };
    let tags_bytes = usize::from(flexible);
    let before_bytes = encoded(&bare, version)?.len() - length_bytes - tags_bytes;
    bare.diverging_epoch.clone_from(&partition.diverging_epoch);
    bare.current_leader.clone_from(&partition.current_leader);
    bare.snapshot_id.clone_from(&partition.snapshot_id);
    bare.unknown_tagged_fields.clone_from(&partition.unknown_tagged_fields);
    let around = encoded(&bare, version)?;

    out.head.put_slice(&around[..before_bytes]);
    out.length(flexible, records_bytes);
    records.iter().for_each(|piece| out.share(piece));
    out.head.put_slice(&around[before_bytes + length_bytes..]);
    Ok(())
}

fn encoded<M: Encodable>(message: &M, version: i16) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::with_capacity(128);
    message
        .encode(&mut out, version)
        .map_err(|error| EncodeError::Unencodable { version, reason: error.to_string() })?;
    Ok(out)
}
