//! What can be asked, and by which function it is answered. Whether it may be asked was decided before (`gate`).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};
use bytes::Bytes;
use hyper::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::answer::{self, Version};
use super::asked::{accepted, tell};
use super::drill;
use super::problem::Problem;
use super::pulse::Pulse;
use super::rendered::Page;
use super::shape;
use super::site::Site;
use super::stream::{EventStream, Streams};
use super::via::Actor;
use super::{metrics, node, orders, summary};
use crate::events::Daemon;
use crate::inbox::Message;
use crate::policy::event::Mode;
use crate::policy::explain::explain;
use crate::status::Snapshot;
use crate::telemetry::text::{Exposition, Format};

type Answer = Result<Response, Problem>;
type Shared = State<Arc<Site>>;

const RECENT_ACTIONS: usize = 100;
const USUAL_EVENTS: usize = 100;

/// Who may ask. A change over TCP needs the token, whatever is read there (`gate`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody, from everywhere, at once: what a probe from another machine needs, and says nothing about the node.
    Probe,
    /// Who may read; at once.
    Health,
    /// Who may read, in turn.
    Reader,
    /// Who may change things.
    Operator,
}

/// One line of the index.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
    pub what: &'static str,
}

/// Each with who may ask, by which function it is answered, and its line in the index. docs/http.md has a row for each.
macro_rules! routes {
    ($($method:ident $path:literal $access:ident $handler:path, $what:literal;)*) => {
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            access: Access::$access,
            what: $what,
        }),*];

        /// Of one way in, which has event streams of its own.
        pub fn router(site: &Arc<Site>) -> Router {
            Router::new()
                $(.route($path, on(MethodFilter::$method, $handler)))*
                .fallback(nowhere)
                .method_not_allowed_fallback(wrong_method)
                .layer(Extension(Streams::default()))
                .with_state(Arc::clone(site))
        }
    };
}

routes! {
    GET "/" Reader index, "this list";
    GET "/livez" Probe livez, "200 while the loop ticks and no other thread hangs";
    GET "/readyz" Probe readyz, "200 unless in emergency";
    GET "/health" Health health, "pass, warn or fail, and each reading (application/health+json)";
    GET "/status" Reader status, "mode, what is in force and why, headroom, rules";
    GET "/rules" Reader rules, "every rule explained";
    GET "/rules/{name}" Reader rule, "one rule explained";
    GET "/actions" Reader actions, "actions in force, and recent ones";
    GET "/events" Reader events, "the audit trail; ?since=SEQ&limit=N, or as text/event-stream";
    GET "/node" Reader node::facts, "what this machine is and has";
    GET "/processes" Reader node::processes, "its largest processes; ?by=memory|cpu&limit=N";
    GET "/metrics" Reader scrape, "Prometheus text or OpenMetrics";
    GET "/drill" Reader drill::last, "how the last drill went";
    POST "/drill" Operator drill::begin,
        "do and undo everything that can be undone: {\"controls\": [\"edge\"], \"plan\": true}, or all";
    POST "/undo" Operator orders::undo,
        "undo what is in force now, and keep it undone: {\"actions\": [1, 2], \"forget\": false}, or all";
    POST "/pause" Operator orders::pause, "do nothing new for a while: {\"for\": \"30m\", \"hold\": false}";
    POST "/resume" Operator orders::resume, "end a pause and return undone knobs to the rules: {\"actions\": [1, 2]}, or all";
    POST "/reload" Operator reload, "read the configuration again";
}

/// Whether this is the path of a route that one of these may ask.
pub fn is(path: &str, access: &[Access]) -> bool {
    paths(access).any(|known| known == path)
}

pub fn paths(access: &[Access]) -> impl Iterator<Item = &'static str> {
    ROUTES.iter().filter(|route| access.contains(&route.access)).map(|route| route.path)
}

/// Names more alike than this are worth suggesting (Jaro-Winkler).
const ALIKE: f64 = 0.8;

