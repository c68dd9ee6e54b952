//! From a snapshot to the shapes of `/status` and `/actions`. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::headroom::headroom;
use super::{attention, shape};
use crate::policy::effect::Effect;
use crate::policy::event::Mode;
use crate::policy::explain::explain;
use crate::policy::moment::Moment;
use crate::policy::orders::Hold;
use crate::policy::rule::{Resource, Scale, Severity};
use crate::policy::view::{ActionView, RuleView, State};
use crate::status::Snapshot;

pub fn status(snapshot: &Snapshot) -> shape::Status {
    let Snapshot { view, plan, .. } = snapshot;
    let since = |moment: Moment| snapshot.at.since(moment).as_secs_f64();
    shape::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: snapshot.facts.host.clone(),
        mode: view.mode.name().to_owned(),
        mode_seconds: since(view.mode_since),
        because: if view.mode == Mode::Normal { Vec::new() } else { emergencies(snapshot) },
        hold_seconds: view.hold_until.map(|until| until.since(snapshot.at).as_secs_f64()),
        level: plan.policy.level.name().to_owned(),
        dry_run: plan.policy.dry_run,
        configuration: shape::Configuration {
            by: snapshot.configuration.footing.name().to_owned(),
            refused: snapshot.configuration.refused.clone(),
        },
        notices: attention::notices(snapshot),
        attention: attention::points(snapshot).into_iter().map(|point| point.text).collect(),
        paused: snapshot.view.orders.pause().map(|pause| shape::Pause {
            since_seconds: since(pause.since),
            left_seconds: pause.until.since(snapshot.at).as_secs_f64(),
            hold: pause.hold == Hold::Keep,
            by: pause.by.to_string(),
        }),
        undone: undone(snapshot),
        overridden: theirs(snapshot),
        tick: snapshot.tick,
        sampled_unix_ms: snapshot.unix_ms,
        uptime_seconds: since(snapshot.started),
        pace_seconds: snapshot.pace.as_secs_f64(),
        in_force: actions(snapshot),
        headroom: headroom(snapshot),
        rules: rules(snapshot),
        controls: controls(snapshot),
        blind_spots: blind_spots(snapshot),
        exhaustion_seconds: view.exhaustion.iter().map(|(what, left)| (what.name().to_owned(), *left)).collect(),
        scale_hints: hints(snapshot).into_iter().map(|(what, hint)| (what.name().to_owned(), hint)).collect(),
        facts: serde_json::to_value(&*snapshot.facts).unwrap_or_default(),
    }
}

pub fn actions(snapshot: &Snapshot) -> Vec<shape::Action> {
    snapshot.view.actions.iter().map(|action| self::action(action, snapshot.at)).collect()
}

/// The knobs that an operator undid, oldest first.
pub fn undone(snapshot: &Snapshot) -> Vec<shape::UndoneKnob> {
    let undone = snapshot.view.orders.undone().iter();
    undone
        .map(|undone| shape::UndoneKnob {
            id: undone.id.0,
            text: undone.mitigation.to_string(),
            seconds: snapshot.at.since(undone.since).as_secs_f64(),
            quiet_seconds: undone.quiet.lasted().map(|lasted| lasted.as_secs_f64()),
            by: undone.by.to_string(),
        })
        .collect()
}

/// The knobs that somebody else set, oldest first.
pub fn theirs(snapshot: &Snapshot) -> Vec<shape::TheirKnob> {
    let theirs = snapshot.view.orders.theirs().iter();
    theirs
        .map(|theirs| shape::TheirKnob {
            id: theirs.id.0,
            text: theirs.mitigation.to_string(),
            seconds: snapshot.at.since(theirs.since).as_secs_f64(),
            found: theirs.found.to_string(),
        })
        .collect()
}

/// Why an emergency takes no traffic away from this node: whoever only tries the guardian out, or has paused it, must not
/// lose it by that; nor where it helps nobody.
pub fn excuse(snapshot: &Snapshot) -> Option<&'static str> {
    if snapshot.view.mode != Mode::Emergency || snapshot.view.turns_away {
        None
    } else if snapshot.plan.policy.dry_run {
        Some("dry run")
    } else if snapshot.view.orders.is_paused() {
        Some("paused")
    } else {
        Some("stood down: nothing helps")
    }
}

