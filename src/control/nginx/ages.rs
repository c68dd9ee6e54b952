//! Bytes by age, in a fixed 8 KB however many files there are: ages in steps that grow with them, a sixteenth of each
//! power of two. Pure.

/// Steps within a power of two.
const STEPS: usize = 16;
/// Up to 2^60 seconds.
const POWERS: usize = 60;

/// What was counted.
pub struct Ages {
    bytes: Vec<u64>,
    files: u64,
}

/// What is to go: everything older than a step, and of that step as much as is still missing.
pub struct Cut {
    step: usize,
    missing: u64,
    older: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self { bytes: vec![0; STEPS * POWERS], files: 0 }
    }
}

impl Ages {
    /// What is dated in the future is as young as can be.
    pub fn add(&mut self, seconds: i64, bytes: u64) {
        self.files += 1;
        if let Some(step) = self.bytes.get_mut(step(seconds)) {
            *step = step.saturating_add(bytes);
        }
    }

    #[must_use]
    pub fn files(&self) -> u64 {
        self.files
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Where to cut so that no more than this is left.
    #[must_use]
    pub fn cut(&self, kept: u64) -> Cut {
        let wanted = self.bytes().saturating_sub(kept);
        let mut older = 0_u64;
        for (step, bytes) in self.bytes.iter().enumerate().rev() {
            if older.saturating_add(*bytes) >= wanted {
                return Cut { step, missing: wanted - older, older };
            }
            older += bytes;
        }
        Cut { step: 0, missing: 0, older }
    }
}

impl Cut {
    /// Whether a file of this age and size goes; once told so, it counts as gone.
    pub fn takes(&mut self, seconds: i64, bytes: u64) -> bool {
        // What frees nothing would be lost for nothing.
        if bytes == 0 {
            return false;
        }
        match step(seconds).cmp(&self.step) {
            std::cmp::Ordering::Greater => {
                self.older = self.older.saturating_sub(bytes);
                true
            }
            std::cmp::Ordering::Equal if self.missing > 0 => {
                self.missing = self.missing.saturating_sub(bytes);
                true
            }
            std::cmp::Ordering::Equal | std::cmp::Ordering::Less => false,
        }
    }

    /// Nothing that was counted is left to take.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.missing == 0 && self.older == 0
    }
}

fn step(seconds: i64) -> usize {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    if seconds < STEPS as u64 {
        return seconds as usize;
    }
    let power = seconds.ilog2();
    let within = (seconds >> (power - STEPS.ilog2())) as usize - STEPS;
    ((power - STEPS.ilog2() + 1) as usize * STEPS + within).min(STEPS * POWERS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_go_first_and_no_more_than_needed() {
        let files = [(10_i64, 100_u64), (1000, 100), (2000, 100), (100_000, 100)];
        let gone = |kept: u64| {
            let mut ages = Ages::default();
            files.iter().for_each(|&(age, bytes)| ages.add(age, bytes));
            let mut cut = ages.cut(kept);
            files.iter().filter(|&&(age, bytes)| cut.takes(age, bytes)).map(|(age, _)| *age).collect::<Vec<_>>()
        };
        assert_eq!(gone(400), [] as [i64; 0]);
        assert_eq!(gone(399), [100_000]);
        assert_eq!(gone(200), [2000, 100_000]);
        assert_eq!(gone(0), [10, 1000, 2000, 100_000]);
    }

    #[test]
    fn of_one_age_only_what_is_missing_goes() {
        let mut ages = Ages::default();
        (0..10).for_each(|_| ages.add(500, 10));
        let mut cut = ages.cut(55);
        assert_eq!((0..10).filter(|_| cut.takes(500, 10)).count(), 5);
        assert!(cut.is_done());
    }

    proptest! {
        #[test]
        fn steps_never_go_back(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(a.max(0) <= b.max(0) || step(a) >= step(b), true);
            prop_assert!(step(a) < STEPS * POWERS);
        }

        #[test]
        fn what_is_kept_is_at_most_what_was_wanted(
            files in proptest::collection::vec((0_i64..10_000_000, 1_u64..1_000_000), 0..60),
            kept in 0_u64..30_000_000,
        ) {
            let mut ages = Ages::default();
            files.iter().for_each(|&(age, bytes)| ages.add(age, bytes));
            let mut cut = ages.cut(kept);
            let left: u64 = files.iter().filter(|&&(age, bytes)| !cut.takes(age, bytes)).map(|(_, bytes)| bytes).sum();
            prop_assert!(left <= kept);
            prop_assert!(left + 1_000_000 > kept.min(ages.bytes()), "no more than one file too many");
        }
    }
}
