//! HAProxy through its runtime socket: throttle by limits and rates, shed by leases in a stick table or by a map, drain
//! servers. Never touches a frontend's maxconn where raising it again would end the process (see `version`), and never
//! what somebody else has set.
//!
//! `frontends` of the configuration choose what is shed; `backends` choose what is throttled and drained, because the
//! socket does not tell which backends a frontend uses.
//!
//! A lease that is gone before its time was cleared by hand (see `watched`): it is not given again while it is wanted.

mod answer;
mod knob;
mod last_look;
mod ports;
mod readings;
mod rows;
mod settings;
mod shed;
mod socket;
mod survey;
pub mod target;
mod version;
mod watched;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::boot_id;
use super::failure::Failure;
use super::passed::Passed;
use super::rights::Rights;
use super::said::clip;
use super::service::{AfterRefusal, Aim, Order, Probe, Service, Turn};
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::policy::action::VERIFY_EVERY;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Amount, Mitigation, Outcome, Verb};
use answer::Info;
use knob::Knob;
use last_look::LastLook;
use ports::Fronts;
use readings::{Readings, greet};
use rows::Rows;
use shed::Way;
use socket::Session;
use watched::Watched;

/// A busy proxy answers each order within 20 ms: this is for a few hundred servers.
const WRITING_BUDGET: Duration = Duration::from_secs(5);
/// A lease is renewed each time that it is read back, and once that may fail.
const SHORTEST_LEASE: Duration = VERIFY_EVERY.saturating_mul(2);

pub struct Haproxy {
    target: target::Haproxy,
    watched: Watched,
    came: Passed,
    fronts: Fronts,
}

