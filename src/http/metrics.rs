//! What Prometheus scrapes that is not recorded: the readings and the policy's state, written from the snapshot at the
//! moment of the scrape. Names are in base units: percentages are ratios of 1, rates are per second.

use std::collections::{BTreeMap, BTreeSet};

use super::headroom::is_told;
use super::summary::hints;
use crate::policy::effect::Effect;
use crate::policy::event::Mode;
use crate::policy::metric::{Family as Instances, Metric};
use crate::policy::mitigation::{Lasting, Mitigation};
use crate::policy::unit::Unit;
use crate::policy::view::{Phase, State};
use crate::status::Snapshot;
use crate::telemetry::text::{Exposition, Family, Kind, Labels};

/// `node_guardian_memory_available_ratio` for `memory.available_percent`.
#[must_use]
pub fn exported_name(metric: Metric) -> String {
    // `_count` belongs to histograms, `_total` to counters, and our own readings are not the node's.
    let name = match metric {
        Metric::MemoryOomKills => return "node_guardian_memory_oom_kills_total".to_owned(),
        Metric::ProcessesCount => "processes".to_owned(),
        _ => metric.name().replace("guardian.", "self.").replace('.', "_"),
    };
    let is_of_port = metric.family() == Instances::Port;
    let name = if is_of_port { name.replacen("connections_", "connections_port_", 1) } else { name };
    let bare = |suffix| name.strip_suffix(suffix).unwrap_or(&name);
    match metric.unit() {
        Unit::Percent => format!("node_guardian_{}_ratio", bare("_percent")),
        Unit::Bytes => format!("node_guardian_{}_bytes", bare("_bytes")),
        Unit::BytesPerSecond => format!("node_guardian_{}_bytes_per_second", bare("_rate")),
        Unit::PerSecond => format!("node_guardian_{}_per_second", bare("_rate")),
        Unit::Seconds => format!("node_guardian_{}_seconds", bare("_seconds")),
        Unit::Count | Unit::Ratio | Unit::Flag => format!("node_guardian_{name}"),
    }
}

pub fn write(snapshot: &Snapshot, out: &mut Exposition) {
    write_process(snapshot, out);
    write_mode(snapshot, out);
    write_rules(snapshot, out);
    write_effects(snapshot, out);
    write_breakers(snapshot, out);
    write_controls(snapshot, out);
    write_in_force(snapshot, out);
    write_outlook(snapshot, out);
    for metric in Metric::ALL {
        write_reading(*metric, snapshot, out);
    }
}

