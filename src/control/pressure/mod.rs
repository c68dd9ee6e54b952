//! Telling a service that memory is short, in the ways that it already understands: `MEMORY_PRESSURE_WATCH` (systemd's
//! protocol, which sd-event and a shim for any program obey) and the signal of systemd's own daemons. It loses nothing.
//! What came of it is what its processes no longer hold.

mod fifo;
mod settings;
pub mod target;

use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use tokio::time::{Instant, sleep};

use super::consent::Consent;
use super::failure::Failure;
use super::process::pinned::Pinned;
use super::process::table::{self, has};
use super::service::{AfterRefusal, Done, Order, Probe, Service};
use super::standing::Live;
use super::undo::Undo;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use crate::policy::unit::Unit;

/// What systemd's daemons take for "give memory back": SIGRTMIN+18 with this value. They count
/// from glibc's 34; the musl that the packaged guardian is built with has SIGRTMIN at 35.
const SIGNAL: i32 = 34 + 18;
const GIVE_BACK: i32 = 0x300;
/// A client answered in 37 ms under emulation, then it frees.
const SETTLES: Duration = Duration::from_secs(2);
/// Memory that stands still for so long has been given.
const STILL: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(20);
/// Less than this is what a resident set moves by anyway.
const NOISE_BYTES: i64 = 1 << 20;

pub struct Pressure {
    target: target::Pressure,
}

#[async_trait(?Send)]
impl Service for Pressure {
    fn name(&self) -> &'static str {
        "the service"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        Ok(Probe::usable(self.heard()?.join(", ")))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        match verb {
            Verb::Release => self.heard().map(drop),
            verb => Err(self.cannot(verb)),
        }
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        if self.target.locator.is_missing() {
            return Ok(Gives::default());
        }
        let lives = table::lives(&self.target.locator.members()?);
        Ok(Gives { bytes: Some(table::held(&lives)), ..Gives::default() })
    }

    async fn read(&mut self, _undo: &Undo) -> Result<Live, Failure> {
        Err(Failure::unsupported("nothing of it stays in force"))
    }

    async fn write(&mut self, _epoch: &str, _orders: &[Order<'_>], _after: AfterRefusal) -> Result<(), Failure> {
        Err(Failure::unsupported("nothing of it stays in force"))
    }

    async fn pulse(&mut self, mitigation: &Mitigation, _consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Release => self.release().await,
            verb => Err(self.cannot(verb)),
        }
    }
}

impl Pressure {
    #[must_use]
    pub const fn new(target: target::Pressure) -> Self {
        Self { target }
    }

    /// In words, who would hear it: all of those that are to be told, and measured.
    fn heard(&self) -> Result<Vec<String>, Failure> {
        let mut heard = Vec::new();
        if let Some(path) = &self.target.fifo {
            fifo::open(path)?;
            heard.push(format!("somebody listens at {}", path.display()));
        }
        if self.target.signal {
            let process = self.target.locator.find()?;
            takes_signal(&process)?;
            heard.push(format!("process {} takes the signal", process.pid));
        }
        if !self.target.locator.is_missing() {
            self.target.locator.members()?;
        }
        Ok(heard)
    }

    async fn release(&self) -> Result<Done, Failure> {
        let lives =
            if self.target.locator.is_missing() { Vec::new() } else { table::lives(&self.target.locator.members()?) };
        let before = table::held(&lives);
        if self.target.signal {
            let process = self.target.locator.find()?;
            // Another one may have been there when that was asked.
            takes_signal(&process)?;
            process.queue(SIGNAL, GIVE_BACK).map_err(|errno| match errno {
                Errno::EAGAIN => Failure::refused(format!("process {} has too many signals waiting", process.pid)),
                errno => process.unsent(errno),
            })?;
        }
        if let Some(path) = &self.target.fifo {
            fifo::tell(path).await?;
        }
        if lives.is_empty() {
            let detail = "notified; set `cgroup` or `pid_file` to measure the memory freed";
            return Ok(Done { outcome: Outcome::Applied, detail: detail.to_owned(), freed_bytes: None });
        }
        let after = least_held(&lives).await;
        let freed = i64::try_from(before).unwrap_or(i64::MAX) - i64::try_from(after).unwrap_or(i64::MAX);
        let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
        Ok(Done {
            outcome: if freed < NOISE_BYTES { Outcome::NoEffect } else { Outcome::Applied },
            detail: format!("notified that memory is short: resident {} → {}", show(before), show(after)),
            freed_bytes: Some(freed),
        })
    }
}

/// Who neither catches it nor waits for it would be ended by it.
fn takes_signal(process: &Pinned) -> Result<(), Failure> {
    let status = table::status(process.pid)
        .ok_or_else(|| Failure::unreachable(format!("cannot read /proc/{}/status", process.pid)))?;
    if has(status.caught | status.blocked | status.ignored, SIGNAL) {
        return process.may_signal();
    }
    Err(Failure::refused(format!(
        "process {} would be ended by SIGRTMIN+18: `signal = true` is for daemons that take it, as systemd's own do \
         from \
         version 254 on",
        process.pid
    )))
}

/// Once it stands still, or at the end of our patience.
async fn least_held(lives: &[table::Life]) -> u64 {
    let began = Instant::now();
    let mut least = table::held(lives);
    let mut fell = None;
    // It may need a moment to begin with.
    while began.elapsed() < SETTLES && fell.is_none_or(|at: Instant| at.elapsed() < STILL) {
        sleep(POLL).await;
        let now = table::held(lives);
        if now < least {
            (least, fell) = (now, Some(Instant::now()));
        }
    }
    least
}
