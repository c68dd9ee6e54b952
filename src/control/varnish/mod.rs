//! Varnish through its command line: fewer threads and fewer objects, or none. What it holds can be fetched again, so no
//! object is worth asking for; parameters are, and are put back. Never touches the VCL, and no parameter for a moment only:
//! what a crash would leave behind is in the journal first.

mod params;
mod ports;
mod reclaim;
mod session;
mod settings;
mod survey;
pub mod target;

use std::time::Duration;

use async_trait::async_trait;

use super::consent::Consent;
use super::failure::Failure;
use super::rights::Rights;
use super::service::{AfterRefusal, Aim, Before, Done, Order, Probe, Service, Turn};
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Amount, Mitigation, Outcome, Verb};
use crate::policy::unit::Unit;
use params::is_same_life;
use reclaim::Loss;
use session::Session;
use survey::{AGE, THREADS};

pub struct Varnish {
    target: target::Varnish,
    /// Percent that is to remain, from the survey to what it gives back.
    wish: Option<f64>,
    shrunk: Option<Shrunk>,
}

/// What was shrunk in this life.
struct Shrunk {
    epoch: String,
    /// Resident bytes before that.
    base: Option<u64>,
    /// Percent of its objects that were not banned.
    kept: f64,
}

#[async_trait(?Send)]
impl Service for Varnish {
    fn name(&self) -> &'static str {
        "Varnish"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let mut session = Session::open(&self.target).await?;
        let child = reclaim::running(&mut session).await?;
        let mut rights = Rights::default();
        rights.note(Verb::Shrink, may_shrink(&mut session).await)?;
        // Whoever is let in may ban.
        rights.note(Verb::Flush, Ok(()))?;
        let may = rights.told()?;
        let threads = params::show(&mut session, THREADS).await?.value;
        let age = params::show(&mut session, AGE).await?.value;
        let memory = match child.resident() {
            Some(bytes) => format!("resident {}", Unit::Bytes.show(bytes as f64)),
            None => "memory freed cannot be measured: its child cannot be seen from here".to_owned(),
        };
        let version = &session.version;
        Ok(Probe::usable(format!("Varnish {version} obeys: {may}; {THREADS} {threads}, {AGE} {age} s, {memory}")))
    }

    async fn look(&mut self) -> Result<Probe, Failure> {
        Session::open(&self.target).await?;
        Ok(Probe::usable("Varnish answers"))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        let mut session = Session::open(&self.target).await?;
        reclaim::running(&mut session).await?;
        match verb {
            Verb::Shrink => may_shrink(&mut session).await,
            Verb::Flush => Ok(()),
            verb => Err(self.cannot(verb)),
        }
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        if mitigation.verb != Verb::Shrink {
            return Err(self.cannot(mitigation.verb));
        }
        let mut session = Session::open(&self.target).await?;
        let child = reclaim::running(&mut session).await?;
        let epoch = params::processes(&mut session).await?.epoch;
        let base = child.resident();
        let kept = survey::kept_percent(mitigation.amount, base)?;
        (self.wish, self.shrunk) = (Some(kept), Some(Shrunk { epoch: epoch.clone(), base, kept: 100.0 }));
        if matches!(mitigation.amount, Amount::Bytes(_)) && kept >= 100.0 {
            return Ok(Undo { epoch, changes: Vec::new(), lapses_unix_ms: None });
        }
        let threads = params::show(&mut session, THREADS).await?;
        let age = params::show(&mut session, AGE).await?;
        Ok(Undo { epoch, changes: survey::shrink(&threads, &age, kept)?, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let mut session = Session::open(&self.target).await?;
        let base = match &self.shrunk {
            Some(shrunk) if is_same_life(&shrunk.epoch, &undo.epoch) => shrunk.base,
            Some(_) | None => reclaim::running(&mut session).await?.resident(),
        };
        let kept = survey::kept_percent(mitigation.amount, base)?;
        let minimum = params::show(&mut session, THREADS).await?.minimum;
        self.wish = Some(kept);
        let aim = |change: &Change| match change.key.as_str() {
            THREADS => survey::fewer_threads(&change.prior, minimum.as_deref(), kept),
            _ => Ok(change.wanted().to_owned()),
        };
        undo.changes.iter().map(aim).collect()
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        let mut session = Session::open(&self.target).await?;
        Ok(Some(params::processes(&mut session).await?.epoch))
    }

    /// On another node there may be one of the same number.
    fn names(&self, life: &str) -> Vec<String> {
        if life.starts_with(':') { Vec::new() } else { vec![life.to_owned()] }
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let mut session = Session::open(&self.target).await?;
        let now = params::processes(&mut session).await?.epoch;
        if !is_same_life(&undo.epoch, &now) {
            return Ok(Live { epoch: now, values: Vec::new() });
        }
        let mut values = Vec::with_capacity(undo.changes.len());
        for change in &undo.changes {
            values.push(params::show(&mut session, known(&change.key)?).await?.value);
        }
        Ok(Live { epoch: undo.epoch.clone(), values })
    }

    /// The first failure, where one does not keep the others from being tried.
    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        let mut session = Session::open(&self.target).await?;
        if !is_same_life(expected_epoch, &params::processes(&mut session).await?.epoch) {
            return Err(Failure::epoch_changed("Varnish"));
        }
        let mut first = Ok(());
        let mut theirs = Vec::new();
        for order in orders {
            match order.turn(&params::show(&mut session, known(order.key)?).await?.value) {
                Turn::Write => {}
                Turn::Done => continue,
                Turn::Theirs => {
                    theirs.push(order.key);
                    continue;
                }
            }
            let Err(failure) = params::set(&mut session, known(order.key)?, order.value).await else { continue };
            let was_heard = matches!(failure.outcome, Outcome::Refused | Outcome::Unsupported);
            first = first.and(Err(failure));
            if after == AfterRefusal::Stop || !was_heard {
                break;
            }
        }
        // Beside what was written, it is told by who reads that back.
        let is_told = after == AfterRefusal::Stop && theirs.len() < orders.len();
        if theirs.is_empty() || is_told { first } else { first.and(Err(Failure::set_meanwhile(&theirs))) }
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Flush => {
                let mut session = Session::open(&self.target).await?;
                if self.target.restart_to_free {
                    reclaim::flush_by_restart(&mut session, consent).await
                } else {
                    reclaim::flush(&mut session, consent).await
                }
            }
            verb => Err(self.cannot(verb)),
        }
    }

    /// Its counters are not told on its command line.
    async fn gives(&mut self) -> Result<Gives, Failure> {
        let mut session = Session::open(&self.target).await?;
        let child = params::processes(&mut session).await?.child;
        let ports = ports::ask(&mut session).await;
        Ok(Gives { bytes: child.and_then(params::Child::resident), ports, ..Gives::default() })
    }

    /// A command is done when it is answered.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Values are written as Varnish shows them.
    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        survey::strictness(key, value)
    }

    async fn measure(&mut self, _undo: &Undo) -> Before {
        Before::of_process(self.resident().await)
    }

    /// Bans the share that is to go: the parameters are in force whatever becomes of that.
    async fn reclaimed(&mut self, undo: &Undo, before: Before, _consent: &Consent<'_>) -> Option<Done> {
        let kept = self.wish.take()?;
        let done = self.let_go(undo, kept, before.resident).await.transpose()?;
        Some(done.unwrap_or_else(|failure| Done {
            outcome: Outcome::NoEffect,
            detail: format!("it is unknown whether objects went: {}", failure.detail),
            freed_bytes: None,
        }))
    }
}

