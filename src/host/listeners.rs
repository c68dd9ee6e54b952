//! Who listens on what, for the slow thread: ports that rules name, with their connections, as often as the loop looks; all
//! others by their queues and drops alone, seldom, because a node may have thousands of them and one rule needs one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::blind::Blind;
use super::counter::rate;
use super::diag::{Dump, Listening, MOST_PORTS};
use super::found::Port;
use super::shared::Shared;
use super::thrift::thread_time;
use super::wanted::{Others, Wanted};

/// What is said of all ports at once.
pub(crate) const PORTS: &str = "connections by port";

/// Walking the listeners costs 20 us where there are a few dozen, and 30 ms where there are 20,000.
const OTHERS_EVERY: Duration = Duration::from_secs(5);
const OTHERS_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
const OTHERS_SHARE: u32 = 1000;
/// At most: what is older than that says nothing.
const NAMED_AT_LEAST_EVERY: Duration = Duration::from_secs(300);
/// One part in so many of a core: 17 ms, with 20,000 connections to more than four ports, are then due every 9 s. With few
/// ports it is a millisecond.
const NAMED_SHARE: u32 = 500;
/// The same while a rule about a port is pending or fires.
const NAMED_SHARE_IN_NEED: u32 = 20;

pub(crate) struct Listeners {
    ports: BTreeMap<u16, Watched>,
    dump: Option<Dump>,
    others: Turn,
    named: Turn,
}

struct Watched {
    port: Arc<Port>,
    /// What it had dropped, and when that was.
    dropped: Option<(u64, Instant)>,
}

/// When something was done last, and what it took.
#[derive(Clone, Copy)]
struct Turn {
    last: Option<Instant>,
    cost: Duration,
    start: Instant,
}

impl Turn {
    fn due(&self, share: u32, bounds: (Duration, Duration)) -> Instant {
        self.last.map_or(self.start, |last| last + (self.cost * share).clamp(bounds.0, bounds.1))
    }
}

impl Listeners {
    #[must_use]
    pub fn new(now: Instant, shared: &Shared) -> Self {
        let turn = Turn { last: None, cost: Duration::ZERO, start: now };
        let watched = |port: &Arc<Port>| (port.number, Watched { port: Arc::clone(port), dropped: None });
        Self { ports: shared.ports.get().iter().map(watched).collect(), dump: None, others: turn, named: turn }
    }

    #[must_use]
    pub(crate) fn due(&self, shared: &Shared) -> Instant {
        self.named_due(shared).min(self.others.due(OTHERS_SHARE, (OTHERS_EVERY, OTHERS_AT_LEAST_EVERY)))
    }

    /// As often as is asked for, and as its cost allows.
    fn named_due(&self, shared: &Shared) -> Instant {
        let share = if shared.ports_every.is_in_need() { NAMED_SHARE_IN_NEED } else { NAMED_SHARE };
        self.named.due(share, (shared.ports_every.get(), NAMED_AT_LEAST_EVERY))
    }

    /// Whether there is news.
    pub(crate) fn round(&mut self, now: Instant, shared: &Shared, blind: &mut Blind) -> bool {
        let wanted = shared.ports_wanted.get();
        let others_due = now >= self.others.due(OTHERS_SHARE, (OTHERS_EVERY, OTHERS_AT_LEAST_EVERY));
        let named_due = now >= self.named_due(shared);
        if !others_due && !named_due {
            return false;
        }
        match self.look(now, &wanted, (others_due, named_due)) {
            Ok(listening) if listening < MOST_PORTS => blind.clear(PORTS),
            Ok(_) => {
                let why = format!(
                    "more than {MOST_PORTS} ports are open: those that no rule names are not listed separately"
                );
                blind.note(PORTS, &why);
            }
            Err(error) => {
                self.dump = None;
                self.ports.values().for_each(|watched| watched.port.forget());
                let why = error.desc();
                let why = format!("{why}: the kernel gives no sock_diag (module tcp_diag), only totals are known");
                blind.note(PORTS, &why);
            }
        }
        shared.ports.offer(self.ports.values().map(|watched| Arc::clone(&watched.port)).collect());
        true
    }

    /// How many ports are listened on, as far as anybody looked.
    fn look(&mut self, now: Instant, wanted: &Wanted, (others, named): (bool, bool)) -> Result<usize, Errno> {
        if others {
            let before = thread_time();
            let all = match wanted.others {
                Others::All => self.dump()?.listening()?,
                Others::None => Vec::new(),
            };
            let stays =
                |port: &u16| wanted.named.contains(port) || all.binary_search_by_key(port, |known| known.port).is_ok();
            self.ports.retain(|port, _| stays(port));
            all.iter().for_each(|reading| self.note(now, reading));
            self.others = Turn { last: Some(now), cost: thread_time().saturating_sub(before), ..self.others };
        }
        if named {
            let before = thread_time();
            let found = if wanted.named.is_empty() { Vec::new() } else { self.dump()?.named(&wanted.named)? };
            let others = self.ports.iter().filter(|(port, _)| !wanted.named.contains(port));
            others.for_each(|(_, watched)| watched.port.established.set(None));
            self.ports.retain(|port, _| !wanted.named.contains(port) || found.iter().any(|known| known.port == *port));
            for reading in &found {
                self.note(now, reading);
                let port = self.ports.get(&reading.port).map(|watched| &watched.port);
                port.iter().for_each(|port| port.established.set(Some(reading.established as f64)));
            }
            self.named = Turn { last: Some(now), cost: thread_time().saturating_sub(before), ..self.named };
        }
        Ok(self.ports.len())
    }

    fn note(&mut self, now: Instant, reading: &Listening) {
        let fresh = || Watched { port: Arc::new(Port::new(reading.port)), dropped: None };
        let watched = self.ports.entry(reading.port).or_insert_with(fresh);
        watched.port.backlog_percent.set(Some(reading.backlog_percent));
        let since = |at: Instant| now.saturating_duration_since(at);
        if watched.dropped.is_some_and(|(_, at)| since(at).is_zero()) {
            return;
        }
        let per_second =
            watched.dropped.zip(reading.drops).and_then(|((before, at), drops)| rate(before, drops, since(at)));
        watched.port.drops_rate.set(per_second);
        watched.dropped = reading.drops.map(|drops| (drops, now));
    }

    fn dump(&mut self) -> Result<&mut Dump, Errno> {
        if self.dump.is_none() {
            self.dump = Some(Dump::open()?);
        }
        self.dump.as_mut().ok_or(Errno::EBADF)
    }
}
