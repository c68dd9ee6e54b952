//! Two guardians never change one target: who comes second watches it and says who has it. And nobody without rights can
//! keep a target from being guarded.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use nix::unistd::geteuid;
use node_guardian::control::address::Address;

use super::super::support::eventually;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::processes::Plain;
use super::super::support::redis::Redis;
use crate::again::{again_from_a_copy, as_child};

const NOBODY: u32 = 65534;

fn node(edge: &Haproxy) -> Node {
    let socket = edge.section("edge", "admin.sock");
    Node::new(&(socket + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)))
}

/// What all guardians call this HAProxy.
fn mark(edge: &Haproxy) -> String {
    let socket = std::fs::metadata(edge.path("admin.sock")).unwrap();
    format!("node-guardian/{}:{}", socket.dev(), socket.ino())
}

#[test]
fn the_second_guardian_of_a_target_only_watches_it() {
    let edge = Haproxy::start();
    let before = edge.face();
    let (one, other) = (node(&edge), node(&edge));
    let (mut first, mut second) = (one.start(), other.start());
    one.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    other.set_available(5);
    let told = second.until_told("acted", "already controls this target");
    let pid = first.pid().to_string();
    assert!(told.text().contains(&format!("pid {pid} (uid ")), "{}", told.text());
    assert_eq!((second.in_force().len(), edge.limit("be/s1").as_str()), (0, "4"));
    one.set_available(60);
    first.until_calm();
    assert_eq!(edge.face(), before);

    let third = node(&edge);
    let mut watches = third.start();
    let why = watches.until_control("edge", "refused");
    assert!(why.contains(&format!("pid {pid} ")) && why.contains("only watches"), "{why}");
    first.kill();
    let last = node(&edge);
    last.set_available(5);
    let mut heir = last.start();
    heir.until_in_force(&["throttle edge to 50%"]);
    last.set_available(60);
    heir.until_calm();
    assert_eq!(edge.face(), before);
}

