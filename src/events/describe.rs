//! What each event is called, how much it matters to an operator, and the fields that it is searched by.

use super::{Daemon, Event, Level};
use crate::policy::event::Event as Decision;
use crate::policy::event::Mode;
use crate::policy::mitigation::{ActionId, Mitigation, Outcome};
use crate::policy::rule::Severity;

/// All of them, for whoever picks.
pub const NAMES: [&str; 50] = [
    "started",
    "stopping",
    "reloaded",
    "reload_refused",
    "fallback",
    "source_lost",
    "source_found",
    "journal_damage",
    "journal_failed",
    "journal_slow",
    "journal_answers",
    "journal_works",
    "thread_hangs",
    "threads_live",
    "control",
    "asked",
    "drill_began",
    "drill_ended",
    "degraded",
    "rule_pending",
    "rule_ended_early",
    "rule_fired",
    "rule_relapsed",
    "rule_cleared",
    "rule_cooling",
    "rule_quiet",
    "rule_unknown",
    "rule_known",
    "step",
    "step_skipped",
    "acted",
    "step_judged",
    "breaker_open",
    "ladder_exhausted",
    "undoing",
    "undone",
    "owed",
    "lost",
    "interfered",
    "inherited",
    "step_overdue",
    "standing_down",
    "taken_again",
    "stood_down",
    "ladder_retried",
    "paused",
    "resumed",
    "undone_by_operator",
    "forgotten",
    "mode",
];

type Fields = Vec<(&'static str, String)>;

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Policy(event) => decision_name(event),
            Event::Daemon(event) => event.name(),
        }
    }

    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Event::Policy(event) => decision_level(event),
            Event::Daemon(event) => event.level(),
        }
    }

    #[must_use]
    pub fn fields(&self) -> Fields {
        match self {
            Event::Policy(event) => decision_fields(event),
            Event::Daemon(Daemon::Control { name, state, .. }) => {
                vec![("control", name.to_string()), ("outcome", state.name().to_owned())]
            }
            Event::Daemon(Daemon::Asked { by, .. }) => vec![("by", by.to_string())],
            Event::Daemon(_) => Vec::new(),
        }
    }
}

impl Daemon {
    const fn name(&self) -> &'static str {
        match self {
            Daemon::Started { .. } => "started",
            Daemon::Stopping { .. } => "stopping",
            Daemon::Reloaded { .. } => "reloaded",
            Daemon::ReloadRefused { .. } => "reload_refused",
            Daemon::Fallback { .. } => "fallback",
            Daemon::SourceLost { .. } => "source_lost",
            Daemon::SourceFound { .. } => "source_found",
            Daemon::JournalDamage { .. } => "journal_damage",
            Daemon::JournalFailed { .. } => "journal_failed",
            Daemon::JournalSlow { .. } => "journal_slow",
            Daemon::JournalAnswers { .. } => "journal_answers",
            Daemon::JournalWorks { .. } => "journal_works",
            Daemon::ThreadHangs { .. } => "thread_hangs",
            Daemon::ThreadsLive => "threads_live",
            Daemon::Control { .. } => "control",
            Daemon::Asked { .. } => "asked",
            Daemon::DrillBegan { .. } => "drill_began",
            Daemon::DrillEnded { .. } => "drill_ended",
            Daemon::Degraded { .. } => "degraded",
        }
    }

    fn level(&self) -> Level {
        match self {
            Daemon::JournalAnswers { .. } | Daemon::JournalWorks { .. } | Daemon::ThreadsLive => Level::Info,
            Daemon::Started { .. } | Daemon::Stopping { .. } | Daemon::Reloaded { .. } | Daemon::SourceFound { .. } => {
                Level::Info
            }
            Daemon::DrillEnded { count } if count.astray > 0 => Level::Warning,
            Daemon::Asked { .. } | Daemon::DrillBegan { .. } | Daemon::DrillEnded { .. } => Level::Info,
            Daemon::Control { state, .. } if state.is_usable() => Level::Info,
            Daemon::SourceLost { .. }
            | Daemon::Control { .. }
            | Daemon::Degraded { .. }
            | Daemon::JournalSlow { .. } => Level::Warning,
            Daemon::ReloadRefused { .. }
            | Daemon::Fallback { .. }
            | Daemon::JournalDamage { .. }
            | Daemon::JournalFailed { .. }
            | Daemon::ThreadHangs { .. } => Level::Error,
        }
    }
}

