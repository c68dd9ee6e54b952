//! What each route says, and in which shape.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::clock;
use node_guardian::events::{Daemon, Event};
use node_guardian::policy::event::Mode;
use node_guardian::policy::losses::Losses;
use node_guardian::policy::orders::{Hold, Orders, Pause};
use node_guardian::policy::view::{Phase, State};

use super::house::House;

#[test]
fn status_says_what_is_wrong_what_was_done_and_what_is_left() {
    let house = House::open();
    let status = house.get("/status").json();
    assert_eq!(status["mode"], "emergency");
    assert_eq!(status["because"][0], "memory-critical");
    assert_eq!(status["host"], "web-3");
    assert_eq!(status["in_force"][0]["text"], "throttle edge to 50%");
    assert_eq!(status["in_force"][0]["id"], 7);
    assert_eq!(status["rules"][0]["state"], "firing");
    assert_eq!(status["scale_hints"]["memory"], 1);
    assert_eq!(status["exhaustion_seconds"]["memory"], 95.5);
    let headroom = status["headroom"].as_array().unwrap();
    let memory = headroom.iter().find(|line| line["metric"] == "memory.available_percent").unwrap();
    assert_eq!((&memory["state"], &memory["nearest"]["text"]), (&"beyond".into(), &"< 8.0%".into()));
    assert_eq!(headroom.iter().filter(|line| line["metric"] == "disk.used_percent").count(), 2);
}

#[test]
fn the_node_and_its_largest_processes_are_told_on_demand() {
    let house = House::open();
    assert_eq!(house.get("/node").json()["host"], "web-3");
    let largest = house.get("/processes?limit=2").json();
    let sizes: Vec<u64> =
        largest["processes"].as_array().unwrap().iter().map(|one| one["resident_bytes"].as_u64().unwrap()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes[0] >= sizes[1] && sizes[1] > 0, "{sizes:?}");
    assert!(house.get("/processes?by=luck").problem(400).contains("by=memory"));
}

#[test]
fn liveness_readiness_and_health_tell_three_different_things() {
    let house = House::open();
    assert_eq!(house.get("/livez").status, 200);
    assert!(house.get("/readyz").problem(503).contains("emergency"));
    let health = house.get("/health");
    assert_eq!((health.status, health.header("content-type")), (503, Some("application/health+json")));
    let health = health.json();
    assert_eq!(health["status"], "fail");
    assert_eq!(health["checks"]["memory:available_percent"][0]["status"], "fail");
    assert_eq!(health["checks"]["memory:available_percent"][0]["observedValue"], 7.1);
    assert_eq!(health["checks"]["disk:used_percent"][0]["componentId"], "/");

    assert_eq!(health["output"], "emergency: memory-critical");
    // As where it is a dry run, or was a warning until a moment ago.
    house.publish(|snapshot| snapshot.view.mode = Mode::Normal);
    assert_eq!(house.get("/health").json()["output"], "firing: memory-critical");
    house.publish(|snapshot| (snapshot.view.mode, snapshot.view.rules[0].state) = (Mode::Emergency, State::Undoing));
    let held = house.get("/health").json()["output"].to_string();
    assert!(held.contains("emergency: no rule fires any more"), "{held}");

    house.publish(|snapshot| {
        snapshot.view.mode = Mode::Normal;
        snapshot.view.rules[0].state = State::Quiet;
        snapshot.view.actions.clear();
    });
    assert_eq!(house.get("/readyz").status, 200);
    assert_eq!(house.get("/health").json()["status"], "pass");

    house.publish(|snapshot| snapshot.at = clock::now().unwrap() - Duration::from_secs(6));
    assert!(house.get("/livez").problem(503).contains("6.0 s ago"));
    assert!(house.get("/readyz").problem(503).contains("ago"));
    let stuck = house.get("/health");
    assert_eq!((stuck.status, stuck.json()["status"].as_str()), (503, Some("fail")));

    house.publish(|snapshot| snapshot.tick = 0);
    assert_eq!(house.get("/livez").status, 200);
    assert!(house.get("/readyz").problem(503).contains("no sample yet"));
}

