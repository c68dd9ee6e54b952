//! What a read-back means: is what we set still there? Pure, so that every mix of ours, prior and foreign is tested
//! without a server.

use super::undo::{Change, Owner, State, Undo};

/// Values of a target at one moment, in the order in which they were asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    pub epoch: String,
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// At least one value is what we set. What somebody else has set beside it, if anything.
    Ours {
        theirs: Option<String>,
    },
    /// Every value is as it was before us.
    Prior,
    /// Nothing has arrived yet, and may still do: what is not as it is wanted.
    Pending(String),
    /// None is ours any more and somebody set another: what was found.
    Foreign(String),
    EpochChanged,
}

/// One value, and whose it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading<'a> {
    pub change: &'a Change,
    pub value: &'a str,
    pub owner: Owner,
    /// A lease that was taken away before its time.
    pub cleared: bool,
}

/// What of an undo is to be written, and what somebody else has set.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Sorted<'a> {
    pub restore: Vec<(&'a Change, &'a str)>,
    pub foreign: Vec<(&'a Change, &'a str)>,
}

impl Reading<'_> {
    #[must_use]
    pub(crate) fn is_theirs(&self) -> bool {
        self.cleared || self.owner == Owner::Theirs
    }

    /// Ours, and not as it was before us anyway.
    fn tells(&self) -> bool {
        !self.is_theirs() && self.owner == Owner::Ours && self.value != self.change.prior
    }
}

/// Of one life of the target.
#[must_use]
pub(crate) fn judge(readings: &[Reading<'_>]) -> Standing {
    let theirs = theirs(readings);
    let as_wanted = |reading: &Reading<'_>| reading.owner == Owner::Ours && reading.value == reading.change.shown();
    // A value that is wanted as it was before us tells nothing beside others that are not.
    if readings.iter().all(as_wanted) || readings.iter().any(Reading::tells) {
        return Standing::Ours { theirs };
    }
    let pending: Vec<_> =
        readings.iter().filter(|reading| reading.owner == Owner::Pending && !reading.cleared).collect();
    if pending.is_empty() {
        return theirs.map_or(Standing::Prior, Standing::Foreign);
    }
    let values: Vec<_> = pending.iter().map(|reading| (reading.change, reading.value)).collect();
    Standing::Pending(remains(&values))
}

/// What somebody else has set, in words.
#[must_use]
pub fn theirs(readings: &[Reading<'_>]) -> Option<String> {
    let set = readings.iter().filter(|reading| reading.is_theirs() && !reading.cleared);
    let set: Vec<_> = set.map(|reading| (reading.change, reading.value)).collect();
    let cleared: Vec<_> = readings.iter().filter(|reading| reading.cleared).map(|reading| reading.change).collect();
    let told: Vec<String> = [(found(&set)), self::cleared(&cleared)].into_iter().filter(|it| !it.is_empty()).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[must_use]
pub(crate) fn sort<'a>(readings: &[Reading<'a>]) -> Sorted<'a> {
    let mut sorted = Sorted { restore: Vec::new(), foreign: Vec::new() };
    for Reading { change, value, owner, .. } in readings.iter().filter(|reading| reading.value != reading.change.prior)
    {
        match owner {
            Owner::Ours => sorted.restore.push((change, value)),
            Owner::Theirs => sorted.foreign.push((change, value)),
            Owner::Pending | Owner::Back => {}
        }
    }
    sorted
}

/// Those that are not as they were before us.
#[must_use]
pub(crate) fn not_back<'a>(undo: &'a Undo, live: &'a Live) -> Vec<(&'a Change, &'a str)> {
    let pairs = undo.changes.iter().zip(&live.values).map(|(change, value)| (change, value.as_str()));
    pairs.filter(|(change, value)| change.prior != *value).collect()
}

/// `server be/s1 maxconn is 50`
#[must_use]
pub(crate) fn remains(values: &[(&Change, &str)]) -> String {
    list(values, |(change, value)| format!("{} is {}", change.key, shown(value)))
}

/// `server be/s1 maxconn is 70, not the 50 that was set`
fn found(foreign: &[(&Change, &str)]) -> String {
    list(foreign, |(change, value)| {
        format!("{} is {}, not the {} that was set", change.key, shown(value), change.shown())
    })
}

/// `lease ng_lease web was cleared by hand`
fn cleared(leases: &[&Change]) -> String {
    list(leases, |change| format!("{} was cleared by hand", change.key))
}

/// `server be/s1 maxconn 100 → 50, limit 200 → 180 (told 176)`
#[must_use]
pub(crate) fn moved(changes: &[Change]) -> String {
    let is_ours = |change: &&Change| change.state != State::Overridden && change.prior != change.shown();
    let moved: Vec<_> = changes.iter().filter(is_ours).collect();
    list(&moved, |change| {
        let told = if change.kept.is_some() { format!(" (told {})", change.wanted()) } else { String::new() };
        format!("{} {} → {}{told}", change.key, shown(&change.prior), shown(change.shown()))
    })
}