#[async_trait(?Send)]
impl Service for Haproxy {
    fn name(&self) -> &'static str {
        "HAProxy"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        let info = greet(&mut session).await?;
        let level = clip(&session.ask("show cli level").await?);
        self.every_frontend_exists(&readings::frontends(&mut session).await?)?;
        self.every_backend_exists(&readings::backends(&mut session).await?)?;
        let mut rights = Rights::default();
        rights.note(Verb::Throttle, self.may_throttle(&mut session, &info).await)?;
        rights.note(Verb::Drain, may_manage(&mut session).await)?;
        rights.note_as(Verb::Shed, self.may_shed(&mut session).await)?;
        let seen = format!("HAProxy {}, {level} level", info.version);
        match rights.told() {
            Ok(may) => Ok(Probe::usable(format!("{seen}: {may}"))),
            Err(Failure { outcome, detail }) => {
                let at = self.target.socket.display();
                Err(Failure { outcome, detail: format!("{seen} on {at}: {detail}") })
            }
        }
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        match verb {
            Verb::Throttle => {
                let info = greet(&mut session).await?;
                self.may_throttle(&mut session, &info).await
            }
            Verb::Drain => may_manage(&mut session).await,
            Verb::Shed => self.may_shed(&mut session).await.map(drop),
            verb => Err(self.cannot(verb)),
        }
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        let info = greet(&mut session).await?;
        let changes = match mitigation.verb {
            Verb::Throttle => {
                survey::unless_all_stay(self.survey_throttle(&mut session, &info, mitigation.amount).await?)
            }
            Verb::Drain => {
                self.some_backend_exists(&readings::backends(&mut session).await?)?;
                let servers = readings::server_states(&mut session, |proxy| self.chooses(proxy)).await?;
                survey::not_too_many(survey::drain(servers.states()))?
            }
            Verb::Shed => self.survey_shed(&mut session, mitigation.amount).await?,
            verb => return Err(self.cannot(verb)),
        };
        Ok(Undo { epoch: epoch(&info), changes, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let aim = |change: &Change| {
            let value = match Knob::required(&change.key)? {
                Knob::ServerLimit { .. } | Knob::GlobalLimit | Knob::FrontendLimit { .. } => {
                    survey::scaled(&change.prior, survey::kept_percent(mitigation.amount)?)
                }
                Knob::ConnectionRate => {
                    let kept = survey::kept_percent(mitigation.amount)?;
                    self.target.connection_rate.map(|normal| survey::rate(&change.prior, normal, kept))
                }
                Knob::Lease { .. } | Knob::Map { .. } => Some(survey::shed_percent(mitigation.amount)?),
                Knob::ServerState { .. } => None,
            };
            Ok(value.unwrap_or_else(|| change.wanted().to_owned()))
        };
        undo.changes.iter().map(aim).collect()
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        Ok(Some(epoch(&greet(&mut session).await?)))
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let outlives = undo.changes.iter().any(|change| self.outlives(&change.key));
        if !outlives && is_of_another_boot(&undo.epoch, boot_id()) {
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
        let mut last = LastLook::take(&mut session, expected_epoch).await?;
        let mut first = Ok(());
        let until = Instant::now() + WRITING_BUDGET;
        let mut theirs = Vec::new();
        for order in orders {
            session.extend(until);
            match last.turn(&mut session, expected_epoch, order).await? {
                Turn::Write => {}
                Turn::Done => continue,
                Turn::Theirs => {
                    theirs.push(order.key);
                    continue;
                }
            }
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
        // Beside what was written, it is told by who reads that back.
        let is_told = after == AfterRefusal::Stop && theirs.len() < orders.len();
        if theirs.is_empty() || is_told { first } else { first.and(Err(Failure::set_meanwhile(&theirs))) }
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        let mut session = Session::open(&self.target.socket).await?;
        let (sessions, came) = readings::traffic(&mut session, &self.target.frontends).await?;
        let per_second = self.came.per_second(came as f64, Instant::now().into_std());
        let epoch = epoch(&greet(&mut session).await?);
        let ports = ports::ask(session, &mut self.fronts, &self.target, &epoch).await;
        Ok(Gives { sessions: Some(sessions), per_second, ports, ..Gives::default() })
    }

    /// A command is done when it is answered.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        Knob::parse(key)?.strictness(value)
    }

    /// `load-server-state-from-file` keeps who is drained; limits are always read from the configuration anew.
    fn outlives(&self, key: &str) -> bool {
        matches!(Knob::parse(key), Some(Knob::ServerState { .. }))
    }

    fn is_lease(&self, key: &str) -> bool {
        matches!(Knob::parse(key), Some(Knob::Lease { .. }))
    }

    fn was_cleared(&self, key: &str) -> bool {
        self.watched.was_cleared(key)
    }

    /// Only an entry tells how long its table keeps one.
    fn remark(&self, undo: &Undo) -> Option<String> {
        let left = undo.changes.iter().filter_map(|change| self.watched.left(&change.key)).min()?;
        let advice = "write `expire 30s` on its stick-table line";
        if left.is_zero() {
            return Some(format!("this table keeps it for ever, also where the guardian is gone: {advice}"));
        }
        let is_short = left <= SHORTEST_LEASE;
        is_short.then(|| format!("this table drops it after {left:.0?}, and it may not be renewed in time: {advice}"))
    }
}

impl Haproxy {
    #[must_use]
    pub fn new(target: target::Haproxy) -> Self {
        Self { target, watched: Watched::default(), came: Passed::default(), fronts: Fronts::default() }
    }

    fn chooses(&self, proxy: &str) -> bool {
        self.target.backends.is_empty() || self.target.backends.iter().any(|backend| backend == proxy)
    }

    /// A name that is wrong is to be seen before the emergency.
    fn every_backend_exists(&self, known: &Rows<2>) -> Result<(), Failure> {
        match self.target.backends.iter().find(|name| !has(known, name)) {
            Some(missing) => Err(none_such("backend", missing, known)),
            None => Ok(()),
        }
    }

    fn every_frontend_exists(&self, known: &Rows<3>) -> Result<(), Failure> {
        match self.target.frontends.iter().find(|name| !has(known, name)) {
            Some(missing) => Err(none_such("frontend", missing, known)),
            None => Ok(()),
        }
    }

    /// In the emergency, those that are there are better than none.
    fn some_backend_exists(&self, known: &Rows<2>) -> Result<(), Failure> {
        if self.target.backends.iter().any(|name| has(known, name)) {
            return Ok(());
        }
        self.every_backend_exists(known)
    }

    async fn may_throttle(&self, session: &mut Session, info: &Info) -> Result<(), Failure> {
        may_manage(session).await?;
        if self.target.frontend_maxconn {
            self.frontend_limits(session, info).await?;
        }
        Ok(())
    }

    /// In words, by what.
    async fn may_shed(&self, session: &mut Session) -> Result<String, Failure> {
        match shed::way(session, &self.target).await? {
            Way::Table(table) => {
                readings::share(session, &Way::Table(table.clone()).knob("probe")?).await?;
                shed::may_set_table(session, &table).await?;
                Ok("shed".to_owned())
            }
            Way::Map(file) => {
                shed::may_set_map(session, &file).await?;
                Ok("shed by its map".to_owned())
            }
        }
    }

    async fn survey_shed(&self, session: &mut Session, amount: Amount) -> Result<Vec<Change>, Failure> {
        let percent = survey::shed_percent(amount)?;
        let way = shed::way(session, &self.target).await?;
        let known = readings::frontends(session).await?;
        let is_meant =
            |name: &str| self.target.frontends.is_empty() || self.target.frontends.iter().any(|of| of == name);
        let meant = || known.iter().map(|row| row[0]).filter(|name| is_meant(name));
        // What is shed at a name that nobody has would be told as in force.
        if meant().next().is_none() {
            self.every_frontend_exists(&known)?;
        }
        let mut changes = Vec::new();
        for frontend in meant() {
            let knob = way.knob(frontend)?;
            let prior = readings::share(session, &knob).await?.unwrap_or_default().value;
            // It goes into a command as it is, when it is put back.
            if !prior.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Failure::refused(format!("`{knob}` holds no percentage: write a whole number there")));
            }
            changes.extend(survey::change(&knob, &prior, Some(percent.clone())));
        }
        survey::not_too_many(changes)
    }

