//! The operator's hand on a live node: what is undone stays undone, what is paused does nothing new, who asked is told, and
//! all of it outlives `kill -9`.

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};

const THROTTLE: &str = r#"{ throttle = "edge", to = "50%" }"#;

fn in_an_emergency(edge: &Haproxy) -> (Node, Daemon) {
    let node = Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(THROTTLE)));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    (node, daemon)
}

fn me() -> String {
    format!("uid {}", nix::unistd::Uid::effective())
}

fn undone(daemon: &Daemon) -> usize {
    daemon.status()["undone"].as_array().unwrap().len()
}

/// A while in which a rule could have acted again.
pub fn for_twenty_ticks(daemon: &mut Daemon, holds: impl Fn(&Daemon)) {
    let from = daemon.ticks();
    daemon.until("twenty ticks", |daemon| {
        holds(daemon);
        (daemon.ticks() > from + 20).then_some(())
    });
}

#[test]
fn what_an_operator_undid_stays_undone_over_a_crash_until_it_is_resumed() {
    let edge = Haproxy::start();
    let (node, mut daemon) = in_an_emergency(&edge);
    let said = node.ask(&["undo"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    assert!(said.out.contains("server be/s1 maxconn back to 8"), "{}", said.out);
    assert!(daemon.until_told("undone_by_operator", "throttle edge").field("by").unwrap().starts_with(&me()));
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "8"));
    let status = daemon.status();
    // The node is as short as before, and says so.
    assert_eq!((status["mode"].as_str(), status["rules"][0]["state"].as_str()), (Some("emergency"), Some("firing")));
    let page = node.ask(&["status"]).out;
    let second = page.lines().nth(1).unwrap();
    assert!(second.starts_with("! #1 throttle edge to 50% was undone") && page.contains(&me()), "{page}");

    daemon.kill();
    let mut daemon = node.start();
    daemon.until("firing again", |daemon| (daemon.status()["rules"][0]["state"] == "firing").then_some(()));
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "8"));
    assert_eq!(undone(&daemon), 1);

    let unknown = node.ask(&["resume", "9"]);
    assert!(unknown.code == 1 && unknown.err.contains("not undone: 9"), "{unknown:?}");
    let resumed = node.ask(&["resume", "1"]);
    assert!(
        resumed.code == 0 && resumed.out.contains("the rules control #1 throttle edge to 50% again"),
        "{resumed:?}"
    );
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!((edge.limit("be/s1").as_str(), undone(&daemon)), ("4", 0));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_pause_undoes_and_does_nothing_new_until_it_ends() {
    let edge = Haproxy::start();
    let (node, mut daemon) = in_an_emergency(&edge);
    assert_eq!(daemon.get("/readyz").status, 503);
    let said = node.ask(&["pause", "--for", "2h"]);
    assert!(
        said.code == 0 && said.out.starts_with("paused for 2h 00m: nothing new is done, and the 1 in force"),
        "{said:?}"
    );
    daemon.until("undone", |daemon| daemon.in_force().is_empty().then_some(()));
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "8"));
    assert_eq!((daemon.mode().as_str(), daemon.get("/readyz").status), ("emergency", 200));
    assert!(daemon.until_told("paused", "what is in force is undone").field("by").unwrap().starts_with(&me()));
    assert!(node.ask(&["status"]).out.lines().nth(1).unwrap().starts_with("! paused by uid"));

    daemon.kill();
    let mut daemon = node.start();
    daemon.until("paused still", |daemon| daemon.status()["paused"].is_object().then_some(()));
    assert_eq!(edge.limit("be/s1"), "8");
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "8"));
    // It ends by itself.
    assert_eq!(node.ask(&["pause", "--for", "1s"]).code, 0);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert!(daemon.status()["paused"].is_null());
    daemon.until_told("resumed", "the pause is over");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.limit("be/s1"), "8");
}

#[test]
fn a_pause_that_holds_leaves_what_is_in_force_and_adds_nothing() {
    let edge = Haproxy::start();
    let (node, mut daemon) = in_an_emergency(&edge);
    assert_eq!(node.ask(&["pause", "--hold"]).code, 0);
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "4"));
    node.set_available(60);
    // What clears is loosened and undone all the same.
    daemon.until("undone", |daemon| daemon.in_force().is_empty().then_some(()));
    node.set_available(5);
    daemon.until("firing", |daemon| (daemon.status()["rules"][0]["state"] == "firing").then_some(()));
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "8"));
    let resumed = node.ask(&["resume"]);
    assert_eq!((resumed.code, resumed.out.as_str()), (0, "the pause is over\n"));
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_debt_that_cannot_be_paid_is_given_up_by_name() {
    let edge = Haproxy::start();
    let (node, mut daemon) = in_an_emergency(&edge);
    let refused = node.ask(&["undo", "--forget", "1"]);
    assert!(refused.code == 1 && refused.err.contains("not owed: 1"), "{refused:?}");
    edge.process().signal(nix::sys::signal::Signal::SIGSTOP);
    let owed = node.ask(&["undo", "--wait", "100ms"]);
    assert!(owed.code == 1 && owed.err.contains("still not undone"), "{owed:?}");
    daemon.until_in_force(&["throttle edge to 50% (owed)"]);
    let page = node.ask(&["status"]);
    assert!(page.out.lines().next().unwrap().ends_with(", 1 owed"), "{}", page.out);
    let forgotten = node.ask(&["undo", "--forget", "1"]);
    assert_eq!(forgotten.code, 0, "{forgotten:?}");
    let told = daemon.until_told("forgotten", "throttle edge");
    assert!(told.field("by").unwrap().starts_with(&me()), "{told:?}");
    daemon.until("nothing is owed", |daemon| daemon.in_force().is_empty().then_some(()));
    edge.process().signal(nix::sys::signal::Signal::SIGCONT);
    daemon.until("the journal knows", |_| {
        node_guardian::journal::Journal::peek(&node.path("state"))
            .map_or(true, |entries| entries.is_empty())
            .then_some(())
    });
    assert_eq!(daemon.stop(), 0);
    assert_eq!(node_guardian::journal::Journal::peek(&node.path("state")).unwrap().len(), 0);
    assert_eq!(edge.limit("be/s1"), "4", "it stays as it is");
}
