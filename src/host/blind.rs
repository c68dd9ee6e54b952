//! What cannot be seen, said once: a set of blind spots that knows whether it changed. It allocates only when something
//! starts or ceases to be unseen.

use crate::status::BlindSpot;

#[derive(Debug, Default)]
pub struct Blind {
    spots: Vec<BlindSpot>,
    changed: bool,
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
}
