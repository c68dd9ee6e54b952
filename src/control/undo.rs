//! Undo as data: what was there before, what we wrote, and in which life of the target. Deciding whose a value is that is
//! there now is a pure function of these, so it can be tested without any server.

use serde::{Deserialize, Serialize};

use super::LEASE;
use super::near::is_near;
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
    /// Every value that we wrote or were about to write, and every one that the target made of them; the last is the newest
    /// that we wrote.
    pub ours: Vec<String>,
    /// What the target made of the newest, where it keeps another: 180 of 176.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    #[serde(default, skip_serializing_if = "State::is_intended")]
    pub state: State,
    /// Of what a share is a share, where the value is the size of a cache (`recent_peak.rs`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// What is known of a change. A journal of an earlier version tells nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was or will be written, and nobody has seen it there.
    #[default]
    Intended,
    /// It was seen there, and another value of ours is on its way.
    Adjusting,
    /// It was seen there: any other value is somebody else's.
    Landed,
    /// Somebody else set another value since, and it is theirs whatever they make of it.
    Overridden,
}

/// Whose a value is that is there now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Ours,
    /// The prior value, because ours has not arrived.
    Pending,
    /// The prior value, which has come back.
    Back,
    Theirs,
}

impl State {
    // As serde wants it.
    #[expect(clippy::trivially_copy_pass_by_ref)]
    fn is_intended(&self) -> bool {
        *self == Self::Intended
    }

    /// Whether what was written last may still be about to show.
    #[must_use]
    pub(crate) fn is_in_doubt(self) -> bool {
        matches!(self, Self::Intended | Self::Adjusting)
    }
}

impl Undo {
    /// The same, for a lease that begins now.
    #[must_use]
    pub(crate) fn renewed(&self) -> Undo {
        Undo { lapses_unix_ms: self.lapses_unix_ms.map(|_| lease_end()), ..self.clone() }
    }

    /// The same, when it begins to be undone: the prior values are on their way, and tell nothing of anybody else.
    #[must_use]
    pub(crate) fn returning(&self) -> Undo {
        let returning = |change: &Change| match change.state {
            State::Landed => Change { state: State::Adjusting, ..change.clone() },
            State::Intended | State::Adjusting | State::Overridden => change.clone(),
        };
        Undo { changes: self.changes.iter().map(returning).collect(), ..self.clone() }
    }

    /// The same, wanting what an earlier version of it wanted. Everything that was ever written still counts as ours.
    #[must_use]
    pub(crate) fn falling_back_to(&self, earlier: &Undo) -> Undo {
        let wanted = |change: &Change| {
            let before = earlier.changes.iter().find(|before| before.key == change.key);
            before.map_or_else(|| change.clone(), |before| change.aimed(before.wanted().to_owned()))
        };
        Undo { changes: self.changes.iter().map(wanted).collect(), ..self.clone() }
    }
}

/// By the wall clock, since the target may be on another node. Should that clock jump, what was set lapses all the same.
#[must_use]
pub(crate) fn lease_end() -> u64 {
    clock::unix_ms() + u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)
}

/// What a target keeps of a number that it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeps {
    /// That number, or it refuses.
    Exact,
    /// Perhaps one near it.
    Near,
}

impl Change {
    /// Before it is written. The last of `ours` is what is to be written.
    pub fn new(key: impl Into<String>, prior: impl Into<String>, ours: Vec<String>) -> Self {
        Self { key: key.into(), prior: prior.into(), ours, kept: None, state: State::Intended, peak_bytes: None }
    }

    #[must_use]
    pub fn with_peak(self, bytes: u64) -> Self {
        Self { peak_bytes: Some(bytes), ..self }
    }

