//! The recent peak of a cache: the most that it held in the last hour. A share is a share of that, so that a cache that is
//! shrunk again after a relapse, before it has filled again, does not go on shrinking. The journal keeps it with each shrink,
//! so a guardian that crashed knows it too. A restart of the target ends it.

use std::time::{Duration, Instant};

use super::undo::Undo;

/// A cache that held less for so long holds less.
const LATE: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct RecentPeak(Option<Held>);

struct Held {
    life: String,
    bytes: u64,
    /// When anybody last asked.
    at: Instant,
}

impl RecentPeak {
    /// With what it holds now, in this life of the target.
    pub fn of(&mut self, life: &str, now_bytes: u64) -> u64 {
        self.at(life, now_bytes, Instant::now())
    }

    /// As it was when this shrink began, perhaps by an earlier guardian.
    pub fn recall(&mut self, undo: &Undo) {
        if let Some(bytes) = undo.changes.iter().find_map(|change| change.peak_bytes) {
            self.of(&undo.epoch, bytes);
        }
    }

    fn at(&mut self, life: &str, now_bytes: u64, now: Instant) -> u64 {
        let known = self.0.take().filter(|held| held.life == life && now.duration_since(held.at) < LATE);
        let bytes = known.map_or(now_bytes, |held| held.bytes.max(now_bytes));
        self.0 = Some(Held { life: life.to_owned(), bytes, at: now });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_again_is_not_of_what_the_first_time_left() {
        let (mut peak, start) = (RecentPeak::default(), Instant::now());
        let after = |minutes: u64| start + Duration::from_secs(minutes * 60);
        assert_eq!(peak.at("one", 100, after(0)), 100);
        assert_eq!(peak.at("one", 50, after(1)), 100);
        assert_eq!(peak.at("one", 120, after(2)), 120);
        assert_eq!(peak.at("two", 30, after(3)), 30, "another life");
        assert_eq!(peak.at("two", 20, after(62)), 30);
        assert_eq!(peak.at("two", 20, after(122)), 20, "long ago");
    }
}
