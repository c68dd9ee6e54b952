//! Acting on services and undoing it: one folder per kind of control. A control never decides; it does what it is told,
//! reads it back, and says what came of it. What is common to all kinds, which values to write and which to leave alone,
//! is here; how to say it to the service is theirs.

mod anew;
mod app;
mod base;
pub mod consent;
pub mod failure;
mod haproxy;
mod http;
pub(crate) mod json;
mod jvm;
mod landing;
mod mark;
mod memcached;
mod near;
mod nginx;
mod ours;
mod ownership;
mod passed;
mod pressure;
mod process;
pub mod recipe;
mod redis;
mod resident;
mod restore;
mod rights;
mod said;
pub mod secret;
pub mod service;
mod socket;
pub mod standing;
mod stranger;
mod stream;
pub mod target;
mod trust;
pub mod undo;
mod varnish;
mod webhook;
mod wire;
pub mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use consent::Consent;
use failure::Failure;
use landing::{Landing, Patience};
use mark::Mark;
use service::{AfterRefusal, Aim, Done, Numbers, Order, Probe, Service};
use standing::{Reading, Standing};
use target::Target;
use undo::{Change, Owner, State, Undo};

/// For one conversation with a service. A stopped HAProxy or a Redis in a script never answers; a loaded one answers
/// within 5 ms (measured: commands at 200 clients).
pub const DEADLINE: Duration = Duration::from_millis(1500);

/// How long a throttle holds that lapses by itself: `expire 30s` of the stick table that the documentation shows. To be
/// verified, and so renewed, at a third of it.
pub const LEASE: Duration = Duration::from_secs(30);

/// One service that can be told to do something.
pub struct Control {
    service: Box<dyn Service>,
    /// Where it is, and what says to other guardians that this one acts on it. None: nobody else can.
    target: Option<Target>,
    mark: Option<Arc<Mark>>,
    /// Since when something that was written has not been seen, by life and key.
    unseen: HashMap<(String, String), Instant>,
    /// What was seen as ours and not been put back since, by life and key. Nothing after a restart of the guardian, which
    /// may have been ended while it put things back.
    witnessed: HashSet<(String, String)>,
    /// The values as they were read at the last capture: not always the prior ones, where something of ours was left.
    captured: Vec<String>,
}

/// What a read-back came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    pub standing: Standing,
    /// Written anew, this stays as it is wanted.
    pub due: Vec<Change>,
    /// With what is known now: to be recorded where it differs.
    pub undo: Undo,
}

/// Whether anybody still wants what is read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Then a prior value that is back was put back by somebody.
    Wanted,
    /// Then it is as it should be.
    Over,
}

impl From<Box<dyn Service>> for Control {
    fn from(service: Box<dyn Service>) -> Self {
        Self {
            service,
            target: None,
            mark: None,
            unseen: HashMap::new(),
            witnessed: HashSet::new(),
            captured: Vec::new(),
        }
    }
}

impl Control {
    #[must_use]
    pub fn new(target: &Target) -> Self {
        Self { target: Some(target.clone()), ..Self::from(target.place().open()) }
    }

