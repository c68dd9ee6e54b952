//! Everything that the policy decides, as values with their reasons. `replay` prints them, the daemon logs and counts
//! them (`events.rs`), tests compare them; the policy itself never prints.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::effect::Effect;
use super::mitigation::{ActionId, Level, Mitigation, Outcome};
use super::rule::Severity;
use super::unit::{Shown, Unit};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    #[default]
    Normal,
    Emergency,
    Recovering,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Normal, Mode::Emergency, Mode::Recovering];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Normal => "normal",
            Mode::Emergency => "emergency",
            Mode::Recovering => "recovering",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The condition holds; the rule fires if it still does after `hold_for`.
    Pending {
        rule: Arc<str>,
        hold_for: Duration,
        because: String,
    },
    /// The condition stopped holding before its time was up.
    Relented {
        rule: Arc<str>,
    },
    Fired {
        rule: Arc<str>,
        severity: Severity,
        because: String,
    },
    /// Fired again while its steps were still being undone.
    Relapsed {
        rule: Arc<str>,
        severity: Severity,
        because: String,
    },
    Cleared {
        rule: Arc<str>,
        because: String,
    },
    /// All its steps are gone; it may not start again before the cooldown is over.
    Cooling {
        rule: Arc<str>,
        cooldown: Duration,
    },
    Quiet {
        rule: Arc<str>,
    },
    /// What the condition needs cannot be read.
    Blind {
        rule: Arc<str>,
        missing: String,
    },
    Sees {
        rule: Arc<str>,
    },
    Step {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        id: Option<ActionId>,
        kind: StepKind,
    },
    Skipped {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        why: Skip,
    },
    /// The answer to an apply.
    Acted {
        rule: Arc<str>,
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        took: Duration,
        freed_bytes: Option<i64>,
    },
    /// The step's settle time is over, or its rule cleared: what it did to the metric.
    Judged {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        effect: Effect,
    },
    /// A step did nothing several times running and is left out for a while.
    BreakerOpen {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        retry_in: Duration,
    },
    /// The ladder has no further step.
    Exhausted {
        rule: Arc<str>,
    },
    Undoing {
        id: ActionId,
        mitigation: Mitigation,
        why: UndoReason,
    },
    /// The answer to a undo that ended the matter, one way or another.
    Undone {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        took: Duration,
    },
    /// The undo failed; it is tried again and never forgotten.
    Owed {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        retry_in: Duration,
    },
    /// Found while reading back: no longer in force, or no longer ours.
    Lost {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
    },
    /// Found while reading back: somebody else has set a part of it. That part stays theirs, the rest stays in force.
    Interfered {
        id: ActionId,
        mitigation: Mitigation,
        found: Arc<str>,
    },
    /// Found in the journal at start.
    Inherited {
        id: ActionId,
        mitigation: Mitigation,
    },
    Mode {
        from: Mode,
        to: Mode,
        why: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepKind {
    Act,
    /// Decided and told, not done.
    DryRun,
    /// Already in force through another rule, or at least as strongly.
    Shared,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// The step's class needs this level.
    Level {
        needed: Level,
    },
    Breaker,
    /// Somebody else changed the value; it is theirs until the rule is quiet again.
    Overridden,
    /// The control refused or could not be reached a moment ago; it is tried again later.
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UndoReason {
    /// No firing rule wants it any more.
    Recovered,
    /// An operator asked for it.
    Operator,
    /// The guardian is stopping.
    Stopping,
    /// A stop or a reload left it without a rule.
    Orphaned,
    /// The level no longer allows it.
    Level,
    /// It was only tried.
    Drilled,
}

impl Skip {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Skip::Level { .. } => "level",
            Skip::Breaker => "breaker",
            Skip::Overridden => "overridden",
            Skip::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::Level { needed } => write!(f, "needs level {needed}"),
            Skip::Breaker => f.write_str("did nothing several times running"),
            Skip::Overridden => f.write_str("somebody else changed the value"),
            Skip::Unavailable => f.write_str("the control failed a moment ago and is tried again later"),
        }
    }
}

impl UndoReason {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            UndoReason::Recovered => "recovered",
            UndoReason::Operator => "operator",
            UndoReason::Stopping => "stopping",
            UndoReason::Orphaned => "orphaned",
            UndoReason::Level => "level",
            UndoReason::Drilled => "drilled",
        }
    }
}

impl fmt::Display for UndoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UndoReason::Recovered => "no rule wants it any more",
            UndoReason::Operator => "an operator asked for it",
            UndoReason::Stopping => "the guardian is stopping",
            UndoReason::Orphaned => "left from before, and no rule wants it now",
            UndoReason::Level => "the configuration no longer allows it",
            UndoReason::Drilled => "the drill has seen it",
        })
    }
}