fn gauge(out: &mut Exposition, name: &str, help: &str) {
    out.family(&Family { name, kind: Kind::Gauge, help });
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn write_process(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_build_info";
    out.family(&Family { name, kind: Kind::Info, help: "Version of node-guardian, and the level it runs at." });
    let level = snapshot.plan.policy.level.name();
    out.sample(name, Labels::Pairs(&[("version", env!("CARGO_PKG_VERSION")), ("level", level)]), 1.0);
    let uptime = snapshot.at.since(snapshot.started).as_secs_f64();
    let sampled = std::time::Duration::from_millis(snapshot.unix_ms).as_secs_f64();
    for (name, help, value) in [
        ("node_guardian_start_time_seconds", "When node-guardian started, since 1970.", sampled - uptime),
        ("node_guardian_uptime_seconds", "Time since node-guardian started.", uptime),
        ("node_guardian_last_sample_time_seconds", "When the readings were taken, since 1970.", sampled),
        ("node_guardian_pace_seconds", "Pace of sampling at present.", snapshot.pace.as_secs_f64()),
        (
            "node_guardian_config_last_load_ok",
            "1 if the last read of the configuration succeeded, at start or by a reload.",
            flag(snapshot.configuration.refused.is_none()),
        ),
        (
            "node_guardian_journal_ok",
            "1 if the journal can be written; at 0 no new change that stays in force is made.",
            flag(snapshot.unrecordable.is_none()),
        ),
        ("node_guardian_paused", "1 while an operator pauses it.", flag(snapshot.view.orders.is_paused())),
        ("node_guardian_owed", "Undos that have not succeeded yet.", owed(snapshot)),
        (
            "node_guardian_dry_run",
            "1 under dry run: decisions are reported, not applied.",
            flag(snapshot.plan.policy.dry_run),
        ),
    ] {
        gauge(out, name, help);
        out.sample(name, Labels::None, value);
    }
    let name = "node_guardian_ticks_total";
    out.family(&Family { name, kind: Kind::Counter, help: "Samples taken and evaluated." });
    #[expect(clippy::cast_precision_loss, reason = "exact for millions of years")]
    out.sample(name, Labels::None, snapshot.tick as f64);
}

fn owed(snapshot: &Snapshot) -> f64 {
    let owed = snapshot.view.actions.iter().filter(|action| matches!(action.phase, Phase::Owed | Phase::InDoubt));
    owed.map(|_| 1.0).sum()
}

fn write_mode(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_mode";
    gauge(out, name, "1 for the mode that the node is in.");
    for mode in Mode::ALL {
        out.sample(name, Labels::Pairs(&[("mode", mode.name())]), flag(mode == snapshot.view.mode));
    }
}

fn write_rules(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_rule_state";
    gauge(out, name, "1 for the state that a rule is in.");
    for (rule, view) in snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules) {
        for state in State::ALL {
            let labels = [("rule", &*rule.name), ("state", state.name())];
            out.sample(name, Labels::Pairs(&labels), flag(state == view.state));
        }
    }
}

fn write_effects(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_action_effect_ratio";
    gauge(
        out,
        name,
        "Share of the gap to the threshold that a rule's step closed, when last judged; absent where it cannot be \
         told from noise.",
    );
    let rules = snapshot.plan.policy.rules.iter();
    let rungs = rules.flat_map(|rule| (1..=rule.steps.len()).map(move |step| (&*rule.name, step.to_string())));
    for ((rule, step), view) in rungs.zip(&snapshot.view.steps) {
        if let Some(effect) = view.effect.and_then(Effect::share) {
            out.sample(name, Labels::Pairs(&[("rule", rule), ("step", &step)]), effect);
        }
    }
}

fn write_breakers(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_breaker_open";
    gauge(out, name, "1 while the breaker of a rule's step is open: the step had no effect three times in a row.");
    let rules = snapshot.plan.policy.rules.iter();
    let rungs = rules.flat_map(|rule| (1..=rule.steps.len()).map(move |step| (&*rule.name, step.to_string())));
    for ((rule, step), view) in rungs.zip(&snapshot.view.steps) {
        let is_open = view.breaker_until.is_some_and(|until| snapshot.at < until);
        out.sample(name, Labels::Pairs(&[("rule", rule), ("step", &step)]), flag(is_open));
    }
}

fn write_controls(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_control_up";
    gauge(out, name, "1 if a control can be reached and may act, as of its last probe.");
    for control in snapshot.controls.iter() {
        let labels = [("control", &*control.name), ("kind", control.kind)];
        out.sample(name, Labels::Pairs(&labels), flag(control.state.is_usable()));
    }
}

/// More would make a page of metrics of its own; what is in force comes first.
const MOST_TARGETS: usize = 20;

