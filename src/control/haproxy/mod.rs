//! HAProxy through its runtime socket: throttle by the limits of servers or of the process, shed by leases in a stick
//! table, drain servers. Never touches a frontend's maxconn (see `knob`), and never what somebody else has set.
//!
//! `frontends` of the configuration choose what is shed; `backends` choose what is throttled and drained, because the
//! socket does not tell which backends a frontend uses.
//!
//! A lease that is gone before its time was cleared by hand (see `watched`): it is not given again while it is wanted.

mod answer;
mod knob;
mod socket;
mod survey;
pub mod target;
mod watched;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::boot_id;
use super::failure::Failure;
use super::service::{AfterRefusal, Aim, Order, Probe, Service};
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::policy::mitigation::{Amount, Mitigation, Outcome, Verb};
use answer::{Info, Lease};
use knob::{ADMIN_BITS, Knob, plain};
use socket::Session;
use watched::Watched;

pub struct Haproxy {
    target: target::Haproxy,
    watched: Watched,
}

/// Answers of one conversation, so that a hundred servers need one `show stat`.
#[derive(Default)]
struct Readings {
    limits: Option<HashMap<String, String>>,
    states: Option<HashMap<String, u32>>,
    /// Of the lease that was read last.
    left: Option<Duration>,
}

#[async_trait(?Send)]
impl Service for Haproxy {
    fn name(&self) -> &'static str {
        "HAProxy"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        let info = greet(&mut session).await?;
        let level = session.ask("show cli level").await?;
        let table = session.ask(&format!("show table {} key probe", self.lease_table()?)).await?;
        let leases = matches!(answer::lease(&table, "gpc0"), Lease::Absent | Lease::Held(_));
        self.every_backend_exists(&backends(&mut session).await?)?;
        let seen = format!("HAProxy {}, {level} level", info.version);
        let may = match (level.as_str(), leases) {
            ("admin", true) => "may throttle, drain and shed".to_owned(),
            ("admin", false) => {
                format!(
                    "may throttle and drain; cannot shed: there is no stick table {} with gpc0",
                    self.target.lease_table
                )
            }
            ("operator", true) => "may shed only; to throttle it needs `level admin` on the stats socket".to_owned(),
            _ => {
                return Err(Failure::refused(format!(
                    "{seen} on {}: may change nothing; give that `stats socket` line `level admin`",
                    self.target.socket.display()
                )));
            }
        };
        Ok(Probe::usable(format!("{seen}: {may}")))
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        let info = greet(&mut session).await?;
        let changes = match mitigation.verb {
            Verb::Throttle => {
                let kept = survey::kept_percent(mitigation.amount)?;
                self.some_backend_exists(&backends(&mut session).await?)?;
                let servers = stat_servers(&mut session).await?;
                let chosen: Vec<_> = servers.into_iter().filter(|row| self.chooses(&row.proxy)).collect();
                if self.target.backends.is_empty() {
                    survey::throttle(&chosen, &info.maxconn, kept)
                } else {
                    survey::throttle_servers(&chosen, kept).ok_or_else(|| no_limit(&self.target.backends))?
                }
            }
            Verb::Drain => {
                self.some_backend_exists(&backends(&mut session).await?)?;
                let mut servers = server_states(&mut session).await?;
                servers.retain(|(proxy, ..)| self.chooses(proxy));
                survey::drain(&servers)
            }
            Verb::Shed => self.survey_shed(&mut session, mitigation.amount).await?,
            verb => return Err(self.cannot(verb)),
        };
        Ok(Undo { epoch: epoch(&info), changes, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let aim = |change: &Change| {
            let value = match Knob::required(&change.key)? {
                Knob::ServerLimit { .. } | Knob::GlobalLimit => {
                    survey::scaled(&change.prior, survey::kept_percent(mitigation.amount)?)
                }
                Knob::Lease { .. } => Some(survey::shed_percent(mitigation.amount)?),
                Knob::ServerState { .. } => None,
            };
            Ok(value.unwrap_or_else(|| change.wanted().to_owned()))
        };
        undo.changes.iter().map(aim).collect()
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        if is_of_another_boot(&undo.epoch, boot_id()) {
            return Ok(Live { epoch: String::new(), values: Vec::new() });
        }
        let mut session = Session::open(&self.target.socket).await?;
        let info = greet(&mut session).await?;
        let epoch = epoch(&info);
        self.watched.enter(&epoch);
        let mut readings = Readings::default();
        let mut values = Vec::with_capacity(undo.changes.len());
        for change in &undo.changes {
            let knob = Knob::required(&change.key)?;
            let asked = Instant::now();
            values.push(readings.value(&mut session, &info, &knob).await?);
            if matches!(knob, Knob::Lease { .. }) {
                self.watched.saw(&change.key, asked, readings.left.take());
            }
        }
        Ok(Live { epoch, values })
    }

    /// The first failure, where one does not keep the others from being tried.
    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        if epoch(&greet(&mut session).await?) != expected_epoch {
            return Err(Failure::epoch_changed("HAProxy"));
        }
        let mut first = Ok(());
        for order in orders {
            if order.value.is_empty() || self.watched.was_cleared(order.key) {
                self.watched.forget(order.key);
            }
            let Err(failure) = give(&mut session, order).await else { continue };
            let was_heard = matches!(failure.outcome, Outcome::Refused | Outcome::Unsupported);
            first = first.and(Err(failure));
            if after == AfterRefusal::Stop || !was_heard {
                break;
            }
        }
        first
    }

