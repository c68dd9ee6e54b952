//! How far each resource is from trouble: every reading that people look at first, and every one that a rule compares,
//! with the nearest threshold of any rule in the direction that is worse. Pure.

use std::sync::Arc;

use super::shape::{Headroom, Nearest};
use crate::policy::condition::{Comparison, Expression, Function, Operand, Relation};
use crate::policy::family::Selector;
use crate::policy::metric::{Family, Metric, Worse};
use crate::policy::rule::Policy;
use crate::policy::sample::Sample;
use crate::policy::unit::Unit;
use crate::status::Snapshot;

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

pub fn headroom(snapshot: &Snapshot) -> Vec<Headroom> {
    let Snapshot { plan, view, sample, .. } = snapshot;
    let operands = plan.operands();
    let slot = |operand: &Operand| plan.operands().iter().position(|known| **known == *operand);
    lines(&plan.policy, operands, sample, |operand| *view.slots.get(slot(operand)?)?)
}

/// Of the ports that are listened on, who reads wants those that a rule names, and those in trouble that a rule may be about.
#[must_use]
pub fn is_told(operands: &[Arc<Operand>], sample: &Sample, family: Family, row: usize) -> bool {
    if family != Family::Port {
        return true;
    }
    let mut asked = operands.iter().filter(|operand| operand.metric.family() == family);
    let is_worst = asked.any(|operand| operand.selector.is_none());
    let has = |metric| sample.instance(metric, row).is_some_and(|value| value > 0.0);
    // Connections are counted of those that a rule names, and of no others.
    let is_named = sample.instance(Metric::PortEstablished, row).is_some();
    is_named || has(Metric::PortListenDropsRate) || is_worst && has(Metric::PortBacklogPercent)
}

