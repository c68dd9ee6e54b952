//! An operator who sets a value at the worst moments: before each single message of what is done and of what is undone. Only
//! between the last look and the write, one message apart, can nobody see it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use node_guardian::control::address::Address;
use node_guardian::control::target::Target;
use node_guardian::policy::mitigation::{Amount, Verb};
use tempfile::TempDir;

use super::support::desk::Desk;
use super::support::haproxy::Haproxy;
use super::support::memcached::Memcached;
use super::support::proxy::{self, Passing, Protocol, Verdict, Way};
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);
/// More than any of them takes.
const MOST_MESSAGES: usize = 80;

/// Sets a value before a request that is still to come.
#[derive(Default)]
struct Plan {
    /// So many requests pass before.
    after: Option<usize>,
    /// Or one that says this.
    at: Option<&'static str>,
    words: String,
    /// The request that it came before.
    struck: Option<String>,
}

#[derive(Clone)]
struct Operator {
    socket: PathBuf,
    plan: Arc<Mutex<Plan>>,
}

impl Operator {
    /// Stands between the guardian and this socket.
    fn between(folder: &TempDir, socket: PathBuf, protocol: Protocol) -> (Self, PathBuf) {
        let (front, operator) = (folder.path().join("front.sock"), Self { socket, plan: Arc::default() });
        let own = operator.clone();
        proxy::start(&front, &operator.socket, protocol, move |passing| own.saw(passing));
        (operator, front)
    }

    fn saw(&self, passing: &Passing<'_>) -> Verdict {
        let mut plan = self.plan.lock().unwrap();
        let is_due = plan.struck.is_none() && (plan.after == Some(0) || plan.at.is_some_and(|text| passing.says(text)));
        if passing.way == Way::Request && is_due {
            say(&self.socket, &plan.words);
            plan.struck = Some(String::from_utf8_lossy(passing.bytes).into_owned());
        } else if passing.way == Way::Request {
            plan.after = plan.after.map(|after| after.saturating_sub(1));
        }
        Verdict::Pass
    }

    fn will(&self, after: Option<usize>, at: Option<&'static str>, words: String) {
        *self.plan.lock().unwrap() = Plan { after, at, words, struck: None };
    }

    fn struck(&self) -> Option<String> {
        std::mem::take(&mut *self.plan.lock().unwrap()).struck
    }
}

/// Each line is answered by one.
fn say(socket: &Path, words: &str) {
    let mut stream = BufReader::new(UnixStream::connect(socket).unwrap());
    stream.get_mut().write_all(words.as_bytes()).unwrap();
    words.lines().for_each(|_| {
        stream.read_line(&mut String::new()).unwrap();
    });
}

/// What is guarded, and what the operator says to it.
struct Subject<'a> {
    target: Target,
    verb: Verb,
    operator: Operator,
    base: &'a dyn Fn(),
    live: &'a dyn Fn() -> String,
    value: fn(usize) -> String,
    words: fn(&str) -> String,
    /// What the requests say that set the value, and how many of them there are.
    sets: (&'static str, usize),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Apply,
    Undo,
}

fn sweep(subject: &Subject<'_>) {
    for phase in [Phase::Apply, Phase::Undo] {
        let mut desk = Desk::new(&[("it", subject.target.clone())]);
        desk.view("it", "usable");
        let lost = lost(subject, &mut desk, phase);
        let (says, most) = subject.sets;
        let is_write = |request: &String| request.contains(says);
        assert!(lost.len() <= most && lost.iter().all(is_write), "{phase:?}: overwritten before {lost:?}");
    }
}

/// Before which requests what the operator sets does not survive.
fn lost(subject: &Subject<'_>, desk: &mut Desk, phase: Phase) -> Vec<String> {
    let mut lost = Vec::new();
    for at in 0..MOST_MESSAGES {
        let (id, value) = (at as u64 + 1, (subject.value)(at));
        let plan = || subject.operator.will(Some(at), None, (subject.words)(&value));
        (subject.base)();
        if phase == Phase::Apply {
            plan();
        }
        desk.apply(id, "it", subject.verb, HALF);
        let struck = if phase == Phase::Apply { subject.operator.struck() } else { None };
        if phase == Phase::Undo {
            plan();
        }
        desk.undo(id);
        let struck = if phase == Phase::Undo { subject.operator.struck() } else { struck };
        desk.undo(id);
        assert!(desk.journaled().is_empty(), "{phase:?} {at}");
        let Some(request) = struck else { return lost };
        if (subject.live)() != value {
            lost.push(format!("{at}: {request:?}"));
        }
    }
    panic!("{phase:?} takes more than {MOST_MESSAGES} messages");
}