/// Each would take what the other has set at the child for the child's own.
#[test]
fn a_supervisor_and_its_child_are_left_to_one_guardian() {
    let family = Plain::family();
    let child = family.path("child");
    std::fs::write(&child, &family.tree()[1]).unwrap();
    let node = |pid_file: &Path| {
        let job = format!("[control.process.job]\npid_file = \"{}\"\ncommand = \"python3\"\n", pid_file.display());
        Node::new(&(job + &short_of_memory(r#"{ throttle = "job", to = "50%" }"#)))
    };
    let nodes = [node(&family.pid_file()), node(&child)];
    for [one, other] in [[&nodes[0], &nodes[1]], [&nodes[1], &nodes[0]]] {
        let (mut first, mut second) = (one.start(), other.start());
        second.until_control("job", "usable");
        one.set_available(5);
        first.until_in_force(&["throttle job to 50%"]);
        let slowed = family.nice();
        other.set_available(5);
        let told = second.until_told("acted", "already controls a process that");
        assert!(told.text().contains(&format!("pid {} (uid ", first.pid())), "{}", told.text());
        assert_eq!((second.in_force().len(), family.nice()), (0, slowed));
        [one, other].iter().for_each(|node| node.set_available(60));
        first.until_calm();
        assert_eq!((family.nice().as_str(), first.stop(), second.stop()), ("0 0 5", 0, 0));
    }
}

/// The second one takes what the first has set for the prior value, so the first must not take what the second sets for an
/// operator's, and close what it owes.
#[test]
fn what_is_owed_outlives_another_guardian_that_acts_meanwhile() {
    let edge = Haproxy::start();
    let before = edge.face();
    let (one, other) = (node(&edge), node(&edge));
    let mut first = one.start();
    one.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    first.kill();
    let mut second = other.start();
    other.set_available(5);
    second.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(edge.limit("be/s1"), "2", "on top of the first one's 4 of 8");

    one.set_available(60);
    let mut again = one.start();
    let owed = again.until_told("owed", "already controls this target");
    assert!(owed.text().contains("the owed undo waits for that guardian"), "{}", owed.text());
    assert_eq!(edge.limit("be/s1"), "2", "nothing of the second one's is touched");
    other.set_available(60);
    second.until_calm();
    again.until_calm();
    assert_eq!(edge.face(), before);
}

/// One is in force; the other reaches the same service by another of its addresses.
fn only_one_acts(name: &str, sections: [String; 2], steps: [&str; 2], face: &dyn Fn() -> String) {
    let before = face();
    let [one, other] = [0, 1].map(|at| Node::new(&(sections[at].clone() + &short_of_memory(steps[at]))));
    let (mut first, mut second) = (one.start(), other.start());
    first.until_control(name, "usable");
    second.until_control(name, "usable");
    one.set_available(5);
    first.until_told("acted", "applied");
    let ours = face();
    assert_ne!(ours, before);
    other.set_available(5);
    let told = second.until_told("acted", "already controls this target");
    assert!(told.text().contains(&format!("pid {} ", first.pid())), "{}", told.text());
    assert_eq!((second.in_force().len(), face()), (0, ours));
    second.kill();
    let mut watches = other.start();
    let why = watches.until_control(name, "refused");
    assert!(why.contains(&format!("pid {} ", first.pid())) && why.contains("only watches"), "{why}");
    one.set_available(60);
    first.until_calm();
    assert_eq!(face(), before);
    first.kill();
    watches.kill();
    let mut heir = other.start();
    heir.until("it is the heir", |daemon| (!daemon.in_force().is_empty()).then_some(()));
    other.set_available(60);
    heir.until_calm();
    assert_eq!(face(), before);
}

fn by_port(cache: &Redis, name: &str) -> String {
    let Address::Tcp(at) = cache.tcp() else { panic!("it is a port") };
    let section = cache.section(name, "redis.sock");
    let lines = section
        .lines()
        .map(|line| if line.starts_with("socket") { format!("address = \"{at}\"") } else { line.into() });
    lines.map(|line| line + "\n").collect()
}

#[test]
fn two_addresses_of_one_haproxy_are_one_target() {
    let edge = Haproxy::start();
    let sections = [edge.section("edge", "admin.sock"), edge.section("edge", "second.sock")];
    let steps = [r#"{ throttle = "edge", to = "50%" }"#, r#"{ throttle = "edge", to = "25%" }"#];
    only_one_acts("edge", sections, steps, &|| edge.face());
}

#[test]
fn two_addresses_of_one_redis_are_one_target() {
    let cache = Redis::start();
    let sections = [by_port(&cache, "cache"), cache.section("cache", "redis.sock")];
    let steps = [r#"{ shrink = "cache", to = "64MiB" }"#, r#"{ shrink = "cache", to = "32MiB" }"#];
    only_one_acts("cache", sections, steps, &|| cache.face());
}

/// What an operator undid by one name must not come again by the other.
#[test]
fn of_two_controls_of_one_service_only_the_first_by_name_acts() {
    let cache = Redis::start();
    let by_socket = cache.section("aa", "redis.sock");
    let by_port = by_port(&cache, "bb");
    let steps = r#"{ shrink = "aa", to = "64MiB", settle = "100ms" }, { shrink = "bb", to = "32MiB" }"#;
    let node = Node::new(&(by_socket + &by_port + &short_of_memory(steps)));
    let told = "leads to the same service as control aa";
    let said = node.ask(&["check", node.path("config.toml").to_str().unwrap(), "--live"]);
    assert!(said.code != 0 && said.out.replace('\n', " ").contains("control aa"), "{said:?}");
    let mut daemon = node.start();
    daemon.until_control("aa", "usable");
    assert!(daemon.until_control("bb", "refused").contains(told));
    node.set_available(5);
    daemon.until_in_force(&["shrink aa to 64.0MiB"]);
    daemon.order("/undo", "").join().unwrap();
    daemon.until("it is undone", |daemon| daemon.in_force().is_empty().then_some(()));
    let ticks = daemon.ticks();
    daemon.until("the rule has fired on", |daemon| (daemon.ticks() > ticks + 40).then_some(()));
    assert_eq!((daemon.in_force().len(), cache.setting("maxmemory").as_str()), (0, "0"));
}

/// What was put back by the one is not lowered again by the other, nor the other way round: a new life has a mark of its own.
#[test]
fn after_a_restart_of_the_service_one_of_them_acts() {
    let mut edge = Haproxy::start();
    let step = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#);
    let nodes = ["admin.sock", "second.sock"].map(|socket| Node::new(&(edge.section("edge", socket) + &step)));
    let [one, other] = &nodes;
    let (mut first, mut second) = (one.start(), other.start());
    one.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    other.set_available(5);
    second.until_told("acted", "already controls this target");
    edge.restart();
    assert_eq!(edge.limit("be/s1"), "8");
    first.until("one of them acts", |_| (edge.limit("be/s1") != "8").then_some(()));
    let both = |daemon: &Daemon| (daemon.in_force().len() + second.in_force().len() == 1).then_some(());
    first.until("and only one", both);
    assert_eq!(edge.limit("be/s1"), "4");
    nodes.iter().for_each(|node| node.set_available(60));
    first.until_calm();
    second.until_calm();
    assert_eq!(edge.limit("be/s1"), "8");
}

#[test]
fn guardians_of_different_targets_do_not_know_each_other() {
    let (mine, theirs) = (Haproxy::start(), Haproxy::start());
    let (one, other) = (node(&mine), node(&theirs));
    let (mut first, mut second) = (one.start(), other.start());
    one.set_available(5);
    other.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    second.until_in_force(&["throttle edge to 50%"]);
}

#[test]
fn nobody_without_rights_can_take_the_mark() {
    if let Some(folder) = as_child() {
        return squat(&folder);
    }
    if !geteuid().is_root() {
        // Whoever we are, our own mark counts for us.
        return;
    }
    let edge = Haproxy::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(folder.path().join("name"), mark(&edge)).unwrap();
    let mut squatter = again_from_a_copy("daemon::marks::nobody_without_rights_can_take_the_mark", folder.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the names are taken", || folder.path().join("taken").exists().then_some(()));
    let node = node(&edge);
    let mut daemon = node.start();
    assert!(daemon.until_control("edge", "usable").contains("may throttle"));
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    let second = self::node(&edge);
    let mut watches = second.start();
    assert!(watches.until_control("edge", "refused").contains("already controls"), "behind the squatter it is seen");
    drop(squatter.stdin.take());
    squatter.wait().unwrap();
}

/// As many as its limit of open files allows, among them those that are tried first, until nobody needs it.
fn squat(folder: &Path) {
    let name = std::fs::read_to_string(folder.join("name")).unwrap();
    let numbered = |at: u32| [format!("{name}/{at}"), format!("{name}/{at:016x}")];
    let names = (0..200).flat_map(numbered).map(|name| SocketAddr::from_abstract_name(name).unwrap());
    let taken: Vec<_> = names.map(|name| UnixListener::bind_addr(&name).unwrap()).collect();
    std::fs::write(folder.join("taken"), "").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    assert_eq!(taken.len(), 400);
}
