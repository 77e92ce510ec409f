//! Whole frames to and from message types: length prefix, header in the right version, body.
//!
//! Sizes are computed first, so a frame is one allocation. Decoded messages share the frame's buffer: the record
//! bytes in a [`kafka_protocol::messages::ProduceRequest`] are slices of what was read from the socket.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};

use crate::guard::{self, GuardError};
use crate::header;

/// Why a body cannot be decoded: the peer is wrong, and the connection must be closed.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The version is not one that the message type knows.
    #[error("version {version} is outside {min}..={max}")]
    Version {
        /// The version asked for.
        version: i16,
        /// The lowest known one.
        min: i16,
        /// The highest known one.
        max: i16,
    },
    /// The body claims more than it holds.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The body does not follow the schema.
    #[error("malformed body: {0}")]
    Malformed(String),
    /// The response has no readable header.
    #[error("response of {bytes} bytes ends inside its header")]
    Header {
        /// Size of the frame.
        bytes: usize,
    },
}

/// Why a message cannot be encoded: the caller is wrong.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A field is set that this version cannot carry, or a length overflows its prefix.
    #[error("message cannot be encoded in version {version}: {reason}")]
    Unencodable {
        /// The version asked for.
        version: i16,
        /// What the encoder says.
        reason: String,
    },
    /// The frame would exceed 2³¹−1 bytes.
    #[error("frame of {bytes} bytes is too large")]
    TooLarge {
        /// The size it would have.
        bytes: usize,
    },
}

/// Encodes a request as a frame, length prefix included.
///
/// # Errors
/// The request cannot be expressed in this version.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&StrBytes>,
    request: &R,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let header_version = R::header_version(version);
    let head_bytes = request_head_bytes(client_id, header_version, version)?;
    frame(request, version, head_bytes, |out| {
        header::put_request_head(out, R::KEY, version, correlation_id, client_id, header_version);
    })
}

/// Encodes a response as a frame, length prefix included.
///
/// # Errors
/// The response cannot be expressed in this version.
pub fn encode_response<M: Encodable + HeaderVersion>(
    correlation_id: i32,
    response: &M,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let header_version = M::header_version(version);
    frame(response, version, header::response_head_bytes(header_version), |out| {
        header::put_response_head(out, correlation_id, header_version);
    })
}

/// Decodes the body that [`header::take_request_head`] left.
///
/// # Errors
/// The body is not a request of this type and version.
pub fn decode_request<R: Request>(mut body: Bytes, version: i16) -> Result<R, DecodeError> {
    check_version::<R>(version)?;
    guard::check_request(R::KEY, version, &body)?;
    R::decode(&mut body, version).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// Decodes a response frame: its correlation id and its body.
///
/// # Errors
/// The frame is not a response to a request of this type and version.
pub fn decode_response<R: Request>(mut frame: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    let bytes = frame.len();
    let correlation_id = header::peek_correlation_id(&frame).ok_or(DecodeError::Header { bytes })?;
    let _ = frame.split_to(4);
    if R::Response::header_version(version) >= 1 {
        header::skip_tagged_fields(&mut frame).ok_or(DecodeError::Header { bytes })?;
    }
    Ok((correlation_id, decode_body::<R::Response>(frame, version)?))
}

/// Decodes a bare body, without guard against false array lengths: for bytes from a trusted peer.
///
/// # Errors
/// The body is not a message of this type and version.
pub fn decode_body<M: Message + Decodable>(mut body: Bytes, version: i16) -> Result<M, DecodeError> {
    check_version::<M>(version)?;
    M::decode(&mut body, version).map_err(|error| DecodeError::Malformed(error.to_string()))
}

fn check_version<M: Message>(version: i16) -> Result<(), DecodeError> {
    let (min, max) = (M::VERSIONS.min, M::VERSIONS.max);
    if (min..=max).contains(&version) { Ok(()) } else { Err(DecodeError::Version { version, min, max }) }
}

pub(crate) fn request_head_bytes(
    client_id: Option<&StrBytes>,
    header_version: i16,
    version: i16,
) -> Result<usize, EncodeError> {
    if client_id.is_some_and(|id| id.len() > i16::MAX as usize) {
        return Err(EncodeError::Unencodable { version, reason: "the client id is longer than 32767 bytes".into() });
    }
    Ok(header::request_head_bytes(client_id, header_version))
}

fn frame<M: Encodable>(
    message: &M,
    version: i16,
    head_bytes: usize,
    put_head: impl FnOnce(&mut BytesMut),
) -> Result<Bytes, EncodeError> {
    let unencodable = |reason: String| EncodeError::Unencodable { version, reason };
    let bytes = head_bytes + message.compute_size(version).map_err(|error| unencodable(error.to_string()))?;
    let length = i32::try_from(bytes).map_err(|_| EncodeError::TooLarge { bytes })?;
    let mut out = BytesMut::with_capacity(4 + bytes);
    out.put_i32(length);
    put_head(&mut out);
    message.encode(&mut out, version).map_err(|error| unencodable(error.to_string()))?;
    assert_eq!(out.len(), 4 + bytes, "a message must have the size that was computed for it");
    Ok(out.freeze())
}
