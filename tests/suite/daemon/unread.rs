//! What an operator ordered before a restart and cannot be read at first: it is not forgotten over what is ordered
//! meanwhile, and until it is known nothing is done that cannot be taken back.

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::redis::Redis;

const UNREAD: &str = "nothing lossy or destructive is done";

/// The state directory, behind a file in its place.
fn put_away(node: &Node) {
    std::fs::rename(node.path("state"), node.path("away")).unwrap();
    std::fs::write(node.path("state"), "in the way").unwrap();
}

fn bring_back(node: &Node) {
    std::fs::remove_file(node.path("state")).unwrap();
    std::fs::rename(node.path("away"), node.path("state")).unwrap();
}

#[test]
fn an_order_that_is_given_meanwhile_costs_no_earlier_one() {
    let edge = Haproxy::start();
    let steps = r#"{ throttle = "edge", to = "50%" }"#;
    let node = Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(steps)));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(node.ask(&["undo"]).code, 0);
    daemon.kill();
    put_away(&node);
    let mut daemon = node.start();
    let paused = node.ask(&["pause", "--for", "1h"]);
    assert!(paused.code == 0 && paused.err.contains("cannot be read yet"), "{paused:?}");
    bring_back(&node);
    for _ in 0..2 {
        daemon.until("both orders are known", |daemon| {
            let status = daemon.status();
            (status["paused"].is_object() && status["undone"].as_array()?.len() == 1).then_some(())
        });
        let kept = node.ask(&["pause", "--for", "1h", "--json"]);
        assert!(kept.out.replace(' ', "").contains("\"kept\":true"), "{kept:?}");
        daemon.kill();
        daemon = node.start();
    }
    assert_eq!(daemon.stop(), 0);
}

fn cached() -> (Redis, Node) {
    let cache = Redis::start();
    assert_eq!(cache.ask(&["SET", "cache:a", "x"]), "+OK");
    let section = cache.section("cache", "redis.sock").replace("cache_only = true", "flush_pattern = \"cache:*\"");
    let node = Node::new(&(section + &short_of_memory(r#"{ flush = "cache" }"#)));
    node.edit("state_directory", "level = \"aggressive\"\nstate_directory");
    (cache, node)
}

fn flushes_nothing(node: &Node, daemon: &mut Daemon, cache: &Redis) {
    daemon.until_control("cache", "usable");
    node.set_available(5);
    daemon.until_told("step_skipped", "earlier orders cannot be read");
    assert!(daemon.status()["notices"].to_string().contains(UNREAD), "{}", daemon.status()["notices"]);
    assert_eq!(cache.ask(&["DBSIZE"]), ":1");
}

#[test]
fn a_pause_that_cannot_be_read_yet_holds_back_what_cannot_be_undone() {
    let (cache, node) = cached();
    let mut daemon = node.start();
    assert_eq!(node.ask(&["pause", "--for", "1h"]).code, 0);
    daemon.kill();
    put_away(&node);
    daemon = node.start();
    flushes_nothing(&node, &mut daemon, &cache);
    bring_back(&node);
    daemon.until("the pause is known", |daemon| daemon.status()["paused"].is_object().then_some(()));
    assert!(!daemon.status()["notices"].to_string().contains(UNREAD));
    assert_eq!(cache.ask(&["DBSIZE"]), ":1");
    assert_eq!(node.ask(&["resume"]).code, 0);
    daemon.until("flushed", |_| (cache.ask(&["DBSIZE"]) == ":0").then_some(()));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn orders_that_are_damaged_hold_it_back_until_an_operator_says_anew_what_is_to_be() {
    let (cache, node) = cached();
    let mut daemon = node.start();
    assert_eq!(node.ask(&["pause", "--for", "1h"]).code, 0);
    daemon.kill();
    std::fs::write(node.path("state/orders"), "no orders at all").unwrap();
    for _ in 0..2 {
        daemon = node.start();
        flushes_nothing(&node, &mut daemon, &cache);
        daemon.kill();
    }
    daemon = node.start();
    assert_eq!(node.ask(&["resume"]).code, 0);
    daemon.until("flushed", |_| (cache.ask(&["DBSIZE"]) == ":0").then_some(()));
    daemon.kill();
    daemon = node.start();
    assert!(!daemon.status()["notices"].to_string().contains(UNREAD), "it is known from then on");
    assert_eq!(daemon.stop(), 0);
}
