//! Which ports the trouble of a rule is about. A rule is about ports where all that it says of connections is; what cannot
//! be told apart is the node's.

use std::time::Duration;

use super::condition::{Comparison, Expression, Relation};
use super::metric::{Family, Metric, Worse};
use super::moment::Moment;
use super::program::Program;
use super::reading::Reading;
use super::resource::Resource;
use super::sample::Sample;
use super::verdict::Verdict;

/// What one comparison of a condition says about ports.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Spot {
    /// It is about something else than connections.
    Elsewhere,
    Port(u16),
    /// The worst of all ports: those for which this holds.
    Worst(Metric, Relation, f64),
    /// Whichever listener dropped requests of late: the kernel's own sum names none.
    Dropping,
}

/// Which ports a rule is about, compiled; none where it is about the node.
#[derive(Clone, Debug, Default)]
pub struct Spots(Vec<Spot>);

impl Spots {
    /// In the order of the expression's comparisons.
    #[must_use]
    pub fn of(expression: &Expression) -> Self {
        let spots: Option<Vec<Spot>> = expression.comparisons().into_iter().map(spot).collect();
        let is_about_ports = |spots: &Vec<Spot>| spots.iter().any(|spot| *spot != Spot::Elsewhere);
        Self(spots.filter(is_about_ports).unwrap_or_default())
    }
}

/// `None`: it is about the connections of the node as a whole.
fn spot(comparison: &Comparison) -> Option<Spot> {
    let Comparison { operand, relation, threshold } = comparison;
    match (operand.metric, &operand.selector) {
        (Metric::ConnectionsListenOverflowRate | Metric::ConnectionsListenDropsRate, _) => Some(Spot::Dropping),
        (metric, Some(port)) if metric.family() == Family::Port => port.parse().ok().map(Spot::Port),
        (metric, None) if metric.family() == Family::Port => Some(Spot::Worst(metric, *relation, *threshold)),
        (metric, _) if metric.resource() == Some(Resource::Connections) => None,
        _ => Some(Spot::Elsewhere),
    }
}

/// The built-in rule looks back a minute, and clears after another one.
const OF_LATE: Duration = Duration::from_secs(120);

/// The ports that the rules' trouble is about, as last seen.
#[derive(Debug, Default)]
pub struct Troubles {
    /// When each was last seen to drop requests.
    dropping: Vec<(u16, Moment)>,
    /// In the order of the plan's rules; empty where it is the node's, or cannot be told.
    rules: Vec<Vec<u16>>,
    /// Of some rule it can be told.
    is_told: bool,
}

impl Troubles {
    #[must_use]
    pub fn of_each(rules: usize) -> Self {
        Self { rules: vec![Vec::new(); rules], ..Self::default() }
    }

    /// Another plan: what was seen of listeners stays known.
    pub fn expect(&mut self, rules: usize) {
        (self.rules, self.is_told) = (vec![Vec::new(); rules], false);
    }

    /// No rule fires.
    pub fn rest(&mut self) {
        if std::mem::take(&mut self.is_told) {
            self.rules.iter_mut().for_each(Vec::clear);
        }
    }

    /// The ports of this rule's trouble.
    #[must_use]
    pub fn of(&self, rule: usize) -> &[u16] {
        self.rules.get(rule).map_or(&[], Vec::as_slice)
    }

    /// In the order of the plan's rules; nothing where it can be told of none.
    #[must_use]
    pub fn all(&self) -> &[Vec<u16>] {
        if self.is_told { &self.rules } else { &[] }
    }

    /// Notes which listeners drop requests.
    pub fn watch(&mut self, sample: &Sample) {
        let now = sample.at;
        self.dropping.retain(|(_, at)| now.since(*at) < OF_LATE);
        for (row, name) in sample.instances(Family::Port).iter().enumerate() {
            let drops = sample.instance(Metric::PortListenDropsRate, row).is_some_and(|rate| rate > 0.0);
            let Some(port) = name.parse::<u16>().ok().filter(|_| drops) else { continue };
            match self.dropping.iter_mut().find(|(known, _)| *known == port) {
                Some((_, at)) => *at = now,
                None => self.dropping.push((port, now)),
            }
        }
    }

    /// Finds out what the trouble of a firing rule is about.
    pub fn find(&mut self, rule: usize, spots: &Spots, when: &Program, readings: &[Reading], sample: &Sample) {
        let Some(ports) = self.rules.get_mut(rule) else { return };
        ports.clear();
        for (spot, compare) in spots.0.iter().zip(when.comparisons()) {
            match *spot {
                Spot::Elsewhere => {}
                Spot::Port(port) if compare.evaluate(readings) == Verdict::True => ports.push(port),
                Spot::Port(_) => {}
                Spot::Worst(metric, relation, threshold) => worst(sample, metric, (relation, threshold), ports),
                // None of them known: it may be any.
                Spot::Dropping if self.dropping.is_empty() => return ports.clear(),
                Spot::Dropping => ports.extend(self.dropping.iter().map(|(port, _)| *port)),
            }
        }
        if ports.is_empty() {
            ports.extend(spots.0.iter().filter_map(named));
        }
        ports.sort_unstable();
        ports.dedup();
        self.is_told |= !ports.is_empty();
    }
}