fn action(action: &ActionView, now: Moment) -> shape::Action {
    shape::Action {
        id: action.id.0,
        text: action.mitigation.to_string(),
        control: action.mitigation.control.to_string(),
        verb: action.mitigation.verb.name().to_owned(),
        kept_percent: action.mitigation.amount.kept_percent(),
        rule: action.rule.to_string(),
        phase: action.phase.name().to_owned(),
        seconds: now.since(action.began).as_secs_f64(),
        changed: action.changed.to_string(),
        theirs: action.theirs.as_ref().map(ToString::to_string),
        loosened: action.loosened_from.and_then(|from| action.mitigation.loosened(from)),
        detail: action.detail.to_string(),
        effect: action.effect.and_then(Effect::share),
        effect_text: action.effect.map_or_else(String::new, |effect| effect.to_string()),
        next_try_seconds: action.next_try.map(|at| at.since(now).as_secs_f64()),
    }
}

/// What an autoscaler should hear: up beats down, and silence is 0.
pub fn hints(snapshot: &Snapshot) -> BTreeMap<Resource, i8> {
    let mut hints: BTreeMap<Resource, i8> = Resource::ALL.into_iter().map(|resource| (resource, 0)).collect();
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    for hint in rules.filter(|(_, view)| view.state == State::Firing).flat_map(|(rule, _)| &rule.hints) {
        let told = hints.entry(hint.resource).or_default();
        *told = match hint.scale {
            Scale::Up => 1,
            Scale::Down if *told == 0 => -1,
            Scale::Down => *told,
        };
    }
    hints
}

fn emergencies(snapshot: &Snapshot) -> Vec<String> {
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    let active = rules.filter(|(rule, view)| rule.severity == Severity::Emergency && is_active(view));
    active.map(|(rule, _)| rule.name.to_string()).collect()
}

fn is_active(view: &RuleView) -> bool {
    matches!(view.state, State::Firing | State::Undoing)
}

fn rules(snapshot: &Snapshot) -> Vec<shape::Rule> {
    let explained = explain(&snapshot.plan, &snapshot.view, snapshot.at);
    let waits_for = |name: &str| explained.iter().find(|rule| rule.name == name).map(|rule| rule.waits_for.clone());
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    rules
        .map(|(rule, view)| shape::Rule {
            name: rule.name.to_string(),
            severity: rule.severity.name().to_owned(),
            priority: rule.priority,
            state: view.state.name().to_owned(),
            seconds: snapshot.at.since(view.since).as_secs_f64(),
            waits_for: waits_for(&rule.name).unwrap_or_default(),
            steps_taken: view.taken,
            steps: rule.steps.len(),
            fired: view.fired,
            dry_run: rule.dry_run || snapshot.plan.policy.dry_run,
        })
        .collect()
}

fn controls(snapshot: &Snapshot) -> Vec<shape::Control> {
    let controls = snapshot.controls.iter();
    controls
        .map(|control| shape::Control {
            name: control.name.to_string(),
            kind: control.kind.to_owned(),
            state: control.state.name().to_owned(),
            detail: control.detail.to_string(),
            checked_unix_ms: control.checked_unix_ms,
        })
        .collect()
}

fn blind_spots(snapshot: &Snapshot) -> Vec<shape::BlindSpot> {
    let spots = snapshot.blind_spots.iter();
    spots.map(|spot| shape::BlindSpot { what: spot.what.clone(), why: spot.why.clone() }).collect()
}

/// `2026-11-21T14:35:39Z`, by Howard Hinnant's civil_from_days.
pub fn rfc3339(unix_ms: u64) -> String {
    let time = Duration::from_millis(unix_ms).as_secs();
    let (days, rest) = (time / 86_400, time % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_271_739, "2026-11-21T14:35:39Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1000), written);
        }
    }
}
