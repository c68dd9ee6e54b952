//! What can be turned at HAProxy, as text in the journal and as commands. `set maxconn frontend` is here for versions
//! that survive it alone: see `version`.

use std::fmt;

use crate::control::failure::Failure;

/// Bits of `srv_admin_state` that an operator or the guardian sets: forced maintenance (1) and forced drain (8). The others
/// follow DNS, a tracked server (2, 16) or the configuration (4, beside 1) by themselves, and come and go beside ours.
pub const ADMIN_BITS: u32 = 0b1001;
/// Forced drain.
pub const DRAIN: u32 = 0b1000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Knob {
    /// `server be/s1 maxconn`: empty when unlimited.
    ServerLimit { proxy: String, server: String },
    /// `global maxconn`
    GlobalLimit,
    /// `frontend web maxconn`
    FrontendLimit { frontend: String },
    /// `global connection rate`: new connections a second, 0 when unlimited.
    ConnectionRate,
    /// `server be/s1 state`: `ADMIN_BITS` of its administrative state.
    ServerState { proxy: String, server: String },
    /// `lease TABLE KEY`: percent of requests refused; empty when there is none. Lapses by itself.
    Lease { table: String, key: String },
    /// `map FILE KEY`: percent of requests refused; empty when the map has no such key.
    Map { file: String, key: String },
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
            ["global", "connection", "rate"] => Some(Knob::ConnectionRate),
            ["frontend", name, "maxconn"] => Some(Knob::FrontendLimit { frontend: plain(name)? }),
            ["server", name, "maxconn"] => pair(name).map(|(proxy, server)| Knob::ServerLimit { proxy, server }),
            ["server", name, "state"] => pair(name).map(|(proxy, server)| Knob::ServerState { proxy, server }),
            ["lease", table, key] => Some(Knob::Lease { table: plain(table)?, key: plain(key)? }),
            ["map", file, key] => Some(Knob::Map { file: plain_file(file)?, key: plain(key)? }),
            _ => None,
        }
    }

    /// Each change of an undo, or a refusal where a journal or a configuration holds something else.
    pub fn required(text: &str) -> Result<Self, Failure> {
        Knob::parse(text).ok_or_else(|| {
            Failure::unsupported(format!("`{text}` cannot be set at HAProxy: is its name plain letters?"))
        })
    }

    /// The command that sets it to what was read back earlier, or is to be read back. `is_there` says whether a map has
    /// the key, since a second one under the same name would be added silently.
    #[must_use]
    pub fn command(&self, value: &str, is_there: bool) -> String {
        match self {
            Knob::ServerLimit { proxy, server } => {
                // Unlimited reads as nothing and is written as 0.
                let limit = if value.is_empty() { "0" } else { value };
                format!("set maxconn server {proxy}/{server} {limit}")
            }
            Knob::GlobalLimit => format!("set maxconn global {value}"),
            Knob::FrontendLimit { frontend } => format!("set maxconn frontend {frontend} {value}"),
            Knob::ConnectionRate => format!("set rate-limit connections global {value}"),
            Knob::ServerState { proxy, server } => {
                let state = if value == "0" { "ready" } else { "drain" };
                format!("set server {proxy}/{server} state {state}")
            }
            Knob::Lease { table, key } if value.is_empty() => format!("clear table {table} key {key}"),
            Knob::Lease { table, key } => format!("set table {table} key {key} data.gpc0 {value}"),
            Knob::Map { file, key } if value.is_empty() => format!("del map {file} {key}"),
            Knob::Map { file, key } if is_there => format!("set map {file} {key} {value}"),
            Knob::Map { file, key } => format!("add map {file} {key} {value}"),
        }
    }
}

impl Knob {
    /// How much a value holds back, among those of this knob.
    #[must_use]
    pub fn strictness(&self, value: &str) -> Option<f64> {
        let number = || if value.is_empty() { Some(0.0) } else { value.parse::<f64>().ok() };
        match self {
            Knob::ServerLimit { .. } | Knob::GlobalLimit | Knob::FrontendLimit { .. } | Knob::ConnectionRate => {
                number().map(|limit| if limit == 0.0 { f64::NEG_INFINITY } else { -limit })
            }
            Knob::Lease { .. } | Knob::Map { .. } => number(),
            // In maintenance it gets not even what sticks to it.
            Knob::ServerState { .. } => {
                value.parse::<u32>().ok().map(|bits| f64::from(u8::from(bits != 0) + u8::from(bits & !DRAIN != 0)))
            }
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Knob::ServerLimit { proxy, server } => write!(f, "server {proxy}/{server} maxconn"),
            Knob::GlobalLimit => f.write_str("global maxconn"),
            Knob::FrontendLimit { frontend } => write!(f, "frontend {frontend} maxconn"),
            Knob::ConnectionRate => f.write_str("global connection rate"),
            Knob::ServerState { proxy, server } => write!(f, "server {proxy}/{server} state"),
            Knob::Lease { table, key } => write!(f, "lease {table} {key}"),
            Knob::Map { file, key } => write!(f, "map {file} {key}"),
        }
    }
}

/// HAProxy's own alphabet for names; anything else could smuggle a second command into a line.
pub fn plain(name: &str) -> Option<String> {
    (!name.is_empty() && name.chars().all(is_plain)).then(|| name.to_owned())
}

/// The path of a map as `haproxy.cfg` writes it.
pub fn plain_file(name: &str) -> Option<String> {
    (!name.is_empty() && name.chars().all(|c| is_plain(c) || c == '/')).then(|| name.to_owned())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knobs_survive_the_journal() {
        for text in [
            "server be/s1 maxconn",
            "global maxconn",
            "global connection rate",
            "frontend web maxconn",
            "server be/s1 state",
            "lease ng_lease web",
            "map /etc/haproxy/ng.map web",
        ] {
            assert_eq!(Knob::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn unlimited_is_written_as_zero() {
        let command = |knob: &str, value| Knob::parse(knob).unwrap().command(value, true);
        assert_eq!(command("server be/s1 maxconn", ""), "set maxconn server be/s1 0");
        assert_eq!(command("lease t web", ""), "clear table t key web");
    }

    #[test]
    fn what_holds_more_back_is_stricter() {
        let stricter = |knob: &str, strict: &str, loose: &str| {
            let strictness = |value| Knob::parse(knob).unwrap().strictness(value).unwrap();
            assert!(strictness(strict) > strictness(loose), "{knob}: {strict} is stricter than {loose}");
        };
        stricter("server be/s1 maxconn", "50", "100");
        stricter("server be/s1 maxconn", "100", "");
        stricter("global connection rate", "100", "0");
        stricter("lease t web", "80", "25");
        stricter("lease t web", "25", "");
        stricter("server be/s1 state", "8", "0");
        stricter("server be/s1 state", "1", "8");
        assert_eq!(Knob::parse("map /m web").unwrap().strictness("x"), None);
    }

    #[test]
    fn a_key_of_a_map_is_added_once() {
        let knob = Knob::parse("map /m web").unwrap();
        assert_eq!(knob.command("50", false), "add map /m web 50");
        assert_eq!(knob.command("50", true), "set map /m web 50");
        assert_eq!(knob.command("", true), "del map /m web");
    }

    #[test]
    fn no_name_can_carry_a_second_command() {
        assert_eq!(Knob::parse("server be/s1;shutdown maxconn"), None);
        assert_eq!(Knob::parse("lease t web\nquit"), None);
        assert_eq!(Knob::parse("map /m;quit web"), None);
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
