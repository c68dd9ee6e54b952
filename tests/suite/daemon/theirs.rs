//! What somebody else has set stays theirs over a restart of the guardian, for as long as a rule wants it, and no longer.

use std::time::Duration;

use node_guardian::journal::Journal;

use super::super::support::hang::Hang;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::orders::for_twenty_ticks;

/// 2 of 8.
const THROTTLE: &str = r#"{ throttle = "edge", to = "25%" }"#;

fn guarded(edge: &Haproxy) -> Node {
    Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(THROTTLE)))
}

fn in_force(node: &Node) -> Daemon {
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    daemon
}

fn until_firing(daemon: &mut Daemon) {
    daemon.until("firing", |daemon| (daemon.status()["rules"][0]["state"] == "firing").then_some(()));
}

fn overridden(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status();
    let all = status["overridden"].as_array().unwrap().iter();
    all.map(|one| format!("{}: {}", one["text"].as_str().unwrap(), one["found"].as_str().unwrap())).collect()
}

/// It is the operator's for as long as the rule fires, is said to be, and is a rule's again when it was quiet.
fn stays_until_quiet(node: &Node, mut daemon: Daemon, edge: &Haproxy, limit: &str) {
    until_firing(&mut daemon);
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), limit));
    assert!(overridden(&daemon)[0].starts_with("throttle edge to 25%: "), "{:?}", overridden(&daemon));
    let page = node.ask(&["status"]).out;
    assert!(page.contains("was set by somebody else") && page.contains("node-guardian resume 1"), "{page}");
    node.set_available(60);
    daemon.until_calm();
    daemon.until("nobody's", |daemon| overridden(daemon).is_empty().then_some(()));
    daemon.until("quiet", |daemon| (daemon.status()["rules"][0]["state"] == "quiet").then_some(()));
    assert_eq!(edge.limit("be/s1"), limit);
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.limit("be/s1"), limit);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_somebody_set_stays_theirs_over_crashes_and_stops_until_its_rule_is_quiet() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let mut daemon = in_force(&node);
    edge.ask("set maxconn server be/s1 5");
    daemon.until_told("lost", "throttle edge to 25%");
    daemon.until("it is kept", |_| kept(&node).contains("maxconn is 5").then_some(()));
    daemon.kill();
    // A crash in the middle of a start changes nothing.
    node.launch(std::process::Command::new(super::super::support::node::EXECUTABLE)).kill();
    let mut daemon = node.start();
    until_firing(&mut daemon);
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "5"));
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.limit("be/s1"), "5");
    stays_until_quiet(&node, node.start(), &edge, "5");
}

/// Between the look that finds it and the moment at which that is on the disk.
#[test]
fn what_somebody_set_is_theirs_also_after_a_crash_before_that_is_kept() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let mut daemon = in_force(&node);
    let hang = Hang::of_writes(daemon.pid(), "keeper");
    edge.ask("set maxconn server be/s1 5");
    daemon.until_told("lost", "throttle edge to 25%");
    for_twenty_ticks(&mut daemon, |_| assert!(!kept(&node).contains("maxconn is 5")));
    // Who traces it lets it end only when that ends itself.
    nix::sys::signal::kill(daemon.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    hang.end();
    daemon.kill();
    stays_until_quiet(&node, node.start(), &edge, "5");
    assert_eq!(Journal::peek(&node.path("state")).unwrap(), []);
}

/// With a `for` the rule is not firing yet, and wants nothing at the first looks.
#[test]
fn what_somebody_set_while_the_guardian_was_down_is_theirs_also_before_its_rule_fires_again() {
    for limit in ["5", "8"] {
        let edge = Haproxy::start();
        let node = guarded(&edge);
        node.edit("clear_for = \"200ms\"", "for = \"1s\"\nclear_for = \"200ms\"");
        in_force(&node).kill();
        edge.ask(&format!("set maxconn server be/s1 {limit}"));
        stays_until_quiet(&node, node.start(), &edge, limit);
    }
}

#[test]
fn a_prior_value_that_somebody_put_back_while_the_guardian_was_down_is_not_lowered_again() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    in_force(&node).kill();
    edge.ask("set maxconn server be/s1 8");
    stays_until_quiet(&node, node.start(), &edge, "8");
}

#[test]
fn what_somebody_set_before_a_stop_is_theirs_after_it() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let daemon = in_force(&node);
    edge.ask("set maxconn server be/s1 5");
    assert_eq!(daemon.stop(), 0);
    stays_until_quiet(&node, node.start(), &edge, "5");
}

/// Between the two thresholds the rule would not have cleared, and so the knob is not the rules' yet.
#[test]
fn a_rule_that_is_not_clear_lets_go_of_nothing_at_a_start() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let mut daemon = in_force(&node);
    edge.ask("set maxconn server be/s1 5");
    daemon.until_told("lost", "throttle edge to 25%");
    daemon.until("it is kept", |_| kept(&node).contains("maxconn is 5").then_some(()));
    daemon.kill();
    node.set_available(15);
    let mut daemon = node.start();
    std::thread::sleep(Duration::from_millis(600));
    for_twenty_ticks(&mut daemon, |daemon| assert_eq!(overridden(daemon).len(), 1));
    node.set_available(5);
    stays_until_quiet(&node, daemon, &edge, "5");
}

#[test]
fn whoever_set_it_gives_it_back_by_name() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let mut daemon = in_force(&node);
    edge.ask("set maxconn server be/s1 5");
    daemon.until_told("lost", "throttle edge to 25%");
    // Whoever ends a pause, or gives back what was undone, does not mean this.
    assert_eq!(node.ask(&["resume"]).code, 0);
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "5"));
    let resumed = node.ask(&["resume", "1"]);
    assert!(
        resumed.code == 0 && resumed.out.contains("the rules control #1 throttle edge to 25% again"),
        "{resumed:?}"
    );
    daemon.until_in_force(&["throttle edge to 25%"]);
    assert_eq!(edge.limit("be/s1"), "1");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((edge.limit("be/s1").as_str(), daemon.stop()), ("5", 0));
}

fn kept(node: &Node) -> String {
    String::from_utf8_lossy(&std::fs::read(node.path("state/orders")).unwrap()).into_owned()
}
