//! Whether a metric has got worse for three quarters of a minute and more. What did so is a growth that goes on, and
//! where it stops something stopped it; what did so for less may have come to its own end.

use std::time::Duration;

use super::moment::Moment;
use super::past::{KEPT, Past};

/// Three quarters of a minute, and what lies before.
const PARTS: usize = 6;
/// Of what was not watched for longer.
const LEAST: usize = 4;
const PART: Duration = Duration::from_secs(10);
/// The first two steps from part to part are this share of the usual one at least: it did not begin only then.
const EARLY_SHARE: f64 = 0.5;
const FIT: f64 = 0.8;
/// How fast it gets worse is told from the last of them.
const LATEST: usize = 3;

impl Past {
    /// It got worse for three quarters of a minute, with `sign` +1 where high is bad, -1 where low is; of what was watched
    /// for less than a minute, all the time, and not much less. False where there is a gap.
    #[must_use]
    pub(crate) fn has_grown(&self, now: Moment, sign: f64) -> bool {
        let Some((parts, count)) = self.parts(now, PARTS, LEAST) else { return false };
        let parts = &parts.map(|mean| mean * sign)[..count];
        let usual = (parts[count - 1] - parts[0]) / (count - 1) as f64;
        let early = (parts[2] - parts[0]) / 2.0;
        usual > 0.0 && early >= usual * EARLY_SHARE && fit(parts) > FIT
    }

    /// Change per second over the last half of a minute.
    #[must_use]
    pub(crate) fn pace(&self, now: Moment) -> Option<f64> {
        let (parts, _) = self.parts(now, LATEST, LATEST)?;
        Some((parts[LATEST - 1] - parts[0]) / (PART * (LATEST as u32 - 1)).as_secs_f64())
    }

    /// What was read of late in so many parts of ten seconds, oldest first, and how many it was watched for. Nothing where
    /// it was not read all the time.
    fn parts(&self, now: Moment, most: usize, least: usize) -> Option<([f64; PARTS], usize)> {
        let (means, newest) = self.unrolled().filter(|(_, newest)| *newest == self.number(now))?;
        let length = (PART.as_secs_f64() / self.stretch().as_secs_f64()).round().max(1.0) as usize;
        let count = most.min(newest as usize / length).min(KEPT / length);
        let mut parts = [0.0; PARTS];
        for (part, means) in parts.iter_mut().zip(means[KEPT - count * length..].chunks_exact(length)) {
            *part = means.iter().sum::<f64>() / length as f64;
        }
        (count >= least && parts.iter().all(|part| part.is_finite())).then_some((parts, count))
    }
}

/// R² of the parts on a line.
fn fit(parts: &[f64]) -> f64 {
    let count = parts.len() as f64;
    let (middle, mean) = ((count - 1.0) / 2.0, parts.iter().sum::<f64>() / count);
    let (mut product, mut times, mut values) = (0.0, 0.0, 0.0);
    for (at, part) in parts.iter().enumerate() {
        let (time, value) = (at as f64 - middle, part - mean);
        product += time * value;
        times += time * time;
        values += value * value;
    }
    if values > 0.0 { product * product / (times * values) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read for two minutes, twice a second, told the seconds until the end.
    fn read(metric: impl Fn(f64) -> f64) -> (bool, Option<f64>) {
        let mut past = Past::for_horizon(Duration::from_secs(5));
        let mut now = Moment::ORIGIN;
        for half in 0..=240 {
            now = Moment::at(Duration::from_millis(half * 500));
            past.push(now, metric(120.0 - half as f64 * 0.5));
        }
        (past.has_grown(now, -1.0), past.pace(now))
    }

    #[test]
    fn what_falls_for_long_is_told_from_what_began_later() {
        for (over, expected) in [(15.0, false), (40.0, false), (45.0, true), (60.0, true), (110.0, true)] {
            let (has_grown, pace) = read(|left| 7.0 + 23.0 * (left / over).min(1.0));
            assert_eq!(has_grown, expected, "{over}");
            assert!(over < 30.0 || (pace.unwrap() + 23.0 / over).abs() < 1e-3, "{pace:?}");
        }
    }

    #[test]
    fn what_rises_swings_stays_or_was_not_read_did_not_grow() {
        let has_grown = |metric: &dyn Fn(f64) -> f64| read(metric).0;
        assert!(!has_grown(&|left| 30.0 - left * 0.1));
        assert!(!has_grown(&|_| 7.0));
        assert!(!has_grown(&|left| 7.0 + 8.0 * (left % 60.0 / 30.0 - 1.0).abs()));
        assert!(has_grown(&|left| left));
        // Nobody looked for five seconds, half a minute ago.
        let mut past = Past::for_horizon(Duration::from_secs(5));
        let seconds = (0..120).filter(|second| !(85..90).contains(second));
        seconds.for_each(|second| past.push(Moment::at(Duration::from_secs(second)), 120.0 - second as f64));
        assert!(!past.has_grown(Moment::at(Duration::from_secs(119)), -1.0));
        assert_eq!(past.pace(Moment::at(Duration::from_secs(118))), None, "nothing was read then");
    }

    #[test]
    fn what_was_watched_for_less_is_not_told() {
        let mut young = Past::for_horizon(Duration::from_secs(5));
        (0..36).for_each(|second| young.push(Moment::at(Duration::from_secs(second)), 60.0 - second as f64));
        let now = Moment::at(Duration::from_secs(35));
        assert!(!young.has_grown(now, -1.0));
        assert!((young.pace(now).unwrap() + 1.0).abs() < 0.01);
        (36..46).for_each(|second| young.push(Moment::at(Duration::from_secs(second)), 60.0 - second as f64));
        assert!(young.has_grown(Moment::at(Duration::from_secs(45)), -1.0), "for as long as it was watched");
    }

    #[test]
    fn a_leak_of_a_point_a_minute_is_seen_through_its_noise() {
        let noise = |left: f64| ((left * 7.3).sin() + (left * 3.1).cos()) * 0.1;
        let (has_grown, pace) = read(|left| 10.0 + left / 60.0 + noise(left));
        assert!(has_grown && (pace.unwrap() + 1.0 / 60.0).abs() < 0.005, "{pace:?}");
    }
}