async fn index(headers: HeaderMap) -> Response {
    if accepts(&headers, "application/json") {
        let list: Vec<_> = ROUTES
            .iter()
            .map(|route| json!({ "method": route.method, "path": route.path, "what": route.what }))
            .collect();
        let body = json!({ "name": "node-guardian", "version": env!("CARGO_PKG_VERSION"), "routes": list });
        return answer::body(StatusCode::OK, "application/json", format!("{body}\n"));
    }
    let line = |route: &Route| format!("{:<5}{:<15}{}\n", route.method, route.path, route.what);
    let lines: String = ROUTES.iter().map(line).collect();
    let text = format!("node-guardian {}\n\n{lines}", env!("CARGO_PKG_VERSION"));
    answer::body(StatusCode::OK, "text/plain; charset=utf-8", text)
}

async fn livez(State(site): Shared) -> Answer {
    alive(&site.snapshot(), &site.pulse())?;
    Ok(answer::body(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"))
}

async fn readyz(State(site): Shared) -> Answer {
    let snapshot = site.snapshot();
    alive(&snapshot, &site.pulse())?;
    let detail = if snapshot.tick == 0 {
        "no sample yet"
    } else if let Some(excuse) = summary::excuse(&snapshot) {
        let text = format!("ok ({excuse}; else in emergency)\n");
        return Ok(answer::body(StatusCode::OK, "text/plain; charset=utf-8", text));
    } else if snapshot.view.mode == Mode::Emergency {
        "the node is in emergency; see /status"
    } else {
        return Ok(answer::body(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"));
    };
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).member("mode", json!(snapshot.view.mode.name())))
}

fn alive(snapshot: &Snapshot, pulse: &Pulse) -> Result<(), Problem> {
    if pulse.late() {
        let (age, limit) = (pulse.age.as_secs_f64(), pulse.limit.as_secs_f64());
        let detail = format!("the last tick was {age:.1} s ago, more than {limit:.0} s");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    match &snapshot.hanging {
        Some(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string())),
        None => Ok(()),
    }
}

async fn health(State(site): Shared) -> Response {
    let health = site.health();
    answer::body(health.status, "application/health+json", health.body)
}

async fn status(State(site): Shared, headers: HeaderMap) -> Answer {
    let published = site.published();
    let make = |snapshot: &Snapshot| answer::written(&summary::status(snapshot));
    answer::shared(&headers, published.version(), || site.page(&published, Page::Status, make))
}

async fn rules(State(site): Shared, headers: HeaderMap) -> Answer {
    let published = site.published();
    let make = |snapshot: &Snapshot| {
        let Snapshot { plan, view, at, .. } = snapshot;
        answer::written(&json!({ "rules": explain(plan, view, *at) }))
    };
    answer::shared(&headers, published.version(), || site.page(&published, Page::Rules, make))
}

async fn rule(State(site): Shared, headers: HeaderMap, name: Result<Path<String>, PathRejection>) -> Answer {
    let Path(name) = name.map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let published = site.published();
    let Snapshot { plan, view, at, .. } = &*published.snapshot;
    let explained = explain(plan, view, *at);
    match explained.iter().find(|rule| rule.name == name) {
        Some(rule) => answer::json(&headers, published.version(), rule),
        None => {
            let rules = &plan.policy.rules;
            let near = near(&name, rules.iter().map(|rule| &*rule.name));
            let detail = format!("there is no rule {name:?}{}", did_you_mean(&near));
            Err(Problem::new(StatusCode::NOT_FOUND, detail).member("near", json!(near)))
        }
    }
}

async fn actions(State(site): Shared, headers: HeaderMap) -> Answer {
    let published = site.published();
    let about_action = |record: &crate::events::Record| record.field("action_id").is_some();
    let recent = site.log.newest(RECENT_ACTIONS, about_action);
    let recent = recent.iter().map(|record| shape::Record::from(&**record)).collect();
    let body = shape::Actions { in_force: summary::actions(&published.snapshot), recent };
    answer::json(&headers, Version { event: site.log.last(), ..published.version() }, &body)
}

#[derive(Deserialize)]
struct Range {
    since: Option<u64>,
    limit: Option<usize>,
}

async fn events(
    State(site): Shared,
    Extension(streams): Extension<Streams>,
    headers: HeaderMap,
    range: Result<Query<Range>, QueryRejection>,
) -> Answer {
    let Query(range) = range.map_err(|rejection| {
        Problem::new(StatusCode::BAD_REQUEST, format!("since and limit are whole numbers: {}", rejection.body_text()))
    })?;
    let limit = range.limit.unwrap_or(USUAL_EVENTS).min(crate::events::KEPT);
    if accepts(&headers, "text/event-stream") {
        return follow(&site, &streams, range.since.or_else(|| last_event_id(&headers)));
    }
    let last = site.log.last();
    let records = match range.since {
        Some(since) => site.log.since(since, limit),
        None => site.log.newest(limit, |_| true),
    };
    let next = records.last().map_or(range.since.unwrap_or(last), |record| record.seq);
    let events = records.iter().map(|record| shape::Record::from(&**record)).collect();
    // The range is part of the address, so the trail's end is all that a tag needs.
    answer::json(
        &headers,
        Version { revision: 0, event: last, ..site.published().version() },
        &shape::Events { events, next },
    )
}

fn follow(site: &Site, streams: &Streams, since: Option<u64>) -> Answer {
    let since = since.unwrap_or_else(|| site.log.last());
    let stream = EventStream::open(streams, Arc::clone(&site.log), since).ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "as many event streams are open as there may be")
            .with(RETRY_AFTER, HeaderValue::from_static("30"))
    })?;
    let mut response = answer::body(StatusCode::OK, "text/event-stream", Bytes::new());
    *response.body_mut() = Body::new(stream);
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get(HeaderName::from_static("last-event-id"))?.to_str().ok()?.parse().ok()
}

