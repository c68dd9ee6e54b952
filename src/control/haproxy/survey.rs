//! What a verb would change at HAProxy, from what is there now: prior values and the ones we will write. Pure.

use super::knob::{ADMIN_BITS, DRAIN, Knob};
use super::rows::Server;
use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

/// What one step can set, and the journal can keep: some 900 servers. Five times that is held while it is captured, recorded and
/// made, beside the rows that were read.
const MOST_BYTES: usize = 144 << 10;

/// What remains of a limit; at least 1, because 0 means unlimited.
#[must_use]
pub fn scaled(prior: &str, kept_percent: f64) -> Option<String> {
    let prior: u64 = prior.parse().ok()?;
    let kept = (prior as f64 * kept_percent.clamp(0.0, 100.0) / 100.0).round() as u64;
    Some(kept.max(1).to_string())
}

/// The limits of those servers that have one; where none has, the process's own limit.
#[must_use]
pub fn throttle<'r>(servers: impl Iterator<Item = Server<'r>>, global: &str, kept_percent: f64) -> Vec<Change> {
    throttle_servers(servers, kept_percent)
        .unwrap_or_else(|| taken(&Knob::GlobalLimit, global, scaled(global, kept_percent)).into_iter().collect())
}

/// `None` where no server has a limit: then there is nothing that a share could be taken of.
#[must_use]
pub fn throttle_servers<'r>(servers: impl Iterator<Item = Server<'r>>, kept_percent: f64) -> Option<Vec<Change>> {
    let mut limited = servers.filter(|row| !row.limit.is_empty() && row.limit != "0").peekable();
    limited.peek()?;
    let lowered = |row: Server<'_>| {
        let knob = Knob::ServerLimit { proxy: row.proxy.to_owned(), server: row.server.to_owned() };
        taken(&knob, row.limit, scaled(row.limit, kept_percent))
    };
    Some(gathered(limited.filter_map(lowered)))
}

#[must_use]
pub fn throttle_frontends<'r>(frontends: impl Iterator<Item = (&'r str, &'r str)>, kept_percent: f64) -> Vec<Change> {
    let lowered = |(name, limit): (&str, &str)| {
        taken(&Knob::FrontendLimit { frontend: name.to_owned() }, limit, scaled(limit, kept_percent))
    };
    gathered(frontends.filter_map(lowered))
}

/// The share of what is normal, unless a stricter limit is there already. At least 1, because 0 means unlimited.
#[must_use]
pub fn rate(prior: &str, normal: u32, kept_percent: f64) -> String {
    let wanted = ((f64::from(normal) * kept_percent / 100.0).round() as u64).max(1);
    match prior.parse::<u64>() {
        Ok(prior) if prior != 0 && prior < wanted => prior.to_string(),
        Ok(_) | Err(_) => wanted.to_string(),
    }
}

/// Only servers that are in service: who is in maintenance stays there.
#[must_use]
pub fn drain<'r>(servers: impl Iterator<Item = (&'r str, &'r str, u32)>) -> Vec<Change> {
    let drained = |(proxy, server, _): (&str, &str, u32)| {
        let knob = Knob::ServerState { proxy: proxy.to_owned(), server: server.to_owned() };
        change(&knob, "0", Some(DRAIN.to_string()))
    };
    gathered(servers.filter(|(_, _, state)| state & ADMIN_BITS == 0).filter_map(drained))
}

/// Where these are too many, none is made: no more are gathered than show it, since a row is a few bytes, and a change of it a
/// hundred and fifty.
fn gathered(changes: impl Iterator<Item = Change>) -> Vec<Change> {
    let (mut gathered, mut bytes) = (Vec::new(), 0);
    for change in changes {
        bytes += bytes_of(&change);
        gathered.push(change);
        if bytes > MOST_BYTES {
            break;
        }
    }
    gathered.shrink_to_fit();
    gathered
}

fn bytes_of(change: &Change) -> usize {
    size_of::<Change>() + size_of::<String>() + change.key.len() + change.prior.len() + change.wanted().len()
}

pub fn not_too_many(changes: Vec<Change>) -> Result<Vec<Change>, Failure> {
    if changes.iter().map(bytes_of).sum::<usize>() <= MOST_BYTES {
        return Ok(changes);
    }
    Err(Failure::unsupported(
        "HAProxy has more servers that this would set than can be set at once, which is some 900: name fewer `backends`",
    ))
}

/// Percent of requests to refuse at once.
pub fn shed_percent(amount: Amount) -> Result<String, Failure> {
    match amount {
        Amount::Whole => Ok("100".to_owned()),
        Amount::Keep(kept) => Ok(format!("{:.0}", (100.0 - kept).clamp(0.0, 100.0))),
        Amount::Bytes(_) => {
            Err(Failure::unsupported("HAProxy sheds a share of the requests: write it as a percentage"))
        }
    }
}

