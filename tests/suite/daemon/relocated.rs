//! A `state_directory` that was changed: what is in force by the earlier one is undone first, and what an operator ordered
//! still counts, however the guardian ended and whatever else is wrong.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use node_guardian::journal::Journal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};

const STEPS: &str = r#"{ throttle = "edge", to = "50%" }, { shed = "edge", share = "25%", settle = "100ms" }"#;
const THROTTLED: &str = "throttle edge to 50%";
const TOLD: &str = "nothing that stays in force is done";

fn configuration(edge: &Haproxy) -> String {
    edge.section("edge", "admin.sock") + &short_of_memory(STEPS)
}

/// With a throttle in force, and what it shed undone by an operator.
fn in_an_emergency(edge: &Haproxy) -> (Node, Daemon) {
    let node = Node::new(&configuration(edge));
    let daemon = undo_one(&node, edge);
    (node, daemon)
}

fn undo_one(node: &Node, edge: &Haproxy) -> Daemon {
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    node.set_available(5);
    daemon.until_in_force(&[THROTTLED, "shed edge by 25%"]);
    let shed = daemon.status()["in_force"][1]["id"].to_string();
    assert_eq!(node.ask(&["undo", &shed]).code, 0);
    daemon.until_in_force(&[THROTTLED]);
    assert_eq!(edge.limit("be/s1"), "4");
    daemon
}

fn move_to(node: &Node, name: &str) {
    node.edit("/state\"", &format!("/{name}\""));
}

/// It goes on where it was: the limit to go back to is the one of before, and what was undone stays so.
fn goes_on(node: &Node, mut daemon: Daemon, edge: &Haproxy, state: &str) {
    daemon.until_in_force(&[THROTTLED]);
    assert_eq!(daemon.status()["undone"].as_array().unwrap().len(), 1, "{}", daemon.status());
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.limit("be/s1"), "8");
    // And from there as from any directory.
    daemon.kill();
    let daemon = node.start();
    assert_eq!(daemon.status()["undone"].as_array().unwrap().len(), 1, "{}", daemon.status());
    assert_eq!(daemon.stop(), 0);
    for directory in ["state", state] {
        let left = Journal::peek(&node.path(directory)).unwrap();
        assert_eq!(left, [], "{directory}");
    }
}

#[test]
fn after_a_crash_what_is_in_force_by_the_earlier_directory_is_undone_first() {
    for state in ["state2", "sub/deep/state2"] {
        let edge = Haproxy::start();
        let (node, daemon) = in_an_emergency(&edge);
        daemon.kill();
        move_to(&node, state);
        let config = node.path("config.toml");
        let checked = node.ask(&["check", config.to_str().unwrap()]);
        let earlier = node.path("state");
        assert!(checked.code == 0 && checked.out.contains(earlier.to_str().unwrap()), "{checked:?}");
        let daemon = node.start();
        goes_on(&node, daemon, &edge, state);
        let checked = node.ask(&["check", config.to_str().unwrap()]);
        assert!(checked.code == 0 && !checked.out.contains(earlier.to_str().unwrap()), "{checked:?}");
    }
}

#[test]
fn a_directory_that_is_named_where_none_was_takes_over_from_the_usual_one() {
    let edge = Haproxy::start();
    let node = Node::new(&configuration(&edge));
    let line = format!("state_directory = \"{}\"\n", node.path("state").display());
    node.edit(&line, "");
    let daemon = undo_one(&node, &edge);
    daemon.kill();
    node.edit("[sampling]", &format!("{}[sampling]", line.replace("/state\"", "/state2\"")));
    let daemon = node.start();
    goes_on(&node, daemon, &edge, "usual");
}

#[test]
fn a_reload_says_that_it_counts_from_the_next_start_and_that_start_undoes_first() {
    let edge = Haproxy::start();
    let (node, mut daemon) = in_an_emergency(&edge);
    move_to(&node, "state2");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "");
    let (notices, health) = (daemon.status()["notices"].to_string(), daemon.get("/health").body);
    for told in [&notices, &health] {
        assert!(told.contains("state_directory") && told.contains("next start"), "{told}");
    }
    assert!(!node.path("state2").exists());
    node.edit("/state2\"", "/state\"");
    daemon.signal(Signal::SIGHUP);
    daemon.until("it is as it was", |daemon| {
        (!daemon.status()["notices"].to_string().contains("next start")).then_some(())
    });
    move_to(&node, "state2");
    daemon.signal(Signal::SIGHUP);
    daemon.until("told again", |daemon| daemon.status()["notices"].to_string().contains("next start").then_some(()));
    daemon.kill();
    let daemon = node.start();
    goes_on(&node, daemon, &edge, "state2");
}

