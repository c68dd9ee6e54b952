//! What there is to know beside the mode, in every mode: what is in force, owed, paused, undone by an operator, refused and
//! broken, and whether the configuration is the one that was asked for. The same words for `/status`, `/health` and the
//! command line. Pure.

use std::time::Duration;

use super::opening::CLOSED;
use crate::config::Footing;
use crate::policy::mitigation::Lasting;
use crate::policy::moment::Moment;
use crate::policy::orders::{Hold, Orders};
use crate::policy::unit::{Shown, Unit};
use crate::policy::view::{ActionView, Phase, StepView};
use crate::status::{ControlView, Snapshot};

/// One thing to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// `2 in force`; `paused for another 12m by uid 0 (root)`.
    pub text: String,
    pub weight: Weight,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// The guardian does its work.
    Tells,
    /// Somebody should look at it, or asked for it and should not forget it.
    Warns,
}

/// What is over when it is done needs no undo, and goes on.
const UNRECORDABLE: &str =
    "nothing that stays in force is done: the journal cannot be written, so a crash would leave it";

/// A page has one reason to be read: of many controls that cannot be used the cause is mostly one.
const TOLD_IN_FULL: usize = 3;

/// As long as any reading may be missing before it is a blind spot.
const UNJUDGED_AFTER: Duration = Duration::from_secs(10);

const UNREAD_ORDERS: &str = "nothing lossy or destructive is done: orders from before the start cannot be read";

/// The configuration first, then that nothing can be recorded, then what an operator ordered, then what is in force.
#[must_use]
pub fn points(snapshot: &Snapshot) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut add = |weight, text: Option<String>| points.extend(text.map(|text| Point { text, weight }));
    add(Weight::Warns, configuration(snapshot));
    add(Weight::Warns, snapshot.unrecordable.as_ref().map(|_| UNRECORDABLE.to_owned()));
    add(Weight::Warns, snapshot.unread_orders.as_ref().map(|_| UNREAD_ORDERS.to_owned()));
    add(Weight::Warns, next_directory(snapshot));
    add(Weight::Warns, pause(snapshot));
    add(Weight::Warns, undone(&snapshot.view.orders));
    add(Weight::Warns, theirs(&snapshot.view.orders));
    for (address, _) in closed(snapshot) {
        add(Weight::Warns, Some(format!("{address} is not served")));
    }
    for told in unjudged(snapshot).chain(stood_down(snapshot)) {
        add(Weight::Warns, Some(told));
    }
    let owed = count(snapshot, is_owed);
    add(
        Weight::Tells,
        Some(count(snapshot, |phase| !is_owed(phase))).filter(|held| *held > 0).map(|held| format!("{held} in force")),
    );
    add(Weight::Warns, Some(owed).filter(|owed| *owed > 0).map(|owed| format!("{owed} owed")));
    add(Weight::Warns, broken(snapshot));
    add(Weight::Warns, breakers(snapshot));
    points
}

/// What the page of `status` says in full before anything else; the rest of the points is seen below.
#[must_use]
pub fn notices(snapshot: &Snapshot) -> Vec<String> {
    let refused = snapshot.configuration.refused.as_ref();
    let why = refused.map(|why| format!("{}: {why}", configuration(snapshot).unwrap_or_default()));
    let undone = snapshot.view.orders.undone().iter().map(|undone| {
        let (id, mitigation, by) = (undone.id, &undone.mitigation, &undone.by);
        let since = duration(snapshot.at.since(undone.since));
        format!(
            "#{id} {mitigation} was undone {since} ago by {by}; `node-guardian resume {id}` returns it to the rules"
        )
    });
    let unrecordable = snapshot.unrecordable.iter().map(|why| format!("{UNRECORDABLE}. {why}"));
    let unread = snapshot
        .unread_orders
        .iter()
        .map(|why| format!("{UNREAD_ORDERS}. {why}. `node-guardian pause` or `resume` replaces them"));
    let theirs = snapshot.view.orders.theirs().iter().map(|theirs| {
        let (id, mitigation, found) = (theirs.id, &theirs.mitigation, &theirs.found);
        format!(
            "#{id} {mitigation} was set by somebody else ({found}); `node-guardian resume {id}` returns it to the rules"
        )
    });
    let closed = closed(snapshot).map(|(address, why)| format!("{address} is not served: {why}"));
    let fires = unjudged(snapshot).chain(stood_down(snapshot));
    let standing = pause(snapshot).into_iter().chain(undone).chain(theirs).chain(fires);
    let next = next_directory(snapshot).into_iter();
    let told = why.into_iter().chain(unrecordable).chain(unread).chain(next).chain(closed).chain(standing);
    told.chain(useless(snapshot)).collect()
}

fn configuration(snapshot: &Snapshot) -> Option<String> {
    let told = match (snapshot.configuration.footing, &snapshot.configuration.refused) {
        (Footing::Asked, None) => return None,
        (Footing::Asked, Some(_)) => "the newest configuration is refused, the one before it stays",
        (Footing::LastGood, _) => "the configuration cannot be used: guarding by the last good one, made gentler",
        (Footing::BuiltIn, _) => "the configuration cannot be used: guarding by the built-in rules, which only report",
    };
    Some(told.to_owned())
}