#[test]
fn before_each_message_to_haproxy() {
    let (server, folder) = (Haproxy::start(), tempfile::tempdir().unwrap());
    let (operator, front) = Operator::between(&folder, server.path("admin.sock"), Protocol::Haproxy);
    let target = Target::Haproxy(node_guardian::control::target::Haproxy { socket: front, ..server.target() });
    sweep(&Subject {
        target,
        verb: Verb::Throttle,
        operator,
        base: &|| {
            server.ask("set maxconn server be/s1 1000");
        },
        live: &|| server.limit("be/s1"),
        value: |at| (1200 + at).to_string(),
        words: |value| format!("set maxconn server be/s1 {value}\n"),
        sets: ("set maxconn server be/s1", 1),
    });
}

#[test]
fn before_each_message_to_redis() {
    let (server, folder) = (Redis::start(), tempfile::tempdir().unwrap());
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let (operator, front) = Operator::between(&folder, server.path("redis.sock"), Protocol::Redis);
    let address = Address::Unix(front);
    sweep(&Subject {
        target: Target::Redis(node_guardian::control::target::Redis { address, ..server.target() }),
        verb: Verb::Shrink,
        operator,
        base: &|| {
            server.ask(&["CONFIG", "SET", "maxmemory", "104857600"]);
        },
        live: &|| server.setting("maxmemory"),
        value: |at| ((120 + at) << 20).to_string(),
        words: |value| format!("AUTH admin root\r\nCONFIG SET maxmemory {value}\r\n"),
        sets: ("SET", 1),
    });
}

#[test]
fn before_each_message_to_memcached() {
    let (server, folder) = (Memcached::start(), tempfile::tempdir().unwrap());
    let (operator, front) = Operator::between(&folder, server.path("memcached.sock"), Protocol::Memcached);
    let address = Address::Unix(front);
    sweep(&Subject {
        target: Target::Memcached(node_guardian::control::target::Memcached { address, ..server.target() }),
        verb: Verb::Shrink,
        operator,
        base: &|| say(&server.path("memcached.sock"), "cache_memlimit 64\r\n"),
        live: &|| (server.limit() >> 20).to_string(),
        value: |at| (100 + at).to_string(),
        words: |value| format!("cache_memlimit {value}\r\n"),
        // Whether it may be set at all only shows when it is set, to what it is.
        sets: ("cache_memlimit", 2),
    });
}

/// The last of a hundred servers is written some hundred messages after the first.
#[test]
fn of_many_servers_each_is_looked_at_shortly_before() {
    let (server, folder) = (Haproxy::with_servers(100), tempfile::tempdir().unwrap());
    let (operator, front) = Operator::between(&folder, server.path("admin.sock"), Protocol::Haproxy);
    let backends = vec!["many".to_owned()];
    let target = node_guardian::control::target::Haproxy { socket: front, backends, ..server.target() };
    let mut desk = Desk::new(&[("it", Target::Haproxy(target))]);
    desk.view("it", "usable");
    let strike = || {
        let words = "set maxconn server many/s100 77\n".to_owned();
        operator.will(None, Some("set maxconn server many/s1 "), words);
    };
    let limits = || [server.limit("many/s1"), server.limit("many/s100")];
    strike();
    let report = desk.apply(1, "it", Verb::Throttle, HALF);
    assert!(operator.struck().is_some() && report.detail.contains("many/s100"), "{report:?}");
    assert_eq!(limits(), ["50", "77"], "{report:?}");
    desk.undo(1);
    assert_eq!(limits(), ["100", "77"]);
    server.ask("set maxconn server many/s100 100");
    desk.apply(2, "it", Verb::Throttle, HALF);
    strike();
    let report = desk.undo(2);
    assert!(operator.struck().is_some() && report.detail.contains("many/s100"), "{report:?}");
    assert_eq!(limits(), ["100", "77"], "{report:?}");
    assert!(desk.journaled().is_empty());
}
