//! A drill on a live node: everything that can be undone is done, and all of it comes back; and what happens when not.

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Node, short_of_memory};
use super::super::support::redis::Redis;

#[test]
fn every_reversible_action_is_tried_and_comes_back() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let node = Node::new(&(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock")));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    daemon.until_control("cache", "usable");
    assert!(node.ask(&["drill"]).err.contains("not drilled; --yes"), "nobody said yes");
    let drilled = node.ask(&["drill", "--yes"]);
    assert_eq!((drilled.code, drilled.err.as_str()), (0, ""), "{}", drilled.out);
    for line in [
        "restored           throttle edge to 90%",
        "restored           shed edge by 10%",
        "restored           drain edge",
        "restored           throttle cache",
        "server be/s1 maxconn back to 8",
        " restored, 0 left out",
    ] {
        assert!(drilled.out.contains(line), "no {line:?} in\n{}", drilled.out);
    }
    assert_eq!((edge.face(), cache.face()), before);
    let json: serde_json::Value = serde_json::from_str(&node.ask(&["drill", "edge", "-y", "--json"]).out).unwrap();
    assert_eq!((json["ok"].as_bool(), json["trials"].as_array().map(Vec::len)), (Some(true), Some(3)));
    assert_eq!((json["number"].as_u64(), json["running"].as_bool()), (Some(2), Some(false)), "not the one before it");
    let ended = daemon.until_told("drill_ended", "3 tried, 3 restored, 0 left out");
    assert_eq!(ended.0["level"], "info");
    assert_eq!(daemon.mode(), "normal");
    let unknown = node.ask(&["drill", "edgy", "--yes"]);
    assert!(unknown.code == 1 && unknown.err.contains("no control is named edgy: cache, edge"), "{unknown:?}");
    assert_eq!(daemon.stop(), 0);
    assert_eq!((edge.face(), cache.face()), before);
}

#[test]
fn a_drill_waits_for_a_calm_node_and_for_leave_to_change_anything() {
    let edge = Haproxy::start();
    let rule = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#);
    let node = Node::new(&(edge.section("edge", "admin.sock") + &rule));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    let busy = node.ask(&["drill", "--yes"]);
    assert!(busy.code == 1 && busy.err.contains("the node is emergency with 1 in force"), "{busy:?}");
    node.set_available(50);
    daemon.until_calm();
    assert_eq!(node.ask(&["pause"]).code, 0);
    daemon.until_told("paused", "no new actions");
    let paused = node.ask(&["drill", "--yes"]);
    assert!(paused.code == 1 && paused.err.contains("paused: nothing is done"), "{paused:?}");
    assert_eq!(daemon.stop(), 0);
    node.edit("state_directory", "dry_run = true\nstate_directory");
    let daemon = node.start();
    let refused = node.ask(&["drill", "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("allows no changes"), "{refused:?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_target_that_hangs_in_a_drill_is_owed_alarmed_and_put_back() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = Node::new(&edge.section("edge", "admin.sock"));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    edge.process().signal(Signal::SIGSTOP);
    let hung = node.ask(&["drill", "--yes"]);
    assert!(hung.code == 1 && hung.err.contains("3 of 3"), "{hung:?}");
    edge.process().signal(Signal::SIGCONT);
    daemon.until_calm();
    daemon.until_control("edge", "usable");
    assert_eq!(edge.face(), before);
    assert_eq!(node.ask(&["drill", "--yes"]).code, 0, "it answers again, and comes back");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_drill_that_is_killed_is_undone_by_the_next_start() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = Node::new(&edge.section("edge", "admin.sock"));
    for _ in 0..5 {
        let mut daemon = node.start();
        daemon.until_control("edge", "usable");
        let socket = node.path("admin.sock");
        let ask = std::thread::spawn(move || {
            std::process::Command::new(super::super::support::node::EXECUTABLE)
                .args(["drill", "--yes", "--socket"])
                .arg(socket)
                .output()
        });
        daemon.until_told("drill_began", "every control");
        daemon.kill();
        drop(ask.join());
        let mut daemon = node.start();
        daemon.until_calm();
        assert_eq!(edge.face(), before);
        assert_eq!(daemon.stop(), 0);
    }
}

#[test]
fn a_reload_ends_a_drill_that_it_may_forbid() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = Node::new(&edge.section("edge", "admin.sock"));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    edge.process().signal(Signal::SIGSTOP);
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| node.ask(&["drill", "--yes"]));
        daemon.until_told("drill_began", "every control");
        node.edit("state_directory", "dry_run = true\nstate_directory");
        daemon.signal(Signal::SIGHUP);
        daemon.until_told("reloaded", "");
        edge.process().signal(Signal::SIGCONT);
        asked.join().unwrap()
    });
    assert_eq!(asked.code, 1, "{asked:?}");
    assert!(asked.out.contains("not tried          drain edge"), "{asked:?}");
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}