const fn named(spot: &Spot) -> Option<u16> {
    match spot {
        Spot::Port(port) => Some(*port),
        Spot::Elsewhere | Spot::Worst(..) | Spot::Dropping => None,
    }
}

/// The ports for which it holds now; where a function of time looks at more than now, the worst one.
fn worst(sample: &Sample, metric: Metric, (relation, threshold): (Relation, f64), ports: &mut Vec<u16>) {
    let names = sample.instances(Family::Port);
    let read = names
        .iter()
        .enumerate()
        .filter_map(|(row, name)| Some((name.parse::<u16>().ok()?, sample.instance(metric, row)?)));
    let before = ports.len();
    ports.extend(read.clone().filter(|(_, value)| relation.holds(*value, threshold)).map(|(port, _)| port));
    if ports.len() == before {
        let is_worse = |value: f64, than: f64| match metric.describe().worse {
            Worse::High => value > than,
            Worse::Low => value < than,
        };
        let worst = read.reduce(|worst, next| if is_worse(next.1, worst.1) { next } else { worst });
        ports.extend(worst.map(|(port, _)| port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition;
    use crate::policy::plan::Plan;
    use crate::policy::rule::{Policy, Rule};
    use crate::policy::severity::Severity;
    use crate::policy::slots::Slots;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    /// Backlogs and drops of ports 80 and 8080.
    fn sample(seconds: u64, backlogs: [f64; 2], drops: [f64; 2]) -> Sample {
        let mut sample = Sample::new(at(seconds));
        sample.set_instances(Family::Port, &["80", "8080"]);
        for row in 0..2 {
            sample.set_instance(Metric::PortBacklogPercent, row, Some(backlogs[row]));
            sample.set_instance(Metric::PortListenDropsRate, row, Some(drops[row]));
        }
        sample
    }

    /// What the trouble of this condition is about, after these samples.
    fn about(when: &str, samples: &[Sample]) -> Vec<u16> {
        let rule = Rule {
            name: "port".into(),
            when: condition::parse(when).unwrap(),
            hold_for: Duration::ZERO,
            clear: None,
            clear_for: Duration::ZERO,
            severity: Severity::Warning,
            priority: 0,
            cooldown: Duration::ZERO,
            steps: Vec::new(),
            dry_run: false,
            hints: Vec::new(),
        };
        let plan = Plan::new(Policy { rules: vec![rule], ..Policy::default() });
        let (mut slots, mut troubles) = (Slots::new(&plan), Troubles::of_each(1));
        for sample in samples {
            slots.refresh(sample);
            troubles.watch(sample);
            let programs = &plan.programs()[0];
            troubles.find(0, &programs.spots, &programs.when, slots.readings(), sample);
        }
        troubles.of(0).to_vec()
    }

    #[test]
    fn a_condition_that_names_a_port_is_about_it() {
        let one = |when: &str| about(when, &[sample(1, [90.0, 10.0], [0.0, 0.0])]);
        assert_eq!(one("connections[\"8080\"].backlog_percent > 5%"), [8080]);
        assert_eq!(
            one("connections[\"80\"].backlog_percent > 50% or connections[\"8080\"].backlog_percent > 50%"),
            [80]
        );
        assert_eq!(one("not (connections[\"8080\"].backlog_percent < 5%)"), [8080], "also where no comparison holds");
        assert_eq!(one("connections[\"8080\"].backlog_percent > 5% and cpu.used_percent > 1%"), [8080]);
        for node in ["connections.used_percent > 90%", "cpu.used_percent > 1%"] {
            assert_eq!(one(node), [0; 0], "{node}");
            let either = format!("connections[\"8080\"].backlog_percent > 5% or {node}");
            assert_eq!(one(&either).is_empty(), node.starts_with("connections"), "{either}");
        }
    }

    #[test]
    fn the_worst_port_is_the_one_that_it_is_about() {
        let one = |when: &str| about(when, &[sample(1, [40.0, 10.0], [0.0, 0.0])]);
        assert_eq!(one("connections.backlog_percent > 5%"), [80, 8080]);
        assert_eq!(one("connections.backlog_percent > 20%"), [80]);
        assert_eq!(one("max(connections.backlog_percent, 30s) > 50%"), [80]);
    }

    #[test]
    fn an_overflow_is_about_whoever_dropped_requests_of_late() {
        let when = "avg(connections.listen_overflow_rate, 60s) > 5/s";
        let quiet = |seconds| sample(seconds, [0.0; 2], [0.0; 2]);
        assert_eq!(about(when, &[quiet(1)]), [0; 0], "nobody knows");
        let dropped = sample(1, [0.0; 2], [0.0, 3.0]);
        assert_eq!(about(when, std::slice::from_ref(&dropped)), [8080]);
        assert_eq!(about(when, &[dropped.clone(), quiet(61)]), [8080]);
        assert_eq!(about(when, &[dropped.clone(), sample(61, [0.0; 2], [3.0, 0.0])]), [80, 8080]);
        assert_eq!(about(when, &[dropped, quiet(121)]), [0; 0]);
    }
}
