//! A new configuration while something is in force.

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::processes::Plain;
use super::super::support::redis::Redis;

const BOTH: &str = r#"{ throttle = "edge", to = "50%", settle = "100ms" }, { shrink = "cache", to = "64MiB" }"#;

fn in_an_emergency(edge: &Haproxy, cache: &Redis) -> (Node, Daemon) {
    let node = Node::new(
        &(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock") + &short_of_memory(BOTH)),
    );
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%", "shrink cache to 64.0MiB"]);
    (node, daemon)
}

#[test]
fn a_bad_configuration_is_refused_whole_and_nothing_changes() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    node.configure("[rule.short]\nwhen = \"memory.availble_percent < 10%\"\n[sampling2]\n");
    daemon.signal(Signal::SIGHUP);
    let refused = daemon.until_told("reload_refused", "the old one stays");
    for part in ["memory.available_percent", "sampling", "^^^", "config.toml:"] {
        assert!(refused.text().contains(part), "no {part:?} in {}", refused.text());
    }
    assert_eq!(daemon.in_force(), ["throttle edge to 50%", "shrink cache to 64.0MiB"]);
    assert_eq!((edge.limit("be/s1").as_str(), cache.face().as_str()), ("4", "67108864 allkeys-lru"));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_unchanged_configuration_disturbs_nothing() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(daemon.in_force(), ["throttle edge to 50%", "shrink cache to 64.0MiB"]);
    assert_eq!((daemon.told("acted").len(), daemon.told("undoing").len()), (2, 0));
    assert_eq!((daemon.mode().as_str(), daemon.told("rule_fired").len()), ("emergency", 1));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_webhook_that_is_added_and_a_threshold_that_is_moved_disturb_nothing_that_fires() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    let held = daemon.status()["in_force"].clone();
    let ids = |in_force: &serde_json::Value| -> Vec<u64> {
        in_force.as_array().unwrap().iter().map(|action| action["id"].as_u64().unwrap()).collect()
    };
    node.edit("[rule.short]", "[control.webhook.ops]\nurl = \"http://127.0.0.1:1/\"\n[rule.short]");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    node.edit("memory.available_percent < 10%", "memory.available_percent < 12%");
    daemon.signal(Signal::SIGHUP);
    daemon.until("reloaded twice", |daemon| (daemon.told("reloaded").len() == 2).then_some(()));
    let from = daemon.ticks();
    daemon.until("twenty ticks", |daemon| (daemon.ticks() > from + 20).then_some(()));
    let status = daemon.status();
    assert_eq!((ids(&status["in_force"]), status["mode"].as_str()), (ids(&held), Some("emergency")));
    assert_eq!((daemon.told("undoing").len(), daemon.told("rule_fired").len()), (0, 1));
    assert_eq!((edge.limit("be/s1").as_str(), cache.face().as_str()), ("4", "67108864 allkeys-lru"));
    node.set_available(60);
    daemon.until("undone", |daemon| daemon.in_force().is_empty().then_some(()));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_a_removed_rule_had_in_force_is_released() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    node.configure(&(edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock")));
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    daemon.until_calm();
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.status()["rules"].as_array().unwrap().len(), 0);
    assert_eq!(daemon.told("undone").len(), 2);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_control_that_is_removed_while_in_force_is_restored_at_where_it_was() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    let only_the_cache = r#"{ shrink = "cache", to = "64MiB" }"#;
    node.configure(&(cache.section("cache", "redis.sock") + &short_of_memory(only_the_cache)));
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("undone", "throttle edge to 50%");
    assert_eq!(edge.face(), before.0);
    daemon.until_in_force(&["shrink cache to 64.0MiB"]);
    assert_eq!(cache.face(), "67108864 allkeys-lru");
    let status = daemon.status();
    let names: Vec<_> = status["controls"].as_array().unwrap().iter().map(|control| &control["name"]).collect();
    assert_eq!(names, ["cache"]);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_control_that_moves_while_in_force_is_restored_at_its_old_place() {
    let (old, new) = (Haproxy::start(), Haproxy::start());
    let before = (old.face(), new.face());
    let rule = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#);
    let node = Node::new(&(old.section("edge", "admin.sock") + &rule));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    node.configure(&(new.section("edge", "admin.sock") + &rule));
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((old.face(), new.face()), before);
    // From now on it is the new one.
    daemon.until_told("rule_quiet", "short");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!((old.face(), new.limit("be/s1").as_str()), (before.0.clone(), "4"));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((old.face(), new.face()), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_level_that_forbids_it_lets_go_at_once() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let before = (edge.face(), cache.face());
    let (node, mut daemon) = in_an_emergency(&edge, &cache);
    node.edit("[sampling]", "level = \"minimal\"\n[sampling]");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    daemon.until("both undone", |daemon| (daemon.told("undone").len() == 2).then_some(()));
    assert_eq!((edge.face(), cache.face()), before);
    assert_eq!(daemon.status()["level"], "minimal");
    assert_eq!(daemon.in_force(), [""; 0]);
    assert_eq!(daemon.stop(), 0);
}

/// Who takes a declaration back says no, also to what is in force; and over a crash.
#[test]
fn what_its_control_declares_no_more_is_let_go_of_at_once() {
    let batch = Plain::start("sleep", &["600"]);
    let declared = format!(
        "[control.process.batch]\npid_file = \"{}\"\ncommand = \"sleep\"\nsacrificial = true\n",
        batch.pid_file().display()
    );
    let node = Node::new(&(declared + &short_of_memory(r#"{ freeze = "batch" }"#)));
    let mut daemon = node.start();
    daemon.until_control("batch", "usable");
    node.set_available(5);
    daemon.until_in_force(&["freeze batch"]);
    assert_eq!(batch.states(), "T");
    node.edit("sacrificial = true\n", "");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("undoing", "the configuration no longer allows it");
    daemon.until("it goes on", |_| (batch.states() == "S").then_some(()));
    assert_eq!(daemon.mode(), "emergency");
    daemon.kill();
    let mut daemon = node.start();
    daemon.until_told("acted", "freeze batch: refused");
    assert_eq!(batch.states(), "S");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}

/// SIGTERM is out, and SIGKILL would follow: whoever takes back what allowed that is obeyed, and who changed nothing there
/// is not.
#[test]
fn no_sigkill_follows_where_a_reload_has_taken_back_what_allowed_it() {
    let takes_back = [
        ("sacrificial = true\nkill_after = \"2s\"\n", ""),
        ("kill_after = \"2s\"\n", ""),
        ("job.pid", "other.pid"),
        ("settle = \"100ms\"", "settle = \"101ms\""),
    ];
    let kept = takes_back.map(|(from, to)| std::thread::spawn(move || is_spared(from, to)));
    assert_eq!(kept.map(|kept| kept.join().unwrap()), [true, true, true, false]);
}

/// Whether a process is that takes no SIGTERM, where this is edited before its SIGKILL is due.
fn is_spared(from: &str, to: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (told, pid_file) = (folder.path().join("told"), folder.path().join("job.pid"));
    let script = "trap 'echo > \"$1\"' TERM; while :; do read -t 1 < <(:); sleep 0.1; done";
    let job = Plain::start("bash", &["-c", script, "bash", told.to_str().unwrap()]);
    std::fs::write(&pid_file, job.id()).unwrap();
    let declared = format!(
        "[control.process.job]\npid_file = \"{}\"\ncommand = \"bash\"\nsacrificial = true\nkill_after = \"2s\"\n",
        pid_file.display()
    );
    let ends = short_of_memory(r#"{ terminate = "job", settle = "100ms" }"#);
    let node = Node::new(&(declared + &ends));
    node.edit("[sampling]", "level = \"maximum\"\n[sampling]");
    let mut daemon = node.start();
    daemon.until_control("job", "usable");
    node.set_available(5);
    daemon.until("SIGTERM is out", |_| told.exists().then_some(()));
    node.edit(from, to);
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    let acted = daemon.until_told("acted", "terminate job");
    let is_spared = acted.text().contains("no SIGKILL followed");
    let command_line = std::fs::read(format!("/proc/{}/cmdline", job.id())).unwrap_or_default();
    assert_eq!(is_spared, !command_line.is_empty(), "what has ended has none: {}", acted.text());
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
    is_spared
}