    fn is_lease(&self, key: &str) -> bool {
        matches!(Knob::parse(key), Some(Knob::Lease { .. }))
    }

    fn was_cleared(&self, key: &str) -> bool {
        self.watched.was_cleared(key)
    }
}

impl Haproxy {
    #[must_use]
    pub fn new(target: target::Haproxy) -> Self {
        Self { target, watched: Watched::default() }
    }

    fn chooses(&self, proxy: &str) -> bool {
        self.target.backends.is_empty() || self.target.backends.iter().any(|backend| backend == proxy)
    }

    /// A name that is wrong is to be seen before the emergency.
    fn every_backend_exists(&self, known: &[String]) -> Result<(), Failure> {
        match self.target.backends.iter().find(|backend| !known.contains(backend)) {
            Some(missing) => Err(no_backend(missing, known)),
            None => Ok(()),
        }
    }

    /// In the emergency, those that are there are better than none.
    fn some_backend_exists(&self, known: &[String]) -> Result<(), Failure> {
        if self.target.backends.iter().any(|backend| known.contains(backend)) {
            return Ok(());
        }
        self.every_backend_exists(known)
    }

    fn lease_table(&self) -> Result<String, Failure> {
        plain(&self.target.lease_table).ok_or_else(|| {
            Failure::unsupported(format!("`{}` cannot be the name of a stick table", self.target.lease_table))
        })
    }

    async fn survey_shed(&self, session: &mut Session, amount: Amount) -> Result<Vec<Change>, Failure> {
        let table = self.lease_table()?;
        let percent = survey::shed_percent(amount)?;
        let frontends = if self.target.frontends.is_empty() {
            answer::frontends(&session.question("show stat -1 1 -1").await?).ok_or_else(not_haproxy)?
        } else {
            self.target.frontends.clone()
        };
        let mut changes = Vec::with_capacity(frontends.len());
        for frontend in frontends {
            let key = plain(&frontend)
                .ok_or_else(|| Failure::unsupported(format!("`{frontend}` cannot be the name of a frontend")))?;
            let knob = Knob::Lease { table: table.clone(), key };
            let prior = read_lease(session, &knob).await?.ok_or_else(|| without_table(&knob))?;
            changes.extend(survey::change(&knob, &prior.value, Some(percent.clone())));
        }
        Ok(changes)
    }
}

impl Readings {
    async fn value(&mut self, session: &mut Session, info: &Info, knob: &Knob) -> Result<String, Failure> {
        /// Nothing that was ever prior or ours, so that it counts as somebody else's doing.
        const GONE: &str = "gone";
        match knob {
            Knob::GlobalLimit => Ok(info.maxconn.clone()),
            Knob::Lease { .. } => {
                let lease = read_lease(session, knob).await?;
                self.left = lease.as_ref().and_then(|lease| lease.left);
                // With its table went the lease.
                Ok(lease.map(|lease| lease.value).unwrap_or_default())
            }
            Knob::ServerLimit { proxy, server } => {
                if self.limits.is_none() {
                    let rows = stat_servers(session).await?;
                    if rows.is_empty() {
                        return Err(untold("its servers' limits"));
                    }
                    let limit = |row: answer::Server| (format!("{}/{}", row.proxy, row.server), row.limit);
                    self.limits = Some(rows.into_iter().map(limit).collect());
                }
                let limit = self.limits.as_ref().and_then(|limits| limits.get(&format!("{proxy}/{server}")));
                Ok(limit.map_or_else(|| GONE.to_owned(), String::clone))
            }
            Knob::ServerState { proxy, server } => {
                if self.states.is_none() {
                    let rows = server_states(session).await?;
                    let state = |(proxy, server, state)| (format!("{proxy}/{server}"), state);
                    self.states = Some(rows.into_iter().map(state).collect());
                }
                let state = self.states.as_ref().and_then(|states| states.get(&format!("{proxy}/{server}")));
                Ok(state.map_or_else(|| GONE.to_owned(), |state| (state & ADMIN_BITS).to_string()))
            }
        }
    }
}

