//! Two actions must never hold one value: the second would take what the first has set for the operator's, and put that
//! back for good. Controls that were renamed, verbs that turn one setting, two controls that lead to one server or into one
//! family of processes come to this. Where it has come to it all the same, as a journal of another guardian may tell, what
//! the first found is handed down. Pure but for what a family is.

use crate::control::target::Target;
use crate::control::undo::{Change, State, Undo};
use crate::journal::Entry;

/// The first of these entries that already holds a value which this undo is about.
pub fn holder<'a>(entries: &'a [Entry], target: &Target, undo: &Undo) -> Option<(&'a Entry, &'a Change)> {
    entries.iter().find_map(|entry| {
        let meets = target.meets(undo, &entry.target, &entry.undo);
        let is_held = |theirs: &&Change| is_held(entry, theirs, target, undo, meets);
        Some((entry, entry.undo.changes.iter().find(is_held)?))
    })
}

/// An entry of an earlier life of the server holds nothing any more, unless its very value is there again: that is for
/// whoever reads the entry back to settle first.
fn is_held(entry: &Entry, theirs: &Change, target: &Target, undo: &Undo, meets: bool) -> bool {
    let is_left = |mine: &Change| theirs.prior != mine.prior && theirs.is_known(&mine.prior);
    if entry.target.kind() != target.kind() {
        // A recipe and a kind of its own may turn one setting, and neither knows what the other calls it.
        return is_at_one_place(target, &entry.target) && undo.changes.iter().any(is_left);
    }
    let holds = |mine: &Change| {
        if entry.undo.epoch == undo.epoch {
            return target.shares(&entry.target, theirs, mine);
        }
        meets || is_left(mine) && target.is_same(&entry.target)
    };
    undo.changes.iter().any(|mine| target.is_one_value(mine, &entry.target, theirs) && holds(mine))
}

fn is_at_one_place(one: &Target, other: &Target) -> bool {
    one.place().identity().to_string() == other.place().identity().to_string()
}

/// The heir as it is once this entry is over, where what it took for prior is what this one has set: what was there before
/// both is what it puts back, and what this one has set it may still find.
pub fn handed_down(over: &Entry, heir: &Entry) -> Option<Entry> {
    let is_one_life = over.undo.epoch == heir.undo.epoch;
    let meets = !is_one_life && heir.target.meets(&heir.undo, &over.target, &over.undo);
    if !is_one_life && !meets {
        return None;
    }
    let below = |above: &Change| {
        let is_below = |below: &&Change| {
            let is_same = || meets || heir.target.shares(&over.target, below, above);
            below.prior != above.prior
                && below.is_known(&above.prior)
                && heir.target.is_one_value(above, &over.target, below)
                && is_same()
        };
        over.undo.changes.iter().filter(is_below).max_by_key(|below| below.key == above.key)
    };
    let passed = |above: &Change| match below(above).filter(|_| above.state != State::Overridden) {
        Some(below) => above.in_place_of(below),
        None => above.clone(),
    };
    let changes = heir.undo.changes.iter().map(passed).collect();
    let undo = Undo { changes, ..heir.undo.clone() };
    (undo != heir.undo).then(|| Entry { undo, ..heir.clone() })
}
