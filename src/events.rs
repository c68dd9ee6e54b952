//! The audit trail: one enum of everything worth telling, and one `emit` that counts it, keeps it for `/events` and
//! logs it. Nothing else in the daemon logs a decision.
//!
//! The loop emits, so nothing here may wait: logging drops what the journal or a terminal does not take at once
//! (`logging`), the trail itself stays whole.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::clock;
use crate::config::Footing;
use crate::drill::Count;
use crate::policy;
use crate::status::ControlState;

mod describe;
mod tally;

pub use describe::NAMES;

/// How many records `/events` can look back on: about 300 kB when full of long sentences, several hours of a bad day.
pub(crate) const KEPT: usize = 1000;

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    Policy(policy::event::Event),
    Daemon(Daemon),
}

/// What happens to the daemon itself.
#[derive(Clone, PartialEq, Debug)]
pub enum Daemon {
    Started {
        version: &'static str,
        sources: String,
    },
    Stopping {
        why: String,
    },
    Reloaded {
        sources: String,
    },
    /// The old configuration stays.
    ReloadRefused {
        why: String,
    },
    /// The configuration cannot be used: what is guarded by in its place, and what is wrong with it.
    Fallback {
        footing: Footing,
        why: String,
    },
    /// A file of the kernel, or a privilege, that is not there.
    SourceLost {
        what: String,
        why: String,
    },
    SourceFound {
        what: String,
    },
    /// What a crash cost.
    JournalDamage {
        what: String,
    },
    /// The journal could not be written: nothing new is done until it can.
    JournalFailed {
        why: String,
    },
    /// Its disk does not answer: nothing new is put in force until it does.
    JournalSlow {
        why: String,
    },
    JournalAnswers {
        after: Duration,
    },
    /// It can be written, for the first time or again.
    JournalWorks {
        /// What it held that was not known: to be undone first.
        found: usize,
    },
    /// The guardian is of no use until it is started again.
    ThreadHangs {
        why: Arc<str>,
    },
    ThreadsLive,
    /// A control answers differently than it did before.
    Control {
        name: Arc<str>,
        state: ControlState,
        detail: Arc<str>,
    },
    /// What an operator asked for beside orders, and who: `uid 0 (root)`, `token`.
    Asked {
        what: &'static str,
        by: Arc<str>,
    },
    DrillBegan {
        what: String,
    },
    DrillEnded {
        count: Count,
    },
    /// Something that works less well than it could.
    Degraded {
        what: String,
        why: String,
    },
}

/// What an operator should do about a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing; for whoever looks into the details.
    Debug,
    /// Nothing; the guardian did its work.
    Info,
    /// Look at it in working hours.
    Warning,
    /// Look at it now.
    Error,
}

