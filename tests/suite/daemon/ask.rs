//! What the other subcommands say about a running daemon and do to it: words, figures, exit codes.

use std::net::{TcpListener, TcpStream};

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::redis::Redis;

const STEPS: &str =
    r#"{ throttle = "edge", to = "50%", settle = "300ms" }, { shrink = "cache", to = "64MiB", settle = "30s" }"#;

#[test]
fn a_person_is_told_what_is_in_force_and_why_and_can_end_it() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let rule = short_of_memory(STEPS).replace("300ms\"\nsteps", "60s\"\nsteps");
    let node = Node::new(&(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &rule));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    daemon.until_control("cache", "usable");
    let calm = node.ask(&["status"]);
    assert_eq!((calm.code, calm.err.as_str()), (0, ""), "{}", calm.out);
    assert!(calm.out.contains("NORMAL for ") && calm.out.contains("IN FORCE\n  nothing\n"), "{}", calm.out);
    assert!(calm.out.contains("edge (haproxy): ready") && calm.out.contains("quiet: short"), "{}", calm.out);
    let calm = node.ask(&["explain", "short"]);
    assert!(calm.code == 0 && calm.out.contains("quiet"), "{calm:?}");

    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%", "shrink cache to 64.0MiB"]);
    let page = node.ask(&["status"]);
    assert_eq!((page.code, page.err.as_str()), (1, ""));
    for line in ["EMERGENCY for ", "because of short", "throttle edge to 50% for ", "server be/s1 maxconn 8 → 4"] {
        assert!(page.out.contains(line), "no {line:?} in\n{}", page.out);
    }
    assert!(page.out.contains("beyond 10.0% short"), "{}", page.out);
    assert!(page.out.lines().all(|line| line.chars().count() <= 80), "{}", page.out);
    let json = node.ask(&["status", "--json"]);
    assert_eq!((json.code, json.err.as_str()), (1, ""));
    let status: serde_json::Value = serde_json::from_str(&json.out).expect("nothing but JSON");
    assert_eq!((status["mode"].as_str(), status["in_force"].as_array().unwrap().len()), (Some("emergency"), 2));
    let why = node.ask(&["explain", "short"]);
    assert_eq!((why.code, why.err.as_str()), (0, ""));
    for part in ["short (emergency", "firing for ", "5.0%", "throttle edge to 50%", "shrink cache to 64.0MiB"] {
        assert!(why.out.contains(part), "no {part:?} in\n{}", why.out);
    }

    let undone = node.ask(&["undo"]);
    assert_eq!((undone.code, undone.err.as_str()), (0, ""), "{}", undone.out);
    assert!(undone.out.contains("server be/s1 maxconn back to 8"), "{}", undone.out);
    assert!(undone.out.contains("maxmemory back to 0"), "{}", undone.out);
    assert_eq!((edge.face(), cache.face()), before, "undone when the command returns");
    // It is as short of memory as ever, and that is told; what was undone stays so.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let status = daemon.status();
    assert_eq!((status["rules"][0]["state"].as_str(), status["mode"].as_str()), (Some("firing"), Some("emergency")));
    assert_eq!((edge.face(), cache.face()), before);
    let page = node.ask(&["status"]);
    assert!(page.code == 1 && page.out.contains("! #1 throttle edge to 50% was undone "), "{}", page.out);
    assert_eq!(node.ask(&["undo"]).out, "nothing is in force\n");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(node.ask(&["status"]).code, 3, "it is not the rules' yet");
    assert_eq!(node.ask(&["resume"]).code, 0);
    daemon.until("nothing to know", |_| (node.ask(&["status"]).code == 0).then_some(()));
    assert_eq!(daemon.stop(), 0);
    for arguments in [&["status"][..], &["status", "--json"], &["explain"], &["undo"]] {
        let nobody = node.ask(arguments);
        assert_eq!((nobody.code, nobody.out.as_str()), (69, ""), "{arguments:?}");
        assert_eq!(nobody.err.lines().count(), 1, "{}", nobody.err);
    }
}

#[test]
fn one_action_can_be_released_by_its_number() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let other = "[rule.other]\nwhen = \"memory.available_percent < 11%\"\nclear_for = \"200ms\"\ncooldown = \"60s\"\n\
                 steps = [{ shrink = \"cache\", to = \"64MiB\" }]\n";
    let rule = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#);
    let node = Node::new(&(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &rule + other));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until("both", |daemon| (daemon.in_force().len() == 2).then_some(()));
    let status = daemon.status();
    let actions = status["in_force"].as_array().unwrap();
    let shrink = actions.iter().find(|action| action["verb"] == "shrink").unwrap()["id"].to_string();
    daemon.until_in_force_of("shrink");
    let undone = node.ask(&["undo", &shrink]);
    assert_eq!((undone.code, undone.err.as_str()), (0, ""));
    assert!(undone.out.contains("maxmemory back to 0"), "{}", undone.out);
    assert_eq!((edge.limit("be/s1").as_str(), cache.setting("maxmemory").as_str()), ("4", "0"));
    assert_eq!(daemon.in_force(), ["throttle edge to 50%"]);
    let unknown = node.ask(&["undo", "999"]);
    assert!(unknown.code == 1 && unknown.err.contains("not in force: 999"), "{unknown:?}");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.limit("be/s1"), "8");
}

