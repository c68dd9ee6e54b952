//! A last look before the first byte: a record takes its time to become durable, and meanwhile others go on. What somebody
//! set since it was captured is never overwritten.

use super::failure::Failure;
use super::landing::Patience;
use super::standing::{self, Reading, Standing};
use super::undo::{Change, State, Undo};
use super::{Control, Wish};

impl Control {
    /// Whether all of it is as it was at the last capture, which this is of: so that it can be put back to that.
    ///
    /// # Errors
    /// `EpochChanged` where the target has forgotten, and when it cannot be read. Nothing was changed.
    pub async fn is_as_captured(&mut self, undo: &Undo) -> Result<bool, Failure> {
        self.before = self.service.measure(undo).await;
        let live = self.service.read(undo).await?;
        if live.epoch != undo.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        Ok(live.values == self.seen)
    }

    /// Before what is in force gets another strength: what is not ours any more is marked as theirs, and so not written.
    ///
    /// # Errors
    /// `EpochChanged` and `Overridden` as `capture_again`, and when it cannot be read. Nothing was changed.
    pub async fn leave_theirs(&mut self, undo: &mut Undo, before: &Undo) -> Result<(), Failure> {
        self.before = self.service.measure(undo).await;
        let unsent = not_sent_yet(undo, before);
        let live = self.read_settled(&unsent, Patience::Moving).await?;
        if live.epoch != unsent.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        let readings = self.readings(&unsent, &live, Wish::Wanted);
        if let Standing::Foreign(found) = standing::judge(&readings) {
            return Err(Failure::overridden(format!("left alone: {found}")));
        }
        let theirs: Vec<bool> = readings.iter().map(Reading::is_theirs).collect();
        let set = undo.changes.iter_mut().zip(theirs).filter(|(_, is_theirs)| *is_theirs);
        set.for_each(|(change, _)| change.state = State::Overridden);
        self.seen = live.values;
        Ok(())
    }
}

/// What is to be written is not on its way yet: every value is judged by what was wanted before. What was adopted in a new
/// life of the target was seen there.
fn not_sent_yet(undo: &Undo, before: &Undo) -> Undo {
    let unsent = |change: &Change| {
        let known = before.changes.iter().find(|known| known.key == change.key && before.epoch == undo.epoch);
        known.cloned().unwrap_or_else(|| Change { state: State::Landed, ..change.clone() })
    };
    Undo { changes: undo.changes.iter().map(unsent).collect(), ..undo.clone() }
}