/// One plain sentence each; `replay`, the logs and `/events` print exactly this. Steps are counted from 1 for people.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Pending { rule, hold_for, because } => {
                write!(f, "rule {rule} pending: {because}; fires in {} if that holds", seconds(*hold_for))
            }
            Event::Relented { rule } => write!(f, "rule {rule} relented before it fired"),
            Event::Fired { rule, severity, because } => write!(f, "rule {rule} fires ({severity}): {because}"),
            Event::Relapsed { rule, severity, because } => {
                write!(f, "rule {rule} relapses ({severity}): {because}")
            }
            Event::Cleared { rule, because } => write!(f, "rule {rule} clears: {because}"),
            Event::Cooling { rule, cooldown } => write!(f, "rule {rule} cools down for {}", seconds(*cooldown)),
            Event::Quiet { rule } => write!(f, "rule {rule} is quiet"),
            Event::Blind { rule, missing } => write!(f, "rule {rule} is blind: cannot read {missing}"),
            Event::Sees { rule } => write!(f, "rule {rule} sees again"),
            Event::Step { .. }
            | Event::Skipped { .. }
            | Event::Judged { .. }
            | Event::BreakerOpen { .. }
            | Event::Exhausted { .. } => self.write_ladder(f),
            Event::Acted { .. }
            | Event::Undoing { .. }
            | Event::Undone { .. }
            | Event::Owed { .. }
            | Event::Lost { .. }
            | Event::Interfered { .. }
            | Event::Inherited { .. } => self.write_action(f),
            Event::Mode { from, to, why } => write!(f, "mode {from} -> {to}: {why}"),
        }
    }
}

impl Event {
    fn write_ladder(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Step { rule, step, mitigation, kind, .. } => match kind {
                StepKind::Act => write!(f, "{mitigation} ({})", Rung(rule, *step)),
                StepKind::DryRun => write!(f, "would {mitigation} ({}, dry run)", Rung(rule, *step)),
                StepKind::Shared => write!(f, "{mitigation} adds nothing to what is in force ({})", Rung(rule, *step)),
            },
            Event::Skipped { rule, step, mitigation, why } => {
                write!(f, "{mitigation} skipped ({}): {why}", Rung(rule, *step))
            }
            Event::Judged { rule, step, mitigation, effect } => {
                write!(f, "{mitigation} {effect} ({})", Rung(rule, *step))
            }
            Event::BreakerOpen { rule, step, mitigation, retry_in } => {
                let (rung, retry) = (Rung(rule, *step), seconds(*retry_in));
                write!(f, "{mitigation} did nothing several times running ({rung}): left out for {retry}")
            }
            Event::Exhausted { rule } => write!(f, "rule {rule} has no further step"),
            _ => Ok(()),
        }
    }

    fn write_action(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Acted { id, mitigation, outcome, detail, took, freed_bytes, .. } => {
                write!(f, "action {id} {mitigation}: {outcome} in {}", seconds(*took))?;
                write_detail(f, detail)?;
                match freed_bytes {
                    Some(bytes) => write!(f, "; freed {}", Unit::Bytes.show(*bytes as f64)),
                    None => Ok(()),
                }
            }
            Event::Undoing { id, mitigation, why } => write!(f, "action {id} {mitigation}: undoing, {why}"),
            Event::Undone { id, mitigation, outcome, detail, took } => {
                write!(f, "action {id} {mitigation}: undone, {outcome} in {}", seconds(*took))?;
                write_detail(f, detail)
            }
            Event::Owed { id, mitigation, outcome, detail, retry_in } => {
                write!(f, "action {id} {mitigation}: still owed, {outcome}; next try in {}", seconds(*retry_in))?;
                write_detail(f, detail)
            }
            Event::Lost { id, mitigation, outcome, detail } => {
                write!(f, "action {id} {mitigation}: no longer ours, {outcome}")?;
                write_detail(f, detail)
            }
            Event::Interfered { id, mitigation, found } => {
                write!(f, "action {id} {mitigation}: left alone, because somebody else set it: {found}")
            }
            Event::Inherited { id, mitigation } => write!(f, "action {id} {mitigation}: found in the journal"),
            _ => Ok(()),
        }
    }
}

struct Rung<'a>(&'a str, usize);

impl fmt::Display for Rung<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}, step {}", self.0, self.1 + 1)
    }
}

fn seconds(duration: Duration) -> Shown {
    Unit::Seconds.show(duration.as_secs_f64())
}

fn write_detail(f: &mut fmt::Formatter<'_>, detail: &str) -> fmt::Result {
    if detail.is_empty() { Ok(()) } else { write!(f, "; {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::{Amount, Verb};

    fn throttle() -> Mitigation {
        Mitigation { control: "edge".into(), verb: Verb::Throttle, amount: Amount::Keep(50.0) }
    }

    #[test]
    fn each_event_is_a_sentence_that_stays() {
        let because = "memory.available_percent 7.1% < 8.0%".to_owned();
        let rule: Arc<str> = "memory-critical".into();
        let fired = Event::Fired { rule: rule.clone(), severity: Severity::Emergency, because };
        assert_eq!(fired.to_string(), "rule memory-critical fires (emergency): memory.available_percent 7.1% < 8.0%");
        let step = Event::Step { rule: rule.clone(), step: 1, mitigation: throttle(), id: None, kind: StepKind::Act };
        assert_eq!(step.to_string(), "throttle edge to 50% (rule memory-critical, step 2)");
        let acted = Event::Acted {
            rule: rule.clone(),
            id: ActionId(7),
            mitigation: throttle(),
            outcome: Outcome::Applied,
            detail: "s1 maxconn 100 -> 50".into(),
            took: Duration::from_micros(3100),
            freed_bytes: None,
        };
        assert_eq!(acted.to_string(), "action 7 throttle edge to 50%: applied in 3.1ms; s1 maxconn 100 -> 50");
        let skipped = Event::Skipped { rule, step: 0, mitigation: throttle(), why: Skip::Overridden };
        assert_eq!(
            skipped.to_string(),
            "throttle edge to 50% skipped (rule memory-critical, step 1): somebody else changed the value"
        );
        let mode = Event::Mode { from: Mode::Normal, to: Mode::Emergency, why: "rule memory-critical".into() };
        assert_eq!(mode.to_string(), "mode normal -> emergency: rule memory-critical");
    }
}
