//! From the first short second to the last step undone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Event, Node, short_of_memory};
use super::super::support::redis::Redis;
use super::super::support::web::{Traffic, serve};

fn of<'a>(events: &'a [Event], name: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.name() == name).collect()
}

fn texts<'a>(events: &[&'a Event]) -> Vec<&'a str> {
    events.iter().map(|event| event.text()).collect()
}

/// The megabytes before and after in `resident 45.0MiB → 30.1MiB`.
fn resident(detail: &str) -> (f64, f64) {
    let (_, figures) = detail.split_once("resident ").unwrap_or_else(|| panic!("{detail}"));
    let number = |text: &str| -> f64 {
        text.trim().split("MiB").next().unwrap().trim().parse().unwrap_or_else(|_| panic!("{detail}"))
    };
    let (before, after) = figures.split_once('→').unwrap();
    (number(before), number(after))
}

#[test]
fn an_emergency_throttles_one_server_relieves_the_other_and_leaves_both_as_they_were() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let counts = serve(&edge.path("app.sock"));
    let traffic = Traffic::start(&edge.path("web.sock"), 16, counts);
    cache.fill("gone:", 1_000, 20_000);
    cache.fill("cache:", 2_000, 20_000);
    cache.empty("gone:", 1_000);
    let before = (edge.face(), cache.face());
    let steps = r#"{ release = "cache", settle = "600ms" }, { throttle = "edge", to = "50%", settle = "1500ms" },
        { shrink = "cache", to = "16MiB", settle = "1500ms" }, { throttle = "edge", to = "25%", settle = "1s" }"#;
    let node = Node::new(
        &(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &short_of_memory(steps)),
    );
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    daemon.until_control("cache", "usable");
    assert_eq!((daemon.mode().as_str(), daemon.get("/readyz").status), ("normal", 200));
    assert_eq!(traffic.most_busy_over(60), 8);
    assert_eq!(node.ask(&["status"]).code, 0);

    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(daemon.mode(), "emergency");
    let refusal = daemon.get("/readyz").problem(503);
    assert!(refusal.contains("emergency"), "{refusal}");
    assert_eq!((edge.limit("be/s1").as_str(), cache.face()), ("4", before.1.clone()));
    assert!(traffic.most_busy_over(20) <= 4);

    daemon.until_in_force(&["throttle edge to 25%", "shrink cache to 16.0MiB"]);
    assert_eq!((edge.limit("be/s1").as_str(), cache.face().as_str()), ("2", "16777216 allkeys-lru"));
    assert_eq!(node.ask(&["status"]).code, 1);
    assert_eq!(daemon.status()["because"][0], "short");
    assert_eq!(traffic.most_busy_over(30), 2);

    node.set_available(60);
    daemon.until("recovery", |daemon| (daemon.mode() == "recovering").then_some(()));
    assert_eq!(daemon.get("/readyz").status, 200);
    daemon.until_calm();
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(traffic.most_busy_over(60), 8);
    daemon.until_told("rule_quiet", "short");
    tells_the_whole_story(&daemon);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(traffic.stop().failed.load(Ordering::SeqCst), 0, "a throttle delays requests and fails none");
}

