//! How far each resource is from trouble: every reading that people look at first, and every one that a rule compares,
//! with the nearest threshold of any rule in the direction that is worse. Pure.

use super::shape::{Headroom, Nearest};
use crate::policy::condition::{Comparison, Expression, Function, Relation};
use crate::policy::metric::{Family, Metric, Worse};
use crate::policy::rule::Policy;
use crate::policy::sample::Sample;
use crate::policy::unit::Unit;

/// What is shown even where no rule asks, in the order in which people read.
pub const HEADLINES: [Metric; 11] = [
    Metric::CpuUsedPercent,
    Metric::CpuPressureSomeAvg10,
    Metric::MemoryAvailablePercent,
    Metric::MemoryPressureFullAvg10,
    Metric::MemorySwapUsedPercent,
    Metric::DiskUsedPercent,
    Metric::NetworkLinkUsedPercent,
    Metric::ConnectionsEstablished,
    Metric::ConnectionsUsedPercent,
    Metric::FilesUsedPercent,
    Metric::ProcessesUsedPercent,
];

/// Within a tenth of the scale (of the threshold, where there is no scale) is near.
const NEAR: f64 = 0.1;

pub fn headroom(policy: &Policy, sample: &Sample) -> Vec<Headroom> {
    let thresholds = Threshold::all(policy);
    let others = Metric::ALL.iter().filter(|metric| !HEADLINES.contains(metric));
    let asked =
        others.filter(|metric| thresholds.iter().any(|threshold| threshold.comparison.operand.metric == **metric));
    let mut lines = Vec::new();
    for metric in HEADLINES.iter().chain(asked) {
        match metric.family() {
            Family::Node => lines.push(line(*metric, None, sample.get(*metric), &thresholds)),
            Family::Disk | Family::Network | Family::Port => {
                for (row, name) in sample.instances(metric.family()).iter().enumerate() {
                    lines.push(line(*metric, Some(name), sample.instance(*metric, row), &thresholds));
                }
            }
        }
    }
    lines
}

/// `memory` of `memory.available_percent`; `threads` count as processes.
pub fn resource(metric: Metric) -> &'static str {
    match metric.name().split('.').next() {
        Some("threads") | None => "processes",
        Some(prefix) => prefix,
    }
}

struct Threshold<'a> {
    rule: &'a str,
    severity: &'static str,
    comparison: &'a Comparison,
}

impl<'a> Threshold<'a> {
    fn all(policy: &'a Policy) -> Vec<Self> {
        let mut found = Vec::new();
        for rule in &policy.rules {
            collect(&rule.when.expression, &mut |comparison| {
                found.push(Threshold { rule: &rule.name, severity: rule.severity.name(), comparison });
            });
        }
        found
    }

    fn concerns(&self, metric: Metric, instance: Option<&str>) -> bool {
        let operand = &self.comparison.operand;
        let selected = operand.selector.is_none() || operand.selector.as_deref() == instance;
        operand.metric == metric && selected
    }

    /// What is left until the comparison holds.
    fn room(&self, value: f64) -> f64 {
        match self.comparison.operand.metric.describe().worse {
            Worse::High => self.comparison.threshold - value,
            Worse::Low => value - self.comparison.threshold,
        }
    }
}

/// Comparisons that say "this is bad": a negated one, one in the other direction and one of a rate are not limits of
/// the reading itself.
fn collect<'a>(expression: &'a Expression, found: &mut impl FnMut(&'a Comparison)) {
    match expression {
        Expression::Compare(comparison) if is_limit(comparison) => found(comparison),
        Expression::Compare(_) | Expression::Not(_) => {}
        Expression::And(left, right) | Expression::Or(left, right) => {
            collect(left, found);
            collect(right, found);
        }
    }
}

fn is_limit(comparison: &Comparison) -> bool {
    let towards_worse = match comparison.relation {
        Relation::Greater | Relation::GreaterOrEqual => Worse::High,
        Relation::Less | Relation::LessOrEqual => Worse::Low,
        Relation::Equal | Relation::NotEqual => return false,
    };
    let of_the_reading = match comparison.operand.function {
        None | Some(Function::Average(_) | Function::Maximum(_) | Function::Minimum(_) | Function::Percentile95(_)) => {
            true
        }
        Some(Function::Rate | Function::TimeTo(_)) => false,
    };
    of_the_reading && towards_worse == comparison.operand.metric.describe().worse
}

