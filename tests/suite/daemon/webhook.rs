//! What the whole daemon tells a receiver, from its start to its end, and that its end waits for none.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::receiver::{Answer, Receiver};

fn ops(receiver: &Receiver) -> String {
    format!("[control.webhook.ops]\nurl = \"{}\"\n", receiver.url())
}

#[test]
fn a_receiver_hears_of_it_all_even_where_nothing_may_be_changed() {
    let (edge, receiver) = (Haproxy::start(), Receiver::start(Answer::Status(200)));
    let steps = r#"{ notify = "ops" }, { throttle = "edge", to = "50%" }"#;
    let mut node = Node::new(&(ops(&receiver) + &edge.section("edge", "admin.sock") + &short_of_memory(steps)));
    node.environment.push(("NODE_GUARDIAN_LEVEL", "minimal".into()));
    let mut daemon = node.start();
    daemon.until_control("ops", "usable");
    node.set_available(5);
    daemon.until_told("acted", "notify ops: applied");
    node.set_available(60);
    daemon.until_calm();
    daemon.until("all is delivered", |daemon| {
        let metrics = daemon.get("/metrics").body;
        let has = |line: &str| metrics.lines().any(|known| known == line);
        (receiver.letters().len() >= 6
            && has("node_guardian_webhook_queue_length{control=\"ops\"} 0")
            && has("node_guardian_webhook_failed_total{control=\"ops\"} 0")
            && has("node_guardian_webhook_dropped_total{control=\"ops\"} 0"))
        .then_some(())
    });
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.limit("be/s1"), "8");
    let told = receiver.names();
    for name in ["started", "rule_fired", "mode", "acted", "rule_cleared", "stopping"] {
        assert!(told.iter().any(|known| known == name), "no {name} in {told:?}");
    }
    assert_eq!((told[0].as_str(), told.last().unwrap().as_str()), ("started", "stopping"));
    let mut seqs: Vec<_> = receiver.letters().iter().map(|letter| letter.json["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    seqs.dedup();
    assert_eq!(seqs.len(), told.len(), "each once");
}

#[test]
fn a_stuck_receiver_delays_no_undo_and_the_end_by_a_moment() {
    let (edge, receiver) = (Haproxy::start(), Receiver::start(Answer::Silence));
    let before = edge.face();
    let steps = r#"{ notify = "ops" }, { throttle = "edge", to = "25%", settle = "100ms" }"#;
    let node = Node::new(&(ops(&receiver) + &edge.section("edge", "admin.sock") + &short_of_memory(steps)));
    let mut daemon = node.start();
    receiver.first(1);
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    super::super::support::eventually("the undo", || (edge.face() == before).then_some(()));
    assert_eq!(daemon.wait(), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_receiver_that_is_gone_has_no_queue() {
    let url = format!("url = \"http://127.0.0.1:{}/hook\"", Receiver::free_port());
    let node = Node::new(&format!("[control.webhook.ops]\n{url}\n"));
    let mut daemon = node.start();
    let queued = |daemon: &Daemon| {
        let metrics = daemon.get("/metrics").body;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("node_guardian_webhook_queue_length{control=\"ops\"} "));
        line.and_then(|length| length.parse::<u32>().ok())
    };
    daemon.until("the start waits to be told", |daemon| queued(daemon).filter(|length| *length > 0));
    node.edit(&format!("[control.webhook.ops]\n{url}"), "");
    daemon.signal(Signal::SIGHUP);
    daemon.until("nothing waits for nobody", |daemon| (queued(daemon) == Some(0)).then_some(()));
    assert_eq!(daemon.stop(), 0);
}
