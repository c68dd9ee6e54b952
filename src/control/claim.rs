//! One guardian a service: before anything is sent, the marks of its address and of this life of it are taken.

use std::sync::Arc;

use super::failure::Failure;
use super::service::Probe;
use super::undo::Undo;
use super::{Control, mark};
use crate::policy::mitigation::Outcome;

/// How closely a service is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Care {
    Close,
    /// Whether it still answers.
    Glance,
}

impl Control {
    /// The same where no other guardian acts on it, by whatever address; where one does, who that is. Takes nothing.
    /// Beside it by what the service is known at each of its addresses, as far as it tells.
    pub(crate) async fn watch(&mut self, care: Care) -> (Probe, Vec<String>) {
        if let Err(held) = self.is_free(&[]) {
            return (Probe::failed(held), Vec::new());
        }
        let probe = match care {
            Care::Close => self.probe().await,
            Care::Glance => self.look().await,
        };
        if probe.outcome != Outcome::Applied {
            return (probe, Vec::new());
        }
        let names = self.names().await;
        let is_free = self.is_free(&names).and_then(|()| self.is_family_free(&names));
        (is_free.map_or_else(Probe::failed, |()| probe), names)
    }

    /// By what the service is known at each of its addresses, as far as it tells.
    pub async fn names(&mut self) -> Vec<String> {
        // What cannot be told is found out by whoever acts.
        let life = self.service.life().await.ok().flatten();
        life.map(|life| self.service.names(&life)).unwrap_or_default()
    }

    /// Whether what answers here is in the life that this is of, and has a value of ours. Another service may call its life
    /// the same, and hardly has the same value.
    pub async fn holds(&mut self, undo: &Undo) -> bool {
        let Ok(live) = self.service.read(undo).await else { return false };
        let mut pairs = undo.changes.iter().zip(&live.values);
        live.epoch == undo.epoch && pairs.any(|(change, value)| change.is_known(value) && *value != change.prior)
    }

    /// As the service's: what is left of the earlier life is put back, so that the one that is there now is acted on anew.
    pub(crate) async fn is_succeeded(&mut self, undo: &Undo) -> bool {
        self.service.is_succeeded(undo).await
    }

    fn is_free(&self, lives: &[String]) -> Result<(), Failure> {
        self.target.as_ref().map_or(Ok(()), |target| mark::look(target, lives))
    }

    fn is_family_free(&self, lives: &[String]) -> Result<(), Failure> {
        let relatives: Vec<String> = lives.iter().flat_map(|life| self.service.relatives(life)).collect();
        self.target.as_ref().map_or(Ok(()), |target| mark::look_around(target, &relatives))
    }

    /// Before anything is sent to this life of the target. What was claimed of the one that was read last stays so.
    ///
    /// # Errors
    /// `Refused` where another guardian acts on it. What was held before still is.
    pub(super) async fn claim(&mut self, life: &str) -> Result<(), Failure> {
        let Some(target) = &self.target else { return Ok(()) };
        let lives = [life, &self.life].into_iter().filter(|life| !life.is_empty());
        let names: Vec<String> = lives.flat_map(|life| self.service.names(life)).collect();
        let marks = mark::take(target, &names).await?;
        // Who comes later sees ours. Of two at the same moment, one at least sees the other.
        if marks.iter().any(|mark| !self.marks.iter().any(|known| Arc::ptr_eq(known, mark))) {
            self.is_family_free(&names)?;
        }
        self.marks = marks;
        Ok(())
    }

    /// What this guardian owes here, it undoes also where another one acts on it by now. But what that one has set is not
    /// somebody's last word: it was captured on top of ours and gives way to that again.
    pub(super) async fn held_by_another(&mut self, life: &str) -> Option<Failure> {
        let held = self.claim(life).await.err()?;
        Some(Failure { detail: format!("{}; the owed undo waits for that guardian", held.detail), ..held })
    }
}