fn lines(
    policy: &Policy,
    operands: &[Arc<Operand>],
    sample: &Sample,
    windowed: impl Fn(&Operand) -> Option<f64>,
) -> Vec<Headroom> {
    let thresholds = Threshold::all(policy, windowed);
    let others = Metric::ALL.iter().filter(|metric| !HEADLINES.contains(metric));
    let asked =
        others.filter(|metric| thresholds.iter().any(|threshold| threshold.comparison.operand.metric == **metric));
    let mut lines = Vec::new();
    for metric in HEADLINES.iter().chain(asked) {
        match metric.family().selector() {
            Selector::Nothing => lines.push(line(*metric, None, sample.get(*metric), &thresholds)),
            Selector::Path | Selector::Name | Selector::Port => {
                let told = sample.instances(metric.family()).iter().enumerate();
                for (row, name) in told.filter(|(row, _)| is_told(operands, sample, metric.family(), *row)) {
                    lines.push(line(*metric, Some(name), sample.instance(*metric, row), &thresholds));
                }
            }
            // Numbers have nothing in common but their unit: each is asked for by its name.
            Selector::Reported => {
                let asked = |name: &str| thresholds.iter().any(|threshold| threshold.concerns(*metric, Some(name)));
                for (row, name) in sample.instances(Family::App).iter().enumerate().filter(|(_, name)| asked(name)) {
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
    seen: Seen,
}

/// What a comparison looks at.
#[derive(Clone, Copy)]
enum Seen {
    Reading,
    /// A function of the last while, which the policy has computed.
    Window(f64),
}

impl<'a> Threshold<'a> {
    /// Without those whose window has not filled yet.
    fn all(policy: &'a Policy, windowed: impl Fn(&Operand) -> Option<f64>) -> Vec<Self> {
        let mut found = Vec::new();
        for rule in &policy.rules {
            collect(&rule.when.expression, &mut |comparison| {
                let seen = match comparison.operand.function {
                    None => Some(Seen::Reading),
                    Some(_) => windowed(&comparison.operand).map(Seen::Window),
                };
                let (rule, severity) = (&*rule.name, rule.severity.name());
                found.extend(seen.map(|seen| Threshold { rule, severity, comparison, seen }));
            });
        }
        found
    }

    fn concerns(&self, metric: Metric, instance: Option<&str>) -> bool {
        let operand = &self.comparison.operand;
        let selected = operand.selector.is_none() || operand.selector.as_deref() == instance;
        operand.metric == metric && selected
    }

    fn value(&self, reading: f64) -> f64 {
        match self.seen {
            Seen::Reading => reading,
            Seen::Window(value) => value,
        }
    }

    fn is_crossed(&self, reading: f64) -> bool {
        self.comparison.relation.holds(self.value(reading), self.comparison.threshold)
    }

    /// What is left until the comparison holds.
    fn room(&self, reading: f64) -> f64 {
        match self.comparison.operand.metric.describe().worse {
            Worse::High => self.comparison.threshold - self.value(reading),
            Worse::Low => self.value(reading) - self.comparison.threshold,
        }
    }

    fn over(&self) -> Option<String> {
        let (name, window) = match self.comparison.operand.function? {
            Function::Average(window) => ("avg", window),
            Function::Maximum(window) => ("max", window),
            Function::Minimum(window) => ("min", window),
            Function::Percentile95(window) => ("p95", window),
            Function::Rate | Function::TimeTo(_) => return None,
        };
        Some(format!("{name} {}s", window.as_secs_f64()))
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
    let nearest = value.and_then(|value| nearest(metric, instance, value, thresholds).map(|found| (found, value)));
    let state = match &nearest {
        _ if value.is_none() => "unknown",
        Some((found, value)) if found.is_crossed(*value) => "beyond",
        Some((found, value)) if found.room(*value) <= NEAR * scale(unit, found.comparison.threshold) => "near",
        Some(_) | None => "ok",
    };
    Headroom {
        resource: resource(metric).to_owned(),
        metric: metric.name().to_owned(),
        instance: instance.map(str::to_owned),
        unit: unit.name().to_owned(),
        value,
        shown: value.map_or_else(|| "unknown".to_owned(), |value| unit.show(value).to_string()),
        state: state.to_owned(),
        nearest: nearest.map(|(found, value)| describe(found, value)),
    }
}

/// The threshold that is crossed next; where some are crossed, the one that was crossed last.
fn nearest<'a>(
    metric: Metric,
    instance: Option<&str>,
    value: f64,
    thresholds: &'a [Threshold<'a>],
) -> Option<&'a Threshold<'a>> {
    let concerning = || thresholds.iter().filter(|threshold| threshold.concerns(metric, instance));
    let by_room = |a: &&Threshold<'_>, b: &&Threshold<'_>| a.room(value).total_cmp(&b.room(value));
    let last_crossed = concerning().filter(|threshold| threshold.is_crossed(value)).max_by(by_room);
    last_crossed.or_else(|| concerning().min_by(by_room))
}

fn describe(found: &Threshold<'_>, value: f64) -> Nearest {
    let Comparison { relation, threshold, .. } = *found.comparison;
    let (unit, room) = (found.comparison.operand.metric.unit(), found.room(value));
    Nearest {
        rule: found.rule.to_owned(),
        severity: found.severity.to_owned(),
        threshold,
        text: format!("{} {}", relation.symbol(), unit.show(threshold)),
        over: found.over(),
        room,
        room_shown: unit.show(room).to_string(),
    }
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
    use crate::policy::condition::Condition;
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
        lines(&policy, &[], &sample, |_| Some(90.0)).into_iter().find(|line| line.metric == available.name()).unwrap()
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
            assert_eq!(line.nearest.as_ref().unwrap().over, None);
            let nearest = line.nearest.unwrap();
            assert_eq!((line.state.as_str(), nearest.rule.as_str(), nearest.room), (state, rule, room), "{percent}");
        }
    }

    #[test]
    fn an_average_is_compared_as_an_average() {
        let mut high = rule("cpu-high", Metric::CpuUsedPercent, Relation::Greater, 95.0);
        let Expression::Compare(comparison) = &mut high.when.expression else { unreachable!() };
        comparison.operand.function = Some(Function::Average(Duration::from_secs(10)));
        let policy = Policy { rules: vec![high], ..Policy::default() };
        let mut sample = Sample::default();
        sample.set(Metric::CpuUsedPercent, Some(100.0));
        let cpu = |windowed: Option<f64>| lines(&policy, &[], &sample, |_| windowed).swap_remove(0);
        assert_eq!((cpu(Some(60.0)).state.as_str(), cpu(Some(96.0)).state.as_str()), ("ok", "beyond"));
        let nearest = cpu(Some(60.0)).nearest.unwrap();
        assert_eq!((nearest.over.as_deref(), nearest.room), (Some("avg 10s"), 35.0));
        assert_eq!(cpu(None).nearest, None);
    }
}