/// Every knob that a rule may turn, so that 0 is told and not guessed. By its control's name, its target and the verb.
fn write_in_force(snapshot: &Snapshot, out: &mut Exposition) {
    type Key<'k> = (&'k str, &'k str, &'k str);
    let mut held: BTreeMap<Key<'_>, f64> = BTreeMap::new();
    for action in snapshot.view.actions.iter().filter(|action| is_lasting(&action.mitigation)) {
        let key = (&*action.mitigation.control, &*action.target, action.mitigation.verb.name());
        held.insert(key, strength(&action.mitigation));
    }
    let plan = &snapshot.plan;
    let steps = plan.policy.rules.iter().flat_map(|rule| &rule.steps);
    let mitigations = steps.map(|step| &step.mitigation).filter(|mitigation| is_lasting(mitigation));
    let knobs: Vec<_> = mitigations.map(|mitigation| (plan.knob(mitigation), mitigation)).collect();
    // Collected, so many would be sorted by code that is not kept in memory (build.rs).
    let mut idle: BTreeMap<Key<'_>, f64> = BTreeMap::new();
    for (knob, mitigation) in &knobs {
        let key = (&*mitigation.control, &*knob.target, mitigation.verb.name());
        if !held.contains_key(&key) {
            idle.insert(key, 0.0);
        }
    }
    let name = "node_guardian_in_force";
    gauge(out, name, "Strength of an action in force, until its undo is verified: the share that it takes, 0 to 1.");
    let mut targets: BTreeSet<&str> = BTreeSet::new();
    for ((control, target, verb), strength) in held.into_iter().chain(idle) {
        if targets.len() < MOST_TARGETS || targets.contains(target) {
            targets.insert(target);
            let labels = [("control", control), ("target", target), ("verb", verb)];
            out.sample(name, Labels::Pairs(&labels), strength);
        }
    }
}

fn is_lasting(mitigation: &Mitigation) -> bool {
    mitigation.verb.lasting() == Lasting::InForce
}

/// What is no share is whole.
fn strength(mitigation: &Mitigation) -> f64 {
    mitigation.amount.kept_percent().map_or(1.0, |kept| 1.0 - kept / 100.0)
}

fn write_outlook(snapshot: &Snapshot, out: &mut Exposition) {
    let name = "node_guardian_time_to_exhaustion_seconds";
    gauge(out, name, "Time until a resource runs out at its present trend; absent without a trend.");
    for (resource, left) in &snapshot.view.exhaustion {
        out.sample(name, Labels::Pairs(&[("resource", resource.name())]), *left);
    }
    let name = "node_guardian_scale_hint";
    gauge(out, name, "What an autoscaler should do about a resource: 1 more of it, -1 less, 0 nothing.");
    for (resource, hint) in hints(snapshot) {
        out.sample(name, Labels::Pairs(&[("resource", resource.name())]), f64::from(hint));
    }
}

fn write_reading(metric: Metric, snapshot: &Snapshot, out: &mut Exposition) {
    let name = exported_name(metric);
    let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
    let scale = if metric.unit() == Unit::Percent { 0.01 } else { 1.0 };
    let label = if metric.family() == Instances::App { Some("number") } else { metric.family().instance() };
    out.family(&Family { name: &name, kind, help: metric.describe().help });
    match label {
        None => {
            if let Some(value) = snapshot.sample.get(metric) {
                out.sample(&name, Labels::None, value * scale);
            }
        }
        Some(label) => {
            let (sample, operands) = (&snapshot.sample, snapshot.plan.operands());
            let told = sample.instances(metric.family()).iter().enumerate();
            for (row, instance) in told.filter(|(row, _)| is_told(operands, sample, metric.family(), *row)) {
                if let Some(value) = snapshot.sample.instance(metric, row) {
                    out.sample(&name, Labels::Pairs(&[(label, instance)]), value * scale);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reading_has_a_name_of_its_own_in_base_units() {
        let names: BTreeSet<String> = Metric::ALL.iter().map(|metric| exported_name(*metric)).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        assert!(names.iter().all(|name| !name.contains("percent") && !name.ends_with("_rate")), "{names:?}");
        for (metric, name) in [
            (Metric::MemoryAvailablePercent, "node_guardian_memory_available_ratio"),
            (Metric::CpuPressureSomeAvg10, "node_guardian_cpu_pressure_some_avg10_ratio"),
            (Metric::NetworkReceiveRate, "node_guardian_network_receive_bytes_per_second"),
            (Metric::DiskAwait, "node_guardian_disk_await_seconds"),
            (Metric::PortEstablished, "node_guardian_connections_port_established"),
            (Metric::GuardianResidentBytes, "node_guardian_self_resident_bytes"),
        ] {
            assert_eq!(exported_name(metric), name);
        }
    }
}
