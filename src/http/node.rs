//! What the node is and has, and its largest processes. Asked by people, seldom; the scan of processes runs beside the
//! server's thread, one at a time, and its answer serves for a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use crate::clock;
use crate::host::processes::{Order, Process, largest};
use crate::policy::moment::Moment;

const SERVES_FOR: Duration = Duration::from_secs(1);
const MOST: usize = 100;
const USUAL: usize = 10;

type Scan = Option<(Moment, Arc<Vec<Process>>)>;

/// The last scan by either order.
#[derive(Debug, Default)]
pub struct Scans(Mutex<[Scan; 2]>);

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

impl Scans {
    fn take(&self, order: Order) -> Arc<Vec<Process>> {
        let now = clock::now().unwrap_or_default();
        let mut scans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut scans[usize::from(order == Order::Cpu)];
        match kept {
            Some((at, processes)) if now.since(*at) < SERVES_FOR => Arc::clone(processes),
            Some(_) | None => {
                let processes = Arc::new(largest(order, MOST));
                *kept = Some((now, Arc::clone(&processes)));
                processes
            }
        }
    }
}