impl Varnish {
    #[must_use]
    pub fn new(target: target::Varnish) -> Self {
        Self { target, wish: None, shrunk: None }
    }

    async fn resident(&self) -> Option<u64> {
        let mut session = Session::open(&self.target).await.ok()?;
        params::processes(&mut session).await.ok()?.child?.resident()
    }

    /// `None` where a weaker shrink needs nothing more to go.
    async fn let_go(&mut self, undo: &Undo, kept: f64, before: Option<u64>) -> Result<Option<Done>, Failure> {
        let earlier = self.shrunk.as_ref().filter(|shrunk| is_same_life(&shrunk.epoch, &undo.epoch));
        let (base, least) = earlier.map_or((before, 100.0), |shrunk| (shrunk.base, shrunk.kept));
        let Some(ban) = survey::ban(kept).filter(|_| kept < least) else { return Ok(None) };
        let mut session = Session::open(&self.target).await?;
        // Of what is there now, after what went before.
        let share = (least - kept) / least * 100.0;
        let done = reclaim::ban(&mut session, &Loss { ban: &ban, share }, before).await?;
        self.shrunk = Some(Shrunk { epoch: undo.epoch.clone(), base, kept });
        Ok(Some(done))
    }
}

async fn may_shrink(session: &mut Session) -> Result<(), Failure> {
    for name in [THREADS, AGE] {
        params::may_set(session, name).await?;
    }
    Ok(())
}

fn known(key: &str) -> Result<&str, Failure> {
    match key {
        THREADS | AGE => Ok(key),
        key => Err(Failure::unsupported(format!("`{key}` cannot be set at Varnish"))),
    }
}