const fn decision_name(event: &Decision) -> &'static str {
    match event {
        Decision::Pending { .. } => "rule_pending",
        Decision::Relented { .. } => "rule_ended_early",
        Decision::Fired { .. } => "rule_fired",
        Decision::Relapsed { .. } => "rule_relapsed",
        Decision::Cleared { .. } => "rule_cleared",
        Decision::Cooling { .. } => "rule_cooling",
        Decision::Quiet { .. } => "rule_quiet",
        Decision::Blind { .. } => "rule_unknown",
        Decision::Sees { .. } => "rule_known",
        Decision::Step { .. } => "step",
        Decision::Skipped { .. } => "step_skipped",
        Decision::Acted { .. } => "acted",
        Decision::Judged { .. } => "step_judged",
        Decision::BreakerOpen { .. } => "breaker_open",
        Decision::Exhausted { .. } => "ladder_exhausted",
        Decision::Undoing { .. } => "undoing",
        Decision::Undone { .. } => "undone",
        Decision::Owed { .. } => "owed",
        Decision::Lost { .. } => "lost",
        Decision::Interfered { .. } => "interfered",
        Decision::Inherited { .. } => "inherited",
        Decision::Overdue { .. } => "step_overdue",
        Decision::StandingDown { .. } => "standing_down",
        Decision::TakenAgain { .. } => "taken_again",
        Decision::StoodDown { .. } => "stood_down",
        Decision::Retrying { .. } => "ladder_retried",
        Decision::Paused { .. } => "paused",
        Decision::Resumed { .. } => "resumed",
        Decision::UndoneByOperator { .. } => "undone_by_operator",
        Decision::Forgotten { .. } => "forgotten",
        Decision::Mode { .. } => "mode",
    }
}

fn decision_level(event: &Decision) -> Level {
    match event {
        Decision::Pending { .. } | Decision::Relented { .. } | Decision::Quiet { .. } | Decision::Cooling { .. } => {
            Level::Debug
        }
        Decision::Fired { severity, .. } | Decision::Relapsed { severity, .. } => match severity {
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warning,
            Severity::Emergency => Level::Error,
        },
        Decision::Cleared { .. }
        | Decision::Sees { .. }
        | Decision::Step { .. }
        | Decision::Skipped { .. }
        | Decision::Judged { .. }
        | Decision::Undoing { .. }
        | Decision::Inherited { .. } => Level::Info,
        Decision::Acted { outcome, .. } | Decision::Undone { outcome, .. } => outcome_level(*outcome),
        Decision::Blind { .. } | Decision::BreakerOpen { .. } | Decision::Lost { .. } | Decision::Interfered { .. } => {
            Level::Warning
        }
        Decision::Overdue { .. }
        | Decision::StandingDown { .. }
        | Decision::StoodDown { .. }
        | Decision::TakenAgain { .. }
        | Decision::Retrying { .. }
        | Decision::Paused { .. }
        | Decision::UndoneByOperator { .. }
        | Decision::Forgotten { .. } => Level::Warning,
        Decision::Resumed { .. } => Level::Info,
        Decision::Exhausted { .. } | Decision::Owed { .. } => Level::Error,
        Decision::Mode { to: Mode::Emergency, .. } => Level::Error,
        Decision::Mode { to: Mode::Normal | Mode::Recovering, .. } => Level::Info,
    }
}