    /// As sentences call it: `HAProxy`.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.service.name()
    }

    /// Can it be reached, and may it act? Changes nothing.
    pub async fn probe(&mut self) -> Probe {
        self.service.probe().await.unwrap_or_else(Probe::failed)
    }

    /// Is it still there? Cheap enough for now and then.
    pub async fn look(&mut self) -> Probe {
        self.service.look().await.unwrap_or_else(Probe::failed)
    }

    /// Whether another guardian acts on it: then this one only watches. Takes nothing.
    ///
    /// # Errors
    /// `Refused`, and who that is.
    pub fn is_free(&self) -> Result<(), Failure> {
        self.target.as_ref().map_or(Ok(()), mark::look)
    }

    async fn claim(&mut self) -> Result<(), Failure> {
        if let Some(target) = &self.target {
            self.mark = mark::take(target, self.mark.take()).await?;
        }
        Ok(())
    }

    /// What this guardian owes here, it undoes also where another one acts on it by now. But what that one has set is not
    /// somebody's last word: it was captured on top of ours and gives way to that again.
    pub(super) async fn held_by_another(&mut self) -> Option<Failure> {
        let held = self.claim().await.err()?;
        Some(Failure { detail: format!("{}; what is owed here waits for what that one does", held.detail), ..held })
    }

    /// What a mitigation would change and from what. No changes: it is so already, or stricter. All that undoing it will
    /// need was seen to work.
    ///
    /// # Errors
    /// When it cannot be told or must not be done. Nothing was changed.
    pub async fn capture(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        self.claim().await?;
        self.service.permits(mitigation.verb).await?;
        let mut undo = self.service.survey(mitigation).await?;
        undo.changes.retain(|change| !self.loosens(&change.key, &change.prior, change.wanted()));
        if undo.changes.iter().all(|change| change.prior == change.wanted()) {
            undo.changes.clear();
            return Ok(undo);
        }
        self.service.may(&undo).await?;
        let live = self.service.read(&undo).await?;
        if live.epoch != undo.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        self.captured = live.values;
        Ok(undo)
    }

    /// The same undo with the values for another strength added: the prior values stay the first ones, and no value gets
    /// looser than its prior one.
    ///
    /// # Errors
    /// `EpochChanged` where the target has forgotten, `Overridden` where none of it is ours any more, `Refused` where
    /// another guardian acts on it.
    pub async fn capture_again(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Undo, Failure> {
        self.claim().await?;
        let (undo, live) = self.read_adopting(undo, Patience::Moving).await?;
        if undo.epoch != live.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
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

    /// Writes what the undo says we want, and reads it back until it has arrived. What is known then is noted in it.
    ///
    /// # Errors
    /// When it was not done, or not wholly, or nobody can tell: read the standing. `TimedOut` where the service took the
    /// command and has not done it yet.
    pub async fn apply(&mut self, undo: &mut Undo, consent: &Consent<'_>) -> Result<Done, Failure> {
        let resident = self.service.resident(undo).await;
        self.service.write(&undo.epoch, &wanted(&undo.changes), AfterRefusal::Stop).await?;
        let landing = self.land(undo).await?;
        self.witness(undo);
        let note = self.arrived(landing)?;
        let mut done = Done { outcome: Outcome::Applied, detail: standing::moved(&undo.changes), freed_bytes: None };
        if let Some(reclaimed) = self.service.reclaimed(undo, resident, consent).await {
            done.outcome = reclaimed.outcome;
            done.detail = format!("{}; {}", done.detail, reclaimed.detail);
            done.freed_bytes = reclaimed.freed_bytes;
        }
        let notes = note.into_iter().chain(self.service.remark(undo));
        notes.for_each(|note| done.detail = format!("{}; {note}", done.detail));
        Ok(done)
    }

    /// What there is to add about what did not wholly arrive.
    fn arrived(&self, landing: Landing) -> Result<Option<String>, Failure> {
        let name = self.service.name();
        match landing {
            Landing { waiting: Some(still), .. } if self.service.grace().is_zero() => {
                Err(Failure::refused(format!("{name} took the command without doing it: {still}")))
            }
            Landing { waiting: Some(still), is_there: true, .. } => Ok(Some(format!("not done yet: {still}"))),
            Landing { waiting: Some(still), .. } => Err(Failure::timed_out(format!(
                "{name} took the command and has not done it yet: {still}; it is read again, and taken back if that stays so"
            ))),
            Landing { theirs: Some(found), is_there: false, .. } => {
                Err(Failure::overridden(format!("left alone, because somebody else set it: {found}")))
            }
            Landing { theirs: Some(found), .. } => {
                Ok(Some(format!("left alone, because somebody else set it: {found}")))
            }
            Landing { waiting: None, theirs: None, .. } => Ok(None),
        }
    }

    /// Whether what we set is still there, and what is to be written so that it stays: what lapses by itself, or what an
    /// adjustment in doubt did not reach.
    ///
    /// # Errors
    /// When it cannot be read, or is what another guardian makes of it.
    pub async fn check(&mut self, undo: &Undo, wish: Wish) -> Result<Checked, Failure> {
        let held = self.held_by_another().await;
        let (undo, live) = self.read_adopting(undo, Patience::Moving).await?;
        if undo.epoch != live.epoch {
            return Ok(Checked { standing: Standing::EpochChanged, due: Vec::new(), undo });
        }
        let readings = self.readings(&undo, &live, wish);
        let standing = standing::judge(&readings);
        if let (Standing::Foreign(_), Some(held)) = (&standing, held) {
            return Err(held);
        }
        let due = match standing {
            Standing::Ours { .. } | Standing::Prior if wish == Wish::Wanted => {
                readings.iter().filter(|reading| self.is_due(reading)).map(|reading| reading.change.clone()).collect()
            }
            _ => Vec::new(),
        };
        let changes = readings.iter().map(ownership::known_now).collect();
        let undo = Undo { changes, ..undo };
        self.note_unseen(&undo, matches!(standing, Standing::Pending(_)));
        let is_seen = |(change, value): &(&Change, &String)| change.is_known(value);
        let seen = undo.changes.iter().zip(&live.values).filter(is_seen).map(|(change, _)| change.clone()).collect();
        self.witness(&Undo { changes: seen, ..undo.clone() });
        Ok(Checked { standing, due, undo })
    }

    /// Writes what is due.
    ///
    /// # Errors
    /// When it was not written.
    pub async fn renew(&mut self, undo: &Undo, due: &[Change]) -> Result<(), Failure> {
        self.service.write(&undo.epoch, &wanted(due), AfterRefusal::Stop).await
    }

    /// Whether all of it goes by itself when it is not renewed.
    #[must_use]
    pub fn lapses(&self, undo: &Undo) -> bool {
        undo.changes.iter().all(|change| self.service.is_lease(&change.key))
    }

    /// Does what leaves nothing in force. What takes long asks between its parts whether it is wanted still.
    ///
    /// # Errors
    /// When it was not done.
    pub async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        self.claim().await?;
        self.service.permits(mitigation.verb).await?;
        self.service.pulse(mitigation, consent).await
    }

    /// Numbers that the service reports of itself; none where it cannot be asked.
    pub async fn numbers(&mut self) -> Numbers {
        self.service.numbers().await.unwrap_or_default()
    }

    /// What it has to give; all of it unknown where it cannot be asked.
    pub async fn gives(&mut self) -> Gives {
        self.service.gives().await.unwrap_or_default()
    }

    /// Two verbs that would harm together.
    #[must_use]
    pub fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
        self.service.excludes(wanted, in_force)
    }

    fn is_due(&self, reading: &Reading<'_>) -> bool {
        let Reading { change, value, owner, .. } = reading;
        let is_lease = self.service.is_lease(&change.key);
        !reading.is_theirs()
            && (is_lease || (*owner == Owner::Ours && *value != change.shown() && *value != change.prior))
    }

    /// Whether the second value lets more through than the first.
    fn loosens(&self, key: &str, from: &str, to: &str) -> bool {
        let strictness = |value| self.service.strictness(key, value);
        strictness(from).zip(strictness(to)).is_some_and(|(from, to)| to < from)
    }

    fn no_looser(&self, change: &Change, aim: Aim) -> Aim {
        if self.loosens(&change.key, &change.prior, &aim) { change.prior.clone() } else { aim }
    }
}

impl From<Failure> for Done {
    fn from(failure: Failure) -> Self {
        Self { outcome: failure.outcome, detail: failure.detail, freed_bytes: None }
    }
}

fn wanted(changes: &[Change]) -> Vec<Order<'_>> {
    let ours = changes.iter().filter(|change| change.state != State::Overridden);
    ours.map(|change| Order { key: &change.key, value: change.wanted() }).collect()
}

/// Names this life of the kernel; empty where it cannot be read, and then only a restart of the target shows.
fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}