#[test]
fn what_an_operator_ordered_is_told_in_every_mode() {
    let house = House::open();
    let (now, by) = (clock::now().unwrap(), Arc::from("uid 0 (root)"));
    let pause = Pause { since: now, until: now + Duration::from_secs(600), hold: Hold::Keep, by };
    house.publish(|snapshot| {
        snapshot.view.orders = Orders::of(Some(pause.clone()), Vec::new(), Vec::new(), Vec::new(), Losses::default());
        snapshot.view.turns_away = false;
    });
    // In an emergency, too: whoever pauses the guardian must not lose the node's traffic by that.
    let ready = house.get("/readyz");
    assert!(ready.status == 200 && ready.body.contains("paused"), "{ready:?}");
    let health = house.get("/health");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("warn")));
    house.publish(|snapshot| snapshot.view.mode = Mode::Normal);
    let health = house.get("/health").json();
    assert_eq!(health["status"], "warn");
    let told = health["description"].as_str().unwrap();
    assert!(told.contains("mode normal, paused by uid 0 (root)") && told.ends_with("1 in force"), "{told}");
    let status = house.get("/status").json();
    assert_eq!(status["paused"]["hold"], true);
    assert!(status["notices"][0].as_str().unwrap().contains("paused by uid 0 (root) for another"), "{status}");
    assert!(house.get("/metrics").body.contains("\nnode_guardian_paused 1\n"));
    house.publish(|snapshot| {
        snapshot.view.orders = Orders::default();
        snapshot.view.rules[0].state = State::Quiet;
    });
    let health = house.get("/health").json();
    assert_eq!(
        (health["status"].as_str(), health["description"].as_str()),
        (Some("pass"), Some("node-guardian: mode normal, 1 in force"))
    );
    house.publish(|snapshot| snapshot.view.actions[0].phase = Phase::Owed);
    assert_eq!(house.get("/health").json()["status"], "warn");
    assert!(house.get("/metrics").body.contains("\nnode_guardian_owed 1\n"));
}

#[test]
fn where_nothing_helps_the_node_is_ready_and_warns() {
    let house = House::open();
    let now = clock::now().unwrap();
    house.publish(|snapshot| {
        snapshot.view.turns_away = false;
        snapshot.view.rules[0].stood_down = Some(now - Duration::from_secs(180));
        snapshot.view.rules[0].retries_at = Some(now + Duration::from_secs(300));
    });
    let ready = house.get("/readyz");
    assert!(ready.status == 200 && ready.body.contains("stood down"), "{ready:?}");
    let health = house.get("/health");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("warn")));
    let notice = house.get("/status").json()["notices"][0].to_string();
    assert!(
        notice.contains("rule memory-critical has stood down for") && notice.contains("tried again in"),
        "{notice}"
    );
}

#[test]
fn the_trail_can_be_paged_and_followed() {
    let mut house = House::open();
    for n in 0..5 {
        let what = format!("source {n}");
        house.events.emit(n, Event::Daemon(Daemon::SourceFound { what }));
    }
    let newest = house.get("/events?limit=2").json();
    assert_eq!((&newest["events"][0]["seq"], &newest["next"]), (&4.into(), &5.into()));
    let page = house.get("/events?since=1&limit=2").json();
    assert_eq!((&page["events"][0]["seq"], &page["next"]), (&2.into(), &3.into()));
    assert_eq!(page["events"][0]["text"], "no blind spot any more: source 1");
    assert_eq!(house.get("/events?since=5").json(), serde_json::json!({"events": [], "next": 5}));
    assert!(house.get("/events?since=yesterday").problem(400).contains("whole numbers"));

    let mut stream = TcpStream::connect(house.tcp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: 4\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    let mut read_until = |wanted: &str| {
        while !seen.contains(wanted) {
            let mut chunk = [0; 1024];
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
    };
    read_until("id: 5\nevent: source_found\ndata: {");
    house.events.emit(9, Event::Daemon(Daemon::SourceFound { what: "psi".into() }));
    read_until("no blind spot any more: psi");
    assert!(seen.contains("text/event-stream") && !seen.contains("id: 4\n"));
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let house = House::open();
    let first = house.get("/status");
    let tag = first.header("etag").unwrap();
    let again = format!("GET /status HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\nConnection: close\r\n\r\n");
    let reply = house.ask(&again);
    assert_eq!((reply.status, reply.body.as_str()), (304, ""));
    house.publish(|_| {});
    assert_eq!(house.ask(&again).status, 200);
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    let house = House::open();
    for path in ["/livez", "/status", "/metrics", "/rules", "/"] {
        let get = house.get(path);
        let head = house.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.header("content-length").is_some(), "{path}: {}", head.head);
    }
}

#[test]
fn a_wrong_address_or_method_is_told_the_right_one() {
    let house = House::open();
    let missing = house.get("/statsu");
    assert!(missing.problem(404).contains("did you mean /status"), "{missing:?}");
    assert_eq!(missing.json()["near"][0], "/status");
    assert!(house.get("/rules/memory-critcal").problem(404).contains("did you mean memory-critical?"));
    let posted = house.ask_admin("POST /status HTTP/1.1\r\nContent-Length: 0\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(posted.problem(405).contains("takes GET, HEAD, not POST"));
    assert_eq!(posted.header("allow"), Some("GET, HEAD"));
    let got = house.get("/undo");
    got.problem(405);
    assert_eq!(got.header("allow"), Some("POST"));
    assert!(house.get("/").body.contains("/metrics"));
}