#[test]
fn check_live_asks_every_control_and_changes_nothing() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let node = Node::new(&(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock")));
    let config = node.path("config.toml");
    let config = config.to_str().unwrap();
    let fine = node.ask(&["check", config, "--live"]);
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(fine.out.contains("edge   usable ") && fine.out.contains("cache  usable "), "{}", fine.out);
    let refusing = edge.section("edge", "user.sock") + &cache.section("cache", "nobody.sock");
    node.configure(&refusing);
    assert_eq!(node.ask(&["check", config]).code, 0, "without --live nobody is asked");
    let bad = node.ask(&["check", config, "--live"]);
    assert_eq!(bad.code, 78, "{bad:?}");
    assert!(bad.out.contains("edge   refused ") && bad.out.contains("level admin"), "{}", bad.out);
    assert!(bad.out.contains("cache  unreachable ") && bad.out.contains("does not exist"), "{}", bad.out);
    assert_eq!((edge.face(), cache.face()), before);
}

#[test]
fn a_bad_configuration_is_pointed_at_by_check_and_run_alike() {
    let node = Node::new(
        "[control.haproxy.edge]\nsocket = \"/nowhere.sock\"\n[rule.bad]\nwhen = \"memory.availble_percent < 10%\"\nsteps = [{ throttle = \"edg\", to = \"50%\" }]\n",
    );
    let config = node.path("config.toml");
    let config = config.to_str().unwrap();
    let points_at_it = |said: &str| {
        for part in ["memory.available_percent", "did you mean", "edge", "^^^", &format!("{config}:")] {
            assert!(said.contains(part), "no {part:?} in\n{said}");
        }
    };
    let checked = node.ask(&["check", config]);
    assert_eq!((checked.code, checked.out.as_str()), (78, ""));
    points_at_it(&checked.err);
    let daemon = node.start();
    points_at_it(&daemon.told("fallback").concat());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_this_node_has_none_of_is_not_applicable_and_no_blind_spot() {
    let node = Node::new("[rule.tracked]\nwhen = \"connections.used_percent > 90%\"\n");
    let mut daemon = node.start();
    let state = |daemon: &Daemon| daemon.status()["rules"][0]["state"].as_str().map(str::to_owned);
    daemon.until("it is known", |daemon| (state(daemon)? == "not_applicable").then_some(()));
    assert!(!node.log().contains("conntrack") && !node.ask(&["status"]).out.contains("tracked"), "{}", node.log());
    let page = node.ask(&["status", "--all"]).out;
    assert!(page.contains("not applicable, since this node has none of it: tracked"), "{page}");
    assert!(
        node.ask(&["explain", "tracked"]).out.contains("not applicable: this node lacks"),
        "{}",
        node.ask(&["explain"]).out
    );
    // Its module is loaded.
    std::fs::create_dir_all(node.path("proc/sys/net/netfilter")).unwrap();
    for (name, value) in [("count", "95\n"), ("max", "100\n")] {
        std::fs::write(node.path(&format!("proc/sys/net/netfilter/nf_conntrack_{name}")), value).unwrap();
    }
    assert_eq!(daemon.stop(), 0);
    let mut daemon = node.start();
    daemon.until("it fires", |daemon| (state(daemon)? == "firing").then_some(()));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn only_the_port_that_a_rule_names_is_told_and_at_once() {
    let listeners: Vec<TcpListener> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = listeners[0].local_addr().unwrap();
    let port = address.port();
    let node = Node::new(&format!("[rule.busy]\nwhen = \"connections[{port}].established > 1\"\nfor = \"100ms\"\n"));
    let mut daemon = node.start();
    let told = |daemon: &Daemon| -> Option<Vec<String>> {
        let page = daemon.try_get("/metrics")?.body;
        let series = page.lines().filter(|line| line.starts_with("node_guardian_connections_port_established{"));
        Some(series.map(str::to_owned).collect())
    };
    let series = daemon.until("the port", |daemon| told(daemon).filter(|series| !series.is_empty()));
    assert_eq!(series, [format!("node_guardian_connections_port_established{{port=\"{port}\"}} 0")]);
    let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    daemon.until_told("rule_fired", "busy");
    assert_eq!(daemon.stop(), 0);
}
