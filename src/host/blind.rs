//! What cannot be seen, said once: a set of blind spots that knows whether it changed. It allocates only when something
//! starts or ceases to be unseen.

use std::time::Duration;

use crate::policy::moment::Moment;
use crate::status::BlindSpot;

/// A reading that cannot be true is missing for one sample. It stays told for so long after the last of them, so that a
/// counter that is wrong now and then is told once.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Blind {
    spots: Vec<BlindSpot>,
    changed: bool,
    /// Names of spots about what could not be true, and when that was last so.
    doubts: Vec<(&'static str, Moment)>,
}

impl Blind {
    /// Adds a spot, or replaces the reason of the one that is there.
    pub fn note(&mut self, what: &str, why: &str) {
        match self.spots.iter_mut().find(|spot| spot.what == what) {
            Some(spot) if spot.why == why => return,
            Some(spot) => why.clone_into(&mut spot.why),
            None => self.spots.push(BlindSpot { what: what.to_owned(), why: why.to_owned() }),
        }
        self.changed = true;
    }

    /// It can be seen again.
    pub fn clear(&mut self, what: &str) {
        let before = self.spots.len();
        self.spots.retain(|spot| spot.what != what);
        self.changed |= self.spots.len() != before;
    }

    /// Something was read that cannot be. `why` is asked for the first time only.
    pub fn doubt(&mut self, now: Moment, what: &'static str, why: impl FnOnce() -> String) {
        match self.doubts.iter_mut().find(|(known, _)| *known == what) {
            Some((_, at)) => *at = now,
            None => {
                self.doubts.push((what, now));
                self.note(what, &why());
            }
        }
    }

    /// Clears the doubts that have not come up for a while.
    pub fn settle(&mut self, now: Moment) {
        while let Some(at) = self.doubts.iter().position(|(_, last)| now.since(*last) >= DOUBTED_FOR) {
            let (what, _) = self.doubts.swap_remove(at);
            self.clear(what);
        }
    }

    /// Forgets the spots whose name does not satisfy `keep`.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.spots.len();
        self.spots.retain(|spot| keep(&spot.what));
        self.changed |= self.spots.len() != before;
    }

    #[must_use]
    pub fn spots(&self) -> &[BlindSpot] {
        &self.spots
    }

    /// Whether anything changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once() {
        let mut blind = Blind::default();
        blind.note("/proc/vmstat", "gone");
        assert!(blind.take_changed());
        blind.note("/proc/vmstat", "gone");
        assert!(!blind.take_changed());
        blind.note("/proc/vmstat", "garbled");
        assert!(blind.take_changed());
        assert_eq!(blind.spots().len(), 1);
        blind.clear("/proc/vmstat");
        blind.clear("/proc/vmstat");
        assert!(blind.take_changed() && blind.spots().is_empty());
    }

    #[test]
    fn a_doubt_stays_told_until_it_has_not_come_up_for_a_minute() {
        let mut blind = Blind::default();
        let at = |seconds| Moment::at(Duration::from_secs(seconds));
        for second in [1, 2, 30] {
            blind.doubt(at(second), "steal", || "it outran the time".to_owned());
            blind.settle(at(second));
            assert_eq!((blind.take_changed(), blind.spots().len()), (second == 1, 1), "at {second}");
        }
        blind.settle(at(89));
        assert!(!blind.take_changed());
        blind.settle(at(90));
        assert!(blind.take_changed() && blind.spots().is_empty());
    }
}
