//! Which leases went before their time. An entry of a stick table says how long it has left; one that is gone while it
//! still had some was cleared by somebody, and what a person cleared is not renewed. Forgotten with the guardian: what is
//! gone after a restart of ours counts as lapsed. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// HAProxy looks for what has expired now and then, and a busy node counts time late.
const SLACK: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Watched {
    /// In which life of the proxy; another one begins without leases.
    epoch: String,
    leases: HashMap<String, Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Until { end: Instant, left: Duration },
    Cleared,
}

impl Watched {
    pub fn enter(&mut self, epoch: &str) {
        if self.epoch != epoch {
            self.leases.clear();
            epoch.clone_into(&mut self.epoch);
        }
    }

    /// A lease, asked for at this moment: how long it has left, `None` where it is not there.
    pub fn saw(&mut self, key: &str, asked: Instant, left: Option<Duration>) {
        match (left, self.leases.get(key)) {
            (Some(left), _) => {
                self.leases.insert(key.to_owned(), Seen::Until { end: asked + left, left });
            }
            (None, Some(Seen::Until { end, .. })) if asked + SLACK < *end => {
                self.leases.insert(key.to_owned(), Seen::Cleared);
            }
            (None, Some(Seen::Until { .. })) => self.forget(key),
            (None, Some(Seen::Cleared) | None) => {}
        }
    }

    /// We took it away, or give it anew.
    pub fn forget(&mut self, key: &str) {
        self.leases.remove(key);
    }

    /// How long it had left when it was last seen.
    pub fn left(&self, key: &str) -> Option<Duration> {
        match self.leases.get(key) {
            Some(Seen::Until { left, .. }) => Some(*left),
            Some(Seen::Cleared) | None => None,
        }
    }

    /// A renewal lasts longer than what was seen, which only makes this more careful.
    pub fn was_cleared(&self, key: &str) -> bool {
        self.leases.get(key) == Some(&Seen::Cleared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(30);

    #[test]
    fn only_what_went_before_its_time_was_cleared_and_stays_so() {
        let mut watched = Watched::default();
        let start = Instant::now();
        let gone = |watched: &mut Watched, after: u64| {
            watched.saw("a", start, Some(LEFT));
            watched.saw("a", start + Duration::from_secs(after), None);
            watched.was_cleared("a")
        };
        assert!(!gone(&mut watched, 30) && !gone(&mut watched, 29), "it lapsed");
        assert!(gone(&mut watched, 5));
        watched.saw("a", start + Duration::from_secs(300), None);
        assert!(watched.was_cleared("a"), "time makes no renewal right");
        watched.forget("a");
        assert!(!watched.was_cleared("a"));
        watched.saw("b", start, None);
        assert!(!watched.was_cleared("b"), "never seen");
    }

    #[test]
    fn another_life_of_the_proxy_begins_without_leases() {
        let mut watched = Watched::default();
        let start = Instant::now();
        watched.enter("1");
        watched.saw("a", start, Some(LEFT));
        watched.enter("2");
        watched.saw("a", start, None);
        assert!(!watched.was_cleared("a"));
    }
}
