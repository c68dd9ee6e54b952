//! HAProxy's answers to values. Pure and total: whatever a socket says, this returns.

use std::time::Duration;

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

/// A server of a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub proxy: String,
    pub server: String,
    /// Limit of concurrent connections, empty when unlimited.
    pub limit: String,
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
        version: field("Version")?,
        pid: field("Pid")?,
        start: field("Start_time_sec").unwrap_or_default(),
        maxconn: field("Maxconn")?,
        connection_rate: field("ConnRateLimit").unwrap_or_default(),
    })
}

/// The servers among the rows of `show stat`, by the names in its header. `None` where a row cannot be read: a value that
/// is missing must never pass for one that somebody took away.
#[must_use]
pub fn servers(answer: &str) -> Option<Vec<Server>> {
    let rows = rows(answer, ["pxname", "svname", "slim"])?;
    let is_server = |row: &[&str; 3]| row[1] != "FRONTEND" && row[1] != "BACKEND";
    let server = |[proxy, server, limit]: [&str; 3]| Server {
        proxy: proxy.to_owned(),
        server: server.to_owned(),
        limit: limit.to_owned(),
    };
    Some(rows.into_iter().filter(is_server).map(server).collect())
}

/// Each frontend and its limit of concurrent connections.
#[must_use]
pub fn frontends(answer: &str) -> Option<Vec<(String, String)>> {
    let rows = rows(answer, ["pxname", "svname", "slim"])?;
    let frontend = |row: [&str; 3]| (row[0].to_owned(), row[2].to_owned());
    Some(rows.into_iter().filter(|row| row[1] == "FRONTEND").map(frontend).collect())
}

/// Of these frontends, or of all: sessions now, and requests or connections since the start. The CLI's own are none of them.
#[must_use]
pub fn traffic(answer: &str, frontends: &[String]) -> Option<(u64, u64)> {
    let rows = table(answer.lines(), ',', ["pxname", "svname", "scur", "stot", "req_tot"])?;
    let number = |cell: &str| if cell.is_empty() { Some(0) } else { cell.parse::<u64>().ok() };
    let is_meant = |row: &&[&str; 5]| {
        row[1] == "FRONTEND" && (frontends.is_empty() || frontends.iter().any(|name| name == row[0]))
    };
    rows.iter().filter(is_meant).try_fold((0, 0), |(sessions, came), row| {
        Some((sessions + number(row[2])?, came + number(row[3])?.max(number(row[4])?)))
    })
}

#[must_use]
pub fn backends(answer: &str) -> Option<Vec<String>> {
    let rows = rows(answer, ["pxname", "svname"])?;
    Some(rows.into_iter().filter(|row| row[1] == "BACKEND").map(|row| row[0].to_owned()).collect())
}

/// The columns wanted are all before the first that HAProxy would quote.
fn rows<'a, const N: usize>(answer: &'a str, names: [&str; N]) -> Option<Vec<[&'a str; N]>> {
    table(answer.lines(), ',', names)
}

/// Cells by the names in the header; whole or not at all.
pub(super) fn table<'a, const N: usize>(
    mut lines: impl Iterator<Item = &'a str>,
    separator: char,
    names: [&str; N],
) -> Option<Vec<[&'a str; N]>> {
    let header = lines.next()?.strip_prefix("# ")?;
    let mut columns = [0; N];
    for (column, name) in columns.iter_mut().zip(names) {
        *column = header.split(separator).position(|title| title == name)?;
    }
    let row = |line: &'a str| {
        let mut row = [""; N];
        for (cell, &column) in row.iter_mut().zip(&columns) {
            *cell = line.split(separator).nth(column)?;
        }
        Some(row)
    };
    lines.filter(|line| !line.is_empty()).map(row).collect()
}

/// `show servers state`: backend, server, and why it takes no traffic, as a bit mask. `None` where it tells of no server.
#[must_use]
pub fn admin_states(answer: &str) -> Option<Vec<(String, String, u32)>> {
    let mut lines = answer.lines();
    // The version of the format, which names its columns.
    lines.next()?.parse::<u32>().ok()?;
    let state = |[proxy, server, state]: [&str; 3]| Some((proxy.to_owned(), server.to_owned(), state.parse().ok()?));
    let rows = table(lines, ' ', ["be_name", "srv_name", "srv_admin_state"])?;
    let states: Vec<_> = rows.into_iter().map(state).collect::<Option<_>>()?;
    (!states.is_empty()).then_some(states)
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
        let stat = "# pxname,svname,qcur,qmax,scur,smax,slim,stot\nweb,FRONTEND,,,0,0,200,0\nbe,s1,0,0,0,0,100,0\n\
                    be,s2,0,0,0,0,,0\nbe,BACKEND,0,0,0,0,20,0";
        let limits: Vec<_> = servers(stat).unwrap().into_iter().map(|row| (row.server, row.limit)).collect();
        assert_eq!(limits, [("s1".into(), "100".into()), ("s2".into(), String::new())]);
        assert_eq!(frontends(stat).unwrap(), [("web".into(), "200".into())]);
        let state = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n\
                     3 be 1 s1 127.0.0.1 2 8 1 1\n";
        assert_eq!(admin_states(state).unwrap(), [("be".into(), "s1".into(), 8)]);
    }

    #[test]
    fn what_is_missing_is_never_read_as_a_value() {
        let header = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n";
        for answer in ["", "1\n", "Permission denied\n", "1\n3 be 1 s1 127.0.0.1 2 8 1 1\n", header] {
            assert_eq!(admin_states(answer), None, "{answer:?}");
        }
        assert_eq!(admin_states(&format!("{header}3 be 1 s1 127.0.0.1\n")), None);
        assert_eq!(servers("# pxname,svname,qcur,qmax,scur,smax,slim,stot\nbe,s1,0\n"), None);
        assert_eq!(lease("Permission denied", "gpc0"), Lease::Untold);
        assert_eq!(lease("# table: t, type: string\n0x1: key=web use=0 exp=1 conn_cnt=3", "gpc0"), Lease::Untold);
    }

    #[test]
    fn traffic_is_of_the_frontends_that_are_meant() {
        let stat = "# pxname,svname,scur,stot,req_tot\nweb,FRONTEND,2,10,70\ntcp,FRONTEND,1,5,\nbe,BACKEND,9,9,9\n";
        assert_eq!(traffic(stat, &[]), Some((3, 75)));
        assert_eq!(traffic(stat, &["tcp".to_owned()]), Some((1, 5)));
        assert_eq!(traffic("# pxname,svname,scur,stot,req_tot\nweb,FRONTEND,x,10,70\n", &[]), None);
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
        fn any_answer_is_survived(answer in "(?s).{0,400}", header in "# pxname,svname,slim\n(.{0,40}\n){0,5}") {
            for text in [&answer, &header] {
                let parsed = (info(text), servers(text), frontends(text), admin_states(text), lease(text, "gpc0"), entry(text), lease_left(text));
                let size = format!("{parsed:?}").len();
                prop_assert!(size < 100 * (text.len() + 100));
            }
        }
    }
}
