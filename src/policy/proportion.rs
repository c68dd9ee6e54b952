//! Throttling by how far beyond its threshold a rule's metric is: at once where it gets worse, slowly where it gets
//! better, in steps that noise does not cross. Pure numbers; who may touch a knob is decided elsewhere.

use std::time::Duration;

use super::condition::{Comparison, Expression, Relation};
use super::moment::Moment;
use super::program::Compare;
use super::range::{NOTCH, ROUNDING, Range};
use super::reading::Reading;
use super::unit::Unit;
use super::verdict::Verdict;

/// How far beyond its thresholds a condition is.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Beyond {
    /// 0 at the threshold, 1 at the far end; the largest of the comparisons that hold.
    pub share: f64,
    /// Some comparison could not be read: it may be further than this.
    pub incomplete: bool,
}

/// One comparison with the distance from its threshold to where the metric ends.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    compare: Compare,
    span: f64,
}

impl Measure {
    /// Those of a condition that something can be measured by.
    pub fn all(expression: &Expression, slot_of: &mut impl FnMut(&Comparison) -> usize) -> Vec<Measure> {
        let mut measures = Vec::new();
        collect(expression, Sense::Straight, &mut |comparison, relation| {
            if let Some(span) = span(comparison, relation) {
                let compare = Compare::new(slot_of(comparison), relation, comparison);
                measures.push(Measure { compare, span });
            }
        });
        measures
    }
}

/// Whether a condition says how far beyond it something is.
#[must_use]
pub fn is_measurable(expression: &Expression) -> bool {
    let mut found = false;
    collect(expression, Sense::Straight, &mut |comparison, relation| found |= span(comparison, relation).is_some());
    found
}

#[must_use]
pub fn beyond(measures: &[Measure], readings: &[Reading]) -> Beyond {
    let mut beyond = Beyond::default();
    for Measure { compare, span } in measures {
        match compare.evaluate(readings) {
            Verdict::True => {
                let distance = (readings[compare.slot].value - compare.threshold).abs() / span;
                beyond.share = beyond.share.max(distance.min(1.0));
            }
            Verdict::False => {}
            Verdict::Unknown => beyond.incomplete = true,
        }
    }
    beyond
}

/// Whether an odd number of `not`s stands before it.
#[derive(Clone, Copy, PartialEq)]
enum Sense {
    Straight,
    Inverted,
}

fn collect(expression: &Expression, sense: Sense, found: &mut impl FnMut(&Comparison, Relation)) {
    match expression {
        Expression::Compare(comparison) => {
            let inverted = comparison.relation.opposite();
            found(comparison, if sense == Sense::Straight { comparison.relation } else { inverted });
        }
        Expression::Not(inner) => {
            let other = if sense == Sense::Straight { Sense::Inverted } else { Sense::Straight };
            collect(inner, other, found);
        }
        Expression::And(left, right) | Expression::Or(left, right) => {
            collect(left, sense, found);
            collect(right, sense, found);
        }
    }
}

/// A percentage ends at 0 or 100. What has no end is far beyond at twice its threshold, or where nothing is left.
fn span(comparison: &Comparison, relation: Relation) -> Option<f64> {
    let threshold = comparison.threshold;
    let percent = comparison.operand.unit() == Unit::Percent;
    let span = match relation {
        Relation::Greater | Relation::GreaterOrEqual if percent => 100.0 - threshold,
        Relation::Greater | Relation::GreaterOrEqual | Relation::Less | Relation::LessOrEqual => threshold.abs(),
        Relation::Equal | Relation::NotEqual => return None,
    };
    (span > 0.0).then_some(span)
}

/// Since when less would do, and the most that was needed since.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lull {
    since: Moment,
    strongest: f64,
}

/// What is to be kept next. Strengthens at once; loosens to the most that was needed in a `settle` in which a notch less
/// would always have done, and then at most to `most`.
#[must_use]
pub fn follow(range: Range, held: Held, now: Moment, beyond: Beyond, lull: &mut Option<Lull>) -> f64 {
    let target = range.at(beyond.share);
    let notch = range.notch(target);
    if notch < held.kept {
        *lull = None;
        return notch;
    }
    if beyond.incomplete || target + ROUNDING < (held.kept + NOTCH).min(range.gentle()) || held.kept >= range.gentle() {
        *lull = None;
        return held.kept;
    }
    let seen = lull.get_or_insert(Lull { since: now, strongest: notch });
    seen.strongest = seen.strongest.min(notch);
    if now.since(seen.since) < held.settle {
        return held.kept;
    }
    let kept = seen.strongest.min(held.most);
    *lull = None;
    kept
}

