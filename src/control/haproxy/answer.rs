//! HAProxy's answers to values. Pure and total: whatever a socket says, this returns.

use std::time::Duration;

use crate::control::said::clip;

/// The part of `show info` that is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    pub version: String,
    pub pid: String,
    /// Seconds since 1970; empty on versions that do not tell.
    pub start: String,
    pub maxconn: String,
    /// New connections a second, 0 when unlimited; empty on versions that do not tell.
    pub connection_rate: String,
}

/// What a stick table or a map holds for one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lease {
    NoTable,
    Absent,
    Held(String),
    /// An answer that tells neither.
    Untold,
}

/// `None` where this is not HAProxy.
#[must_use]
pub fn info(answer: &str) -> Option<Info> {
    let field = |name: &str| {
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
    };
    if field("Name")? != "HAProxy" {
        return None;
    }
    Some(Info {
        version: clip(&field("Version")?),
        pid: field("Pid")?,
        start: field("Start_time_sec").unwrap_or_default(),
        maxconn: field("Maxconn")?,
        connection_rate: field("ConnRateLimit").unwrap_or_default(),
    })
}

/// `show table T key K`, where `field` is `gpc0`.
#[must_use]
pub fn lease(answer: &str, field: &str) -> Lease {
    if answer.starts_with("No such table") {
        return Lease::NoTable;
    }
    if answer.is_empty() {
        return Lease::Absent;
    }
    let value =
        |line: &str| line.split(' ').find_map(|cell| cell.strip_prefix(field)?.strip_prefix('=')).map(str::to_owned);
    answer.lines().filter(|line| !line.starts_with('#')).find_map(value).map_or(Lease::Untold, Lease::Held)
}

/// How long that lease lasts if it is not renewed.
#[must_use]
pub fn lease_left(answer: &str) -> Option<Duration> {
    let entries = answer.lines().filter(|line| !line.starts_with('#'));
    let left = entries.flat_map(|line| line.split(' ')).find_map(|cell| cell.strip_prefix("exp="))?;
    left.parse().ok().map(Duration::from_millis)
}

/// `get map FILE KEY`: a map holds a key or not, or there is no such map, as a table does. Where the configuration uses
/// one file in several ways, there is a line for each, which all tell of one entry.
#[must_use]
pub fn entry(answer: &str) -> Lease {
    let answer = answer.lines().next().unwrap_or_default();
    if answer.starts_with("Unknown map identifier") {
        return Lease::NoTable;
    }
    if answer.ends_with("found=no") {
        return Lease::Absent;
    }
    let value = answer.split_once("value=\"").and_then(|(_, rest)| rest.rsplit_once("\", type="));
    value.map_or(Lease::Untold, |(value, _)| Lease::Held(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_version_2_6_answers() {
        let answer = "Name: HAProxy\nVersion: 2.6.12-1\nPid: 7\nMaxconn: 200\nHard_maxconn: 200\nStart_time_sec: 17\n";
        let info = info(answer).unwrap();
        assert_eq!((info.pid.as_str(), info.start.as_str(), info.maxconn.as_str()), ("7", "17", "200"));
    }

    #[test]
    fn what_is_missing_is_never_read_as_a_value() {
        assert_eq!(lease("Permission denied", "gpc0"), Lease::Untold);
        assert_eq!(lease("# table: t, type: string\n0x1: key=web use=0 exp=1 conn_cnt=3", "gpc0"), Lease::Untold);
    }

    #[test]
    fn a_lease_is_held_absent_or_has_no_table() {
        let held = "# table: ng_lease, type: string, size:64, used:1\n0x5622: key=web use=0 exp=29998 gpc0=5\n";
        assert_eq!(lease(held, "gpc0"), Lease::Held("5".into()));
        assert_eq!((lease_left(held), lease_left("")), (Some(Duration::from_millis(29_998)), None));
        assert_eq!(lease("", "gpc0"), Lease::Absent);
        assert_eq!(lease("No such table\n", "gpc0"), Lease::NoTable);
    }

    #[test]
    fn a_map_has_a_key_or_not() {
        let held = "type=str, case=sensitive, found=yes, idx=tree, key=\"web\", value=\"50\", type=\"sint\"";
        assert_eq!(entry(held), Lease::Held("50".into()));
        assert_eq!(entry("type=str, case=sensitive, found=no"), Lease::Absent);
        assert_eq!(entry("Unknown map identifier. Please use #<id> or <file>."), Lease::NoTable);
        for answer in ["", "type=str, found=yes", "Permission denied"] {
            assert_eq!(entry(answer), Lease::Untold, "{answer}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in "(?s).{0,400}") {
            let parsed = (info(&answer), lease(&answer, "gpc0"), entry(&answer), lease_left(&answer));
            let size = format!("{parsed:?}").len();
            prop_assert!(size < 100 * (answer.len() + 100));
        }
    }
}
