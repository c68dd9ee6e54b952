//! What is there before anything is changed, read in such a way that what somebody sets meanwhile is not missed: it is
//! what will be put back.

use super::Control;
use super::Wish;
use super::failure::Failure;
use super::landing::Patience;
use super::standing::{self, Reading, Standing};
use super::undo::Undo;
use crate::policy::mitigation::{Mitigation, Outcome};

/// What changes again between a look and the next is changed by somebody who is at work.
const LOOKS: usize = 4;

/// What is there, twice: as the survey took it for prior, and as it was read after that.
#[derive(PartialEq)]
struct Look {
    undo: Undo,
    values: Vec<String>,
}

impl Control {
    /// What a mitigation would change and from what. No changes: it has this value, or a stricter one, already. All
    /// that undoing it will need was seen to work.  # Errors When it cannot be told or must not be done. Nothing was
    /// changed.
    pub async fn capture(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let before = self.marks.clone();
        self.claim("").await?;
        let captured = self.settled(mitigation).await;
        let acts = match &captured {
            Ok(undo) => !undo.changes.is_empty(),
            Err(failure) => failure.outcome != Outcome::Refused,
        };
        // Who has nothing to do here, or may not, keeps nobody else from it.
        if !acts {
            self.marks = before;
        }
        captured
    }

    /// Where both readings of a look differ, somebody set a value between them, or something of ours was left: then a
    /// second look finds the same.
    async fn settled(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        self.service.permits(mitigation.verb).await?;
        let mut before = None;
        for _ in 0..LOOKS {
            let look = self.surveyed(mitigation).await?;
            let is_one = look.undo.changes.iter().map(|change| &change.prior).eq(&look.values);
            if is_one || before.as_ref() == Some(&look) {
                self.seen = look.values;
                return Ok(look.undo);
            }
            before = Some(look);
        }
        Err(Failure::refused("nothing was sent: somebody else changed the value at each read"))
    }

    async fn surveyed(&mut self, mitigation: &Mitigation) -> Result<Look, Failure> {
        let mut undo = self.service.survey(mitigation).await?;
        undo.changes.retain(|change| !self.loosens(&change.key, &change.prior, change.wanted()));
        if undo.changes.iter().all(|change| change.prior == change.wanted()) {
            undo.changes.clear();
            return Ok(Look { undo, values: Vec::new() });
        }
        self.service.may(&undo).await?;
        self.claim(&undo.epoch).await?;
        let live = self.service.read(&undo).await?;
        if live.epoch != undo.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        self.life = live.epoch;
        Ok(Look { undo, values: live.values })
    }

    /// The same undo with the values for another strength added: the prior values stay the first ones, and no value gets
    /// looser than its prior one.
    ///
    /// # Errors
    /// `EpochChanged` where the target has forgotten, `Overridden` where none of it is ours any more, `Refused` where
    /// another guardian acts on it.
    pub async fn capture_again(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Undo, Failure> {
        self.claim(&undo.epoch).await?;
        let (undo, live) = self.read_adopting(undo, Patience::Moving).await?;
        self.claim(&undo.epoch).await?;
        if undo.epoch != live.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        let undo = self.without_earlier(&undo);
        let readings = self.readings(&undo, &live, Wish::Wanted);
        if let Standing::Foreign(found) = standing::judge(&readings) {
            return Err(Failure::overridden(format!("left alone: {found}")));
        }
        let theirs: Vec<bool> = readings.iter().map(Reading::is_theirs).collect();
        let aims = self.service.aim(mitigation, &undo).await?;
        let kept = undo.changes.iter().zip(aims).zip(theirs).filter(|(_, theirs)| !theirs);
        let changes = kept.map(|((change, aim), _)| change.aimed(self.no_looser(change, aim))).collect();
        Ok(Undo { changes, ..undo.renewed() })
    }
}