const fn outcome_level(outcome: Outcome) -> Level {
    match outcome {
        Outcome::Applied | Outcome::Already | Outcome::NoEffect | Outcome::EpochChanged => Level::Info,
        Outcome::Refused
        | Outcome::Unreachable
        | Outcome::TimedOut
        | Outcome::Unsupported
        | Outcome::Overridden
        | Outcome::Expired => Level::Warning,
    }
}

fn decision_fields(event: &Decision) -> Fields {
    match event {
        Decision::Pending { rule, .. }
        | Decision::Relented { rule }
        | Decision::Cleared { rule, .. }
        | Decision::Cooling { rule, .. }
        | Decision::Quiet { rule }
        | Decision::Blind { rule, .. }
        | Decision::Sees { rule }
        | Decision::Exhausted { rule }
        | Decision::StandingDown { rule, .. }
        | Decision::StoodDown { rule, .. }
        | Decision::Retrying { rule, .. } => vec![("rule", rule.to_string())],
        Decision::Overdue { rule, step, mitigation, .. } | Decision::TakenAgain { rule, step, mitigation, .. } => {
            rung(rule, *step, mitigation)
        }
        Decision::Paused { by, .. } | Decision::Resumed { by, .. } => vec![("by", by.to_string())],
        Decision::UndoneByOperator { id, mitigation, by } | Decision::Forgotten { id, mitigation, by } => {
            let mut fields = action(*id, mitigation, None);
            fields.push(("by", by.to_string()));
            fields
        }
        Decision::Fired { rule, severity, .. } | Decision::Relapsed { rule, severity, .. } => {
            vec![("rule", rule.to_string()), ("severity", severity.to_string())]
        }
        Decision::Step { rule, step, mitigation, id, .. } => {
            let mut fields = rung(rule, *step, mitigation);
            fields.extend(id.map(|id| ("action_id", id.to_string())));
            fields
        }
        Decision::Skipped { rule, step, mitigation, why } => {
            let mut fields = rung(rule, *step, mitigation);
            fields.push(("outcome", why.name().to_owned()));
            fields
        }
        Decision::Judged { rule, step, mitigation, .. } | Decision::BreakerOpen { rule, step, mitigation, .. } => {
            rung(rule, *step, mitigation)
        }
        Decision::Acted { rule, id, mitigation, outcome, .. } => {
            let mut fields = action(*id, mitigation, Some(*outcome));
            fields.insert(0, ("rule", rule.to_string()));
            fields
        }
        Decision::Undone { id, mitigation, outcome, .. }
        | Decision::Owed { id, mitigation, outcome, .. }
        | Decision::Lost { id, mitigation, outcome, .. } => action(*id, mitigation, Some(*outcome)),
        Decision::Undoing { id, mitigation, .. }
        | Decision::Interfered { id, mitigation, .. }
        | Decision::Inherited { id, mitigation } => action(*id, mitigation, None),
        Decision::Mode { to, .. } => vec![("mode", to.to_string())],
    }
}

fn rung(rule: &str, step: usize, mitigation: &Mitigation) -> Fields {
    let mut fields = vec![("rule", rule.to_owned()), ("step", (step + 1).to_string())];
    fields.extend(knob(mitigation));
    fields
}

fn action(id: ActionId, mitigation: &Mitigation, outcome: Option<Outcome>) -> Fields {
    let mut fields = vec![("action_id", id.to_string())];
    fields.extend(knob(mitigation));
    fields.extend(outcome.map(|outcome| ("outcome", outcome.to_string())));
    fields
}

fn knob(mitigation: &Mitigation) -> [(&'static str, String); 2] {
    [("control", mitigation.control.to_string()), ("verb", mitigation.verb.to_string())]
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn every_name_can_be_picked() {
        let source = include_str!("describe.rs").split("\n#[cfg(test)]").next().unwrap();
        let given: Vec<&str> = source.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(given, NAMES);
    }
}
