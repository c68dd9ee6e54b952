//! What a service manager hears, as sd_notify(3) and systemd.service(5) have it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Node, short_of_memory};

pub struct Manager(UnixDatagram);

impl Manager {
    pub fn of(node: &mut Node) -> Self {
        let socket = node.path("notify.sock");
        let manager = Self(UnixDatagram::bind(&socket).unwrap());
        node.environment.push(("NOTIFY_SOCKET", socket.display().to_string()));
        manager
    }

    pub fn hear(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// The next message that has this line, and the line's value.
    pub fn until(&self, line: &str) -> (String, String) {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let Some(message) = self.hear(Duration::from_secs(30)) else { break };
            if let Some(value) = message.lines().find_map(|known| known.strip_prefix(line)).map(str::to_owned) {
                return (message, value);
            }
        }
        panic!("never told {line}");
    }
}

#[test]
fn it_hears_of_every_turn() {
    let edge = Haproxy::start();
    let mut node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let manager = Manager::of(&mut node);
    let mut daemon = node.start();
    let (ready, _) = manager.until("READY=1");
    assert!(ready.contains("STATUS=guarding"), "{ready}");
    node.set_available(5);
    assert_eq!(manager.until("STATUS=emergency; ").1, "1 in force");

    let before = monotonic_usec();
    daemon.signal(Signal::SIGHUP);
    let (reloading, _) = manager.until("RELOADING=1");
    let told = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let told: u128 = told.expect("systemd ignores a reload without it").parse().unwrap();
    assert!((before..=monotonic_usec()).contains(&told), "{told}");
    manager.until("READY=1");
    assert_eq!(manager.until("STATUS=emergency; ").1, "1 in force", "not forgotten by a reload");

    node.configure("nonsense = 1\n");
    daemon.signal(Signal::SIGHUP);
    manager.until("RELOADING=1");
    manager.until("READY=1");
    daemon.until_told("reload_refused", "nonsense");

    daemon.signal(Signal::SIGTERM);
    let (stopping, _) = manager.until("STOPPING=1");
    assert!(stopping.contains("STATUS=undoing"), "{stopping}");
    assert_eq!(daemon.wait(), 0);
    assert_eq!(manager.hear(Duration::from_millis(50)), None, "nothing follows the end");
}

#[test]
fn the_watchdog_is_fed_in_time_and_only_by_the_living() {
    let mut node = Node::new("");
    node.environment.push(("WATCHDOG_USEC", "600000".into()));
    let manager = Manager::of(&mut node);
    let daemon = node.start();
    manager.until("WATCHDOG=1");
    for _ in 0..6 {
        let began = Instant::now();
        manager.until("WATCHDOG=1");
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    }
    daemon.signal(Signal::SIGSTOP);
    while manager.hear(Duration::from_millis(100)).is_some() {}
    assert_eq!(manager.hear(Duration::from_millis(900)), None);
    daemon.signal(Signal::SIGCONT);
    manager.until("WATCHDOG=1");
    assert_eq!(daemon.stop(), 0);
}

/// A manager that was started anew, and whose socket is another one: what it missed is told again, and that once.
#[test]
fn a_manager_whose_socket_is_replaced_hears_what_it_missed() {
    let mut node = Node::new("");
    node.environment.push(("WATCHDOG_USEC", "600000".into()));
    let manager = Manager::of(&mut node);
    let mut daemon = node.start();
    manager.until("READY=1");
    drop(manager);
    std::fs::remove_file(node.path("notify.sock")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.until_told("reloaded", "");
    let ticks = daemon.ticks();
    daemon.until("it goes on", |daemon| (daemon.ticks() > ticks + 60).then_some(()));
    let manager = Manager::of(&mut node);
    let mut missed = Vec::new();
    while missed.last().is_none_or(|told: &String| !told.contains("READY=1")) {
        missed.extend(manager.hear(Duration::from_secs(8)));
        assert!(missed.len() < 40, "that it is ready is lost: {missed:?}");
    }
    assert!(missed.iter().any(|told| told.contains("RELOADING=1")), "{missed:?}");
    for _ in 0..4 {
        manager.until("WATCHDOG=1");
    }
    let log = node.log();
    for told in ["the service manager cannot be notified", "the service manager can be notified again"] {
        assert_eq!(log.matches(told).count(), 1, "{told}:\n{log}");
    }
    assert_eq!(daemon.stop(), 0);
}

/// systemd that is busy, or stopped, reads nothing; a socket has room for eleven messages.
#[test]
fn a_manager_that_reads_nothing_delays_no_tick() {
    let mut node = Node::new("");
    node.environment.push(("WATCHDOG_USEC", "60000".into()));
    let manager = Manager::of(&mut node);
    let mut daemon = node.start();
    let ticks = daemon.ticks();
    daemon.until("many ticks", |daemon| (daemon.ticks() > ticks + 100).then_some(()));
    assert_eq!(daemon.get("/livez").status, 200);
    manager.until("READY=1");
    for _ in 0..20 {
        manager.until("WATCHDOG=1");
    }
    assert_eq!(daemon.stop(), 0);
}

fn monotonic_usec() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(now).as_micros()
}
