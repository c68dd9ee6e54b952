//! Undo as data: what was there before, what we wrote, and in which life of the target. Deciding whether to put a value
//! back is a pure function of these and of what is there now, so it can be tested without any server.

use serde::{Deserialize, Serialize};

use super::LEASE;
use crate::clock;

/// Values kept of what we wrote to one knob: only the newest few can still be there, and the first of all.
const HISTORY: usize = 8;

/// Everything needed to put one mitigation back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Undo {
    /// Changes when the target restarts or reloads and so forgets what we set. Unique across reboots of the node.
    pub epoch: String,
    pub changes: Vec<Change>,
    /// When all of it will have lapsed unless it is renewed, where the target does not tell; written before each renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_unix_ms: Option<u64>,
}

/// One value of the target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// What the control calls it: `server be/s1 maxconn`, `maxmemory`.
    pub key: String,
    /// As the target reported it, verbatim.
    pub prior: String,
    /// Every value that we wrote or were about to write, as the target reports it; the last is the newest.
    pub ours: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restore {
    /// The live value is ours: put the prior one back.
    Write,
    /// The prior value is there already.
    Done,
    /// Somebody else set something: it is theirs.
    Leave,
}

impl Undo {
    /// The same, for a lease that begins now.
    #[must_use]
    pub fn renewed(&self) -> Undo {
        Undo { lapses_unix_ms: self.lapses_unix_ms.map(|_| lease_end()), ..self.clone() }
    }

    /// The same, wanting what an earlier version of it wanted. Everything that was ever written still counts as ours.
    #[must_use]
    pub fn falling_back_to(&self, earlier: &Undo) -> Undo {
        let wanted = |change: &Change| {
            let before = earlier.changes.iter().find(|before| before.key == change.key);
            before.map_or_else(|| change.clone(), |before| change.aimed(before.wanted().to_owned()))
        };
        Undo { changes: self.changes.iter().map(wanted).collect(), ..self.clone() }
    }
}

/// By the wall clock, since the target may be on another node. Should that clock jump, what was set lapses all the same.
#[must_use]
pub fn lease_end() -> u64 {
    clock::unix_ms() + u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)
}

impl Change {
    /// What to do about this value, given what is there now.
    #[must_use]
    pub fn restore(&self, live: &str) -> Restore {
        if live == self.prior {
            Restore::Done
        } else if self.ours.iter().any(|ours| ours == live) {
            Restore::Write
        } else {
            Restore::Leave
        }
    }

    /// The same, wanting another value.
    #[must_use]
    pub fn aimed(&self, aim: String) -> Change {
        let mut ours = self.ours.clone();
        ours.retain(|known| *known != aim);
        ours.push(aim);
        // Kinds whose values can be on their way from one to another put first how that reads.
        ours.drain(1..1 + ours.len().saturating_sub(HISTORY));
        Change { key: self.key.clone(), prior: self.prior.clone(), ours }
    }

    /// The value that we want to be there.
    #[must_use]
    pub fn wanted(&self) -> &str {
        self.ours.last().map_or(&self.prior, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_ours_is_put_back() {
        let change = Change { key: "maxconn".into(), prior: "100".into(), ours: vec!["50".into(), "20".into()] };
        assert_eq!(change.restore("20"), Restore::Write);
        assert_eq!(change.restore("50"), Restore::Write);
        assert_eq!(change.restore("100"), Restore::Done);
        assert_eq!(change.restore("70"), Restore::Leave);
    }

    #[test]
    fn adjusting_keeps_the_first_prior_and_a_bounded_history() {
        let mut change = Change { key: "k".into(), prior: "100".into(), ours: vec!["50".into()] };
        for aim in 0..20 {
            change = change.aimed(aim.to_string());
        }
        assert_eq!((change.prior.as_str(), change.wanted(), change.ours.len()), ("100", "19", HISTORY));
        assert_eq!(change.restore("50"), Restore::Write, "the first may say that it is on its way");
        let again = change.aimed("15".into());
        assert_eq!((again.wanted(), again.ours.len()), ("15", HISTORY));
    }

    #[test]
    fn falling_back_forgets_nothing_that_may_be_there() {
        let undo = |ours: &[&str]| Undo {
            epoch: "1".into(),
            changes: vec![Change {
                key: "k".into(),
                prior: "100".into(),
                ours: ours.iter().map(|&value| value.to_owned()).collect(),
            }],
            lapses_unix_ms: None,
        };
        assert_eq!(undo(&["50", "20"]).falling_back_to(&undo(&["50"])), undo(&["20", "50"]));
    }
}