async fn scrape(State(site): Shared, headers: HeaderMap) -> Answer {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let page = match format {
        Format::Prometheus => Page::Prometheus,
        Format::OpenMetrics => Page::OpenMetrics,
    };
    let make = |snapshot: &Snapshot| {
        let mut out = Exposition::new(format);
        metrics::write(snapshot, &mut out);
        site.telemetry.write(&mut out);
        Ok::<_, Problem>(out.finish())
    };
    Ok(answer::body(StatusCode::OK, format.content_type(), site.page(&site.published(), page, make)?))
}

async fn reload(State(site): Shared, Extension(Actor(by)): Extension<Actor>) -> Answer {
    let since = site.log.last();
    tell(&site, Message::Reload)?;
    tell(&site, Message::Record(Daemon::Asked { what: "a reload", by }))?;
    accepted(&json!({ "reloading": true, "since": since, "see": format!("/events?since={since}") }))
}

async fn nowhere(uri: Uri) -> Problem {
    let near = near(uri.path(), ROUTES.iter().map(|route| route.path));
    let detail = format!("there is no {}{}", uri.path(), did_you_mean(&near));
    let routes = json!(ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect::<Vec<_>>());
    Problem::new(StatusCode::NOT_FOUND, detail).at(uri.path()).member("near", json!(near)).member("routes", routes)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let first = uri.path().split('/').nth(1).unwrap_or_default();
    let serves = |path: &str| path.split('/').nth(1) == Some(first);
    let takes = |wanted: &str| ROUTES.iter().any(|route| serves(route.path) && route.method == wanted);
    let allow = match (takes("GET"), takes("POST")) {
        (true, true) => "GET, HEAD, POST",
        (false, true) => "POST",
        (true | false, false) => "GET, HEAD",
    };
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} takes {allow}, not {method}", uri.path()));
    problem.at(uri.path()).with(hyper::header::ALLOW, HeaderValue::from_static(allow)).into_response()
}

fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let mut lists = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    lists.any(|list| list.split(',').any(|range| range.split(';').next().is_some_and(|one| one.trim() == media)))
}

fn near<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    known.filter(|name| strsim::jaro_winkler(wanted, name) > ALIKE).collect()
}

fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gate goes by the method, since it also answers for what is no route.
    #[test]
    fn what_changes_something_is_for_operators() {
        assert!(ROUTES.iter().all(|route| (route.access == Access::Operator) == (route.method != "GET")));
    }
}
