//! What all requests that order something have in common: the body is bounded, the loop is told, and the answer is 202.

use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;

use super::answer;
use super::problem::Problem;
use super::site::Site;
use crate::inbox::Message;

/// An undo that names a thousand actions is 10 kB.
const BODY_BYTES: usize = 64 * 1024;

pub(super) async fn read(body: Body) -> Result<Bytes, Problem> {
    to_bytes(body, BODY_BYTES).await.map_err(|error| {
        let too_long = std::error::Error::source(&error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
        if too_long {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY_BYTES} bytes"))
        } else {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))
        }
    })
}

pub(super) fn tell(site: &Site, message: Message) -> Result<(), Problem> {
    if site.door.tell(message) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the loop has ended; the daemon is stopping"))
}

pub(super) fn accepted(body: &Value) -> Result<Response, Problem> {
    Ok(answer::body(StatusCode::ACCEPTED, "application/json", format!("{body}\n")))
}
