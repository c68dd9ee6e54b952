//! What the policy can be asked about itself: plain data that is copied out after every tick, without allocating where
//! nothing changed.

use std::sync::Arc;
use std::time::Duration;

use super::effect::Effect;
use super::event::{Mode, Skip};
use super::mitigation::{ActionId, Amount, Mitigation, Outcome};
use super::moment::Moment;
use super::orders::Orders;
use super::requester::Requester;
use super::resource::Resource;
use super::services::Services;
use super::verdict::Verdict;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Quiet,
    Pending,
    Firing,
    Undoing,
    Cooling,
    Blind,
    /// This node has nothing of what its condition asks about: no swap, no connection tracking.
    NotApplicable,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Quiet,
        State::Pending,
        State::Firing,
        State::Undoing,
        State::Cooling,
        State::Blind,
        State::NotApplicable,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Quiet => "quiet",
            State::Pending => "pending",
            State::Firing => "firing",
            State::Undoing => "undoing",
            State::Cooling => "cooling",
            State::Blind => "unknown",
            State::NotApplicable => "not_applicable",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RuleView {
    pub state: State,
    /// When the rule entered its state.
    pub since: Moment,
    /// When it leaves its state if nothing changes: pending fires, cooling is over, firing clears, a step is judged.
    pub until: Option<Moment>,
    pub when: Verdict,
    pub clear: Verdict,
    /// Steps taken so far in this firing.
    pub taken: usize,
    pub fired: u64,
    /// Since when nobody can tell whether its condition holds, while it fires.
    pub unjudged: Option<Moment>,
    /// Since when nothing is known to help: what costs users was given back.
    pub stood_down: Option<Moment>,
    /// When a ladder that stood down is tried again.
    pub retries_at: Option<Moment>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StepView {
    pub outcome: Option<Outcome>,
    pub skipped: Option<Skip>,
    /// What the step did to the rule's metric, last time it was judged.
    pub effect: Option<Effect>,
    pub breaker_until: Option<Moment>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Applying,
    InForce,
    Undoing,
    /// A undo failed and is tried again at `next_try`.
    Owed,
    /// An answer never came; it is being read back.
    InDoubt,
}

impl Phase {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Applying => "applying",
            Phase::InForce => "in_force",
            Phase::Undoing => "undoing",
            Phase::Owed => "owed",
            Phase::InDoubt => "in_doubt",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct ActionView {
    pub id: ActionId,
    pub mitigation: Mitigation,
    /// The rule that put it there, or keeps it there.
    pub rule: Requester,
    pub phase: Phase,
    /// When it entered its phase.
    pub since: Moment,
    /// When it was first applied.
    pub began: Moment,
    /// What identifies its target.
    pub target: Arc<str>,
    pub detail: Arc<str>,
    /// What it changed: `server be/s1 maxconn 100 → 50`. Kept for as long as it is in force.
    pub changed: Arc<str>,
    /// What of it somebody else has set meanwhile: that stays theirs.
    pub theirs: Option<Arc<str>>,
    /// How strong it was before it was last made weaker; `None` where it was made stronger since.
    pub loosened_from: Option<Amount>,
    /// What the step did to its rule's metric, when it was last judged.
    pub effect: Option<Effect>,
    pub next_try: Option<Moment>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    pub mode: Mode,
    pub mode_since: Moment,
    /// While in emergency: not left before this.
    pub hold_until: Option<Moment>,
    /// The hold that the next emergency would have.
    pub hold: Duration,
    /// An emergency that something may still help: whoever can should go elsewhere (`/readyz` is 503).
    pub turns_away: bool,
    pub orders: Orders,
    /// What each control's service has to give, as it told last.
    pub services: Services,
    /// The ports that each rule's trouble is about, in the order of the policy's rules.
    pub troubled: Vec<Vec<u16>>,
    /// In the order of the policy's rules.
    pub rules: Vec<RuleView>,
    /// The steps of all rules, one rule after the other.
    pub steps: Vec<StepView>,
    /// Oldest first.
    pub actions: Vec<ActionView>,
    /// What the conditions' operands read, by slot.
    pub slots: Vec<Option<f64>>,
    /// Seconds until a resource runs out, at its present trend; absent without a trend.
    pub exhaustion: Vec<(Resource, f64)>,
}
