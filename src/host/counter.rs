//! From two readings of counters to a rate. A counter that went backwards has wrapped, or its owner was reset: then the
//! rate is missing for that tick rather than a spike.

use std::time::Duration;

use crate::policy::moment::Moment;

/// A reading, and when it was taken.
#[derive(Clone, Copy, Debug)]
pub struct Stamped<T> {
    pub at: Moment,
    pub raw: T,
}

/// The last reading of a source that has rates.
#[derive(Clone, Copy, Debug)]
pub struct Last<T>(Option<Stamped<T>>);

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Copy> Last<T> {
    /// Keeps this reading and derives from the one before, if there is one and time has passed. A reading that is
    /// missing breaks the chain: the next one starts anew.
    pub fn step<D>(&mut self, at: Moment, raw: Option<T>, derive: impl FnOnce(&T, &T, Duration) -> D) -> Option<D> {
        let before = std::mem::replace(&mut self.0, raw.map(|raw| Stamped { at, raw }));
        let (before, raw) = (before?, raw?);
        let elapsed = at.since(before.at);
        (!elapsed.is_zero()).then(|| derive(&before.raw, &raw, elapsed))
    }
}

/// How much more than the time that passed is believed: the kernel books whole ticks, a little late, and what it owes for a
/// CPU that slept comes in one piece.
pub const TOLERANCE: f64 = 1.25;

/// Per second.
#[must_use]
pub fn rate(before: u64, now: u64, elapsed: Duration) -> Option<f64> {
    let seconds = elapsed.as_secs_f64();
    let difference = now.checked_sub(before)?;
    (seconds > 0.0).then(|| difference as f64 / seconds)
}

/// What is said once of counters that went back, or gained what nothing can gain in the time.
#[must_use]
pub fn jumped(family: &str, name: &str) -> String {
    format!(
        "those of {family} {name:?} went back or jumped, as after a replacement: rates are unknown for such a sample"
    )
}

/// `part` of `whole`; missing where the whole is nothing.
#[must_use]
pub fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (100.0 * part / whole).clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_went_backwards_is_missing() {
        assert_eq!(rate(10, 30, SECOND * 2), Some(10.0));
        assert_eq!(rate(u64::from(u32::MAX), 5, SECOND), None);
        assert_eq!(rate(0, u64::MAX, SECOND).map(f64::is_finite), Some(true));
        assert_eq!(rate(0, 1, Duration::ZERO), None);
    }

    #[test]
    fn the_first_reading_and_the_one_after_a_gap_derive_nothing() {
        let mut last = Last::default();
        let difference = |a: &u64, b: &u64, _: Duration| b - a;
        let at = |seconds| Moment::at(SECOND * seconds);
        assert_eq!(last.step(at(1), Some(5), difference), None);
        assert_eq!(last.step(at(2), Some(7), difference), Some(2));
        assert_eq!(last.step(at(2), Some(9), difference), None, "no time has passed");
        assert_eq!(last.step(at(3), None, difference), None);
        assert_eq!(last.step(at(4), Some(12), difference), None);
        assert_eq!(last.step(at(5), Some(13), difference), Some(1));
    }

    #[test]
    fn a_share_stays_a_share() {
        assert_eq!(percent(1.0, 4.0), Some(25.0));
        assert_eq!(percent(5.0, 4.0), Some(100.0));
        assert_eq!(percent(1.0, 0.0), None);
    }
}
