//! Each event as one plain sentence: `replay`, the logs and `/events` print exactly this. Steps are counted from 1.

use std::fmt;
use std::time::Duration;

use super::{Event, StepKind, Uncleared};
use crate::policy::mitigation::Outcome;
use crate::policy::orders::Hold;
use crate::policy::unit::{Shown, Unit};

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Pending { rule, hold_for, because } => {
                write!(f, "rule {rule} pending: {because}; fires in {} if that holds", seconds(*hold_for))
            }
            Event::Relented { rule } => write!(f, "rule {rule}: condition ended before `for` elapsed"),
            Event::Fired { rule, severity, because } => write!(f, "rule {rule} fires ({severity}): {because}"),
            Event::Relapsed { rule, severity, because } => {
                write!(f, "rule {rule} relapses ({severity}): {because}")
            }
            Event::Cleared { rule, because } => write!(f, "rule {rule} clears: {because}"),
            Event::Cooling { rule, cooldown } => write!(f, "rule {rule} cools down for {}", seconds(*cooldown)),
            Event::Quiet { rule } => write!(f, "rule {rule} is quiet"),
            Event::Blind { rule, missing } => write!(f, "rule {rule} is unknown: cannot read {missing}"),
            Event::Sees { rule } => write!(f, "rule {rule}: metrics readable again"),
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
                write!(f, "{mitigation} did nothing three times in a row ({rung}): its breaker is open for {retry}")
            }
            Event::Exhausted { rule } => write!(f, "rule {rule} has no further step"),
            Event::Overdue { rule, step, mitigation, waited } => {
                let (rung, waited) = (Rung(rule, *step), seconds(*waited));
                write!(f, "{mitigation} has not answered for {waited} ({rung}): the ladder goes on without it")
            }
            Event::StandingDown { rule, after, why } => {
                let after = seconds(*after);
                match why {
                    Uncleared::Stays => {
                        write!(
                            f,
                            "rule {rule} stands down: it has not cleared for {after}; steps that cost users are \
                             undone as a test"
                        )
                    }
                    Uncleared::Unjudged => {
                        write!(
                            f,
                            "rule {rule} stands down: its condition has been unknown for {after}; steps that cost \
                             users are undone"
                        )
                    }
                }
            }
            Event::TakenAgain { rule, step, mitigation, because } => {
                write!(
                    f,
                    "{mitigation} is taken again ({}): the metric got worse without it, {because}",
                    Rung(rule, *step)
                )
            }
            Event::StoodDown { rule, retry_in: Duration::ZERO } => {
                write!(f, "rule {rule} has stood down: its ladder is tried again once its condition is known and holds")
            }
            Event::StoodDown { rule, retry_in } => {
                write!(
                    f,
                    "rule {rule} has stood down: it still fires; its ladder is tried again in {}, or when it gets \
                     much worse",
                    seconds(*retry_in)
                )
            }
            Event::Retrying { rule, because } => write!(f, "rule {rule} tries its ladder again: {because}"),
            Event::Paused { lasts, hold, by } => {
                let kept = if *hold == Hold::Keep { "what is in force stays" } else { "what is in force is undone" };
                write!(f, "paused for {} by {by}: no new actions; {kept}", seconds(*lasts))
            }
            Event::Resumed { what, by } => write!(f, "resumed by {by}: {what}"),
            Event::UndoneByOperator { id, mitigation, by } => {
                write!(
                    f,
                    "action {id} {mitigation}: {by} asked to undo it; rules leave it alone until they were quiet for \
                     10 \
                     minutes, or `node-guardian resume {id}`"
                )
            }
            Event::Forgotten { id, mitigation, by } => {
                write!(f, "action {id} {mitigation}: {by} gave up its undo; what it changed stays")
            }
            Event::Acted { id, mitigation, before, outcome, detail, took, freed_bytes, .. } => {
                let loosened = before.and_then(|before| mitigation.loosened(before));
                let (loosened, took) = (loosened.filter(|_| *outcome == Outcome::Applied), seconds(*took));
                match loosened {
                    Some(from_to) => write!(f, "action {id} {mitigation}: loosened, {from_to} in {took}")?,
                    None => write!(f, "action {id} {mitigation}: {outcome} in {took}")?,
                }
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
            Event::Mode { from, to, why } => write!(f, "mode {from} -> {to}: {why}"),
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
    use std::sync::Arc;

    use super::super::super::requester::Requester;
    use super::*;
    use crate::policy::event::{Mode, ModeReason, Skip};
    use crate::policy::mitigation::{ActionId, Amount, Mitigation, Outcome, Verb};
    use crate::policy::rule::Severity;

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
            rule: Requester::rule(&rule),
            id: ActionId(7),
            mitigation: throttle(),
            before: None,
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
        let mode =
            Event::Mode { from: Mode::Normal, to: Mode::Emergency, why: ModeReason::Rule("memory-critical".into()) };
        assert_eq!(mode.to_string(), "mode normal -> emergency: rule memory-critical");
    }
}
