//! A start that everything seems to be against: a typo, a port that is taken, a log filter that is none. What is in force is
//! undone, the node is guarded, and everybody is told.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::FromRawFd;
use std::process::Command;

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};

const THROTTLE: &str = r#"{ throttle = "edge", to = "50%" }"#;

/// Killed while its only step is in force.
fn killed_in_an_emergency(edge: &Haproxy, listen: &str) -> Node {
    let node = Node::listening(&(edge.section("edge", "admin.sock") + &short_of_memory(THROTTLE)), listen);
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    daemon.until("the configuration is kept", |_| kept(&node).then_some(()));
    daemon.kill();
    assert_eq!(edge.limit("be/s1"), "4");
    node
}

fn kept(node: &Node) -> bool {
    let files = std::fs::read_dir(node.path("state")).unwrap().flatten();
    files.map(|file| file.file_name()).any(|name| name.to_str().unwrap().starts_with("last-good-"))
}

fn gauge(daemon: &Daemon, name: &str) -> Option<String> {
    let text = daemon.try_get("/metrics")?.body;
    text.lines().find_map(|line| line.strip_prefix(&format!("node_guardian_{name} "))).map(str::to_owned)
}

#[test]
fn a_typo_leaves_no_throttle_behind_and_the_node_guarded() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = killed_in_an_emergency(&edge, "");
    node.edit("throttle = \"edge\"", "throtle = \"edge\"");
    node.set_available(60);
    let mut daemon = node.start();
    daemon.until("undone", |daemon| daemon.in_force().is_empty().then_some(()));
    assert_eq!(edge.face(), before);
    let page = node.ask(&["status"]);
    let first: Vec<&str> = page.out.lines().take(2).collect();
    assert!(page.code == 3 || page.code == 1, "{page:?}");
    assert!(first[1].starts_with("! the configuration cannot be used: guarding by the last good one"), "{first:?}");
    assert!(page.out.contains("config.toml:") && page.out.contains("throttle"), "{}", page.out);
    daemon.until("normal", |daemon| (daemon.mode() == "normal").then_some(()));
    let health = daemon.get("/health").json();
    assert_eq!(health["status"], "warn", "{health}");
    assert!(health["output"].as_str().unwrap().contains("configuration"), "{health}");
    assert_eq!(gauge(&daemon, "config_last_load_ok").as_deref(), Some("0"));
    assert!(node.log().contains("the configuration cannot be used") && node.log().contains("^^^"), "{}", node.log());

    // It guards as before.
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    node.set_available(60);
    daemon.until("undone", |daemon| daemon.in_force().is_empty().then_some(()));
    assert_eq!(edge.face(), before);

    node.edit("throtle = \"edge\"", "throttle = \"edge\"");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    daemon.until("told as mended", |daemon| (gauge(daemon, "config_last_load_ok")? == "1").then_some(()));
    daemon.until_calm();
    assert_eq!(node.ask(&["status"]).code, 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_port_that_is_taken_keeps_nobody_from_undoing() {
    let edge = Haproxy::start();
    let before = edge.face();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let node = killed_in_an_emergency(&edge, &address.to_string());
    let taken = TcpListener::bind(address).unwrap();
    node.set_available(60);
    let mut daemon = node.start();
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    let told = daemon.until_told("source_lost", "is taken");
    assert!(told.text().contains(&format!("who asks at {address}")), "{}", told.text());
    let holder = format!("(pid {}), uid {}", std::process::id(), nix::unistd::geteuid());
    let status = node.ask(&["status"]);
    let first: String = status.out.lines().skip(1).take(4).map(|line| format!("{} ", line.trim())).collect();
    assert!(first.contains(&format!("{address} is not served")) && first.contains(&holder), "{}", status.out);
    assert_eq!(status.code, 3, "somebody should look at it");
    drop(taken);
    daemon.until_told("source_found", &address.to_string());
    assert!(std::net::TcpStream::connect(address).is_ok());
    assert_eq!(daemon.status()["blind_spots"].to_string().matches("is taken").count(), 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn without_a_last_good_one_it_only_tells_and_a_later_one_is_taken() {
    let edge = Haproxy::start();
    let mut node = Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(THROTTLE)));
    node.edit("throttle = \"edge\"", "throtle = \"edge\"");
    node.environment.push(("NODE_GUARDIAN_LOG", "loud".into()));
    let mut daemon = node.start();
    assert_eq!(daemon.status()["configuration"]["by"], "built_in");
    assert_eq!(daemon.status()["level"], "minimal");
    assert!(node.log().contains("`loud` is not a level"), "{}", node.log());
    node.edit("throtle = \"edge\"", "throttle = \"edge\"");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "config.toml");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.limit("be/s1"), "8");
}

#[test]
fn a_refused_reload_is_told_until_it_is_mended() {
    let node = Node::new("");
    let mut daemon = node.start();
    node.edit("[sampling]", "[smapling]");
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reload_refused", "smapling");
    let page = node.ask(&["status"]);
    assert!(page.code == 3 && page.out.lines().nth(1).unwrap().contains("the one before it stays"), "{page:?}");
    assert_eq!(gauge(&daemon, "config_last_load_ok").as_deref(), Some("0"));
    node.edit("[smapling]", "[sampling]");
    daemon.signal(Signal::SIGHUP);
    daemon.until("mended", |_| (node.ask(&["status"]).code == 0).then_some(()));
    assert_eq!(daemon.stop(), 0);
}

/// Run with a terminal of its own, which is read to its end; the exit code and what was written there.
fn on_a_terminal(node: &Node) -> (Option<i32>, String) {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: two descriptors are written to two integers of ours; no name and no settings are asked for.
    let opened = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
    };
    assert_eq!(opened, 0);
    // SAFETY: both were just opened, and nobody else has them.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let config = node.path("config.toml");
    let mut command = Command::new(EXECUTABLE);
    command.args(["run", "--config", config.to_str().unwrap()]).env_clear();
    command.env("STATE_DIRECTORY", node.path("usual")).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = Vec::new();
    // A terminal that everybody has left answers with an error.
    master.read_to_end(&mut said).ok();
    (child.wait().unwrap().code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn whoever_tries_a_configuration_out_on_a_terminal_is_told_at_once() {
    let node = Node::new("");
    node.edit("[sampling]", "[smapling]");
    let (code, said) = on_a_terminal(&node);
    assert!(code == Some(78) && said.contains("did you mean") && said.contains("smapling"), "{code:?}: {said}");
    assert!(!node.path("state").exists() && !node.path("admin.sock").exists(), "nothing was started");
}
