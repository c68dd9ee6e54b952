//! What the node is and has, and its largest processes. Asked by people, seldom.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::answer;
use super::problem::Problem;
use super::site::Site;
use crate::host::processes::Order;

const USUAL: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    by: Option<String>,
    limit: Option<usize>,
}

pub async fn facts(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Problem> {
    let published = site.published();
    answer::json(&headers, published.version(), &*published.snapshot.facts)
}

pub async fn processes(
    State(site): State<Arc<Site>>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let Query(wish) = wish.map_err(|rejection| bad(format!("?by=memory|cpu&limit=N: {}", rejection.body_text())))?;
    let order = match wish.by.as_deref() {
        None | Some("memory") => Order::Memory,
        Some("cpu") => Order::Cpu,
        Some(other) => return Err(bad(format!("`{other}` is not an order; ask by=memory or by=cpu"))),
    };
    let scan = tokio::task::spawn_blocking(move || site.scans.take(order)).await;
    let found = scan.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the processes cannot be read"))?;
    let first = &found[..found.len().min(wish.limit.unwrap_or(USUAL))];
    Ok(answer::body(StatusCode::OK, "application/json", format!("{}\n", json!({ "processes": first }))))
}
