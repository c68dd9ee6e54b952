//! Whose change wins: an operator's, always.

use std::time::Duration;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Node, short_of_memory};
use super::super::support::redis::Redis;

#[test]
fn what_an_operator_sets_meanwhile_is_left_alone_and_told() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    cache.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let steps = r#"{ throttle = "edge", to = "25%", settle = "100ms" }, { shrink = "cache", to = "64MiB" }"#;
    let node = Node::new(
        &(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &short_of_memory(steps)),
    );
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%", "shrink cache to 64.0MiB"]);

    edge.ask("set maxconn server be/s1 5");
    cache.ask(&["CONFIG", "SET", "maxmemory", "100mb"]);
    // Noticed when it is read back next: every 5 s.
    let throttle = daemon.until_told("lost", "throttle edge to 25%");
    let shrink = daemon.until_told("lost", "shrink cache");
    assert_eq!((throttle.field("outcome"), shrink.field("outcome")), (Some("overridden"), Some("overridden")));
    assert!(throttle.text().contains("server be/s1 maxconn is 5, not the 2 that was set"), "{throttle:?}");
    assert!(shrink.text().contains("maxmemory is 104857600, not the 67108864 that was set"), "{shrink:?}");

    // The emergency goes on: many ticks in which it could be fought over.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((edge.limit("be/s1").as_str(), cache.face().as_str()), ("5", "104857600 allkeys-lfu"));
    assert_eq!((daemon.mode().as_str(), daemon.in_force().len()), ("emergency", 0));
    assert_eq!((daemon.told("acted").len(), daemon.told("lost").len()), (2, 2));

    node.set_available(60);
    daemon.until_calm();
    assert_eq!((edge.limit("be/s1").as_str(), cache.setting("maxmemory").as_str()), ("5", "104857600"));

    // Another emergency starts from what is there now.
    daemon.until_told("rule_quiet", "short");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%", "shrink cache to 64.0MiB"]);
    assert_eq!((edge.limit("be/s1").as_str(), cache.setting("maxmemory").as_str()), ("1", "67108864"));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((edge.limit("be/s1").as_str(), cache.face().as_str()), ("5", "104857600 allkeys-lfu"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn where_they_set_one_of_several_it_is_told_once_and_the_rest_stays() {
    let edge = Haproxy::start();
    let both = edge.section("edge", "admin.sock").replace(r#"["be"]"#, r#"["be", "other"]"#);
    let node = Node::new(&(both + &short_of_memory(r#"{ throttle = "edge", to = "25%" }"#)));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    edge.ask("set maxconn server other/o1 60");
    let told = daemon.until_told("interfered", "server other/o1 maxconn is 60, not the 25 that was set");
    assert_eq!(told.field("control"), Some("edge"), "{told:?}");
    let page = node.ask(&["status"]).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("values that somebody else set: server other/o1"), "{page}");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(daemon.told("interfered").len(), 1);
    assert_eq!((edge.limit("be/s1").as_str(), edge.limit("other/o1").as_str()), ("2", "60"));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((edge.limit("be/s1").as_str(), edge.limit("other/o1").as_str()), ("8", "60"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_stop_right_after_an_operators_change_does_not_overwrite_it() {
    let edge = Haproxy::start();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "25%" }"#)));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    edge.ask("set maxconn server be/s1 5");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.limit("be/s1"), "5");
    let left_alone = "undone, overridden in";
    assert!(node.log().contains(left_alone) && node.log().contains("left alone: server be/s1"), "{}", node.log());
}

#[test]
fn a_server_that_restarts_during_the_emergency_is_throttled_again_and_then_let_go() {
    let mut edge = Haproxy::start();
    let before = edge.face();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "25%" }"#)));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    edge.restart();
    assert_eq!(edge.limit("be/s1"), "8");
    let lost = daemon.until_told("lost", "throttle edge");
    assert_eq!(lost.field("outcome"), Some("epoch_changed"), "{lost:?}");
    daemon.until_in_force(&["throttle edge to 25%"]);
    assert_eq!(edge.limit("be/s1"), "2");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}
