//! How it ends: orderly, in spite of a server that does not answer, and at once.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::journal::Journal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::redis::Redis;

const STEPS: &str =
    r#"{ throttle = "edge", to = "25%", settle = "100ms" }, { shrink = "cache", to = "64MiB", settle = "100ms" }"#;

fn in_an_emergency(edge: &Haproxy, cache: &Redis) -> (Node, Daemon) {
    let node = Node::new(
        &(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &short_of_memory(STEPS)),
    );
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%", "shrink cache to 64.0MiB"]);
    assert_eq!((edge.limit("be/s1").as_str(), cache.face().as_str()), ("2", "67108864 allkeys-lru"));
    (node, daemon)
}

fn in_the_journal(node: &Node) -> Vec<String> {
    let entries = Journal::peek(&node.path("state")).unwrap();
    entries.iter().map(|entry| entry.mitigation.to_string()).collect()
}

#[test]
fn a_stop_in_the_middle_of_an_emergency_restores_everything_first() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (node, mut daemon) = in_an_emergency(&edge, &cache);
        let began = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.wait(), 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!((edge.face(), cache.face()), before);
        assert_eq!(in_the_journal(&node), [""; 0]);
        assert!(!node.path("admin.sock").exists(), "the socket outlives the daemon");
        let log = node.log();
        for line in ["stopping: asked to stop", "undoing, the guardian is stopping", "maxconn back to 8"] {
            assert!(log.contains(line), "no {line:?} in\n{log}");
        }
    }
}

#[test]
fn a_server_that_does_not_answer_is_owed_its_undo_until_the_next_start() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    edge.process().signal(Signal::SIGSTOP);
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 0);
    let took = began.elapsed();
    assert!((Duration::from_secs(15)..Duration::from_secs(25)).contains(&took), "{took:?}");
    assert_eq!(cache.face(), before.1, "one that answers does not wait for one that does not");
    assert_eq!(in_the_journal(&node), ["throttle edge to 25%"]);
    assert!(node.log().contains("is the process stopped"), "{}", node.log());

    node.set_available(60);
    let mut daemon = node.start();
    daemon.until_in_force(&["throttle edge to 25% (owed)"]);
    edge.process().signal(Signal::SIGCONT);
    assert_eq!(edge.limit("be/s1"), "2");
    daemon.until_calm();
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.told("inherited"), ["action 1 throttle edge to 25%: found in the journal"]);
    assert_eq!(in_the_journal_of_the_running(&daemon), 0);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(in_the_journal(&node), [""; 0]);
}

fn in_the_journal_of_the_running(daemon: &Daemon) -> usize {
    daemon.get("/actions").json()["in_force"].as_array().unwrap().len()
}

#[test]
fn a_second_request_to_stop_does_not_wait() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    edge.process().signal(Signal::SIGSTOP);
    daemon.signal(Signal::SIGTERM);
    daemon.until_told("owed", "throttle edge");
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 128 + 15, "as a shell reports it");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(in_the_journal(&node), ["throttle edge to 25%"]);
    edge.process().signal(Signal::SIGCONT);
}

#[test]
fn what_is_just_being_done_is_undone_too() {
    let edge = Haproxy::start();
    let before = edge.face();
    let rule = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#);
    for end in [Signal::SIGTERM, Signal::SIGHUP] {
        let node = Node::new(&(edge.section("edge", "admin.sock") + &rule));
        let mut daemon = node.start();
        daemon.until_control("edge", "usable");
        edge.process().signal(Signal::SIGSTOP);
        node.set_available(5);
        daemon.until_in_force(&["throttle edge to 50% (applying)"]);
        node.configure("");
        daemon.signal(end);
        std::thread::sleep(Duration::from_millis(100));
        edge.process().signal(Signal::SIGCONT);
        if end == Signal::SIGHUP {
            daemon.until_calm();
            daemon.signal(Signal::SIGTERM);
        }
        assert_eq!((daemon.wait(), edge.face()), (0, before.clone()), "{end}:\n{}", node.log());
        assert_eq!(in_the_journal(&node), [""; 0]);
    }
}

#[test]
fn after_a_crash_all_of_it_is_undone_at_once() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let (node, daemon) = in_an_emergency(&edge, &cache);
    daemon.kill();
    assert_eq!(in_the_journal(&node), ["throttle edge to 25%", "shrink cache to 64.0MiB"]);
    let nobody = node.ask(&["status"]);
    assert!(nobody.code == 69 && nobody.err.contains("nobody answers at"), "{nobody:?}");
    node.set_available(60);
    let mut daemon = node.start();
    daemon.until_calm();
    let undone = daemon.events();
    let undone = undone.iter().filter(|event| event.name() == "undone");
    let mut undone: Vec<_> = undone.map(|event| event.field("action_id").unwrap()).collect();
    undone.sort_unstable();
    assert_eq!(undone, ["1", "2"]);
    assert!(daemon.told("acted").is_empty(), "not by halves: {:?}", daemon.told("acted"));
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.stop(), 0);
}

/// Also what changed, and since when: the journal knows.
#[test]
fn what_a_crash_left_in_force_is_shown_as_before() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    let before = shown(&mut daemon);
    assert!(before.0.starts_with("server be/s1 maxconn 8 → "), "{before:?}");
    daemon.kill();
    let mut daemon = node.start();
    let after = shown(&mut daemon);
    assert!(after.0 == before.0 && after.1 > before.1, "{before:?}, then {after:?}");
    node.set_available(60);
    daemon.until_calm();
}

/// What is in force at HAProxy: what it changed, and its age.
fn shown(daemon: &mut Daemon) -> (String, f64) {
    daemon.until("in force at HAProxy", |daemon| {
        let status = daemon.status();
        let found = status["in_force"].as_array()?.iter().find(|action| action["control"] == "edge")?.clone();
        let text = found["changed"].as_str()?.to_owned();
        (found["phase"] == "in_force").then_some((text, found["seconds"].as_f64()?))
    })
}

#[test]
fn one_guardian_per_journal() {
    let node = Node::new("");
    let first = node.start();
    let config = node.path("config.toml");
    let second = node.ask(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!((second.code, second.out.as_str()), (70, ""));
    let complaint = second.err.lines().last().unwrap();
    assert!(complaint.contains(&format!("{}", first.pid())), "{complaint}");
    assert_eq!(first.status()["mode"], "normal", "the first one is not disturbed");
    assert_eq!(node.ask(&["status"]).code, 0);
    assert_eq!(first.stop(), 0);
}
