//! What HAProxy is asked, each answer once in a conversation: a hundred servers need one `show stat`.

use std::collections::HashMap;
use std::time::Duration;

use super::answer::{self, Info, Lease};
use super::knob::{ADMIN_BITS, Knob};
use super::socket::Session;
use crate::control::failure::Failure;

/// Nothing that was ever prior or ours, so that it counts as somebody else's doing.
const GONE: &str = "gone";

#[derive(Default)]
pub struct Readings {
    servers: Option<HashMap<String, String>>,
    frontends: Option<HashMap<String, String>>,
    states: Option<HashMap<String, String>>,
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
        let (known, name) = match knob {
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
                (&self.servers, format!("{proxy}/{server}"))
            }
            Knob::FrontendLimit { frontend } => {
                if self.frontends.is_none() {
                    self.frontends = Some(frontends(session).await?.into_iter().collect());
                }
                (&self.frontends, frontend.clone())
            }
            Knob::ServerState { proxy, server } => {
                if self.states.is_none() {
                    let state = |(proxy, server, state): (String, String, u32)| {
                        (format!("{proxy}/{server}"), (state & ADMIN_BITS).to_string())
                    };
                    self.states = Some(server_states(session).await?.into_iter().map(state).collect());
                }
                (&self.states, format!("{proxy}/{server}"))
            }
        };
        let value = known.as_ref().and_then(|known| known.get(&name));
        Ok(value.map_or_else(|| GONE.to_owned(), String::clone))
    }
}

pub async fn greet(session: &mut Session) -> Result<Info, Failure> {
    answer::info(&session.ask("show info").await?).ok_or_else(not_haproxy)
}

pub async fn servers(session: &mut Session) -> Result<Vec<answer::Server>, Failure> {
    answer::servers(&session.question("show stat -1 4 -1").await?).ok_or_else(not_haproxy)
}

async fn server_limits(session: &mut Session) -> Result<HashMap<String, String>, Failure> {
    let rows = servers(session).await?;
    if rows.is_empty() {
        return Err(untold("its servers' limits"));
    }
    Ok(rows.into_iter().map(|row| (format!("{}/{}", row.proxy, row.server), row.limit)).collect())
}

pub async fn backends(session: &mut Session) -> Result<Vec<String>, Failure> {
    answer::backends(&session.question("show stat -1 2 -1").await?).ok_or_else(not_haproxy)
}

/// Each with its limit.
pub async fn frontends(session: &mut Session) -> Result<Vec<(String, String)>, Failure> {
    answer::frontends(&session.question("show stat -1 1 -1").await?).ok_or_else(not_haproxy)
}

pub async fn server_states(session: &mut Session) -> Result<Vec<(String, String, u32)>, Failure> {
    answer::admin_states(&session.question("show servers state").await?).ok_or_else(|| untold("its servers' states"))
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
    Failure::unsupported(format!("HAProxy does not tell {what}"))
}

pub fn not_haproxy() -> Failure {
    Failure::unsupported("what answers on this socket does not speak HAProxy's runtime protocol")
}
