//! `/health` as `application/health+json` (draft-inadarei-api-health-check-06): one word for machines, and for each
//! resource what was seen. A check is as bad as the worst firing rule that looks at its metric.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;

use super::attention::{Weight, points};
use super::headroom::headroom;
use super::pulse::Pulse;
use super::shape::Headroom;
use super::summary::{excuse, rfc3339};
use crate::policy::event::Mode;
use crate::policy::metric::Metric;
use crate::policy::rule::{Rule, Severity};
use crate::policy::view::State;
use crate::status::Snapshot;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pass,
    Warn,
    Fail,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health<'a> {
    status: Status,
    version: &'static str,
    release_id: &'static str,
    service_id: &'a str,
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
    checks: BTreeMap<String, Vec<Check>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    #[serde(skip_serializing_if = "Option::is_none")]
    component_id: Option<String>,
    component_type: &'static str,
    observed_value: Option<f64>,
    observed_unit: String,
    status: Status,
    time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
}

pub fn render(snapshot: &Snapshot, pulse: &Pulse) -> (StatusCode, String) {
    let checks = checks(snapshot);
    let (status, output) = overall(snapshot, pulse);
    let health = Health {
        status,
        version: "1",
        release_id: env!("CARGO_PKG_VERSION"),
        service_id: &snapshot.facts.host,
        description: description(snapshot),
        output,
        checks,
    };
    let code = if status == Status::Fail { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut body = serde_json::to_string(&health).unwrap_or_else(|_| "{\"status\":\"fail\"}".to_owned());
    body.push('\n');
    (code, body)
}

fn overall(snapshot: &Snapshot, pulse: &Pulse) -> (Status, String) {
    let firing = firing(snapshot);
    let alarms = names(firing.iter().filter(|rule| rule.is_alarm()));
    let alarms = if alarms.is_empty() { "no rule fires any more, and it is held for a while" } else { &alarms };
    let warns = names(firing.iter().filter(|rule| rule.severity >= Severity::Warning));
    if pulse.late() {
        (Status::Fail, format!("the last tick was {:.1} s ago", pulse.age.as_secs_f64()))
    } else if let Some(why) = &snapshot.hanging {
        (Status::Fail, why.to_string())
    } else if snapshot.tick == 0 {
        (Status::Fail, "no sample yet".to_owned())
    } else if let Some(excuse) = excuse(snapshot) {
        (Status::Warn, format!("emergency: {alarms} ({excuse})"))
    } else if snapshot.view.mode == Mode::Emergency {
        (Status::Fail, format!("emergency: {alarms}"))
    } else if snapshot.view.mode == Mode::Recovering {
        (Status::Warn, "recovering from an emergency".to_owned())
    } else if let Some(warnings) = warnings(snapshot) {
        (Status::Warn, warnings)
    } else if !warns.is_empty() {
        (Status::Warn, format!("firing: {warns}"))
    } else {
        (Status::Pass, String::new())
    }
}

/// `node-guardian: mode normal, 2 in force, 1 owed`
fn description(snapshot: &Snapshot) -> String {
    let mut told = format!("node-guardian: mode {}", snapshot.view.mode);
    for point in points(snapshot) {
        told.push_str(", ");
        told.push_str(&point.text);
    }
    told
}

fn warnings(snapshot: &Snapshot) -> Option<String> {
    let points = points(snapshot).into_iter().filter(|point| point.weight == Weight::Warns);
    let told = points.map(|point| point.text).collect::<Vec<_>>().join("; ");
    (!told.is_empty()).then(|| format!("{told}; see /status"))
}

fn firing(snapshot: &Snapshot) -> Vec<&Rule> {
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    rules.filter(|(_, view)| view.state == State::Firing).map(|(rule, _)| rule).collect()
}

fn names<'a>(rules: impl Iterator<Item = &'a &'a Rule>) -> String {
    let told = rules.map(|rule| if rule.dry_run { format!("{} (dry run)", rule.name) } else { rule.name.to_string() });
    told.collect::<Vec<_>>().join(", ")
}

fn checks(snapshot: &Snapshot) -> BTreeMap<String, Vec<Check>> {
    let time = rfc3339(snapshot.unix_ms);
    let mut checks: BTreeMap<String, Vec<Check>> = BTreeMap::new();
    for line in headroom(snapshot) {
        if line.value.is_none() {
            continue;
        }
        let (status, output) = verdict(snapshot, &line);
        let (resource, measure) = line.metric.split_once('.').unwrap_or((&line.resource, &line.metric));
        let check = Check {
            component_id: line.instance.clone(),
            component_type: "system",
            observed_value: line.value.map(|value| (value * 1000.0).round() / 1000.0),
            observed_unit: line.unit.clone(),
            status,
            time: time.clone(),
            output,
        };
        checks.entry(format!("{resource}:{measure}")).or_default().push(check);
    }
    checks
}

fn verdict(snapshot: &Snapshot, line: &Headroom) -> (Status, String) {
    let metric = Metric::ALL.iter().copied().find(|metric| metric.name() == line.metric);
    let rules = snapshot.plan.policy.rules.iter().zip(&snapshot.view.rules);
    let concerned = rules.filter(|(rule, view)| {
        view.state == State::Firing
            && metric.is_some_and(|metric| rule.when.expression.metrics().any(|known| known == metric))
    });
    match concerned.map(|(rule, _)| rule).max_by_key(|rule| rule.severity) {
        Some(rule) if line.state == "beyond" => match rule.severity {
            Severity::Emergency => (Status::Fail, format!("rule {} fires", rule.name)),
            Severity::Warning => (Status::Warn, format!("rule {} fires", rule.name)),
            Severity::Info => (Status::Pass, String::new()),
        },
        Some(_) | None => (Status::Pass, String::new()),
    }
}
