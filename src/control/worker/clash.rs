//! Two actions must never hold one value: the second would take what the first has set for the operator's, and put that
//! back for good. Controls that were renamed, or two that lead to one server, come to this. Pure.

use crate::control::target::Target;
use crate::control::undo::{Change, Undo};
use crate::journal::Entry;

/// The first of these entries that already holds a value which this undo is about.
pub fn holder<'a>(entries: &'a [Entry], target: &Target, undo: &Undo) -> Option<(&'a Entry, &'a Change)> {
    let held = |entry: &'a Entry| {
        let shared = |change: &&Change| is_held(entry, change, target, undo);
        Some((entry, entry.undo.changes.iter().find(shared)?))
    };
    entries.iter().find_map(held)
}

/// An entry of an earlier life of the server holds nothing any more, unless its very value is there again: that is for
/// whoever reads the entry back to settle first.
fn is_held(entry: &Entry, theirs: &Change, target: &Target, undo: &Undo) -> bool {
    let Some(mine) = undo.changes.iter().find(|mine| mine.key == theirs.key) else { return false };
    if entry.undo.epoch == undo.epoch {
        return target.place().shares(&entry.target, theirs, mine);
    }
    let is_left = theirs.prior != mine.prior && theirs.is_known(&mine.prior);
    is_left && target.place().is_same(&entry.target)
}
