//! What a share of a cache is a share of: the most that it held of late, so that a cache that is shrunk again after a
//! relapse, before it has filled again, does not go on shrinking. Never across a restart of the target.

use std::time::{Duration, Instant};

/// A cache that held less for so long holds less.
const LATE: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct Base(Option<Held>);

struct Held {
    life: String,
    bytes: u64,
    /// When anybody last asked.
    at: Instant,
}

impl Base {
    /// With what it holds now, in this life of the target.
    pub fn of(&mut self, life: &str, now_bytes: u64) -> u64 {
        self.at(life, now_bytes, Instant::now())
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
        let (mut base, start) = (Base::default(), Instant::now());
        let after = |minutes: u64| start + Duration::from_secs(minutes * 60);
        assert_eq!(base.at("one", 100, after(0)), 100);
        assert_eq!(base.at("one", 50, after(1)), 100);
        assert_eq!(base.at("one", 120, after(2)), 120);
        assert_eq!(base.at("two", 30, after(3)), 30, "another life");
        assert_eq!(base.at("two", 20, after(62)), 30);
        assert_eq!(base.at("two", 20, after(122)), 20, "long ago");
    }
}
