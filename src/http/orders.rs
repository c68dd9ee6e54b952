//! What an operator may order: undo, pause, resume. Whether he may was decided before (`gate`); who he is goes with it into
//! the trail.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::asked::{accepted, read, tell};
use super::chosen::Chosen;
use super::problem::Problem;
use super::shape::{self, Action, Kept};
use super::site::Site;
use super::summary;
use super::via::Actor;
use crate::inbox::{Message, Order};
use crate::keeper::KEPT_WITHIN;
use crate::policy::mitigation::ActionId;
use crate::policy::orders::Hold;
use crate::policy::unit::Quantity;

type Answer = Result<Response, Problem>;
type Shared = State<Arc<Site>>;

const USUAL_PAUSE: Duration = Duration::from_secs(30 * 60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A long weekend. Longer is what `level` and `dry_run` are for: a pause that everybody forgot must end.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Undo {
    actions: Chosen<u64>,
    /// Ends a debt that cannot be paid.
    forget: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Pause {
    r#for: Option<String>,
    hold: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Resume {
    actions: Chosen<u64>,
}

pub async fn undo(State(site): Shared, Extension(Actor(by)): Extension<Actor>, body: Body) -> Answer {
    let request: Undo = asked(body, r#"{"actions": [1, 2], "forget": false}"#).await?;
    let in_force = summary::actions(&site.snapshot());
    let asked = request.actions.named();
    named(asked, &in_force.iter().map(|action| action.id).collect::<Vec<_>>(), "in force")?;
    let is_named = |action: &Action| request.actions.is_all() || asked.contains(&action.id);
    let mut undoing: Vec<Action> = in_force.into_iter().filter(is_named).collect();
    if request.forget {
        let is_debt = |action: &Action| matches!(action.phase.as_str(), "owed" | "in_doubt");
        let paid = undoing.iter().filter(|action| !is_debt(action)).map(|action| action.id).collect::<Vec<_>>();
        if !request.actions.is_all() && !paid.is_empty() {
            let detail = format!("not owed: {}; only owed undos can be forgotten", listed(&paid));
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        undoing.retain(is_debt);
    }
    let ids = undoing.iter().map(|action| ActionId(action.id));
    // What comes to be in force in this very moment is meant too, where all of it is.
    let ids = if request.actions.is_all() && !request.forget { Vec::new() } else { ids.collect() };
    let since = site.log.last();
    let kept = match (request.forget, ids.is_empty()) {
        (true, true) => Kept { kept: true, detail: String::new() },
        (true, false) => order(&site, Order::Forget(ids), by).await?,
        (false, _) => order(&site, Order::Undo(ids), by).await?,
    };
    accepted(&json!(shape::Undone { undoing, since, kept }))
}

pub async fn pause(State(site): Shared, Extension(Actor(by)): Extension<Actor>, body: Body) -> Answer {
    let request: Pause = asked(body, r#"{"for": "30m", "hold": true}"#).await?;
    let lasts = match &request.r#for {
        None => USUAL_PAUSE,
        Some(text) => pause_length(text)?,
    };
    let hold = if request.hold { Hold::Keep } else { Hold::Undo };
    let since = site.log.last();
    let answer = shape::Pausing {
        seconds: lasts.as_secs_f64(),
        hold: request.hold,
        by: by.to_string(),
        in_force: summary::actions(&site.snapshot()),
        since,
        kept: Kept::default(),
    };
    let kept = order(&site, Order::Pause { lasts, hold }, by).await?;
    accepted(&json!(shape::Pausing { kept, ..answer }))
}

pub async fn resume(State(site): Shared, Extension(Actor(by)): Extension<Actor>, body: Body) -> Answer {
    let request: Resume = asked(body, r#"{"actions": [1, 2]}"#).await?;
    let snapshot = site.snapshot();
    let orders = &snapshot.view.orders;
    let known =
        orders.undone().iter().map(|undone| undone.id.0).chain(orders.theirs().iter().map(|theirs| theirs.id.0));
    named(request.actions.named(), &known.collect::<Vec<_>>(), "undone")?;
    let all = request.actions.is_all();
    let is_named = |id: u64| request.actions.named().contains(&id);
    let undone = summary::undone(&snapshot).into_iter().filter(|one| all || is_named(one.id));
    // What somebody set by hand is given back by name only.
    let theirs = summary::theirs(&snapshot).into_iter().filter(|one| is_named(one.id));
    let (paused, since) = (all && orders.is_paused(), site.log.last());
    let given_back = undone.chain(theirs.map(shape::TheirKnob::into_undone)).collect();
    let resumed = Order::Resume(request.actions.named().iter().copied().map(ActionId).collect());
    let kept = order(&site, resumed, by).await?;
    accepted(&json!(shape::Resuming { paused, given_back, since, kept }))
}

/// Tells the loop, and waits until the order is durable; not for a disk that does not answer, since it is carried out anyway.
async fn order(site: &Site, order: Order, by: Arc<str>) -> Result<Kept, Problem> {
    let (heard, hears) = oneshot::channel();
    tell(site, Message::Order { order, by, heard })?;
    Ok(match timeout(KEPT_WITHIN, hears).await {
        Ok(Ok(Ok(()))) => Kept { kept: true, detail: String::new() },
        Ok(Ok(Err(why))) => not_kept(&why),
        Ok(Err(_)) => Kept { kept: false, detail: "the daemon is stopping: order it again when it runs".to_owned() },
        Err(_) => not_kept(&format!("the disk did not take it within {} s", KEPT_WITHIN.as_secs())),
    })
}

fn not_kept(why: &str) -> Kept {
    let detail = format!(
        "the order is carried out, but a crash would lose it: it is not on the disk ({why}). That is tried again \
         every 10 s; \
         `node-guardian status` names the file until it works"
    );
    Kept { kept: false, detail }
}

/// Nothing at all is the default.
async fn asked<T: DeserializeOwned + Default>(body: Body, example: &str) -> Result<T, Problem> {
    let bytes = read(body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("expected {example} or nothing: {error}")))
}

fn named(ids: &[u64], known: &[u64], what: &str) -> Result<(), Problem> {
    let unknown: Vec<u64> = ids.iter().copied().filter(|id| !known.contains(id)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let detail = format!("not {what}: {}; see /status", listed(&unknown));
    Err(Problem::new(StatusCode::NOT_FOUND, detail).member(&what.replace(' ', "_"), json!(known)))
}

fn pause_length(text: &str) -> Result<Duration, Problem> {
    let length = Quantity::parse(text).and_then(Quantity::duration);
    length.filter(|length| (SHORTEST_PAUSE..=LONGEST_PAUSE).contains(length)).ok_or_else(|| {
        let detail = format!("{text:?} is not a duration for a pause; from 1s to 7d, such as \"30m\"");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

fn listed(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
