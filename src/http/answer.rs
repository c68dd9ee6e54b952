//! Answers that went well: JSON and text with an entity tag, and 304 where the client has it already.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{HeaderMap as Headers, StatusCode};
use serde::Serialize;

use super::problem::Problem;

/// What the answer was rendered from; whatever it does not depend on is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    /// When the daemon started: the other two begin anew then.
    pub started: u64,
    pub revision: u64,
    pub event: u64,
}

impl Version {
    /// Weak: the same publication may be written in different bytes.
    fn tag(self) -> String {
        format!("W/\"{:x}-{:x}-{:x}\"", self.started, self.revision, self.event)
    }

    fn is_known_to(self, request: &Headers) -> bool {
        let tag = self.tag();
        let strong = tag.trim_start_matches("W/");
        let mut lists = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        lists.any(|list| list.split(',').any(|one| one.trim().trim_start_matches("W/") == strong))
    }
}

/// # Errors
/// A problem, when the value cannot be written as JSON.
pub fn json(request: &Headers, version: Version, value: &impl Serialize) -> Result<Response, Problem> {
    shared(request, version, || written(value))
}

/// Made by whoever asks first, where this client does not have it already.
///
/// # Errors
/// Those of making it.
pub fn shared<B: Into<Bytes>>(
    request: &Headers,
    version: Version,
    make: impl FnOnce() -> Result<B, Problem>,
) -> Result<Response, Problem> {
    if version.is_known_to(request) {
        return Ok(not_modified(version));
    }
    Ok(with_tag(version, body(StatusCode::OK, "application/json", make()?)))
}

/// # Errors
/// A problem, when the value cannot be written as JSON.
pub fn written(value: &impl Serialize) -> Result<String, Problem> {
    let mut text = serde_json::to_string(value)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written: {error}")))?;
    text.push('\n');
    Ok(text)
}

#[must_use]
pub fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn not_modified(version: Version) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    with_tag(version, response)
}

fn with_tag(version: Version, mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&version.tag()) {
        headers.insert(ETAG, tag);
    }
    response
}
