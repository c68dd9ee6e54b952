//! Acting on services and undoing it: one folder per kind of control. A control never decides; it does what it is told,
//! reads it back, and says what came of it. What is common to all kinds, which values to write and which to leave alone,
//! is here; how to say it to the service is theirs.

pub mod address;
mod anew;
mod app;
mod capture;
mod cgroup;
mod claim;
pub mod consent;
mod digest;
pub(crate) mod exchange;
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
pub mod offer;
mod ours;
mod ownership;
mod passed;
pub mod place;
mod pressure;
mod process;
mod recent_peak;
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
pub(crate) mod stream;
pub mod target;
mod told;
mod trust;
pub mod undo;
mod varnish;
mod webhook;
mod wire;
pub mod worker;

/// What the fuzzer answers, where that is no control's conversation of the usual kind.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed {
    pub(crate) use super::jvm::fuzzed as jvm;
    pub(crate) use super::webhook::fuzzed as webhook;
}

use std::collections::{HashMap, HashSet};
use std::iter::repeat;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use consent::Consent;
use failure::Failure;
use landing::{Landing, Patience};
use mark::Mark;
use service::{AfterRefusal, Aim, Before, Done, Numbers, Order, Probe, Service};
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
    marks: Vec<Arc<Mark>>,
    /// The life of the target that was read last; empty before that.
    life: String,
    /// Since when something that was written has not been seen, by life and key.
    unseen: HashMap<(String, String), Instant>,
    /// When each key was last written: until then somebody slow may have gone by what was written before.
    written: HashMap<String, Instant>,
    /// What was seen as ours and not been put back since, by life and key. Nothing after a restart of the guardian, which
    /// may have been ended while it put things back.
    witnessed: HashSet<(String, String)>,
    /// The values as they were read last before anything is written, in the order of the changes: not always the prior ones,
    /// where something of ours was left.
    seen: Vec<String>,
    /// What was measured just before that.
    before: Before,
}

/// What a read-back came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    pub standing: Standing,
    /// Written anew over what was read, this stays as it is wanted.
    pub due: Vec<Due>,
    /// With what is known now: to be recorded where it differs.
    pub undo: Undo,
}

/// What is to be written anew, and what was read there.
#[derive(Clone, PartialEq, Debug)]
pub struct Due {
    change: Change,
    seen: String,
}

impl Due {
    /// It is as it was before us.
    #[must_use]
    pub(crate) fn has_lapsed(&self) -> bool {
        self.seen == self.change.prior
    }
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
            marks: Vec::new(),
            life: String::new(),
            unseen: HashMap::new(),
            written: HashMap::new(),
            witnessed: HashSet::new(),
            seen: Vec::new(),
            before: Before::default(),
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
    pub(crate) async fn probe(&mut self) -> Probe {
        self.service.probe().await.unwrap_or_else(Probe::failed)
    }

    /// Is it still there? Cheap enough for now and then.
    pub(crate) async fn look(&mut self) -> Probe {
        self.service.look().await.unwrap_or_else(Probe::failed)
    }