impl Level {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Record {
    /// Counts from 1 without gaps.
    pub seq: u64,
    pub unix_ms: u64,
    /// Since boot (CLOCK_BOOTTIME), to the microsecond: to be set against what the kernel and other programs saw.
    pub at_seconds: f64,
    pub level: Level,
    /// Which kind of event, to filter by: `rule_fired`.
    pub name: &'static str,
    /// The sentence.
    pub text: String,
    #[serde(serialize_with = "as_map")]
    pub fields: Vec<(&'static str, String)>,
}

impl Record {
    #[must_use]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

fn as_map<S: serde::Serializer>(fields: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

/// The last [`KEPT`] records, for whoever asks.
#[derive(Debug, Default)]
pub struct Log {
    ring: Mutex<Ring>,
    /// The number of the newest.
    bell: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    last: u64,
}

impl Log {
    /// Records after `seq`, oldest first, at most `limit`.
    #[must_use]
    pub fn since(&self, seq: u64, limit: usize) -> Vec<Arc<Record>> {
        let ring = self.ring();
        let from = ring.records.partition_point(|record| record.seq <= seq);
        ring.records.iter().skip(from).take(limit).cloned().collect()
    }

    /// The newest records that match, oldest first, at most `limit`.
    #[must_use]
    pub(crate) fn newest(&self, limit: usize, matches: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let ring = self.ring();
        let mut found: Vec<_> = ring.records.iter().rev().filter(|r| matches(r)).take(limit).cloned().collect();
        found.reverse();
        found
    }

    /// Rings when there is more. Waiting for it holds nothing that the loop could wait for.
    #[must_use]
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// The number of the newest record; 0 where there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.ring().last
    }

    /// Takes over the records, unless a reader has the ring this very moment.
    fn take(&self, records: &mut Vec<Arc<Record>>) {
        let mut ring = match self.ring.try_lock() {
            Ok(ring) => ring,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        for record in records.drain(..) {
            if ring.records.len() == KEPT {
                ring.records.pop_front();
            }
            ring.last = record.seq;
            ring.records.push_back(record);
        }
        let last = ring.last;
        drop(ring);
        self.bell.send_replace(last);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by the loop, which never waits for a reader of the log.
#[derive(Debug)]
pub struct Events {
    log: Arc<Log>,
    last: u64,
    waiting: Vec<Arc<Record>>,
}

impl Events {
    #[must_use]
    pub const fn new(log: Arc<Log>) -> Self {
        Self { log, last: 0, waiting: Vec::new() }
    }

    pub fn emit(&mut self, unix_ms: u64, event: Event) {
        let at_seconds = clock::now().map_or(0.0, |now| (now.seconds() * 1e6).round() / 1e6);
        tally::count(&event);
        let (level, name, text) = (event.level(), event.name(), event.to_string());
        let fields = event.fields();
        self.last += 1;
        let record = Arc::new(Record { seq: self.last, unix_ms, at_seconds, level, name, text, fields });
        write_line(&record);
        self.waiting.push(record);
        self.flush();
    }

    /// Gives the log what a reader kept from it; call it at every tick.
    pub fn flush(&mut self) {
        if !self.waiting.is_empty() {
            self.log.take(&mut self.waiting);
        }
    }

    /// Makes the counters of these rules visible at zero, so that their first increase shows in a rate.
    pub(crate) fn expect(&self, policy: &policy::rule::Policy) {
        tally::expect(policy);
    }

    /// The number of the newest, also where the log does not have it yet.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    #[must_use]
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }
}

/// The message is the sentence, since that is all that `journalctl` shows by default; what is constant, to search and to
/// group by, is `EVENT=` and the other fields. Fields that an event does not have are left out.
fn write_line(record: &Record) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event = record.name,
                rule = record.field("rule"),
                control = record.field("control"),
                verb = record.field("verb"),
                action_id = record.field("action_id"),
                outcome = record.field("outcome"),
                step = record.field("step"),
                severity = record.field("severity"),
                mode = record.field("mode"),
                "{}",
                record.text
            )
        };
    }
    match record.level {
        Level::Debug => line!(debug),
        Level::Info => line!(info),
        Level::Warning => line!(warn),
        Level::Error => line!(error),
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Policy(event) => event.fmt(f),
            Event::Daemon(event) => event.fmt(f),
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Daemon::Started { version, sources } => write!(f, "node-guardian {version} started with {sources}"),
            Daemon::Stopping { why } => write!(f, "stopping: {why}"),
            Daemon::Reloaded { sources } if sources.is_empty() => {
                f.write_str("configuration reloaded: built-in defaults")
            }
            Daemon::Reloaded { sources } => write!(f, "configuration reloaded from {sources}"),
            Daemon::ReloadRefused { why } => write!(f, "configuration refused, the old one stays: {why}"),
            Daemon::Fallback { footing, why } => {
                let on = match footing {
                    Footing::BuiltIn => "the built-in rules, which only report",
                    Footing::LastGood | Footing::Asked => "the last good one, made gentler",
                };
                write!(f, "the configuration cannot be used; guarding by {on}, until a reload mends it: {why}")
            }
            Daemon::SourceLost { what, why } => write!(f, "blind spot: {what}: {why}"),
            Daemon::SourceFound { what } => write!(f, "no blind spot any more: {what}"),
            Daemon::JournalDamage { what } => write!(f, "the journal was damaged: {what}"),
            Daemon::JournalFailed { why } => write!(f, "the journal cannot be written: {why}"),
            Daemon::JournalSlow { why } => write!(f, "the journal is {why}"),
            Daemon::JournalAnswers { after } => {
                write!(f, "the disk of the journal answers again, after {:.0} s", after.as_secs_f64())
            }
            Daemon::JournalWorks { found: 0 } => {
                f.write_str("the journal can be written: changes that stay in force are made again")
            }
            Daemon::JournalWorks { found } => {
                write!(f, "the journal can be written: {found} from before, undone first")
            }
            Daemon::ThreadHangs { why } => write!(f, "{why}; the service manager will restart node-guardian"),
            Daemon::ThreadsLive => f.write_str("all threads run again"),
            Daemon::Control { name, state, detail } => {
                let colon = if detail.is_empty() { "" } else { "; " };
                write!(f, "control {name}: {state}{colon}{detail}")
            }
            Daemon::DrillBegan { what } => write!(f, "drilling {what}"),
            Daemon::DrillEnded { count } => write!(f, "the drill is over: {count}"),
            Daemon::Asked { what, by } => write!(f, "{by} asked for {what}"),
            Daemon::Degraded { what, why } => write!(f, "{what}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(what: &str) -> Event {
        Event::Daemon(Daemon::SourceLost { what: what.into(), why: "permission denied".into() })
    }

    #[test]
    fn the_trail_is_bounded_and_numbered_without_gaps() {
        let mut events = Events::new(Arc::default());
        for n in 0..KEPT as u64 + 5 {
            events.emit(n, lost("/proc/stat"));
        }
        let all = events.log().since(0, usize::MAX);
        assert_eq!((all.len(), all[0].seq, events.log().last()), (KEPT, 6, KEPT as u64 + 5));
        assert_eq!(events.log().since(1003, 10).iter().map(|r| r.seq).collect::<Vec<_>>(), [1004, 1005]);
        assert_eq!(events.log().since(9999, 10).len(), 0);
        assert_eq!(events.log().newest(2, |r| r.seq % 2 == 0).iter().map(|r| r.seq).collect::<Vec<_>>(), [1002, 1004]);
    }

    #[test]
    fn a_record_carries_its_fields_by_name() {
        let mut events = Events::new(Arc::default());
        let to = policy::event::Mode::Emergency;
        let event = policy::event::Event::Mode {
            from: Default::default(),
            to,
            why: policy::event::ModeReason::Rule("x".into()),
        };
        events.emit(1, Event::Policy(event));
        let record = &events.log().since(0, 1)[0];
        let now = clock::now().unwrap().seconds();
        assert!((now - 60.0..=now).contains(&record.at_seconds), "{record:?}");
        assert_eq!((record.name, record.level, record.field("mode")), ("mode", Level::Error, Some("emergency")));
        let json = serde_json::to_value(&**record).unwrap();
        assert_eq!(json["fields"]["mode"], "emergency");
        assert_eq!(json["text"], "mode normal -> emergency: rule x");
    }
}