    async fn survey_throttle(
        &self,
        session: &mut Session,
        info: &Info,
        amount: Amount,
    ) -> Result<Vec<Change>, Failure> {
        let kept = survey::kept_percent(amount)?;
        self.some_backend_exists(&readings::backends(session).await?)?;
        let servers = readings::servers(session, |proxy| self.chooses(proxy)).await?;
        if !self.target.says_what_to_throttle() {
            return survey::not_too_many(survey::throttle(servers.servers(), &info.maxconn, kept));
        }
        let mut changes = Vec::new();
        if !self.target.backends.is_empty() {
            match survey::throttle_servers(servers.servers(), kept) {
                Some(limited) => changes.extend(limited),
                None if self.target.connection_rate.is_some() || self.target.frontend_maxconn => {}
                None => return Err(no_limit(&self.target.backends)),
            }
        }
        if self.target.frontend_maxconn {
            let known = self.frontend_limits(session, info).await?;
            let meant = known.iter().filter(|row| self.target.frontends.iter().any(|name| name == row[0]));
            changes.extend(survey::throttle_frontends(meant.map(|row| (row[0], row[2])), kept));
        }
        if let Some(normal) = self.target.connection_rate {
            let prior = readings::connection_rate(info)?;
            let limited = survey::rate(&prior, normal, kept);
            changes.extend(survey::taken(&Knob::ConnectionRate, &prior, Some(limited)));
        }
        survey::not_too_many(changes)
    }

    /// Of the frontends that are named, in a version in which they may be touched.
    async fn frontend_limits(&self, session: &mut Session, info: &Info) -> Result<Rows<3>, Failure> {
        if !version::survives_raising_a_frontend(&info.version) {
            return Err(would_abort(&info.version));
        }
        let known = readings::frontends(session).await?;
        self.every_frontend_exists(&known)?;
        Ok(known)
    }
}

/// Limits and states of servers are set, and set back, at this level alone.
async fn may_manage(session: &mut Session) -> Result<(), Failure> {
    match clip(&session.ask("show cli level").await?).as_str() {
        "admin" => Ok(()),
        level => Err(Failure::refused(format!(
            "this socket has level {level}, and that takes more: give its `stats socket` line `level admin`"
        ))),
    }
}

async fn give(session: &mut Session, order: &Order<'_>) -> Result<(), Failure> {
    let knob = Knob::required(order.key)?;
    let is_there = !matches!(knob, Knob::Map { .. })
        || readings::share(session, &knob).await?.is_some_and(|held| !held.value.is_empty());
    if order.value.is_empty() && !is_there {
        return Ok(());
    }
    session.order(&knob.command(order.value, is_there)).await
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

fn has<const N: usize>(known: &Rows<N>, name: &str) -> bool {
    known.iter().any(|row| row[0] == name)
}

fn none_such<const N: usize>(what: &str, missing: &str, known: &Rows<N>) -> Failure {
    const ROOM: usize = 8;
    let some = known.iter().take(ROOM).map(|row| row[0]).collect::<Vec<_>>().join(", ");
    let more = if known.iter().nth(ROOM).is_some() { ", …" } else { "" };
    Failure::unsupported(format!("HAProxy has no {what} {missing}; it has {some}{more}: correct `{what}s`"))
}

fn would_abort(version: &str) -> Failure {
    Failure::refused(format!(
        "HAProxy {version} would abort when the maxconn of a frontend is raised again (haproxy/haproxy#2726; fixed in \
         2.6.20, 2.8.12, 2.9.12 and 3.0.6): remove `frontend_maxconn`, and name `backends` whose servers have a maxconn, \
         or set `connection_rate`"
    ))
}

fn no_limit(backends: &[String]) -> Failure {
    Failure::unsupported(format!(
        "no server of {} has a maxconn: give one, or leave out backends to limit the whole process",
        backends.join(", ")
    ))
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
