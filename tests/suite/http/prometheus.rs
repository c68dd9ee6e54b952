//! `/metrics` by the judgement of the real promtool, and in both dialects.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use node_guardian::events::Event;
use node_guardian::policy::event::Event as Decision;
use node_guardian::policy::mitigation::{ActionId, Amount, Mitigation, Outcome, Verb};
use node_guardian::policy::requester::Requester;
use node_guardian::policy::rule::Severity;
use node_guardian::telemetry::Timings;

use super::house::House;

/// A house in which everything that can be counted has been.
fn busy_house() -> House {
    let mut house = House::open();
    let telemetry = std::sync::Arc::clone(&house.telemetry);
    metrics::with_local_recorder(&*telemetry, || {
        let rule: std::sync::Arc<str> = "odd \"rule\"\\".into();
        let mitigation = Mitigation { control: "edge".into(), verb: Verb::Throttle, amount: Amount::Keep(50.0) };
        let because = "memory.available_percent 7.1% < 8.0%".to_owned();
        house
            .events
            .emit(1, Event::Policy(Decision::Fired { rule: rule.clone(), severity: Severity::Emergency, because }));
        let (id, outcome, detail) = (ActionId(7), Outcome::Applied, "s1".into());
        let took = Duration::from_millis(3);
        let rule = Requester::rule(&rule);
        let acted = Decision::Acted { rule, id, mitigation, before: None, outcome, detail, took, freed_bytes: None };
        house.events.emit(2, Event::Policy(acted));
        let timings = Timings::register();
        timings.sample.record(0.000_2);
        timings.tick_lag.record(0.000_1);
        timings.detection.record(0.004);
    });
    house
}

#[test]
fn promtool_has_nothing_to_say() {
    let text = busy_house().get("/metrics").body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt install prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn the_names_of_the_contract_are_there() {
    let text = busy_house().get("/metrics").body;
    for line in [
        "node_guardian_mode{mode=\"emergency\"} 1",
        "node_guardian_mode{mode=\"normal\"} 0",
        "node_guardian_rule_state{rule=\"memory-critical\",state=\"firing\"} 1",
        "node_guardian_rule_fired_total{rule=\"odd \\\"rule\\\"\\\\\"} 1",
        "node_guardian_actions_total{control=\"edge\",verb=\"throttle\",outcome=\"applied\"} 1",
        "node_guardian_action_seconds_count{control=\"edge\",verb=\"throttle\",command=\"apply\"} 1",
        "node_guardian_action_effect_ratio{rule=\"memory-critical\",step=\"1\"} 0.4",
        "node_guardian_in_force{control=\"edge\",target=\"unix:/run/haproxy/admin.sock\",verb=\"throttle\"} 0.5",
        "node_guardian_sample_seconds_count 1",
        "node_guardian_tick_lag_seconds_count 1",
        "node_guardian_detection_seconds_count 1",
        "node_guardian_time_to_exhaustion_seconds{resource=\"memory\"} 95.5",
        "node_guardian_scale_hint{resource=\"memory\"} 1",
        "node_guardian_scale_hint{resource=\"cpu\"} 0",
        "node_guardian_memory_oom_kills_total 2",
        "node_guardian_disk_free_bytes{mount=\"/var/\\\"odd\\\\name\\\"\\n\"} 4000000000",
        "node_guardian_network_receive_bytes_per_second{interface=\"eth0\"} 1000000",
        "node_guardian_connections_port_established{port=\"443\"} 12",
    ] {
        assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
    }
    assert!(text.contains("node_guardian_cpu_used_ratio 0.43"), "{text}");
}

#[test]
fn a_scraper_that_prefers_openmetrics_gets_it() {
    let house = busy_house();
    let accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5";
    let reply = house
        .ask(&format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"));
    assert_eq!(reply.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(reply.body.ends_with("\n# EOF\n"));
    assert!(reply.body.contains("# TYPE node_guardian_build info\n"));
    assert!(reply.body.contains("# TYPE node_guardian_rule_fired counter\n"));
    assert!(reply.body.contains("# UNIT node_guardian_memory_available_ratio ratio\n"));
    let plain = house.get("/metrics");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!plain.body.contains("# EOF") && !plain.body.contains("# UNIT"));
}