    /// Writes what the undo says we want over what the last look has seen, and reads it back until it has arrived. What is
    /// known then is noted in it.
    ///
    /// # Errors
    /// When it was not done, or not wholly, or nobody can tell: read the standing. `TimedOut` where the service took the
    /// command and has not done it yet.
    pub async fn apply(&mut self, undo: &mut Undo, consent: &Consent<'_>) -> Result<Done, Failure> {
        let before = std::mem::take(&mut self.before);
        let seen = std::mem::take(&mut self.seen);
        self.service.write(&undo.epoch, &wanted(&undo.changes, &seen), AfterRefusal::Stop).await?;
        let now = Instant::now();
        self.written = undo.changes.iter().map(|change| (change.key.clone(), now)).collect();
        let landing = self.land(undo).await?;
        self.witness(undo);
        let note = self.arrived(landing)?;
        let mut done = Done { outcome: Outcome::Applied, detail: standing::moved(&undo.changes), freed_bytes: None };
        if let Some(reclaimed) = self.service.reclaimed(undo, before, consent).await {
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
                Err(Failure::refused(format!("{name} accepted the command but did not obey: {still}")))
            }
            Landing { waiting: Some(still), is_there: true, .. } => Ok(Some(format!("not done yet: {still}"))),
            Landing { waiting: Some(still), .. } => Err(Failure::timed_out(format!(
                "{name} accepted the command but has not obeyed yet: {still}; it is read again, and taken back if \
                 that stays so"
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
        let held = self.held_by_another(&undo.epoch).await;
        let (undo, live) = self.read_adopting(undo, Patience::Moving).await?;
        let held = held.or(self.held_by_another(&undo.epoch).await);
        if undo.epoch != live.epoch {
            return Ok(Checked { standing: Standing::EpochChanged, due: Vec::new(), undo });
        }
        let readings = self.readings(&undo, &live, wish);
        let standing = standing::judge(&readings);
        if let (Standing::Foreign(_), Some(held)) = (&standing, held) {
            return Err(held);
        }
        let may_write = wish == Wish::Wanted && matches!(standing, Standing::Ours { .. } | Standing::Prior);
        let due = readings.iter().filter(|reading| may_write && self.is_due(reading));
        let due = due.map(|it| Due { change: it.change.clone(), seen: it.value.to_owned() }).collect();
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
    pub(crate) async fn renew(&mut self, undo: &Undo, due: &[Due]) -> Result<(), Failure> {
        let mut orders = Vec::with_capacity(due.len());
        for Due { change, seen } in due {
            orders.push(Order { key: &change.key, value: change.wanted(), over: Some(seen) });
        }
        self.service.write(&undo.epoch, &orders, AfterRefusal::Stop).await
    }

    /// Whether all of it goes by itself when it is not renewed.
    #[must_use]
    pub(crate) fn lapses(&self, undo: &Undo) -> bool {
        undo.changes.iter().all(|change| self.service.is_lease(&change.key))
    }

    /// As the service's: changes that are to be recorded and then applied, too.
    pub(crate) async fn unreached(&mut self, undo: &Undo) -> Vec<Change> {
        self.service.unreached(undo).await.unwrap_or_default()
    }

    /// The same undo with changes for what has inherited ours.
    pub(crate) async fn with_inherited(&mut self, mut undo: Undo) -> Undo {
        let inherited = self.service.inherited(&undo).await.unwrap_or_default();
        undo.changes.extend(inherited.into_iter().map(|change| Change { state: State::Landed, ..change }));
        undo
    }

    /// Does what leaves nothing in force. What takes long asks between its parts whether it is wanted still.
    ///
    /// # Errors
    /// When it was not done.
    pub async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        self.claim("").await?;
        self.service.permits(mitigation.verb).await?;
        if let Some(life) = self.service.life().await? {
            self.claim(&life).await?;
        }
        self.service.pulse(mitigation, consent).await
    }

    /// Numbers that the service reports of itself; none where it cannot be asked.
    pub(crate) async fn numbers(&mut self) -> Numbers {
        self.service.numbers().await.unwrap_or_default()
    }

    /// What it has to give; all of it unknown where it cannot be asked.
    pub async fn gives(&mut self) -> Gives {
        self.service.gives().await.unwrap_or_default()
    }

    /// Two verbs that would harm together.
    #[must_use]
    pub(crate) fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
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

fn wanted<'a>(changes: &'a [Change], seen: &'a [String]) -> Vec<Order<'a>> {
    let seen = seen.iter().map(|value| Some(value.as_str())).chain(repeat(None));
    let ours = changes.iter().zip(seen).filter(|(change, _)| change.state != State::Overridden);
    ours.map(|(change, over)| Order { key: &change.key, value: change.wanted(), over }).collect()
}

/// Names this life of the kernel; empty where it cannot be read, and then only a restart of the target shows.
fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}