fn line(metric: Metric, instance: Option<&str>, value: Option<f64>, thresholds: &[Threshold<'_>]) -> Headroom {
    let unit = metric.unit();
    let nearest = value.and_then(|value| nearest(metric, instance, value, thresholds));
    let state = match (value, &nearest) {
        (None, _) => "unknown",
        (Some(_), Some(nearest)) if is_crossed(nearest) => "beyond",
        (Some(_), Some(nearest)) if nearest.room <= NEAR * scale(unit, nearest.threshold) => "near",
        (Some(_), Some(_) | None) => "ok",
    };
    Headroom {
        resource: resource(metric).to_owned(),
        metric: metric.name().to_owned(),
        instance: instance.map(str::to_owned),
        unit: unit.name().to_owned(),
        value,
        shown: value.map_or_else(|| "unknown".to_owned(), |value| unit.show(value).to_string()),
        state: state.to_owned(),
        nearest,
    }
}

/// The threshold that is crossed next; where all are crossed, the one that was crossed last.
fn nearest(metric: Metric, instance: Option<&str>, value: f64, thresholds: &[Threshold<'_>]) -> Option<Nearest> {
    let concerning = || thresholds.iter().filter(|threshold| threshold.concerns(metric, instance));
    let crossed =
        |threshold: &&Threshold<'_>| threshold.comparison.relation.holds(value, threshold.comparison.threshold);
    let by_room = |a: &&Threshold<'_>, b: &&Threshold<'_>| a.room(value).total_cmp(&b.room(value));
    let last_crossed = concerning().filter(crossed).max_by(by_room);
    let threshold = last_crossed.or_else(|| concerning().min_by(by_room))?;
    let unit = metric.unit();
    let Comparison { relation, threshold: limit, .. } = *threshold.comparison;
    let room = threshold.room(value);
    Some(Nearest {
        rule: threshold.rule.to_owned(),
        severity: threshold.severity.to_owned(),
        threshold: limit,
        text: format!("{} {}", relation.symbol(), unit.show(limit)),
        room,
        room_shown: unit.show(room).to_string(),
    })
}

/// On the threshold itself, only `<=` and `>=` count as crossed.
fn is_crossed(nearest: &Nearest) -> bool {
    nearest.room < 0.0 || (nearest.room == 0.0 && nearest.text.contains('='))
}

fn scale(unit: Unit, threshold: f64) -> f64 {
    match unit {
        Unit::Percent => 100.0,
        Unit::Bytes
        | Unit::BytesPerSecond
        | Unit::PerSecond
        | Unit::Count
        | Unit::Seconds
        | Unit::Ratio
        | Unit::Flag => threshold.abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition::{Condition, Operand};
    use crate::policy::rule::{Rule, Severity};
    use std::time::Duration;

    fn rule(name: &str, metric: Metric, relation: Relation, threshold: f64) -> Rule {
        let operand = Operand { metric, selector: None, function: None };
        let expression = Expression::Compare(Comparison { operand, relation, threshold });
        Rule {
            name: name.into(),
            when: Condition { text: String::new(), expression },
            hold_for: Duration::ZERO,
            clear: None,
            clear_for: Duration::ZERO,
            severity: Severity::Warning,
            priority: 1,
            cooldown: Duration::ZERO,
            steps: Vec::new(),
            dry_run: false,
            hints: Vec::new(),
        }
    }

    fn memory_at(percent: f64) -> Headroom {
        let available = Metric::MemoryAvailablePercent;
        let policy = Policy {
            rules: vec![
                rule("critical", available, Relation::Less, 8.0),
                rule("low", available, Relation::Less, 25.0),
                rule("idle", available, Relation::Greater, 70.0),
            ],
            ..Policy::default()
        };
        let mut sample = Sample::default();
        sample.set(available, Some(percent));
        headroom(&policy, &sample).into_iter().find(|line| line.metric == available.name()).unwrap()
    }

    #[test]
    fn the_threshold_that_is_crossed_next_counts_and_a_scale_down_limit_is_none() {
        for (percent, state, rule, room) in [
            (80.0, "ok", "low", 55.0),
            (30.0, "near", "low", 5.0),
            (20.0, "beyond", "low", -5.0),
            (7.0, "beyond", "critical", -1.0),
        ] {
            let line = memory_at(percent);
            let nearest = line.nearest.unwrap();
            assert_eq!((line.state.as_str(), nearest.rule.as_str(), nearest.room), (state, rule, room), "{percent}");
        }
    }
}
