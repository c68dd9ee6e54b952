//! The JSON that `/status`, `/actions` and `/events` answer with, for the server to write and the command line to read.
//! Fields are added, never renamed or removed; a reader ignores what it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub version: String,
    pub host: String,
    /// `normal`, `emergency`, `recovering`.
    pub mode: String,
    pub mode_seconds: f64,
    /// The rules that keep it in emergency.
    pub because: Vec<String>,
    /// While in emergency: not left before this.
    pub hold_seconds: Option<f64>,
    pub level: String,
    pub dry_run: bool,
    pub configuration: Configuration,
    /// What should be read before anything else, a sentence each: the configuration, what an operator ordered.
    pub notices: Vec<String>,
    /// What there is to know beside the mode, in a few words each: `2 in force`, `1 owed`, `paused …`. Empty on a node that
    /// needs nothing.
    pub attention: Vec<String>,
    pub paused: Option<Pause>,
    /// What an operator undid, until its rules were quiet for 10 minutes or it is given back.
    pub undone: Vec<UndoneKnob>,
    pub overridden: Vec<TheirKnob>,
    /// 0 before the first sample.
    pub tick: u64,
    pub sampled_unix_ms: u64,
    pub uptime_seconds: f64,
    pub pace_seconds: f64,
    /// Oldest first.
    pub in_force: Vec<Action>,
    pub headroom: Vec<Headroom>,
    /// Highest priority first.
    pub rules: Vec<Rule>,
    pub controls: Vec<Control>,
    pub blind_spots: Vec<BlindSpot>,
    /// Seconds until a resource runs out; only where there is a believable trend.
    pub exhaustion_seconds: BTreeMap<String, f64>,
    /// -1 down, 0 keep, 1 up.
    pub scale_hints: BTreeMap<String, i8>,
    pub facts: serde_json::Value,
}

/// What is guarded by.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Configuration {
    /// `as_configured`, or in its place `last_good` or `built_in`.
    pub by: String,
    /// Why the newest was not taken.
    pub refused: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pause {
    pub since_seconds: f64,
    pub left_seconds: f64,
    /// What was in force stays.
    pub hold: bool,
    /// `uid 0 (root)`, `token`
    pub by: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UndoneKnob {
    /// The action that was undone, by which `resume` names it.
    pub id: u64,
    pub text: String,
    pub seconds: f64,
    /// How long its rules have been quiet; at 600 it is theirs again.
    pub quiet_seconds: Option<f64>,
    pub by: String,
}

/// A knob that somebody else set: theirs until no rule wants it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TheirKnob {
    /// The action that it was taken from, by which `resume` names it.
    pub id: u64,
    pub text: String,
    pub seconds: f64,
    /// `server be/s1 maxconn is 5, not the 2 that was set`
    pub found: String,
}

impl TheirKnob {
    #[must_use]
    pub(crate) fn into_undone(self) -> UndoneKnob {
        let Self { id, text, seconds, .. } = self;
        UndoneKnob { id, text, seconds, ..UndoneKnob::default() }
    }
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Action {
    pub id: u64,
    /// `throttle edge to 50%`
    pub text: String,
    pub control: String,
    pub verb: String,
    /// Percent that remains, where it is a share.
    pub kept_percent: Option<f64>,
    pub rule: String,
    /// `applying`, `in_force`, `undoing`, `owed`, `in_doubt`.
    pub phase: String,
    /// Since it was first applied.
    pub seconds: f64,
    /// What it changed, for as long as it is in force: `server be/s1 maxconn 100 → 50`.
    pub changed: String,
    /// What of it somebody else has set meanwhile: that stays theirs.
    pub theirs: Option<String>,
    /// `50% → 75%` where it was last made weaker.
    pub loosened: Option<String>,
    /// What was last heard of it.
    pub detail: String,
    /// Share of its rule's gap that the step closed, when it was last judged; 1 is all of it, 0 nothing. `null` where
    /// it was not judged, or where its effect cannot be told from noise.
    pub effect: Option<f64>,
    /// The same in words, also where it is no number.
    pub effect_text: String,
    pub next_try_seconds: Option<f64>,
}

/// How far a reading is from the nearest threshold of any rule.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Headroom {
    /// `cpu`, `memory`, `disk`, `network`, `connections`, `files`, `processes`, `guardian`.
    pub resource: String,
    /// `memory.available_percent`
    pub metric: String,
    /// A mount, an interface or a port.
    pub instance: Option<String>,
    pub unit: String,
    pub value: Option<f64>,
    /// `41.2%`
    pub shown: String,
    /// `ok`, `near`, `beyond`, `unknown`.
    pub state: String,
    pub nearest: Option<Nearest>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Nearest {
    pub rule: String,
    pub severity: String,
    pub threshold: f64,
    /// `< 8.0%`
    pub text: String,
    /// `avg 10s` where the rule does not look at the reading itself; `room` is of the same.
    pub over: Option<String>,
    /// What is left, in the metric's unit; negative beyond the threshold.
    pub room: f64,
    pub room_shown: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    pub name: String,
    pub severity: String,
    pub priority: i32,
    /// `quiet`, `pending`, `firing`, `undoing`, `cooling`, `blind`, `not_applicable`.
    pub state: String,
    pub seconds: f64,
    pub waits_for: String,
    pub steps_taken: usize,
    pub steps: usize,
    pub fired: u64,
    pub dry_run: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    pub name: String,
    pub kind: String,
    pub state: String,
    pub detail: String,
    pub checked_unix_ms: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlindSpot {
    pub what: String,
    pub why: String,
}

/// `/actions`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Actions {
    pub in_force: Vec<Action>,
    /// What was done and undone lately, oldest first.
    pub recent: Vec<Record>,
}

/// `/events`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    pub events: Vec<Record>,
    /// Ask `since` this for what comes next.
    pub next: u64,
}

/// One event of the trail.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub seq: u64,
    pub unix_ms: u64,
    /// Since boot (CLOCK_BOOTTIME), to the microsecond.
    pub at_seconds: f64,
    pub level: String,
    pub name: String,
    pub text: String,
    pub fields: BTreeMap<String, String>,
}

/// The answer to `POST /undo`: what is being undone.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Undone {
    pub undoing: Vec<Action>,
    /// The trail's last number before it was asked for.
    pub since: u64,
    #[serde(flatten)]
    pub kept: Kept,
}

/// Whether an order outlives a crash. It is carried out in any case.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// It is on the disk.
    pub kept: bool,
    /// Why it is not, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The answer to `POST /pause`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pausing {
    pub seconds: f64,
    pub hold: bool,
    pub by: String,
    /// What is being undone, or stays.
    pub in_force: Vec<Action>,
    pub since: u64,
    #[serde(flatten)]
    pub kept: Kept,
}

/// The answer to `POST /resume`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resuming {
    /// A pause is ended.
    pub paused: bool,
    pub given_back: Vec<UndoneKnob>,
    pub since: u64,
    #[serde(flatten)]
    pub kept: Kept,
}

impl From<&crate::events::Record> for Record {
    fn from(record: &crate::events::Record) -> Self {
        Self {
            seq: record.seq,
            unix_ms: record.unix_ms,
            at_seconds: record.at_seconds,
            level: record.level.name().to_owned(),
            name: record.name.to_owned(),
            text: record.text.clone(),
            fields: record.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }
}