/// The same of what somebody else has set: `; left alone: …`.
#[must_use]
pub(crate) fn left_alone(foreign: &[(&Change, &str)]) -> String {
    format!("left alone: {}", found(foreign))
}

/// `server be/s1 maxconn back to 100`
#[must_use]
pub(crate) fn returned(changes: &[(&Change, &str)]) -> String {
    list(changes, |(change, _)| format!("{} back to {}", change.key, shown(&change.prior)))
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "none" } else { value }
}

/// A sentence has room for three; a proxy may have hundreds.
fn list<T>(items: &[T], say: impl Fn(&T) -> String) -> String {
    const ROOM: usize = 3;
    let mut text = items.iter().take(ROOM).map(say).collect::<Vec<_>>().join(", ");
    if items.len() > ROOM {
        text.push_str(&format!(" and {} more", items.len() - ROOM));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::undo::Keeps;
    use super::*;

    fn change(key: &str, prior: &str, ours: &[&str]) -> Change {
        let ours = ours.iter().map(|&value| value.to_owned()).collect();
        Change { state: State::Landed, ..Change::new(key, prior, ours) }
    }

    fn undo() -> [Change; 2] {
        [change("a", "100", &["50", "20"]), change("b", "10", &["5", "2"])]
    }

    fn read<'a>(changes: &'a [Change], values: &'a [&'a str]) -> Vec<Reading<'a>> {
        let reading = |(change, value): (&'a Change, &&'a str)| Reading {
            change,
            value,
            owner: change.owner(value, Keeps::Exact),
            cleared: false,
        };
        changes.iter().zip(values).map(reading).collect()
    }

    #[test]
    fn one_value_of_ours_is_enough_to_owe_something() {
        let undo = undo();
        let judged = |values: [&str; 2]| judge(&read(&undo, &values));
        assert_eq!(judged(["20", "2"]), Standing::Ours { theirs: None });
        let theirs = Some("b is 7, not the 2 that was set".to_owned());
        assert_eq!(judged(["50", "7"]), Standing::Ours { theirs });
        assert_eq!(judged(["100", "10"]), Standing::Prior);
        let Standing::Foreign(found) = judged(["100", "7"]) else { panic!("theirs") };
        assert_eq!(found, "b is 7, not the 2 that was set");
    }

    #[test]
    fn what_has_not_arrived_is_nobodys_end() {
        let undo = undo().map(|change| Change { state: State::Intended, ..change });
        let judged = |values: [&str; 2]| judge(&read(&undo, &values));
        assert_eq!(judged(["100", "10"]), Standing::Pending("a is 100, b is 10".into()));
        assert_eq!(judged(["100", "7"]), Standing::Pending("a is 100".into()));
        assert_eq!(judged(["20", "10"]), Standing::Ours { theirs: None });
    }

    #[test]
    fn a_lease_that_was_cleared_is_theirs() {
        let undo = undo();
        let mut readings = read(&undo, &["100", "2"]);
        readings[0].cleared = true;
        assert_eq!(judge(&readings), Standing::Ours { theirs: Some("a was cleared by hand".into()) });
        readings[1].cleared = true;
        assert_eq!(judge(&readings), Standing::Foreign("a was cleared by hand, b was cleared by hand".into()));
    }

    #[test]
    fn what_is_wanted_as_it_was_keeps_nothing_in_force() {
        let mut undo = undo();
        undo[1] = undo[1].aimed("10".into());
        assert_eq!(judge(&read(&undo, &["20", "10"])), Standing::Ours { theirs: None });
        assert_eq!(judge(&read(&undo, &["100", "10"])), Standing::Prior);
        undo[0] = undo[0].aimed("100".into());
        assert_eq!(judge(&read(&undo, &["100", "10"])), Standing::Ours { theirs: None }, "all of it is as wanted");
        assert_eq!(moved(&undo), "");
    }

    #[test]
    fn what_somebody_else_set_is_not_restored() {
        let undo = undo();
        let sorted = sort(&read(&undo, &["20", "7"]));
        assert_eq!(returned(&sorted.restore), "a back to 100");
        assert_eq!(left_alone(&sorted.foreign), "left alone: b is 7, not the 2 that was set");
        let overridden = undo.map(|change| Change { state: State::Overridden, ..change });
        assert_eq!(sort(&read(&overridden, &["100", "2"])).foreign.len(), 1, "theirs, though it is what we set");
    }

    #[test]
    fn long_lists_are_cut_and_rounding_is_told() {
        let text = moved(&vec![change("k", "", &["1"]); 9]);
        assert!(text.starts_with("k none → 1, ") && text.ends_with("and 6 more"), "{text}");
        assert_eq!(moved(&[change("limit", "200", &["176"]).landed("180")]), "limit 200 → 180 (told 176)");
    }
}
