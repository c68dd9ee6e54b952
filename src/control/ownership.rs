//! Whose each value is, as far as this guardian has seen: what the target shows, what the journal knows, and what was seen
//! here since the start. Never takes a value for ours only because it equals ours, nor for somebody's only because it does
//! not.

use tokio::time::Instant;

use super::failure::Failure;
use super::landing::Patience;
use super::standing::{self, Live, Reading};
use super::undo::{Change, Owner, State, Undo};
use super::{Control, Wish};

/// A service that has not obeyed after so many times its grace, 15 s, will not: the request is taken back.
const OVERDUE: u32 = 6;

impl Control {
    /// Whether what was written has been waited for long enough.
    #[must_use]
    pub fn is_overdue(&self, undo: &Undo) -> bool {
        let since = undo.changes.first().and_then(|change| self.unseen.get(&(undo.epoch.clone(), change.key.clone())));
        since.is_some_and(|since| since.elapsed() >= self.service.grace() * OVERDUE)
    }

    /// While it is wanted, a prior value that came back, and a lease that somebody cleared, is as much theirs as a value
    /// that somebody set.
    pub(super) fn readings<'a>(&self, undo: &'a Undo, live: &'a Live, wish: Wish) -> Vec<Reading<'a>> {
        let reading = |(change, value): (&'a Change, &'a String)| {
            let owner = match (self.owner(change, value), wish) {
                (Owner::Back, Wish::Wanted) if self.was_put_back(undo, change) => Owner::Theirs,
                (owner, _) => owner,
            };
            let is_gone = wish == Wish::Wanted && *value == change.prior && owner != Owner::Ours;
            let cleared = is_gone && self.service.was_cleared(&change.key);
            Reading { change, value, owner, cleared }
        };
        undo.changes.iter().zip(&live.values).map(reading).collect()
    }

    /// By somebody: it was seen here, or by an earlier guardian that had not begun to undo it.
    fn was_put_back(&self, undo: &Undo, change: &Change) -> bool {
        let was_seen = self.witnessed.contains(&(undo.epoch.clone(), change.key.clone()));
        was_seen || change.state == State::Landed && !self.service.returns(&change.key)
    }

    /// Values that are as they were before us although nobody here has put them back.
    pub(super) fn put_back_by_others(&self, undo: &Undo, readings: &[Reading<'_>]) -> Option<String> {
        let is_back = |it: &&Reading<'_>| it.owner == Owner::Back && self.was_put_back(undo, it.change);
        let back: Vec<_> = readings.iter().filter(is_back).map(|it| (it.change, it.value)).collect();
        (!back.is_empty()).then(|| standing::remains(&back))
    }

    /// The same, before anything is written over what was seen: an earlier value of ours is on its way no more, and from then
    /// on would be taken for one that is.
    pub(super) fn without_earlier(&self, undo: &Undo) -> Undo {
        let only_newest = |change: &Change| {
            let mut kept = change.clone();
            if change.state == State::Landed && !self.may_be_late(change) {
                kept.ours.retain(|known| known == change.wanted() || self.service.is_ours_alone(known));
            }
            kept
        };
        Undo { changes: undo.changes.iter().map(only_newest).collect(), ..undo.clone() }
    }

    /// The same, when it begins to be undone.
    pub(crate) fn returning(&self, undo: &Undo) -> Undo {
        self.without_earlier(undo).returning()
    }

    /// It is being put back now, by us.
    pub(super) fn put_back(&mut self, undo: &Undo) {
        self.witnessed.retain(|(epoch, key)| *epoch != undo.epoch || undo.changes.iter().all(|it| it.key != *key));
    }

    /// Whose prior value comes back from now on was put back by somebody.
    pub(super) fn witness(&mut self, undo: &Undo) {
        self.witnessed.retain(|(epoch, _)| *epoch == undo.epoch);
        let is_seen = |change: &&Change| change.state == State::Landed && !self.service.returns(&change.key);
        let seen: Vec<_> = undo.changes.iter().filter(is_seen).map(|it| (undo.epoch.clone(), it.key.clone())).collect();
        self.witnessed.extend(seen);
    }

    /// Reads; where the target has begun a new life with values of ours, that is what the undo is about from now on.
    pub(super) async fn read_adopting(&mut self, undo: &Undo, patience: Patience) -> Result<(Undo, Live), Failure> {
        let live = self.read_settled(undo, patience).await?;
        self.life.clone_from(&live.epoch);
        let outlived = |(change, value): &(&Change, &String)| {
            let is_ours = change.owner(value, self.keeps(&change.key)) == Owner::Ours && change.prior != **value;
            is_ours && self.service.outlives(&change.key)
        };
        if live.epoch == undo.epoch {
            return Ok((undo.clone(), live));
        }
        let pairs: Vec<_> = undo.changes.iter().zip(&live.values).filter(outlived).collect();
        if pairs.is_empty() {
            return Ok((undo.clone(), live));
        }
        let changes = pairs.iter().map(|(change, value)| change.adopted(value)).collect();
        let values = pairs.iter().map(|(_, value)| (*value).clone()).collect();
        let adopted = Undo { epoch: live.epoch.clone(), changes, lapses_unix_ms: None };
        Ok((adopted, Live { epoch: live.epoch, values }))
    }

    pub(super) fn note_unseen(&mut self, undo: &Undo, is_unseen: bool) {
        let Some(change) = undo.changes.first() else { return };
        self.unseen.retain(|(epoch, _), _| *epoch == undo.epoch);
        let name = (undo.epoch.clone(), change.key.clone());
        if is_unseen {
            self.unseen.entry(name).or_insert_with(Instant::now);
        } else {
            self.unseen.remove(&name);
        }
    }
}

/// What this reading has told of a change.
pub fn known_now(reading: &Reading<'_>) -> Change {
    let Reading { change, value, owner, .. } = reading;
    let has_arrived = *owner == Owner::Ours && (*value == change.shown() || !change.is_known(value));
    if reading.is_theirs() {
        Change { state: State::Overridden, ..(*change).clone() }
    } else if has_arrived && change.state != State::Landed {
        change.landed(value)
    } else {
        (*change).clone()
    }
}