pub fn kept_percent(amount: Amount) -> Result<f64, Failure> {
    amount.kept_percent().ok_or_else(|| {
        Failure::unsupported("HAProxy is throttled to a share of its limits: write `to` as a percentage, such as 50%")
    })
}

/// What stays as it is for now is taken too: 3 of 3 remain at 90 %, and when that becomes 20 % it is to be 1. Nothing
/// where all of it stays.
#[must_use]
pub fn unless_all_stay(changes: Vec<Change>) -> Vec<Change> {
    if changes.iter().all(|change| change.prior == change.wanted()) { Vec::new() } else { changes }
}

pub fn taken(knob: &Knob, prior: &str, ours: Option<String>) -> Option<Change> {
    Some(Change::new(knob.to_string(), prior, vec![ours?]))
}

/// `None` where nothing would change.
pub fn change(knob: &Knob, prior: &str, ours: Option<String>) -> Option<Change> {
    let ours = ours.filter(|ours| ours != prior)?;
    Some(Change::new(knob.to_string(), prior, vec![ours]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server<'r>(name: &'r str, limit: &'r str) -> Server<'r> {
        Server { proxy: "be", server: name, limit }
    }

    fn told(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| format!("{} {}>{}", change.key, change.prior, change.wanted())).collect()
    }

    #[test]
    fn limits_of_servers_come_before_the_limit_of_the_process() {
        let changes = throttle([server("s1", "100"), server("s2", ""), server("s3", "3")].into_iter(), "2000", 50.0);
        assert_eq!(told(&changes), ["server be/s1 maxconn 100>50", "server be/s3 maxconn 3>2"]);
        let changes = throttle([server("s2", "")].into_iter(), "2000", 10.0);
        assert_eq!(told(&changes), ["global maxconn 2000>200"]);
        assert_eq!(throttle_servers([server("s2", "")].into_iter(), 10.0), None);
    }

    #[test]
    fn no_more_changes_are_gathered_than_it_takes_to_refuse_them() {
        let changes = throttle((0..50_000).map(|_| server("s", "9")), "9", 50.0);
        assert!((850..1100).contains(&changes.len()), "{}", changes.len());
        assert!(not_too_many(changes).unwrap_err().detail.contains("name fewer `backends`"));
        assert!(drain((0..50_000).map(|_| ("be", "s", 0))).len() < 1100);
        assert!(throttle_frontends((0..50_000).map(|_| ("web", "9")), 50.0).len() < 1100);
        let name = "s".repeat(200);
        let long = throttle((0..50_000).map(|_| server(&name, "9")), "9", 50.0);
        assert!(long.len() < 500 && not_too_many(long).is_err(), "what counts is what they take");
        assert!(not_too_many(throttle((0..850).map(|_| server("s", "9")), "9", 50.0)).is_ok());
    }

    #[test]
    fn a_limit_never_becomes_zero() {
        assert_eq!(scaled("3", 0.0).unwrap(), "1");
        assert_eq!(unless_all_stay(throttle([server("s1", "1")].into_iter(), "9", 20.0)), []);
        assert_eq!(unless_all_stay(throttle([server("s1", "100")].into_iter(), "9", 100.0)), []);
    }

    #[test]
    fn what_a_share_does_not_lower_yet_is_there_for_a_stronger_one() {
        let changes = unless_all_stay(throttle([server("s1", "100"), server("s2", "3")].into_iter(), "2000", 90.0));
        assert_eq!(told(&changes), ["server be/s1 maxconn 100>90", "server be/s2 maxconn 3>3"]);
    }

    #[test]
    fn a_rate_is_limited_to_a_share_of_what_is_normal() {
        assert_eq!((rate("0", 1000, 50.0), rate("800", 1000, 50.0)), ("500".into(), "500".into()));
        assert_eq!(rate("300", 1000, 50.0), "300", "a stricter limit stays");
        assert_eq!(rate("0", 1, 10.0), "1");
        let named = [("web", "200")];
        assert_eq!(told(&throttle_frontends(named.into_iter(), 25.0)), ["frontend web maxconn 200>50"]);
    }

    #[test]
    fn servers_in_maintenance_are_not_drained() {
        let servers = [("be", "s1", 0), ("be", "s2", 1), ("be", "s3", 32)];
        assert_eq!(told(&drain(servers.into_iter())), ["server be/s1 state 0>8", "server be/s3 state 0>8"]);
    }

    #[test]
    fn shedding_a_quarter_keeps_the_rest() {
        assert_eq!(shed_percent(Amount::Keep(75.0)).unwrap(), "25");
        assert_eq!(shed_percent(Amount::Whole).unwrap(), "100");
    }
}
