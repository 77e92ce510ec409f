//! Request and response headers.
//!
//! The fixed part of a request header (key, version, correlation id, client id) is the same in every version, so it
//! is read by hand: a request with an unknown key or version still tells whom to answer. Flexible versions append
//! tagged fields, which are skipped. The client id stays a plain nullable string even there.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::varint;

/// What every request says before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The API's number; see [`Self::api`].
    pub api_key: i16,
    /// Version of the request body, and of the response's.
    pub api_version: i16,
    /// Echoed in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

/// Why a frame has no readable request header. The connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame ends inside the header.
    #[error("request of {bytes} bytes ends inside its header")]
    Truncated {
        /// Size of the whole frame.
        bytes: usize,
    },
    /// The client id is not UTF-8 or has a negative length other than −1.
    #[error("client id in the header of a request (api key {api_key}, correlation id {correlation_id}) is malformed")]
    ClientId {
        /// The request's API key.
        api_key: i16,
        /// The request's correlation id.
        correlation_id: i32,
    },
    /// No API has this number.
    #[error("api key {api_key} (version {api_version}, correlation id {correlation_id}) is unknown")]
    UnknownApi {
        /// The number.
        api_key: i16,
        /// The version that was asked for.
        api_version: i16,
        /// The request's correlation id.
        correlation_id: i32,
    },
}

impl RequestHead {
    /// The API asked for, if its number is known.
    #[must_use]
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::try_from(self.api_key).ok()
    }
}

/// Takes the header off the front of a request frame, leaving the body. Versions that are not served are no error
/// here: the header of a higher version than any known is read like that of the highest known.
///
/// # Errors
/// The header cannot be read.
pub fn take_request_head(frame: &mut Bytes) -> Result<RequestHead, HeaderError> {
    let bytes = frame.len();
    let truncated = HeaderError::Truncated { bytes };
    if bytes < 10 {
        return Err(truncated);
    }
    let api_key = frame.get_i16();
    let api_version = frame.get_i16();
    let correlation_id = frame.get_i32();
    let client_id = match frame.get_i16() {
        -1 => None,
        length => {
            let malformed = HeaderError::ClientId { api_key, correlation_id };
            let length = usize::try_from(length).map_err(|_| malformed.clone())?;
            if length > frame.len() {
                return Err(truncated);
            }
            Some(StrBytes::from_utf8(frame.split_to(length)).map_err(|_| malformed)?)
        }
    };
    let Ok(api) = ApiKey::try_from(api_key) else {
        return Err(HeaderError::UnknownApi { api_key, api_version, correlation_id });
    };
    if api.request_header_version(api_version) >= 2 {
        skip_tagged_fields(frame).ok_or(truncated)?;
    }
    Ok(RequestHead { api_key, api_version, correlation_id, client_id })
}

/// Size of a request header with this client id.
pub(crate) fn request_head_bytes(client_id: Option<&StrBytes>, header_version: i16) -> usize {
    10 + client_id.map_or(0, |id| id.len()) + usize::from(header_version >= 2)
}

/// Appends a request header; a client id longer than 32,767 bytes is cut off by its length prefix, so it is refused
/// by the caller.
pub(crate) fn put_request_head(
    out: &mut BytesMut,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&StrBytes>,
    header_version: i16,
) {
    out.put_i16(api_key);
    out.put_i16(api_version);
    out.put_i32(correlation_id);
    match client_id {
        None => out.put_i16(-1),
        Some(id) => {
            out.put_i16(id.len() as i16);
            out.put_slice(id.as_bytes());
        }
    }
    if header_version >= 2 {
        out.put_u8(0);
    }
}

/// Size of a response header.
pub(crate) const fn response_head_bytes(header_version: i16) -> usize {
    4 + (header_version >= 1) as usize
}

/// Appends a response header.
pub(crate) fn put_response_head(out: &mut BytesMut, correlation_id: i32, header_version: i16) {
    out.put_i32(correlation_id);
    if header_version >= 1 {
        out.put_u8(0);
    }
}

/// The correlation id at the front of a response frame.
#[must_use]
pub fn peek_correlation_id(frame: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(frame.get(..4)?.try_into().ok()?))
}

/// Takes tagged fields off the front, ignoring them.
pub(crate) fn skip_tagged_fields(frame: &mut Bytes) -> Option<()> {
    let mut rest: &[u8] = frame;
    skip_tagged_fields_of(&mut rest)?;
    let used = frame.len() - rest.len();
    frame.advance(used);
    Some(())
}

/// As [`skip_tagged_fields`], on a slice.
pub(crate) fn skip_tagged_fields_of(rest: &mut &[u8]) -> Option<()> {
    let count = varint::take_unsigned_32(rest)?;
    for _ in 0..count {
        varint::take_unsigned_32(rest)?;
        let length = usize::try_from(varint::take_unsigned_32(rest)?).ok()?;
        *rest = rest.get(length..)?;
    }
    Some(())
}
