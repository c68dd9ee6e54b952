//! What HAProxy is asked, each answer once in a conversation: a hundred servers need one `show stat`.

use std::time::Duration;

use super::answer::{self, Info, Lease};
use super::knob::{ADMIN_BITS, Knob};
use super::rows::{self, Rows};
use super::socket::Session;
use crate::control::failure::Failure;

/// Nothing that was ever prior or ours, so that it counts as somebody else's doing.
const GONE: &str = "gone";

#[derive(Default)]
pub struct Readings {
    servers: Option<Rows<3>>,
    frontends: Option<Rows<3>>,
    states: Option<Rows<3>>,
    /// Of the lease that was read last.
    pub left: Option<Duration>,
}

/// What a stick table or a map holds for one key: nothing where it holds none.
#[derive(Default)]
pub struct Held {
    pub value: String,
    /// How long it lasts if it is not renewed, where it lapses by itself.
    pub left: Option<Duration>,
}

impl Readings {
    pub async fn value(&mut self, session: &mut Session, info: &Info, knob: &Knob) -> Result<String, Failure> {
        let found = match knob {
            Knob::GlobalLimit => return Ok(info.maxconn.clone()),
            Knob::ConnectionRate => return connection_rate(info),
            Knob::Lease { .. } | Knob::Map { .. } => {
                // With its table or map went the share.
                let held = share(session, knob).await?.unwrap_or_default();
                self.left = held.left;
                return Ok(held.value);
            }
            Knob::ServerLimit { proxy, server } => {
                if self.servers.is_none() {
                    self.servers = Some(server_limits(session).await?);
                }
                limit(&mut self.servers, proxy, server)
            }
            Knob::FrontendLimit { frontend } => {
                if self.frontends.is_none() {
                    self.frontends = Some(frontends(session).await?);
                }
                limit(&mut self.frontends, frontend, "FRONTEND")
            }
            Knob::ServerState { proxy, server } => {
                if self.states.is_none() {
                    self.states = Some(server_states(session, |_| true).await?);
                }
                let state = limit(&mut self.states, proxy, server).and_then(|state| state.parse::<u32>().ok());
                state.map(|state| (state & ADMIN_BITS).to_string())
            }
        };
        Ok(found.unwrap_or_else(|| GONE.to_owned()))
    }
}

/// The third cell of a row.
fn limit(rows: &mut Option<Rows<3>>, first: &str, second: &str) -> Option<String> {
    rows.as_mut()?.find(first, second).map(|row| row[2].to_owned())
}

pub async fn greet(session: &mut Session) -> Result<Info, Failure> {
    answer::info(&session.ask("show info").await?).ok_or_else(not_haproxy)
}

/// Those of the backends that are chosen.
pub async fn servers(session: &mut Session, chooses: impl Fn(&str) -> bool) -> Result<Rows<3>, Failure> {
    session.table("show stat -1 4 -1", rows::servers(chooses)).await?.ok_or_else(not_haproxy)
}

async fn server_limits(session: &mut Session) -> Result<Rows<3>, Failure> {
    let rows = servers(session, |_| true).await?;
    if rows.is_empty() { Err(untold("its servers' limits")) } else { Ok(rows) }
}

pub async fn backends(session: &mut Session) -> Result<Rows<2>, Failure> {
    session.table("show stat -1 2 -1", rows::backends()).await?.ok_or_else(not_haproxy)
}

/// Each with its limit.
pub async fn frontends(session: &mut Session) -> Result<Rows<3>, Failure> {
    session.table("show stat -1 1 -1", rows::frontends()).await?.ok_or_else(not_haproxy)
}

/// Sessions now, and requests or connections since the start.
pub async fn traffic(session: &mut Session, of: &[String]) -> Result<(u64, u64), Failure> {
    let rows = session.table("show stat -1 1 -1", rows::traffic(of)).await?;
    rows.as_ref().and_then(Rows::traffic).ok_or_else(not_haproxy)
}

/// Those of the backends that are chosen.
pub async fn server_states(session: &mut Session, chooses: impl Fn(&str) -> bool) -> Result<Rows<3>, Failure> {
    let rows = session.table("show servers state", rows::states(chooses)).await?;
    rows.filter(|rows| !rows.is_empty()).ok_or_else(|| untold("its servers' states"))
}

pub fn connection_rate(info: &Info) -> Result<String, Failure> {
    if info.connection_rate.is_empty() { Err(untold("its ConnRateLimit")) } else { Ok(info.connection_rate.clone()) }
}

/// The percentage in a lease or a map, `None` where there is no such table or map.
pub async fn share(session: &mut Session, knob: &Knob) -> Result<Option<Held>, Failure> {
    let (found, left, what) = match knob {
        Knob::Lease { table, key } => {
            let answer = session.question(&format!("show table {table} key {key}")).await?;
            let what = format!("gpc0 of {key} in {table}; does the table `store gpc0`?");
            (answer::lease(&answer, "gpc0"), answer::lease_left(&answer), what)
        }
        Knob::Map { file, key } => {
            let answer = session.question(&format!("get map {file} {key}")).await?;
            (answer::entry(&answer), None, format!("the value of {key} in {file}"))
        }
        other => return Err(untold(&format!("a share to shed by {other}"))),
    };
    match found {
        Lease::Held(value) => Ok(Some(Held { value, left })),
        Lease::Absent => Ok(Some(Held::default())),
        Lease::Untold => Err(untold(&what)),
        Lease::NoTable => Ok(None),
    }
}

/// What cannot be read is nobody's: neither ours nor an operator's.
pub fn untold(what: &str) -> Failure {
    Failure::unsupported(format!("HAProxy does not report {what}"))
}

pub fn not_haproxy() -> Failure {
    Failure::unsupported("the program on this socket does not speak HAProxy's runtime protocol")
}
