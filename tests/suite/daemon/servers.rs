//! Servers that are absent, stopped, closed to us, half-dead or restarting: told apart, and nothing waits for them.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::redis::Redis;

/// At least half of the ticks that a second of calm pace has: others use the cores too.
fn goes_on_sampling(daemon: &Daemon) {
    let before = daemon.ticks();
    std::thread::sleep(Duration::from_secs(1));
    let ticks = daemon.ticks() - before;
    assert!(ticks >= 10, "{ticks} ticks in a second");
}

fn half_answers(stream: UnixStream) {
    let mut stream = stream;
    let mut request = [0; 256];
    if stream.read(&mut request).is_ok() {
        stream.write_all(b"Name: HAPr").ok();
        std::thread::sleep(Duration::from_secs(120));
    }
}

#[test]
fn each_way_of_being_unusable_is_told_apart_while_sampling_goes_on() {
    let (edge, cache, hung) = (Haproxy::start(), Redis::start(), Haproxy::start());
    let half = edge.path("half.sock");
    let listener = UnixListener::bind(&half).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || half_answers(stream));
        }
    });
    hung.process().signal(Signal::SIGSTOP);
    let controls = edge.section("absent", "nobody.sock")
        + &edge.section("closed", "user.sock")
        + &edge.section("half", "half.sock")
        + &edge.section("fine", "admin.sock")
        + &hung.section("hung", "admin.sock")
        + &cache.section("reader", "redis.sock").replace("guardian", "reader");
    let steps: Vec<String> = ["absent", "closed", "half", "hung", "fine"]
        .iter()
        .map(|name| format!("{{ throttle = \"{name}\", to = \"50%\", settle = \"100ms\" }}"))
        .collect();
    let shrink = r#"{ shrink = "reader", to = "64MiB", settle = "100ms" }"#.to_owned();
    let node = Node::new(&(controls + &short_of_memory(&[steps, vec![shrink]].concat().join(", "))));
    let mut daemon = node.start();
    let told = [
        ("absent", "unreachable", "does not exist"),
        ("closed", "refused", "level admin"),
        ("half", "timed_out", "no whole answer"),
        ("hung", "timed_out", "is the process stopped"),
        ("reader", "refused", "ACL SETUSER reader +config|set"),
        ("fine", "usable", "admin level"),
    ];
    for (name, state, part) in told {
        let detail = daemon.until_control(name, state);
        assert!(detail.contains(part), "{name}: {detail}");
        let event = daemon.until_told("control", &format!("control {name}: {state}"));
        assert!(event.text().contains(part), "{event:?}");
    }

    node.set_available(5);
    goes_on_sampling(&daemon);
    // Five that cannot do it delay the sixth by no more than their own settling.
    daemon.until_in_force_of("throttle");
    assert_eq!(edge.limit("be/s1"), "4");
    daemon.until_told("acted", "throttle hung to 50%: unreachable");
    let page = node.ask(&["status"]).out;
    assert!(page.contains("absent (haproxy): unreachable") && page.contains("fine (haproxy): ready"), "{page}");
    goes_on_sampling(&daemon);

    hung.process().signal(Signal::SIGCONT);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(
        (edge.limit("be/s1").as_str(), hung.limit("be/s1").as_str(), cache.face().as_str()),
        ("8", "8", "0 noeviction")
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_server_that_comes_back_is_noticed_without_an_emergency() {
    let edge = Haproxy::start();
    let node = Node::new(&edge.section("edge", "late.sock"));
    let mut daemon = node.start();
    daemon.until_control("edge", "unreachable");
    std::os::unix::fs::symlink(edge.path("admin.sock"), edge.path("late.sock")).unwrap();
    daemon.until_control("edge", "usable");
    let told = daemon.told("control");
    assert_eq!(told.len(), 2, "each change is told once: {told:?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_server_that_stops_answering_while_throttled_is_owed_and_then_restored() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    edge.process().signal(Signal::SIGSTOP);
    node.set_available(60);
    let owed = daemon.until_told("owed", "throttle edge to 50%");
    assert!(owed.text().contains("is the process stopped"), "{owed:?}");
    daemon.until_in_force(&["throttle edge to 50% (owed)"]);
    goes_on_sampling(&daemon);
    assert_eq!(node.ask(&["status"]).code, 3, "what is owed is no emergency, and not nothing");
    let stubborn = node.ask(&["undo", "--wait", "1s"]);
    assert!(stubborn.code == 1 && stubborn.err.contains("still not undone"), "{stubborn:?}");
    edge.process().signal(Signal::SIGCONT);
    daemon.until("nothing in force", |daemon| daemon.in_force().is_empty().then_some(()));
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn without_controls_it_reports_only() {
    let node = Node::new(&short_of_memory(r#"{ throttle = "*", to = "50%" }, { release = "redis.*" }"#));
    let mut daemon = node.start();
    assert_eq!(daemon.status()["controls"].as_array().unwrap().len(), 0);
    node.set_available(5);
    daemon.until("emergency", |daemon| (daemon.mode() == "emergency").then_some(()));
    assert_eq!((daemon.in_force().len(), daemon.told("acted").len()), (0, 0));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}
