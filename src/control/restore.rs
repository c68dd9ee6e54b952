//! Putting values back: only those that are ours, read back until they are there, and nothing that somebody else has set.

use super::failure::Failure;
use super::landing::{Patience, Watch};
use super::near::is_near;
use super::service::{AfterRefusal, Done, Order};
use super::standing::{self, Sorted};
use super::undo::{Change, Owner, State, Undo};
use super::{Control, Wish};
use crate::policy::mitigation::Outcome;

/// As often as somebody sets something just before it is put back.
const LOOKS: usize = 3;

impl Control {
    /// Puts back what is still ours, reads that back, and leaves alone what somebody else has set, be it while this goes on.
    /// What has not arrived yet is waited for, and taken back where it does not. Tells beside it what somebody else had put
    /// back already.
    ///
    /// # Errors
    /// When it could not be done: it is still owed.
    pub async fn undo(&mut self, undo: &Undo) -> Result<(Done, Option<String>), Failure> {
        let mut undone = self.undo_once(undo).await;
        for _ in 1..LOOKS {
            match &undone {
                Err(failure) if failure.outcome == Outcome::Overridden => {}
                _ => break,
            }
            // What is back by now, we have put back.
            undone = self.undo_once(&self.returning(undo)).await;
        }
        undone
    }

    async fn undo_once(&mut self, undo: &Undo) -> Result<(Done, Option<String>), Failure> {
        let held = self.held_by_another(&undo.epoch).await;
        let (undo, live) = self.read_adopting(undo, Patience::Arriving).await?;
        let held = held.or(self.held_by_another(&undo.epoch).await);
        if undo.epoch != live.epoch {
            return Ok((Done::from(Failure::epoch_changed(self.service.name())), None));
        }
        let readings = self.readings(&undo, &live, Wish::Over);
        let sorted = standing::sort(&readings);
        let back = self.put_back_by_others(&undo, &readings);
        let unseen = readings.iter().filter(|it| it.owner == Owner::Pending);
        let unseen: Vec<_> = unseen.map(|reading| (reading.change, reading.value)).collect();
        self.note_unseen(&undo, !unseen.is_empty());
        self.put_back(&undo);
        if let Err(failure) = self.restore(&undo.epoch, &sorted.restore).await {
            let is_over = failure.outcome == Outcome::EpochChanged;
            return if is_over { Ok((Done::from(failure), None)) } else { Err(failure) };
        }
        // What is there is right; this is for what the service may still have in hand. Where it refuses, it has nothing. One
        // with several workers may obey this before what it was told first: nothing is over before that is. One that obeys
        // and never answers has had its time as well.
        let is_settled = unseen.is_empty() || self.is_overdue(&undo);
        match self.put(&undo.epoch, &unseen).await {
            Err(failure) if matches!(failure.outcome, Outcome::Refused | Outcome::Unsupported) => {}
            Err(failure) if failure.outcome != Outcome::TimedOut || !is_settled => return Err(failure),
            Ok(()) if !is_settled => return Err(self.may_still_obey(&unseen)),
            Ok(()) | Err(_) => {}
        }
        let is_new = |(change, _): &(&Change, &str)| change.state != State::Overridden;
        if let Some(held) = held.filter(|_| sorted.foreign.iter().any(is_new)) {
            return Err(held);
        }
        Ok((Done { outcome: outcome(&sorted), detail: told(&sorted), freed_bytes: None }, back))
    }

    fn may_still_obey(&self, unseen: &[(&Change, &str)]) -> Failure {
        let (name, still) = (self.service.name(), standing::remains(unseen));
        Failure::timed_out(format!(
            "{name} has not obeyed yet and still may: {still}; it is read again until that is settled"
        ))
    }

    /// Each over what was read there.
    async fn put<'a>(&mut self, epoch: &str, changes: &[(&'a Change, &'a str)]) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let order =
            |(change, live): &(&'a Change, &'a str)| Order { key: &change.key, value: &change.prior, over: Some(live) };
        let orders: Vec<_> = changes.iter().map(order).collect();
        self.service.write(epoch, &orders, AfterRefusal::GoOn).await
    }

    async fn restore(&mut self, epoch: &str, changes: &[(&Change, &str)]) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        self.put(epoch, changes).await?;
        let changes = changes.iter().map(|(change, _)| (*change).clone()).collect();
        let only = Undo { epoch: epoch.to_owned(), changes, lapses_unix_ms: None };
        let mut watch = Watch::new(self.service.grace());
        loop {
            let live = self.service.read(&only).await?;
            // As good as a restore, but nobody put anything back: the undo may have been what it did not live through.
            if live.epoch != epoch {
                return Err(Failure::epoch_changed(self.service.name()));
            }
            watch.saw(&live.values);
            let still = standing::not_back(&only, &live);
            let is_rounded = |(change, value): &(&Change, &str)| {
                self.service.rounds(&change.key) && is_near(&change.prior, value) && !change.is_known(value)
            };
            if still.is_empty() || (watch.is_steady() && still.iter().all(is_rounded)) {
                return Ok(());
            }
            if watch.is_over() {
                let (name, still) = (self.service.name(), standing::remains(&still));
                return Err(Failure::refused(format!("{name} accepted the undo but did not obey: {still}")));
            }
            watch.pause().await;
        }
    }
}

fn outcome(sorted: &Sorted<'_>) -> Outcome {
    match (sorted.restore.is_empty(), sorted.foreign.is_empty()) {
        (false, true) => Outcome::Applied,
        (true, true) => Outcome::Already,
        (_, false) => Outcome::Overridden,
    }
}

fn told(sorted: &Sorted<'_>) -> String {
    let returned = standing::returned(&sorted.restore);
    match (sorted.restore.is_empty(), sorted.foreign.is_empty()) {
        (false, true) => returned,
        (true, true) => "everything was back already".to_owned(),
        (true, false) => standing::left_alone(&sorted.foreign),
        (false, false) => format!("{returned}; {}", standing::left_alone(&sorted.foreign)),
    }
}
