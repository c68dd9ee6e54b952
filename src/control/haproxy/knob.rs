//! What can be turned at HAProxy, as text in the journal and as commands. `set maxconn frontend` is deliberately absent:
//! raising it again aborts version 2.6.12 (haproxy/haproxy#2726).

use std::fmt;

use crate::control::failure::Failure;

/// Bits of `srv_admin_state` that an operator or the guardian sets: forced maintenance (1), maintenance from the
/// configuration (2) and forced drain (8). The others follow DNS or a tracked server by themselves.
pub const ADMIN_BITS: u32 = 0b1011;
/// Forced drain.
pub const DRAIN: u32 = 0b1000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Knob {
    /// `server be/s1 maxconn`: empty when unlimited.
    ServerLimit { proxy: String, server: String },
    /// `global maxconn`
    GlobalLimit,
    /// `server be/s1 state`: `ADMIN_BITS` of its administrative state.
    ServerState { proxy: String, server: String },
    /// `lease TABLE KEY`: percent of requests refused; empty when there is none. Lapses by itself.
    Lease { table: String, key: String },
}

impl Knob {
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let pair = |name: &str| {
            let (proxy, server) = name.split_once('/')?;
            Some((plain(proxy)?, plain(server)?))
        };
        match words[..] {
            ["global", "maxconn"] => Some(Knob::GlobalLimit),
            ["server", name, "maxconn"] => pair(name).map(|(proxy, server)| Knob::ServerLimit { proxy, server }),
            ["server", name, "state"] => pair(name).map(|(proxy, server)| Knob::ServerState { proxy, server }),
            ["lease", table, key] => Some(Knob::Lease { table: plain(table)?, key: plain(key)? }),
            _ => None,
        }
    }

    /// Each change of an undo, or a refusal where a journal or a configuration holds something else.
    pub fn required(text: &str) -> Result<Self, Failure> {
        Knob::parse(text).ok_or_else(|| {
            Failure::unsupported(format!("`{text}` is nothing that can be set at HAProxy: is its name plain letters?"))
        })
    }

    /// The command that sets it to what was read back earlier, or is to be read back.
    #[must_use]
    pub fn command(&self, value: &str) -> String {
        match self {
            Knob::ServerLimit { proxy, server } => {
                // Unlimited reads as nothing and is written as 0.
                let limit = if value.is_empty() { "0" } else { value };
                format!("set maxconn server {proxy}/{server} {limit}")
            }
            Knob::GlobalLimit => format!("set maxconn global {value}"),
            Knob::ServerState { proxy, server } => {
                let state = if value == "0" { "ready" } else { "drain" };
                format!("set server {proxy}/{server} state {state}")
            }
            Knob::Lease { table, key } if value.is_empty() => format!("clear table {table} key {key}"),
            Knob::Lease { table, key } => format!("set table {table} key {key} data.gpc0 {value}"),
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Knob::ServerLimit { proxy, server } => write!(f, "server {proxy}/{server} maxconn"),
            Knob::GlobalLimit => f.write_str("global maxconn"),
            Knob::ServerState { proxy, server } => write!(f, "server {proxy}/{server} state"),
            Knob::Lease { table, key } => write!(f, "lease {table} {key}"),
        }
    }
}

/// HAProxy's own alphabet for names; anything else could smuggle a second command into a line.
pub fn plain(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-');
    (!name.is_empty() && name.chars().all(allowed)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knobs_survive_the_journal() {
        for text in ["server be/s1 maxconn", "global maxconn", "server be/s1 state", "lease ng_lease web"] {
            assert_eq!(Knob::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn unlimited_is_written_as_zero() {
        assert_eq!(Knob::parse("server be/s1 maxconn").unwrap().command(""), "set maxconn server be/s1 0");
        assert_eq!(Knob::parse("lease t web").unwrap().command(""), "clear table t key web");
    }

    #[test]
    fn no_name_can_carry_a_second_command() {
        assert_eq!(Knob::parse("server be/s1;shutdown maxconn"), None);
        assert_eq!(Knob::parse("lease t web\nquit"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,80}") {
            if let Some(knob) = Knob::parse(&text) {
                prop_assert_eq!(knob.to_string(), text);
            }
        }
    }
}