    /// Whose this value is.
    #[must_use]
    pub(crate) fn owner(&self, live: &str, keeps: Keeps) -> Owner {
        let near = || self.state.is_in_doubt() && keeps == Keeps::Near && is_near(self.wanted(), live);
        match self.state {
            State::Overridden => Owner::Theirs,
            _ if live == self.shown() => Owner::Ours,
            State::Intended if live == self.prior => Owner::Pending,
            State::Adjusting | State::Landed if live == self.prior => Owner::Back,
            State::Intended | State::Adjusting | State::Landed if self.is_known(live) || near() => Owner::Ours,
            State::Intended | State::Adjusting | State::Landed => Owner::Theirs,
        }
    }

    /// Whether we ever wrote this, or the target made it of what we wrote.
    #[must_use]
    pub(crate) fn is_known(&self, live: &str) -> bool {
        self.kept.as_deref() == Some(live) || self.ours.iter().any(|ours| ours == live)
    }

    /// The same, wanting another value.
    #[must_use]
    pub(crate) fn aimed(&self, aim: String) -> Change {
        let mut ours = self.ours.clone();
        ours.extend(self.kept.clone());
        ours.retain(|known| *known != aim);
        let changed = aim != self.wanted();
        ours.push(aim);
        // Kinds whose values can be on their way from one to another put first how that reads.
        ours.drain(1..1 + ours.len().saturating_sub(HISTORY));
        let state = if changed && self.state == State::Landed { State::Adjusting } else { self.state };
        let kept = if changed { None } else { self.kept.clone() };
        Change { key: self.key.clone(), prior: self.prior.clone(), ours, kept, state, peak_bytes: self.peak_bytes }
    }

    /// The same, with what another change had found before it, which this one took the value of for prior.
    #[must_use]
    pub(crate) fn in_place_of(&self, below: &Change) -> Change {
        let known = below.ours.iter().chain(&below.kept);
        let known: Vec<String> = known.filter(|value| !self.ours.contains(value)).cloned().collect();
        let mut ours = self.ours.clone();
        let newest = ours.len().saturating_sub(1);
        ours.splice(newest..newest, known);
        Change { prior: below.prior.clone(), ours, ..self.clone() }
    }

    /// The same, seen at the target as this value.
    #[must_use]
    pub(crate) fn landed(&self, live: &str) -> Change {
        let kept = (live != self.wanted()).then(|| live.to_owned());
        Change { kept, state: State::Landed, ..self.clone() }
    }

    /// The same, found as this value in a new life of the target.
    #[must_use]
    pub(crate) fn adopted(&self, live: &str) -> Change {
        match self.is_known(live) {
            // Of what we wrote before: the newest is still to come.
            true if live != self.shown() => Change { state: State::Adjusting, ..self.clone() },
            true => Change { state: State::Landed, ..self.clone() },
            false => self.landed(live),
        }
    }

    /// The value that we want to be there.
    #[must_use]
    pub fn wanted(&self) -> &str {
        self.ours.last().map_or(&self.prior, String::as_str)
    }

