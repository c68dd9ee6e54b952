//! `/drill`: begin one, say what one would be, tell how the last one went.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::answer;
use super::asked::{accepted, read, tell};
use super::chosen::Chosen;
use super::problem::Problem;
use super::site::Site;
use super::via::Actor;
use crate::events::Daemon;
use crate::inbox::{Drilling, Message};

/// The loop answers between two ticks.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Request {
    controls: Chosen<String>,
    plan: bool,
}

pub async fn begin(
    State(site): State<Arc<Site>>,
    Extension(Actor(by)): Extension<Actor>,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = read(body).await?;
    let request: Request = if bytes.iter().all(u8::is_ascii_whitespace) {
        Request::default()
    } else {
        serde_json::from_slice(&bytes).map_err(|error| {
            let detail = format!("expected {{\"controls\": [\"edge\"], \"plan\": true}} or nothing: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?
    };
    let (reply, answered) = oneshot::channel();
    let only_plan = request.plan;
    tell(&site, Message::Drill(Drilling { controls: request.controls.named().to_vec(), only_plan, reply }))?;
    match timeout(PATIENCE, answered).await {
        Ok(Ok(Ok(view))) => {
            if !only_plan {
                tell(&site, Message::Record(Daemon::Asked { what: "a drill", by }))?;
            }
            timeout(PATIENCE, shown(&site, view.number)).await.ok();
            accepted(&json!(view))
        }
        Ok(Ok(Err(why))) => Err(Problem::new(StatusCode::CONFLICT, why)),
        Ok(Err(_)) | Err(_) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the loop did not answer; the daemon may be stopping"))
        }
    }
}

/// Whoever was told that a drill has begun must not read then how the one before it ended.
async fn shown(site: &Site, number: u64) {
    while site.snapshot().drill.as_ref().as_ref().map_or(0, |view| view.number) < number {
        sleep(LOOK_AGAIN).await;
    }
}

pub async fn last(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Problem> {
    let published = site.published();
    match published.snapshot.drill.as_ref() {
        Some(view) => answer::json(&headers, published.version(), view),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "no drill since the daemon started; POST /drill begins one")),
    }
}
