//! What Varnish's manager tells: a parameter, its processes, and which life of it that is. Parameters outlive a restart of
//! the child, not of the manager.

use super::session::{AUTHENTICATE, OK, PARAMETER, Session, complaint};
use crate::control::boot_id;
use crate::control::failure::Failure;
use crate::control::resident;

/// A parameter as Varnish writes it, and takes it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    pub value: String,
    pub minimum: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Processes {
    /// Which life of the manager this is: boot, pid, and when it started where that can be seen.
    pub epoch: String,
    /// The child, which holds the cache; none while it does not run.
    pub child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    pub pid: u32,
    /// It is the one of that number here.
    pub is_seen: bool,
}

/// What stands for a start that cannot be seen.
const UNSEEN: &str = "?";
const CANNOT_BE: &str = "probe";

impl Param {
    pub fn seconds(&self) -> Option<f64> {
        self.value.parse().ok()
    }
}

impl Child {
    pub fn resident(self) -> Option<u64> {
        if self.is_seen { resident::bytes(self.pid) } else { None }
    }
}

pub async fn show(session: &mut Session, name: &str) -> Result<Param, Failure> {
    let reply = session.order(&format!("param.show {name}")).await?;
    parse(&reply).ok_or_else(|| Failure::unsupported(format!("Varnish does not report its {name}")))
}

pub async fn set(session: &mut Session, name: &str, value: &str) -> Result<(), Failure> {
    let is_plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    if !is_plain {
        return Err(Failure::unsupported(format!("`{value}` cannot be a value of Varnish's {name}")));
    }
    session.order(&format!("param.set {name} {value}")).await.map(|_| ())
}

/// Whether it may be set, and so set back: asked with a value that Varnish cannot accept.
pub async fn may_set(session: &mut Session, name: &str) -> Result<(), Failure> {
    let command = format!("param.set {name} {CANNOT_BE}");
    let reply = session.ask(&command).await?;
    match reply.status {
        OK | PARAMETER => Ok(()),
        AUTHENTICATE => Err(Failure::refused(format!(
            "varnishd was started with `-r {name}`, which protects that parameter: take it out of the list"
        ))),
        _ => Err(complaint(&command, &reply)),
    }
}

pub async fn processes(session: &mut Session) -> Result<Processes, Failure> {
    let reply = session.ask("pid").await?;
    if reply.status != OK {
        return Err(complaint("pid", &reply));
    }
    let pid = |name: &str| reply.text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
    let manager = pid("Master:").ok_or_else(|| Failure::unsupported("Varnish does not report its pid"))?;
    // The pid may be one of another container.
    let life = resident::life(manager).filter(|life| session.is_here() && life.name == "varnishd");
    let is_child = |pid: u32| life.is_some() && resident::life(pid).is_some_and(|life| life.parent == manager);
    let child = pid("Worker:").map(|pid| Child { pid, is_seen: is_child(pid) });
    let boot = if session.is_here() { boot_id() } else { "" };
    let started = life.map_or_else(|| UNSEEN.to_owned(), |life| life.started_ticks.to_string());
    Ok(Processes { epoch: format!("{boot}:{manager}:{started}"), child })
}

/// Whether both name one life. A start that could not be seen once is no other one.
pub fn is_same_life(then: &str, now: &str) -> bool {
    let parts = |epoch: &str| epoch.rsplit_once(':').map(|(whose, start)| (whose.to_owned(), start.to_owned()));
    match (parts(then), parts(now)) {
        (Some((whose, start)), Some((whose_now, start_now))) => {
            whose == whose_now && (start == start_now || start == UNSEEN || start_now == UNSEEN)
        }
        (_, _) => false,
    }
}

/// `Value is: 60.000 [seconds] (default)` and `Minimum is: 0.000` below the name.
fn parse(text: &str) -> Option<Param> {
    let after = |title: &str| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(title))?;
        Some(line.split_whitespace().next()?.to_owned())
    };
    Some(Param { value: after("Value is:")?, minimum: after("Minimum is:") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_as_it_is_written() {
        let text = "ban_lurker_age\n        Value is: 60.000 [seconds] (default)\n        Minimum is: 0.000\n\n  The \
                    ban lurker";
        assert_eq!(parse(text), Some(Param { value: "60.000".into(), minimum: Some("0.000".into()) }));
        assert_eq!(parse("Unknown parameter"), None);
    }

    #[test]
    fn a_life_whose_start_was_not_seen_is_told_by_its_pid() {
        for (then, now, same) in [
            ("boot:7:100", "boot:7:100", true),
            ("boot:7:100", "boot:7:200", false),
            ("boot:7:100", "boot:8:100", false),
            ("boot:7:100", "later:7:100", false),
            ("boot:7:?", "boot:7:100", true),
            ("boot:7:100", "boot:7:?", true),
            (":7:?", ":7:?", true),
            ("", "boot:7:?", false),
        ] {
            assert_eq!(is_same_life(then, now), same, "{then} {now}");
        }
    }
}
