//! A condition that nothing can change: users are served again, the node is ready, and everyone can see why.

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Node, short_of_memory};

#[test]
fn where_nothing_helps_users_are_served_again_while_the_rule_fires_on() {
    let edge = Haproxy::start();
    let before = edge.face();
    let steps = r#"{ throttle = "edge", to = "50%", settle = "200ms" }"#;
    let node = Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(steps)));
    node.edit("undo_interval = \"300ms\"", "undo_interval = \"300ms\"\nstand_down = \"2s\"");
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert!(daemon.get("/readyz").problem(503).contains("emergency"));
    assert_eq!(edge.limit("be/s1"), "4");

    daemon.until_told("standing_down", "it has not cleared");
    daemon.until_told("stood_down", "tried again in 5.0m");
    daemon.until("the limit is back", |_| (edge.face() == before).then_some(()));
    assert_eq!(daemon.mode(), "emergency", "it is one, all the same");
    assert_eq!(daemon.get("/readyz").status, 200);
    let health = daemon.get("/health").json();
    assert_eq!(health["status"], "warn", "{health}");
    let rule = daemon.get("/rules/short").json();
    assert_eq!(rule["state"], "firing", "{rule}");
    assert!(rule.to_string().contains("stood_down"), "{rule}");

    // Worse than it was then: that is a new trouble, met at once.
    node.set_available(1);
    daemon.until_told("ladder_retried", "5.0% → 1.0%");
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(daemon.get("/readyz").status, 200, "until a step helps");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}
