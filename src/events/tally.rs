//! Counts what is emitted, through the `metrics` facade: without a recorder these are no-ops.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};

use super::{Daemon, Event};
use crate::policy::event::Event as Decision;
use crate::policy::mitigation::{Mitigation, Outcome};
use crate::policy::rule::Policy;
use crate::telemetry::name;

pub(super) fn expect(policy: &Policy) {
    for rule in &policy.rules {
        counter!(name::RULE_FIRED, "rule" => Arc::clone(&rule.name)).increment(0);
    }
}

pub(super) fn count(event: &Event) {
    counter!(name::EVENTS, "level" => event.level().name()).increment(1);
    match event {
        Event::Policy(decision) => count_decision(decision),
        Event::Daemon(Daemon::Reloaded { .. }) => counter!(name::RELOADS, "outcome" => "applied").increment(1),
        Event::Daemon(Daemon::ReloadRefused { .. }) => counter!(name::RELOADS, "outcome" => "refused").increment(1),
        Event::Daemon(_) => {}
    }
}

fn count_decision(decision: &Decision) {
    match decision {
        Decision::Fired { rule, .. } => counter!(name::RULE_FIRED, "rule" => Arc::clone(rule)).increment(1),
        Decision::Relapsed { rule, .. } => counter!(name::RULE_RELAPSED, "rule" => Arc::clone(rule)).increment(1),
        Decision::Skipped { rule, why, .. } => {
            counter!(name::STEPS_SKIPPED, "rule" => Arc::clone(rule), "why" => why.name()).increment(1);
        }
        Decision::Acted { mitigation, outcome, took, .. } => {
            count_answer(name::ACTIONS, mitigation, *outcome);
            time_action(mitigation, "apply", *took);
        }
        Decision::Undone { mitigation, outcome, took, .. } => {
            count_answer(name::UNDOS, mitigation, *outcome);
            time_action(mitigation, "undo", *took);
        }
        Decision::Owed { mitigation, outcome, .. } => count_answer(name::UNDOS, mitigation, *outcome),
        Decision::Mode { to, .. } => counter!(name::MODE_CHANGES, "mode" => to.name()).increment(1),
        Decision::Pending { .. }
        | Decision::Relented { .. }
        | Decision::Cleared { .. }
        | Decision::Cooling { .. }
        | Decision::Quiet { .. }
        | Decision::Blind { .. }
        | Decision::Sees { .. }
        | Decision::Step { .. }
        | Decision::Judged { .. }
        | Decision::BreakerOpen { .. }
        | Decision::Exhausted { .. }
        | Decision::Undoing { .. }
        | Decision::Lost { .. }
        | Decision::Interfered { .. }
        | Decision::Inherited { .. }
        | Decision::Overdue { .. }
        | Decision::StandingDown { .. }
        | Decision::TakenAgain { .. }
        | Decision::StoodDown { .. }
        | Decision::Retrying { .. }
        | Decision::Paused { .. }
        | Decision::Resumed { .. }
        | Decision::UndoneByOperator { .. }
        | Decision::Forgotten { .. } => {}
    }
}

fn count_answer(family: &'static str, mitigation: &Mitigation, outcome: Outcome) {
    let control = Arc::clone(&mitigation.control);
    counter!(family, "control" => control, "verb" => mitigation.verb.name(), "outcome" => outcome.name()).increment(1);
}

fn time_action(mitigation: &Mitigation, command: &'static str, took: Duration) {
    let control = Arc::clone(&mitigation.control);
    histogram!(name::ACTION_SECONDS, "control" => control, "verb" => mitigation.verb.name(), "command" => command)
        .record(took);
}
