//! What a metric read of late, in constant space: one mean per stretch of time, whatever the pace. The effect of a step
//! is told from it; time in which nothing was read stays a gap and is never filled with a guess.

use std::time::Duration;

use super::moment::Moment;

/// With the stretches of [`Past::for_horizon`] that is sixteen horizons, the least from which their noise can be told.
pub(crate) const KEPT: usize = 256;
/// The least stretch: readings ten times a second hang together, and their mean over half a second less so.
const LEAST_STRETCH: Duration = Duration::from_millis(500);
const STRETCHES_PER_HORIZON: u32 = 16;
/// A reading stands for this many stretches: a calm pace of a second leaves every other one empty.
const HELD: u64 = 8;

#[derive(Clone, Debug)]
pub struct Past {
    stretch: Duration,
    means: [f32; KEPT],
    /// Absolute number of the newest stretch: time divided by its length.
    newest: Option<u64>,
    sum: f64,
    count: u32,
}

impl Past {
    /// To tell what happens within `horizon`: the longest settle time, and what the metric lags.
    #[must_use]
    pub fn for_horizon(horizon: Duration) -> Self {
        let stretch = (horizon / STRETCHES_PER_HORIZON).max(LEAST_STRETCH);
        Self { stretch, means: [f32::NAN; KEPT], newest: None, sum: 0.0, count: 0 }
    }

    pub fn push(&mut self, now: Moment, value: f64) {
        let number = self.number(now);
        if self.newest.is_none_or(|newest| number > newest) {
            self.turn_to(number);
        }
        self.sum += value;
        self.count += 1;
        self.means[place(number.max(self.newest.unwrap_or_default()))] = (self.sum / f64::from(self.count)) as f32;
    }

    /// The number of the stretch that a moment lies in.
    #[must_use]
    pub(crate) fn number(&self, at: Moment) -> u64 {
        u64::try_from(at.since_origin().as_nanos() / self.stretch.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    #[must_use]
    pub(crate) const fn stretch(&self) -> Duration {
        self.stretch
    }

    /// The means up to the newest stretch, oldest first; NaN where nothing was read. With the newest one's number.
    #[must_use]
    pub(crate) fn unrolled(&self) -> Option<([f64; KEPT], u64)> {
        let newest = self.newest?;
        let mut means = [f64::NAN; KEPT];
        for (back, mean) in means.iter_mut().rev().enumerate() {
            if let Some(number) = newest.checked_sub(back as u64) {
                *mean = f64::from(self.means[place(number)]);
            }
        }
        Some((means, newest))
    }

    fn turn_to(&mut self, number: u64) {
        let last = self.newest.unwrap_or(number);
        let passed = number - last;
        let held = if passed <= HELD { self.means[place(last)] } else { f32::NAN };
        for skipped in 1..passed.min(KEPT as u64) {
            self.means[place(last + skipped)] = held;
        }
        if passed >= KEPT as u64 {
            self.means = [f32::NAN; KEPT];
        }
        self.newest = Some(number);
        self.sum = 0.0;
        self.count = 0;
    }
}

const fn place(number: u64) -> usize {
    (number % KEPT as u64) as usize
}