/// What is in force and ordered goes with it then.
fn next_directory(snapshot: &Snapshot) -> Option<String> {
    let next = snapshot.configuration.next_directory.as_ref()?;
    Some(format!("state_directory {} counts from the next start", next.display()))
}

/// The ways in that cannot be had: whoever asks there may be told anything by somebody else.
fn closed(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &str)> {
    let spots = snapshot.blind_spots.iter();
    spots.filter_map(|spot| Some((spot.what.strip_prefix(CLOSED)?, spot.why.as_str())))
}

fn pause(snapshot: &Snapshot) -> Option<String> {
    let pause = snapshot.view.orders.pause()?;
    let left = duration(pause.until.since(snapshot.at));
    let hold = match pause.hold {
        Hold::Undo => "nothing is done",
        Hold::Keep => "nothing new is done",
    };
    Some(format!("paused by {} for another {left}: {hold}", pause.by))
}

/// `rule drops fires, but has not been judged for 40s: its metrics cannot be read`. A sample that is missing is not told.
fn unjudged(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    let unjudged = rules.filter_map(|(rule, view)| Some((rule, snapshot.at.since(view.unjudged?))));
    unjudged.filter(|(_, lasts)| *lasts >= UNJUDGED_AFTER).map(|(rule, lasts)| {
        let lasts = duration(lasts);
        format!("rule {} fires, but has been unknown for {lasts}: a metric of its condition cannot be read", rule.name)
    })
}

/// `rule memory-critical has stood down for 3.0m: nothing helps; its ladder is tried again in 5.0m`
fn stood_down(snapshot: &Snapshot) -> Vec<String> {
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    let down = rules.filter_map(|(rule, view)| Some((rule, view.stood_down?, view.retries_at)));
    down.map(|(rule, since, retries_at)| {
        let since = duration(snapshot.at.since(since));
        let next = |at: Moment| match at.since(snapshot.at) {
            Duration::ZERO => "once its condition holds".to_owned(),
            left => format!("in {}", duration(left)),
        };
        let again = retries_at.map(|at| format!("; its ladder is tried again {}", next(at)));
        format!("rule {} has stood down for {since}: nothing helps{}", rule.name, again.unwrap_or_default())
    })
    .collect()
}

fn theirs(orders: &Orders) -> Option<String> {
    let count = orders.theirs().len();
    (count > 0).then(|| format!("{count} set by somebody else"))
}

fn undone(orders: &Orders) -> Option<String> {
    let count = orders.undone().len();
    (count > 0).then(|| format!("{count} undone by an operator"))
}

fn is_owed(phase: Phase) -> bool {
    matches!(phase, Phase::Owed | Phase::InDoubt)
}

/// The lasting actions in such a phase.
fn count(snapshot: &Snapshot, is_counted: fn(Phase) -> bool) -> usize {
    let lasting = |action: &&ActionView| action.mitigation.verb.lasting() == Lasting::InForce;
    snapshot.view.actions.iter().filter(lasting).filter(|action| is_counted(action.phase)).count()
}

fn duration(duration: Duration) -> Shown {
    Unit::Seconds.show(duration.as_secs_f64())
}

/// `1 step is left out: it measurably did nothing`
fn breakers(snapshot: &Snapshot) -> Option<String> {
    let is_open = |view: &&StepView| view.breaker_until.is_some_and(|until| snapshot.at < until);
    match snapshot.view.steps.iter().filter(is_open).count() {
        0 => None,
        1 => Some("1 step is left out, because it did nothing".to_owned()),
        open => Some(format!("{open} steps are left out, because they did nothing")),
    }
}

fn broken(snapshot: &Snapshot) -> Option<String> {
    let broken: Vec<String> =
        not_usable(snapshot).map(|control| format!("{} {}", control.name, control.state)).collect();
    (!broken.is_empty()).then(|| broken.join(", "))
}

/// `control edge (haproxy) is unreachable: …`, each with its reason, and of many the others by name.
fn useless(snapshot: &Snapshot) -> Vec<String> {
    let told = not_usable(snapshot).take(TOLD_IN_FULL).map(|control| {
        let (name, kind, state, detail) = (&control.name, control.kind, control.state, &control.detail);
        format!("control {name} ({kind}) is {}: {detail}", state.name().replace('_', " "))
    });
    let others: Vec<&str> = not_usable(snapshot).skip(TOLD_IN_FULL).map(|control| &*control.name).collect();
    let others = (!others.is_empty()).then(|| format!("nor can these be used: {}", others.join(", ")));
    told.chain(others).collect()
}

fn not_usable(snapshot: &Snapshot) -> impl Iterator<Item = &ControlView> {
    snapshot.controls.iter().filter(|control| !control.state.is_usable())
}