    /// The same, as the target shows it.
    #[must_use]
    pub(crate) fn shown(&self) -> &str {
        self.kept.as_deref().unwrap_or_else(|| self.wanted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(ours: &[&str], state: State) -> Change {
        let ours = ours.iter().map(|&value| value.to_owned()).collect();
        Change { state, ..Change::new("maxconn", "100", ours) }
    }

    #[test]
    fn before_it_was_seen_the_prior_value_is_nobodys_deed() {
        let intended = change(&["50", "20"], State::Intended);
        let owner = |live| intended.owner(live, Keeps::Near);
        assert_eq!((owner("20"), owner("50"), owner("100")), (Owner::Ours, Owner::Ours, Owner::Pending));
        assert_eq!((owner("21"), owner("70")), (Owner::Ours, Owner::Theirs), "one is rounding, the other is not");
        assert_eq!(intended.owner("21", Keeps::Exact), Owner::Theirs, "an exact service rounds nothing");
    }

    #[test]
    fn once_it_was_seen_every_other_value_is_theirs() {
        let landed = change(&["50", "20"], State::Landed);
        let owner = |live| landed.owner(live, Keeps::Near);
        assert_eq!((owner("20"), owner("50")), (Owner::Ours, Owner::Ours));
        assert_eq!((owner("100"), owner("21"), owner("70")), (Owner::Back, Owner::Theirs, Owner::Theirs));
        let theirs = change(&["50"], State::Overridden);
        assert_eq!([theirs.owner("50", Keeps::Near), theirs.owner("100", Keeps::Near)], [Owner::Theirs; 2]);
    }

    #[test]
    fn another_value_on_its_way_forgets_nothing() {
        let rounded = change(&["176"], State::Landed).landed("180");
        assert_eq!((rounded.wanted(), rounded.shown(), rounded.owner("176", Keeps::Near)), ("176", "180", Owner::Ours));
        let adjusted = rounded.aimed("150".into());
        assert_eq!((adjusted.state, adjusted.shown()), (State::Adjusting, "150"));
        assert_eq!(adjusted.owner("180", Keeps::Near), Owner::Ours);
        assert_eq!(adjusted.owner("152", Keeps::Near), Owner::Ours);
        assert_eq!(adjusted.owner("100", Keeps::Near), Owner::Back, "somebody put it back");
        assert_eq!(rounded.aimed("176".into()).shown(), "180", "nothing new is wanted");
    }

    #[test]
    fn what_is_wanted_as_it_was_is_as_it_is_wanted() {
        assert_eq!(change(&["50", "100"], State::Landed).owner("100", Keeps::Near), Owner::Ours);
        assert_eq!(change(&["100"], State::Intended).owner("100", Keeps::Near), Owner::Ours);
    }

    #[test]
    fn adjusting_keeps_the_first_prior_and_a_bounded_history() {
        let mut change = change(&["50"], State::Intended);
        for aim in 0..20 {
            change = change.aimed(aim.to_string());
        }
        assert_eq!((change.prior.as_str(), change.wanted(), change.ours.len()), ("100", "19", HISTORY));
        assert_eq!(change.owner("50", Keeps::Exact), Owner::Ours, "the first may say that it is on its way");
        let again = change.aimed("15".into());
        assert_eq!((again.wanted(), again.ours.len()), ("15", HISTORY));
    }

    #[test]
    fn who_stands_on_another_takes_over_what_that_one_found() {
        let below = change(&["60", "50"], State::Landed).landed("52");
        let above = Change { state: State::Landed, ..Change::new("maxconn", "52", vec!["20".to_owned()]) };
        let heir = above.in_place_of(&below);
        assert_eq!((heir.prior.as_str(), heir.wanted()), ("100", "20"));
        let owners = ["20", "52", "60", "100", "70"].map(|live| heir.owner(live, Keeps::Exact));
        assert_eq!(owners, [Owner::Ours, Owner::Ours, Owner::Ours, Owner::Back, Owner::Theirs]);
    }

    #[test]
    fn falling_back_forgets_nothing_that_may_be_there() {
        let undo = |ours: &[&str]| Undo {
            epoch: "1".into(),
            changes: vec![change(ours, State::Intended)],
            lapses_unix_ms: None,
        };
        assert_eq!(undo(&["50", "20"]).falling_back_to(&undo(&["50"])), undo(&["20", "50"]));
    }

    #[test]
    fn what_we_began_to_put_back_is_nobody_elses_deed() {
        let states = [State::Landed, State::Intended, State::Overridden];
        let changes = states.iter().map(|state| change(&["50"], *state)).collect();
        let undo = Undo { epoch: "1".into(), changes, lapses_unix_ms: None };
        let returning: Vec<_> = undo.returning().changes.iter().map(|change| change.state).collect();
        assert_eq!(returning, [State::Adjusting, State::Intended, State::Overridden]);
    }

    #[test]
    fn a_journal_of_an_earlier_version_is_in_doubt() {
        let earlier = r#"{"key":"maxconn","prior":"100","ours":["50"]}"#;
        assert_eq!(serde_json::from_str::<Change>(earlier).unwrap(), change(&["50"], State::Intended));
        let landed = change(&["176"], State::Intended).landed("180");
        let text = serde_json::to_string(&landed).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), landed);
    }
}
