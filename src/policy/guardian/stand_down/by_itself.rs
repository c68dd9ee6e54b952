//! What a metric does by itself: while everything is in force that a ladder has, and nothing changes at that. What it falls
//! to then no step holds, so it is no worse without them; and a growth that goes on then was not held either.

use std::sync::Arc;
use std::time::Duration;

use super::super::super::condition::Operand;
use super::super::super::moment::Moment;
use super::super::super::unit::Unit;

/// Of the way from the threshold to the end of the metric: a fall by less says nothing.
pub const SLIGHTLY: f64 = 0.025;
/// A fall that takes much longer than this is no fall, but another level.
const LATELY: Duration = Duration::from_secs(60);

/// One comparison of a condition: a metric, from where on it is bad, and the direction of that.
#[derive(Clone, Debug)]
pub struct Gauge {
    operand: Arc<Operand>,
    threshold: f64,
    /// +1 where high is bad, -1 where low is.
    sign: f64,
}

impl Gauge {
    #[must_use]
    pub const fn new(operand: Arc<Operand>, threshold: f64, sign: f64) -> Self {
        Self { operand, threshold, sign }
    }

    #[must_use]
    pub fn operand(&self) -> &Operand {
        &self.operand
    }

    /// By how much the first reading is worse than the second.
    #[must_use]
    pub fn worse_by(&self, reading: f64, than: f64) -> f64 {
        self.sign * (reading - than)
    }

    #[must_use]
    pub fn worse_of(&self, reading: f64, other: f64) -> f64 {
        if self.worse_by(reading, other) > 0.0 { reading } else { other }
    }

    #[must_use]
    pub fn is_beyond_threshold(&self, reading: f64) -> bool {
        self.worse_by(reading, self.threshold) > 0.0
    }

    /// The way from the threshold to the end of the metric; to nothing where it has none.
    #[must_use]
    pub fn span(&self) -> f64 {
        (self.end().unwrap_or_default() - self.threshold).abs()
    }

    /// The same from a reading that is nearer to the end: with little left, little counts.
    #[must_use]
    pub fn room(&self, reading: f64) -> f64 {
        self.end().map_or(f64::INFINITY, |end| (end - reading).abs()).min(self.span())
    }

    fn end(&self) -> Option<f64> {
        match (self.sign > 0.0, self.operand.unit()) {
            (true, Unit::Percent) => Some(100.0),
            (true, _) => None,
            (false, _) => Some(0.0),
        }
    }

    fn is_same(&self, other: &Gauge) -> bool {
        self.operand == other.operand && self.sign == other.sign && self.threshold == other.threshold
    }
}

#[derive(Clone, Debug, Default)]
pub struct ByItself {
    swings: Vec<Swing>,
}

#[derive(Clone, Debug)]
struct Swing {
    gauge: Gauge,
    current: Option<Current>,
    /// The worst that it fell to from better, at any time.
    worst: Option<f64>,
}

/// Since everything has been in force.
#[derive(Clone, Copy, Debug)]
struct Current {
    at: Moment,
    reading: f64,
    best: f64,
    /// The same, but forgotten in time.
    best_lately: f64,
}

impl ByItself {
    /// Everything is in force, and this was read.
    pub fn note(&mut self, now: Moment, gauge: &Gauge, reading: f64) {
        match self.swings.iter_mut().find(|swing| swing.gauge.is_same(gauge)) {
            Some(swing) => swing.note(now, reading),
            None => {
                let current = Some(Current::from(now, reading));
                self.swings.push(Swing { gauge: gauge.clone(), current, worst: None });
            }
        }
    }

    /// Something changes at what is in force, or nobody looked: what is read next is no fall from what was read last.
    pub fn interrupt(&mut self) {
        self.swings.iter_mut().for_each(|swing| swing.current = None);
    }

    /// The ladder has other steps: what it did without them says nothing.
    pub fn forget(&mut self) {
        self.swings.clear();
    }

    /// The worst that it fell to by itself.
    #[must_use]
    pub fn worst(&self, gauge: &Gauge) -> Option<f64> {
        self.of(gauge)?.worst
    }

    /// By how much it is worse now than it was at best.
    #[must_use]
    pub fn fall(&self, gauge: &Gauge) -> f64 {
        self.current(gauge).map_or(0.0, |current| gauge.worse_by(current.reading, current.best))
    }

    /// The same within a minute or so.
    #[must_use]
    pub fn fall_lately(&self, gauge: &Gauge) -> f64 {
        self.current(gauge).map_or(0.0, |current| gauge.worse_by(current.reading, current.best_lately))
    }

    fn current(&self, gauge: &Gauge) -> Option<Current> {
        self.of(gauge)?.current
    }

    fn of(&self, gauge: &Gauge) -> Option<&Swing> {
        self.swings.iter().find(|swing| swing.gauge.is_same(gauge))
    }
}

impl Swing {
    fn note(&mut self, now: Moment, reading: f64) {
        let gauge = &self.gauge;
        let current = self.current.get_or_insert(Current::from(now, reading));
        let forgotten = 1.0 - (-now.since(current.at).as_secs_f64() / LATELY.as_secs_f64()).exp();
        let faded = current.best_lately + (reading - current.best_lately) * forgotten;
        let better = |best: f64| if gauge.worse_by(best, reading) > 0.0 { reading } else { best };
        let (best, best_lately) = (better(current.best), better(faded));
        *current = Current { at: now, reading, best, best_lately };
        if gauge.worse_by(reading, best) >= SLIGHTLY * gauge.span() {
            self.worst = Some(self.worst.map_or(reading, |worst| gauge.worse_of(reading, worst)));
        }
    }
}

impl Current {
    const fn from(at: Moment, reading: f64) -> Self {
        Self { at, reading, best: reading, best_lately: reading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::metric::Metric;

    fn gauge() -> Gauge {
        let operand = Operand { metric: Metric::MemoryAvailablePercent, selector: None, function: None };
        Gauge::new(Arc::new(operand), 10.0, -1.0)
    }

    fn noted(readings: &[(u64, f64)]) -> ByItself {
        let mut by_itself = ByItself::default();
        for (second, reading) in readings {
            by_itself.note(Moment::at(Duration::from_secs(*second)), &gauge(), *reading);
        }
        by_itself
    }

    #[test]
    fn what_it_falls_to_is_kept_and_what_it_only_was_at_is_not() {
        assert_eq!(noted(&[(0, 7.0), (10, 7.1), (20, 14.0)]).worst(&gauge()), None);
        let mut fallen = noted(&[(0, 9.0), (10, 7.0), (20, 14.0), (30, 8.0)]);
        assert_eq!(fallen.worst(&gauge()), Some(7.0));
        fallen.interrupt();
        assert_eq!(fallen.fall(&gauge()), 0.0);
        fallen.note(Moment::at(Duration::from_secs(40)), &gauge(), 5.0);
        assert_eq!(fallen.worst(&gauge()), Some(7.0), "it was 5 from the start");
        fallen.forget();
        assert_eq!(fallen.worst(&gauge()), None);
    }

    #[test]
    fn what_sinks_for_an_hour_is_no_fall() {
        let sinking: Vec<_> = (0..3600).map(|second| (second, 9.0 - second as f64 / 1800.0)).collect();
        assert!(noted(&sinking).fall_lately(&gauge()) < 0.1);
        assert!(noted(&sinking).fall(&gauge()) > 1.9);
        assert!(noted(&[(0, 14.0), (10, 11.0), (20, 8.0)]).fall_lately(&gauge()) > 4.0);
    }
}
