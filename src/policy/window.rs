//! A metric seen through time, in constant space: windows of 60 buckets, and the change per second. What was not
//! covered by readings does not count, so a window that is still filling is unknown rather than wrong.

use std::time::Duration;

use super::moment::Moment;

const BUCKETS: usize = 60;
/// A window speaks once this much of it was observed.
const COVERED: f64 = 0.9;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    weight: f64,
    sum: f64,
    lowest: f64,
    highest: f64,
}

/// Time-weighted, so that a fast pace does not count more than a calm one. The resolution is a sixtieth of the span.
#[derive(Clone, Debug)]
pub struct Window {
    span: Duration,
    buckets: [Bucket; BUCKETS],
    /// Absolute number of the newest bucket: time divided by the bucket's length.
    newest: u64,
    last: Option<Moment>,
}

impl Window {
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { span, buckets: [Bucket::default(); BUCKETS], newest: 0, last: None }
    }

    /// The reading held since the last call. A missing one leaves a gap.
    pub fn push(&mut self, now: Moment, value: Option<f64>) {
        let held = self.last.map_or(Duration::ZERO, |last| now.since(last)).min(self.span);
        self.last = Some(now);
        self.turn_to(now);
        let Some(value) = value else { return };
        let weight = held.as_secs_f64();
        let bucket = &mut self.buckets[(self.newest % BUCKETS as u64) as usize];
        if bucket.weight == 0.0 && bucket.sum == 0.0 {
            bucket.lowest = value;
            bucket.highest = value;
        }
        bucket.weight += weight;
        bucket.sum += value * weight;
        bucket.lowest = bucket.lowest.min(value);
        bucket.highest = bucket.highest.max(value);
    }

    /// In this much of the time since the last reading nobody looked.
    pub fn skip(&mut self, unseen: Duration) {
        self.last = self.last.map(|last| last + unseen);
    }

    #[must_use]
    pub fn average(&self) -> Option<f64> {
        let weight = self.covered()?;
        Some(self.filled().map(|b| b.sum).sum::<f64>() / weight)
    }

    #[must_use]
    pub fn maximum(&self) -> Option<f64> {
        self.covered()?;
        self.filled().map(|b| b.highest).reduce(f64::max)
    }

    #[must_use]
    pub fn minimum(&self) -> Option<f64> {
        self.covered()?;
        self.filled().map(|b| b.lowest).reduce(f64::min)
    }

    /// The nearest-rank 95th percentile of the bucket means.
    #[must_use]
    pub fn percentile95(&self) -> Option<f64> {
        self.covered()?;
        let mut means = [0.0; BUCKETS];
        let mut count = 0;
        for bucket in self.filled() {
            means[count] = bucket.sum / bucket.weight;
            count += 1;
        }
        let means = &mut means[..count];
        let rank = (count * 95).div_ceil(100).checked_sub(1)?;
        let (_, value, _) = means.select_nth_unstable_by(rank, f64::total_cmp);
        Some(*value)
    }

    fn turn_to(&mut self, now: Moment) {
        let length = (self.span.as_nanos() / BUCKETS as u128).max(1);
        let number = u64::try_from(now.since_origin().as_nanos() / length).unwrap_or(u64::MAX);
        let passed = number.saturating_sub(self.newest).min(BUCKETS as u64);
        for step in 0..passed {
            self.buckets[((number - step) % BUCKETS as u64) as usize] = Bucket::default();
        }
        self.newest = self.newest.max(number);
    }

    fn filled(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().filter(|bucket| bucket.weight > 0.0)
    }

    fn covered(&self) -> Option<f64> {
        let weight: f64 = self.buckets.iter().map(|bucket| bucket.weight).sum();
        (weight >= self.span.as_secs_f64() * COVERED).then_some(weight)
    }
}

/// Change per second between readings at least a second apart; at a fast pace the difference of two readings is noise.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    from: Option<(Moment, f64)>,
    value: Option<f64>,
}

impl Rate {
    const BASE: Duration = Duration::from_secs(1);

    pub fn push(&mut self, now: Moment, value: Option<f64>) -> Option<f64> {
        let Some(value) = value else {
            *self = Self::default();
            return None;
        };
        match self.from {
            None => self.from = Some((now, value)),
            Some((since, before)) if now.since(since) >= Self::BASE => {
                self.value = Some((value - before) / now.since(since).as_secs_f64());
                self.from = Some((now, value));
            }
            Some(_) => {}
        }
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::at(Duration::from_secs_f64(seconds))
    }

    fn filled(values: impl Iterator<Item = (f64, f64)>) -> Window {
        let mut window = Window::new(Duration::from_secs(30));
        for (seconds, value) in values {
            window.push(at(seconds), Some(value));
        }
        window
    }

    #[test]
    fn speaks_only_when_it_has_seen_its_span() {
        let young = filled((0..20).map(|s| (f64::from(s), 50.0)));
        assert_eq!(young.average(), None);
        let old = filled((0..40).map(|s| (f64::from(s), 50.0)));
        assert_eq!(old.average(), Some(50.0));
    }

    #[test]
    fn a_fast_pace_does_not_weigh_more() {
        let calm = (0..20).map(|s| (f64::from(s), 0.0));
        let fast = (0..1000).map(|i| (20.0 + f64::from(i) * 0.01, 90.0));
        let average = filled(calm.chain(fast)).average().unwrap();
        assert!((average - 33.0).abs() < 1.0, "{average}");
    }

    #[test]
    fn forgets_what_is_older_than_its_span() {
        let window = filled((0..100).map(|s| (f64::from(s), if s < 60 { 99.0 } else { 1.0 })));
        assert_eq!(window.maximum(), Some(1.0));
        assert_eq!(window.percentile95(), Some(1.0));
        assert_eq!(window.minimum(), Some(1.0));
    }

    #[test]
    fn gaps_do_not_count() {
        let mut window = filled((0..40).map(|s| (f64::from(s), 5.0)));
        for second in 40..60 {
            window.push(at(f64::from(second)), None);
        }
        assert_eq!(window.average(), None);
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let mut window = filled((0..40).map(|s| (f64::from(s), 5.0)));
        window.skip(Duration::from_secs(3599));
        window.push(at(3639.0), Some(95.0));
        assert_eq!(window.average(), None, "one reading is no window");
        (1..30).for_each(|second| window.push(at(3639.0 + f64::from(second)), Some(95.0)));
        assert_eq!(window.average(), Some(95.0));
    }

    #[test]
    fn a_rate_is_a_change_per_second() {
        let mut rate = Rate::default();
        assert_eq!(rate.push(at(0.0), Some(10.0)), None);
        assert_eq!(rate.push(at(0.5), Some(12.0)), None);
        assert_eq!(rate.push(at(2.0), Some(20.0)), Some(5.0));
        assert_eq!(rate.push(at(2.5), None), None);
    }
}