fn tells_the_whole_story(daemon: &Daemon) {
    let events = daemon.events();
    assert_eq!(
        texts(&of(&events, "mode")),
        [
            "mode normal -> emergency: rule short",
            "mode emergency -> recovering: no emergency rule fires any more",
            "mode recovering -> normal: nothing is in force"
        ]
    );
    let steps = of(&events, "step");
    assert_eq!(steps.iter().map(|step| step.field("step").unwrap()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    for (pair, settle) in steps.windows(2).zip([0, 1500, 1500]) {
        let waited = pair[1].unix_ms() - pair[0].unix_ms();
        assert!((settle..settle + 1500).contains(&waited), "{waited} ms between {pair:?}");
    }
    let acted = of(&events, "acted");
    assert_eq!(
        acted.iter().map(|event| event.field("outcome").unwrap()).collect::<Vec<_>>(),
        ["applied"; 7],
        "four steps, and the way back from 25% to 50%, 75% and 88%: {:?}",
        texts(&acted)
    );
    let by = |verb| acted.iter().find(|event| event.field("verb") == Some(verb)).unwrap().text();
    let (before, left) = resident(by("release"));
    assert!(by("release").contains("MEMORY PURGE") && before - left > 5.0, "{}", by("release"));
    let shrink = by("shrink");
    let (full, shrunk) = resident(shrink);
    assert!(full - shrunk > 15.0 && shrunk < 32.0, "{shrink}");
    assert!(by("throttle").contains("server be/s1 maxconn 8 → 4"), "{}", by("throttle"));
    undone_last_first(&events);
}

/// 25 % was last: it goes back to 50 %; then the limit; then the throttle, by halves.
fn undone_last_first(events: &[Event]) {
    let undone: Vec<&Event> =
        events.iter().filter(|event| matches!(event.name(), "acted" | "undoing")).skip(4).collect();
    let steps: Vec<_> = undone.iter().map(|event| (event.name(), event.field("verb").unwrap())).collect();
    let eased = ("acted", "throttle");
    assert_eq!(steps, [eased, ("undoing", "shrink"), eased, eased, ("undoing", "throttle")]);
    let undone = of(events, "undone");
    assert_eq!(undone.len(), 2);
    assert!(undone[0].text().contains("maxmemory back to 0, maxmemory-policy back to noeviction"), "{undone:?}");
    assert!(undone[1].text().contains("server be/s1 maxconn back to 8"), "{undone:?}");
    for pair in undone[1..].windows(2) {
        assert!(pair[1].unix_ms() - pair[0].unix_ms() >= 290, "one step per interval: {pair:?}");
    }
}

#[test]
fn what_the_first_step_clears_needs_no_second() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let steps = r#"{ throttle = "edge", to = "25%", settle = "600ms" }, { shrink = "cache", to = "16MiB" }"#;
    let node = Node::new(
        &(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &short_of_memory(steps)),
    );
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25%"]);
    node.set_available(15);
    // Neither short any more nor clear: longer than the step settles.
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(daemon.in_force(), ["throttle edge to 25%"]);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.told("step").len(), 1);
    let halved = daemon.told("acted");
    let way_back: Vec<_> = halved.iter().skip(1).map(|text| text.split(':').next().unwrap()).collect();
    let ways = ["action 1 throttle edge to 50%", "action 1 throttle edge to 75%", "action 1 throttle edge to 88%"];
    assert_eq!(way_back, ways, "the way back is halved");
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_relapse_during_recovery_puts_back_what_was_being_released() {
    let edge = Haproxy::start();
    let before = edge.face();
    let steps = r#"{ throttle = "edge", to = "20%", settle = "300ms" }"#;
    let node = Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(steps)));
    node.edit("undo_interval = \"300ms\"", "undo_interval = \"2s\"");
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 20%"]);
    node.set_available(60);
    daemon.until_in_force(&["throttle edge to 40%"]);
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 20%"]);
    assert_eq!((edge.limit("be/s1").as_str(), daemon.mode().as_str()), ("2", "emergency"));
    assert_eq!(daemon.told("rule_relapsed").len(), 1);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.face(), before);
}

#[test]
fn a_dry_run_decides_everything_and_touches_nothing() {
    let edge = Haproxy::start();
    let before = edge.face();
    let mut node = Node::new(
        &(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%", settle = "1s" }"#)),
    );
    node.environment.push(("NODE_GUARDIAN_DRY_RUN", "true".into()));
    let mut daemon = node.start();
    node.set_available(5);
    let step = daemon.until_told("step", "throttle edge to 50%");
    assert!(step.text().contains("dry run"), "{step:?}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((edge.face(), daemon.in_force().len(), daemon.told("acted").len()), (before, 0, 0));
}
