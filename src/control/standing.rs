//! What a read-back means: is what we set still there? Pure, so that every mix of ours, prior and foreign is tested
//! without a server.

use super::undo::{Change, Restore, Undo};

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
    /// None is ours any more and somebody set another: what was found.
    Foreign(String),
    EpochChanged,
}

/// What of an undo is to be written, and what somebody else has set.
#[derive(Clone, PartialEq, Debug)]
pub struct Sorted<'a> {
    pub restore: Vec<&'a Change>,
    pub foreign: Vec<(&'a Change, &'a str)>,
}

#[must_use]
pub fn judge(undo: &Undo, live: &Live) -> Standing {
    if undo.epoch != live.epoch {
        return Standing::EpochChanged;
    }
    let theirs = sort(undo, live).foreign;
    let theirs = (!theirs.is_empty()).then(|| found(&theirs));
    let mut pairs = undo.changes.iter().zip(&live.values);
    // A value that is wanted as it was before us tells nothing beside others that are not.
    if landed(undo, live) || pairs.any(|(change, value)| change.restore(value) == Restore::Write) {
        return Standing::Ours { theirs };
    }
    theirs.map_or(Standing::Prior, Standing::Foreign)
}

/// Whether every value is the newest that we wrote.
#[must_use]
pub fn landed(undo: &Undo, live: &Live) -> bool {
    undo.epoch == live.epoch && undo.changes.iter().zip(&live.values).all(|(change, value)| change.wanted() == value)
}

/// `None` when every value is the prior one again, else what is not. Both are of one life of the target.
#[must_use]
pub fn judge_restored(undo: &Undo, live: &Live) -> Option<String> {
    let pairs = undo.changes.iter().zip(&live.values);
    let still: Vec<_> = pairs
        .filter(|(change, value)| change.prior != **value)
        .map(|(change, value)| (change, value.as_str()))
        .collect();
    if still.is_empty() { None } else { Some(remains(&still)) }
}

/// `server be/s1 maxconn is 50`
#[must_use]
pub fn remains(values: &[(&Change, &str)]) -> String {
    list(values, |(change, value)| format!("{} is {}", change.key, shown(value)))
}

#[must_use]
pub fn sort<'a>(undo: &'a Undo, live: &'a Live) -> Sorted<'a> {
    let mut sorted = Sorted { restore: Vec::new(), foreign: Vec::new() };
    for (change, value) in undo.changes.iter().zip(&live.values) {
        match change.restore(value) {
            Restore::Write => sorted.restore.push(change),
            Restore::Leave => sorted.foreign.push((change, value)),
            Restore::Done => {}
        }
    }
    sorted
}

/// `server be/s1 maxconn is 70, not the 50 that was set`
#[must_use]
pub fn found(foreign: &[(&Change, &str)]) -> String {
    list(foreign, |(change, value)| {
        format!("{} is {}, not the {} that was set", change.key, shown(value), change.wanted())
    })
}

/// `lease ng_lease web was cleared by hand`
#[must_use]
pub fn cleared(leases: &[(&Change, &String)]) -> String {
    list(leases, |(change, _)| format!("{} was cleared by hand", change.key))
}

/// `server be/s1 maxconn 100 → 50, server be/s2 maxconn 80 → 40`
#[must_use]
pub fn moved(changes: &[Change]) -> String {
    let moved: Vec<_> = changes.iter().filter(|change| change.prior != change.wanted()).collect();
    list(&moved, |change| format!("{} {} → {}", change.key, shown(&change.prior), shown(change.wanted())))
}

/// `server be/s1 maxconn back to 100`
#[must_use]
pub fn returned(changes: &[&Change]) -> String {
    list(changes, |change| format!("{} back to {}", change.key, shown(&change.prior)))
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
    use super::*;

    fn undo() -> Undo {
        let change = |key: &str, prior: &str, ours: &[&str]| Change {
            key: key.into(),
            prior: prior.into(),
            ours: ours.iter().map(|&value| value.to_owned()).collect(),
        };
        Undo {
            epoch: "life 1".into(),
            changes: vec![change("a", "100", &["50", "20"]), change("b", "10", &["5", "2"])],
            lapses_unix_ms: None,
        }
    }

    fn live(values: [&str; 2]) -> Live {
        Live { epoch: "life 1".into(), values: values.iter().map(|&value| value.to_owned()).collect() }
    }

    #[test]
    fn one_value_of_ours_is_enough_to_owe_something() {
        assert_eq!(judge(&undo(), &live(["20", "2"])), Standing::Ours { theirs: None });
        let theirs = Some("b is 7, not the 2 that was set".to_owned());
        assert_eq!(judge(&undo(), &live(["50", "7"])), Standing::Ours { theirs });
        assert_eq!(judge(&undo(), &live(["100", "10"])), Standing::Prior);
        let Standing::Foreign(found) = judge(&undo(), &live(["100", "7"])) else { panic!("theirs") };
        assert_eq!(found, "b is 7, not the 2 that was set");
        let later = Live { epoch: "life 2".into(), ..live(["20", "2"]) };
        assert_eq!(judge(&undo(), &later), Standing::EpochChanged);
    }

    #[test]
    fn what_is_wanted_as_it_was_keeps_nothing_in_force() {
        let mut undo = undo();
        undo.changes[1] = undo.changes[1].aimed("10".into());
        assert_eq!(judge(&undo, &live(["20", "10"])), Standing::Ours { theirs: None });
        assert_eq!(judge(&undo, &live(["100", "10"])), Standing::Prior);
        undo.changes[0] = undo.changes[0].aimed("100".into());
        assert_eq!(judge(&undo, &live(["100", "10"])), Standing::Ours { theirs: None }, "all of it is as wanted");
        assert_eq!(moved(&undo.changes), "");
    }

    #[test]
    fn a_change_has_landed_only_when_all_of_it_has() {
        assert!(landed(&undo(), &live(["20", "2"])));
        assert!(!landed(&undo(), &live(["20", "5"])));
    }

    #[test]
    fn what_somebody_else_set_is_not_restored() {
        let (undo, live) = (undo(), live(["20", "7"]));
        let sorted = sort(&undo, &live);
        assert_eq!(returned(&sorted.restore), "a back to 100");
        assert_eq!(sorted.foreign.len(), 1);
    }

    #[test]
    fn long_lists_are_cut() {
        let change = Change { key: "k".into(), prior: String::new(), ours: vec!["1".into()] };
        let text = moved(&vec![change; 9]);
        assert!(text.starts_with("k none → 1, ") && text.ends_with("and 6 more"), "{text}");
    }
}