async fn greet(session: &mut Session) -> Result<Info, Failure> {
    answer::info(&session.ask("show info").await?).ok_or_else(not_haproxy)
}

async fn give(session: &mut Session, order: &Order<'_>) -> Result<(), Failure> {
    session.order(&Knob::required(order.key)?.command(order.value)).await
}

async fn stat_servers(session: &mut Session) -> Result<Vec<answer::Server>, Failure> {
    answer::servers(&session.question("show stat -1 4 -1").await?).ok_or_else(not_haproxy)
}

async fn backends(session: &mut Session) -> Result<Vec<String>, Failure> {
    answer::backends(&session.question("show stat -1 2 -1").await?).ok_or_else(not_haproxy)
}

async fn server_states(session: &mut Session) -> Result<Vec<(String, String, u32)>, Failure> {
    answer::admin_states(&session.question("show servers state").await?).ok_or_else(|| untold("its servers' states"))
}

/// What a stick table holds for one key: nothing where it holds none.
#[derive(Default)]
struct Held {
    value: String,
    left: Option<Duration>,
}

/// `None` where there is no such table.
async fn read_lease(session: &mut Session, knob: &Knob) -> Result<Option<Held>, Failure> {
    let Knob::Lease { table, key } = knob else { return Ok(Some(Held::default())) };
    let answer = session.question(&format!("show table {table} key {key}")).await?;
    match answer::lease(&answer, "gpc0") {
        Lease::Held(value) => Ok(Some(Held { value, left: answer::lease_left(&answer) })),
        Lease::Absent => Ok(Some(Held::default())),
        Lease::Untold => Err(untold(&format!("gpc0 of {key} in {table}; does the table `store gpc0`?"))),
        Lease::NoTable => Ok(None),
    }
}

fn without_table(knob: &Knob) -> Failure {
    let Knob::Lease { table, key } = knob else { return not_haproxy() };
    Failure::refused(format!(
        "HAProxy has no stick table {table}: add `backend {table}` with `stick-table type string len 32 size 64 \
             expire 30s store gpc0`, and in the frontend `http-request set-var(txn.shed) str({key}),table_gpc0({table})` \
             and `http-request return status 503 hdr Retry-After 5 if {{ rand(100),sub(txn.shed) -m int lt 0 }}`"
    ))
}

/// A process id comes back after a reboot, and in a container after every restart: hence boot and start time.
fn epoch(info: &Info) -> String {
    format!("{}:{}:{}", boot_id(), info.pid, info.start)
}

/// Nobody need be asked: what was set is gone with the kernel under it.
fn is_of_another_boot(epoch: &str, today: &str) -> bool {
    let then = epoch.split(':').next().unwrap_or_default();
    !then.is_empty() && !today.is_empty() && then != today
}

fn no_backend(missing: &str, known: &[String]) -> Failure {
    const ROOM: usize = 8;
    let some = known.iter().take(ROOM).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if known.len() > ROOM { ", …" } else { "" };
    Failure::unsupported(format!("HAProxy has no backend {missing}; it has {some}{more}: correct `backends`"))
}

fn no_limit(backends: &[String]) -> Failure {
    Failure::unsupported(format!(
        "no server of {} has a maxconn: give one, or leave out backends to limit the whole process",
        backends.join(", ")
    ))
}

/// What cannot be read is nobody's: neither ours nor an operator's.
fn untold(what: &str) -> Failure {
    Failure::unsupported(format!("HAProxy does not tell {what}"))
}

fn not_haproxy() -> Failure {
    Failure::unsupported("what answers on this socket does not speak HAProxy's runtime protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boot_is_only_what_is_known_to_be_one() {
        assert!(is_of_another_boot("one:7:17", "two"));
        for (epoch, today) in [("two:7:17", "two"), (":7:17", "two"), ("one:7:17", ""), ("", "two")] {
            assert!(!is_of_another_boot(epoch, today), "{epoch} {today}");
        }
    }
}
