//! ApiVersions: what is served. Its response always has the oldest header, so that any client can read it.

use minisr_wire::ErrorCode;
use minisr_wire::RequestHead;
use minisr_wire::messages::api_versions_response::ApiVersion;
use minisr_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::versions::SERVED;
use crate::transport::connection::{Closed, Handled};

pub(super) fn handle(head: &RequestHead, request: &ApiVersionsRequest) -> Result<Handled, Closed> {
    let mut response = list();
    if head.api_version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        response = ApiVersionsResponse::default().with_error_code(ErrorCode::INVALID_REQUEST.0);
    }
    super::reply(head, &response)
}

/// A version that is not served is answered in the form of version 0, with the list, so that the client can choose
/// again (KIP-511).
pub(super) fn unsupported_version(head: &RequestHead) -> Result<Handled, Closed> {
    let response = list().with_error_code(ErrorCode::UNSUPPORTED_VERSION.0);
    super::reply(&RequestHead { api_version: 0, ..head.clone() }, &response)
}

fn list() -> ApiVersionsResponse {
    let offered = SERVED.iter().map(|served| {
        ApiVersion::default()
            .with_api_key(served.api as i16)
            .with_min_version(served.offered_min)
            .with_max_version(served.max)
    });
    ApiVersionsResponse::default().with_api_keys(offered.collect())
}

/// Kafka's rule for the names that clients give of themselves: letters, digits, '-' and '.', beginning and ending with
/// a letter or digit.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().last())
}