#[test]
fn what_a_stop_could_not_undo_is_undone_from_the_new_directory() {
    let edge = Haproxy::start();
    let (node, daemon) = in_an_emergency(&edge);
    edge.process().signal(Signal::SIGSTOP);
    assert_eq!(daemon.stop(), 0);
    edge.process().signal(Signal::SIGCONT);
    move_to(&node, "state2");
    let daemon = node.start();
    goes_on(&node, daemon, &edge, "state2");
}

#[test]
fn a_pause_outlives_it() {
    let node = Node::new("");
    let daemon = node.start();
    let paused = node.ask(&["pause", "--for", "30m", "--json"]);
    assert!(paused.out.replace(' ', "").contains("\"kept\":true"), "{paused:?}");
    assert_eq!(daemon.stop(), 0);
    move_to(&node, "state2");
    for _ in 0..2 {
        let daemon = node.start();
        assert!(daemon.status()["paused"]["left_seconds"].as_f64().unwrap() > 1600.0, "{}", daemon.status());
        assert_eq!(daemon.stop(), 0);
    }
    // What was carried over is not there twice.
    node.edit("/state2\"", "/state\"");
    let daemon = node.start();
    assert!(daemon.status()["paused"].is_object());
    assert_eq!(node.ask(&["resume"]).code, 0);
    assert_eq!(daemon.stop(), 0);
    move_to(&node, "state2");
    let daemon = node.start();
    assert!(daemon.status()["paused"].is_null(), "{}", daemon.status());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_typo_beside_it_costs_nothing_of_that() {
    let edge = Haproxy::start();
    let (node, daemon) = in_an_emergency(&edge);
    daemon.kill();
    move_to(&node, "state2");
    node.edit("[sampling]", "[smapling]\n[sampling]");
    for _ in 0..2 {
        let mut daemon = node.start();
        daemon.until_in_force(&[THROTTLED]);
        assert_eq!(daemon.status()["configuration"]["by"], "last_good");
        daemon.kill();
    }
    node.edit("[smapling]\n", "");
    let daemon = node.start();
    goes_on(&node, daemon, &edge, "state2");
}

/// Nothing is done by half of what was before.
fn waits(node: &Node, daemon: &mut Daemon, edge: &Haproxy) {
    let page = node.ask(&["status"]);
    let first = page.out.split("IN FORCE").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let state = node.path("state");
    assert!(first.contains(TOLD) && first.contains(state.to_str().unwrap()), "{}", page.out);
    daemon.until_told("acted", "its undo could not be recorded");
    assert_eq!(edge.limit("be/s1"), "4");
    let paused = node.ask(&["pause", "--for", "1h", "--json"]);
    assert!(!paused.out.replace(' ', "").contains("\"kept\":true"), "{paused:?}");
    assert_eq!(node.ask(&["resume"]).code, 0);
}

#[test]
fn an_earlier_directory_that_cannot_be_read_is_told_and_tried_again() {
    let edge = Haproxy::start();
    let (node, daemon) = in_an_emergency(&edge);
    daemon.kill();
    move_to(&node, "state2");
    let file = node.path("state/journal.a");
    fs::rename(&file, node.path("away")).unwrap();
    fs::create_dir(&file).unwrap();
    for _ in 0..2 {
        let mut daemon = node.start();
        waits(&node, &mut daemon, &edge);
        daemon.kill();
    }
    let daemon = node.start();
    fs::remove_dir(&file).unwrap();
    fs::rename(node.path("away"), &file).unwrap();
    goes_on(&node, daemon, &edge, "state2");
}

#[test]
fn one_that_is_gone_for_good_is_given_up_with_the_note_of_it() {
    let edge = Haproxy::start();
    let (node, daemon) = in_an_emergency(&edge);
    daemon.kill();
    move_to(&node, "state2");
    fs::remove_file(node.path("state/journal.a")).unwrap();
    fs::create_dir(node.path("state/journal.a")).unwrap();
    let mut daemon = node.start();
    let notices = daemon.status()["notices"].to_string();
    let note =
        notices.split_whitespace().find(|word| word.contains("state-of-")).unwrap_or_else(|| panic!("{notices}"));
    fs::remove_file(note.trim_end_matches([',', '.', '"'])).unwrap();
    daemon.until_in_force_of("throttle");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn one_that_another_guardian_holds_is_waited_for() {
    let edge = Haproxy::start();
    let (node, first) = in_an_emergency(&edge);
    move_to(&node, "state2");
    let mut second = node.launch(Command::new(EXECUTABLE));
    second.until("it is told", |_| {
        let log = node.log();
        let told = log.lines().find(|line| line.contains(TOLD))?.to_owned();
        assert!(told.contains(&format!("process {}", first.pid())), "{told}");
        Some(())
    });
    assert_eq!(edge.limit("be/s1"), "4", "both do not turn the same knob");
    first.kill();
    second.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    goes_on(&node, second, &edge, "state2");
}
