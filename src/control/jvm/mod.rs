//! A JVM by its attach socket: a whole garbage collection, where the collector is G1, which alone gives the heap back to the
//! node. Nothing stays in force. What is asked for costs a pause, so it is asked for only where it
//! can help, and what it gave is what the process no longer holds.

mod attach;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed;
mod settings;
pub mod target;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::DEADLINE;
use super::consent::Consent;
use super::failure::Failure;
use super::process::pinned::Pinned;
use super::process::table;
use super::said::clip;
use super::service::{AfterRefusal, Done, Order, Probe, Service};
use super::standing::Live;
use super::undo::Undo;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use crate::policy::unit::Unit;
use attach::Answered;

/// Half a GiB is collected in 0.3 s; large heaps take seconds.
const COLLECTION: Duration = Duration::from_secs(20);
/// The kernel shows what was given back as soon as the collector has.
const SHOWS: Duration = Duration::from_millis(500);
/// It opens its socket, tells its flags, collects.
pub const LONGEST: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Less than this is what a resident set moves by anyway.
const NOISE_BYTES: i64 = 1 << 20;

pub struct Jvm {
    target: target::Jvm,
    /// The life that has answered SIGQUIT with a dump of its threads, and let nobody in.
    deaf: String,
}

#[async_trait(?Send)]
impl Service for Jvm {
    fn name(&self) -> &'static str {
        "the JVM"
    }

    /// Looks only: to ask it anything would make it open its socket.
    async fn probe(&mut self) -> Result<Probe, Failure> {
        let process = self.target.locator.find()?;
        self.may_attach(&process).await?;
        Ok(Probe::usable(format!("process {} is a JVM and may be asked for a collection", process.pid)))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        match verb {
            Verb::Release => self.may_attach(&self.target.locator.find()?).await,
            verb => Err(self.cannot(verb)),
        }
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        Ok(Gives { bytes: table::resident(self.target.locator.find()?.pid), ..Gives::default() })
    }

    async fn read(&mut self, _undo: &Undo) -> Result<Live, Failure> {
        Err(Failure::unsupported("nothing of a JVM stays in force"))
    }

    async fn write(&mut self, _epoch: &str, _orders: &[Order<'_>], _after: AfterRefusal) -> Result<(), Failure> {
        Err(Failure::unsupported("nothing of a JVM stays in force"))
    }

    async fn pulse(&mut self, mitigation: &Mitigation, _consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Release => self.release(&self.target.locator.find()?).await,
            verb => Err(self.cannot(verb)),
        }
    }
}

impl Jvm {
    #[must_use]
    pub const fn new(target: target::Jvm) -> Self {
        Self { target, deaf: String::new() }
    }

    async fn may_attach(&self, process: &Pinned) -> Result<(), Failure> {
        attach::may_attach(process)?;
        // An operator's own question may have opened it since, or it was only slow.
        let is_deaf = self.deaf == process.epoch() && !attach::listens(process).await?;
        if is_deaf { Err(attach::deaf(process)) } else { Ok(()) }
    }

    async fn release(&mut self, process: &Pinned) -> Result<Done, Failure> {
        // Another one may have been there when that was asked.
        self.may_attach(process).await?;
        if attach::open(process).await? == Answered::WithADump {
            self.deaf = process.epoch();
            return Err(attach::deaf(process));
        }
        collect(process).await
    }
}

async fn collect(process: &Pinned) -> Result<Done, Failure> {
    let flags = attach::ask(process, "VM.flags", DEADLINE).await?;
    gives_back(&flags)?;
    let gone = || Failure::unreachable("the JVM has ended");
    let before = table::resident(process.pid).ok_or_else(gone)?;
    let began = Instant::now();
    attach::ask(process, "GC.run", COLLECTION).await?;
    let took = began.elapsed();
    let least = least_resident(process.pid).await.ok_or_else(gone)?;
    if process.is_over() {
        return Err(gone());
    }
    let freed = i64::try_from(before).unwrap_or(i64::MAX) - i64::try_from(least).unwrap_or(i64::MAX);
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    Ok(Done {
        outcome: if freed < NOISE_BYTES { Outcome::NoEffect } else { Outcome::Applied },
        detail: format!("collected in {} ms: resident {} → {}", took.as_millis(), show(before), show(least)),
        freed_bytes: Some(freed),
    })
}

/// The program goes on allocating: what counts is how far down it came.
async fn least_resident(pid: i32) -> Option<u64> {
    let until = Instant::now() + SHOWS;
    let mut least = table::resident(pid)?;
    while Instant::now() < until {
        sleep(POLL).await;
        least = least.min(table::resident(pid)?);
    }
    Some(least)
}

/// Serial, Parallel and Z collectors keep what they have collected.
fn gives_back(flags: &str) -> Result<(), Failure> {
    let has = |flag: &str| flags.split_ascii_whitespace().any(|word| word == flag);
    if !has("-XX:+UseG1GC") {
        let mut used = flags.split_ascii_whitespace().filter_map(|word| word.strip_prefix("-XX:+Use"));
        let collector = used.find(|name| name.ends_with("GC")).map_or("another collector".into(), clip);
        return Err(Failure::unsupported(format!(
            "this JVM runs {collector}, which returns no memory to the node: start it with -XX:+UseG1GC"
        )));
    }
    if has("-XX:+DisableExplicitGC") {
        return Err(Failure::unsupported("this JVM ignores the request: remove -XX:+DisableExplicitGC"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_g1_is_asked() {
        assert!(gives_back("-XX:CICompilerCount=2 -XX:+UseFastUnorderedTimeStamps -XX:+UseG1GC ").is_ok());
        let refused = gives_back("-XX:+UseCompressedOops -XX:+UseSerialGC").unwrap_err();
        assert!(refused.detail.contains("SerialGC") && refused.outcome == Outcome::Unsupported, "{}", refused.detail);
        assert!(gives_back("-XX:+DisableExplicitGC -XX:+UseG1GC").is_err());
        let forged = format!("-XX:+Use\u{1b}[2J{}GC", "x".repeat(5000));
        let told = gives_back(&forged).unwrap_err().detail;
        assert!(told.len() < 400 && !told.contains('\u{1b}'), "{told}");
        assert!(gives_back("").unwrap_err().detail.contains("another collector"));
    }
}