/// What a step keeps now.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub kept: f64,
    pub settle: Duration,
    /// How far one change may loosen it.
    pub most: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition::parse;
    use proptest::prelude::*;

    const SETTLE: Duration = Duration::from_secs(3);

    fn beyond_of(condition: &str, values: &[f64]) -> Beyond {
        let mut slots = 0..;
        let measures = Measure::all(&parse(condition).unwrap().expression, &mut |_| slots.next().unwrap());
        let reading = |value: &f64| Reading { value: *value, incomplete: value.is_nan() };
        beyond(&measures, &values.iter().map(reading).collect::<Vec<_>>())
    }

    #[test]
    fn how_far_is_the_way_to_the_end_of_the_metric() {
        let share = |condition, value| beyond_of(condition, &[value]).share;
        assert_eq!(share("memory.available_percent < 8%", 2.0), 0.75);
        assert_eq!(share("memory.available_percent < 8%", 9.0), 0.0);
        assert_eq!(share("cpu.used_percent > 90%", 95.0), 0.5);
        assert_eq!(share("not (cpu.used_percent < 90%)", 95.0), 0.5);
        assert_eq!(share("connections.established > 1000", 1500.0), 0.5);
        assert_eq!(share("connections.established > 1000", 9000.0), 1.0);
        assert_eq!(share("memory.available_bytes < 512MiB", 134_217_728.0), 0.75);
        assert_eq!(share("time_to(disk.used_percent, 98%) < 2h", 3600.0), 0.5);
        assert_eq!(share("cpu.load1_per_core > 2", f64::INFINITY), 1.0);
    }

    #[test]
    fn the_furthest_comparison_that_holds_counts_and_an_unread_one_is_told() {
        let condition = "memory.used_percent > 90% or memory.pressure.full.avg10 > 20%";
        assert_eq!(beyond_of(condition, &[92.0, 60.0]), Beyond { share: 0.5, incomplete: false });
        assert_eq!(beyond_of(condition, &[92.0, f64::NAN]), Beyond { share: 0.2, incomplete: true });
    }

    #[test]
    fn some_conditions_say_nothing_about_how_far() {
        let measurable = |text| is_measurable(&parse(text).unwrap().expression);
        for text in ["disk.read_only == true", "rate(memory.oom_kills) > 0/s", "cpu.used_percent >= 100%"] {
            assert!(!measurable(text), "{text}");
        }
        assert!(measurable("disk.read_only == true or cpu.used_percent > 90%"));
    }

    fn held(kept: f64) -> Held {
        Held { kept, settle: SETTLE, most: 100.0 }
    }

    fn at(seconds: f64) -> Moment {
        Moment::at(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn it_strengthens_at_once_and_loosens_when_it_has_been_calm() {
        let range = Range::new(90.0, 20.0).unwrap();
        let beyond = |share| Beyond { share, incomplete: false };
        let mut lull = None;
        assert_eq!(range.first(0.0), 90.0);
        assert_eq!(follow(range, held(90.0), at(0.0), beyond(0.5), &mut lull), 55.0);
        assert_eq!(follow(range, held(55.0), at(0.1), beyond(1.0), &mut lull), 20.0);
        assert_eq!(follow(range, held(20.0), at(1.0), beyond(0.2), &mut lull), 20.0);
        assert_eq!(follow(range, held(20.0), at(3.0), beyond(0.4), &mut lull), 20.0);
        assert_eq!(follow(range, held(20.0), at(4.0), beyond(0.2), &mut lull), 65.0);
        assert_eq!(follow(range, Held { most: 40.0, ..held(20.0) }, at(4.0), beyond(0.2), &mut lull), 20.0);
        assert_eq!(follow(range, Held { most: 40.0, ..held(20.0) }, at(7.0), beyond(0.2), &mut lull), 40.0);
    }

    fn ranges() -> impl Strategy<Value = Range> {
        (0.0..95.0_f64, 1.0..100.0_f64)
            .prop_filter_map("a range", |(harsh, width)| Range::new((harsh + width).min(100.0), harsh))
    }

    proptest! {
        #[test]
        fn it_stays_within_its_range_and_never_loosens_before_its_time(
            range in ranges(),
            shares in prop::collection::vec((0.0..1.5_f64, any::<bool>()), 1..200),
        ) {
            let (mut kept, mut lull) = (range.first(shares[0].0), None);
            let mut needed_at = 0.0;
            for (tick, (share, incomplete)) in shares.into_iter().enumerate() {
                let now = tick as f64 * 0.5;
                let beyond = Beyond { share, incomplete };
                let next = follow(range, held(kept), at(now), beyond, &mut lull);
                prop_assert!((range.harsh()..=range.gentle()).contains(&next), "{next}");
                prop_assert!(next <= range.notch(range.at(share)).max(kept));
                if next > kept {
                    prop_assert!(now - needed_at >= SETTLE.as_secs_f64());
                    prop_assert!(!incomplete);
                }
                if incomplete || range.at(share) < kept + NOTCH && range.at(share) < range.gentle() || next != kept {
                    needed_at = now;
                }
                kept = next;
            }
        }

        #[test]
        fn noise_of_less_than_a_notch_moves_nothing_twice(
            range in ranges(),
            around in 0.0..1.0_f64,
            noise in prop::collection::vec(0.0..0.95_f64, 10..200),
        ) {
            let width = range.gentle() - range.harsh();
            let (mut kept, mut lull, mut loosened) = (range.first(around), None, 0);
            for (tick, noise) in noise.into_iter().enumerate() {
                let share = around + noise * NOTCH / width;
                let beyond = Beyond { share, incomplete: false };
                let next = follow(range, held(kept), at(tick as f64), beyond, &mut lull);
                loosened += usize::from(next > kept);
                kept = next;
            }
            prop_assert_eq!(loosened, 0);
        }

        #[test]
        fn what_stays_where_it_is_comes_to_rest_within_a_notch(range in ranges(), start in 0.0..1.0_f64, share in 0.0..1.0_f64) {
            let (mut kept, mut lull) = (range.first(start), None);
            let beyond = Beyond { share, incomplete: false };
            let mut changes = 0;
            for tick in 0..100 {
                let next = follow(range, held(kept), at(f64::from(tick)), beyond, &mut lull);
                changes += usize::from(next != kept);
                kept = next;
            }
            prop_assert!(changes <= 1);
            prop_assert!((kept - range.at(share)).abs() <= NOTCH + ROUNDING, "{kept} {}", range.at(share));
        }
    }
}
