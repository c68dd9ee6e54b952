//! A listener overflows. Only what stands before its port can help it; a busy proxy before others is left alone.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use super::super::support::haproxy::Haproxy;
use super::super::support::nginx::Nginx;
use super::super::support::node::{Daemon, Node};
use super::super::support::overflow::{Overflow, full_listener};
use super::super::support::web::{self, Traffic};

/// Fires when memory is short, so that the test says when; what the trouble is about, the kernel says.
const RULE: &str = r#"
[rule.overflow]
when = "memory.available_percent < 10% and connections.listen_overflow_rate >= 0/s"
clear = "memory.available_percent > 20%"
severity = "emergency"
ladder = "connections"
"#;

/// A proxy that is busy, the node that it is on, and its guardian.
struct Scene {
    edge: Haproxy,
    traffic: Traffic,
    node: Node,
    daemon: Daemon,
}

impl Scene {
    fn before(port: u16) -> Self {
        let edge = Haproxy::on_ports(port);
        let counts = web::serve(&edge.path("app.sock"));
        let traffic = Traffic::start(&edge.path("web.sock"), 4, counts);
        let socket = edge.path("admin.sock");
        let control = format!("[control.haproxy.edge]\nsocket = \"{}\"\n", socket.display());
        let node = Node::new(&(control + RULE));
        let mut daemon = node.start();
        daemon.until_control("edge", "usable");
        Self { edge, traffic, node, daemon }
    }

    fn overflow(&mut self, port: u16) {
        overflow(&self.node, &mut self.daemon, port);
    }

    fn end_as(self, before: &str) {
        let Self { edge, traffic, node, mut daemon } = self;
        node.set_available(60);
        daemon.until_calm();
        assert_eq!(edge.face(), before);
        traffic.stop();
        assert_eq!(daemon.stop(), 0);
    }
}

/// Waits until the kernel's word is out, and lets the rule fire.
fn overflow(node: &Node, daemon: &mut Daemon, port: u16) {
    daemon.until("drops are seen", |daemon| {
        let sample = daemon.get("/metrics").body;
        let line = sample.lines().find(|line| {
            line.starts_with("node_guardian_connections_port_listen_drops_per_second{")
                && line.contains(&format!("\"{port}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).filter(|rate| *rate > 0.0).map(drop)
    });
    node.set_available(5);
    daemon.until("it fires", |daemon| (daemon.mode() == "emergency").then_some(()));
}

#[test]
fn a_busy_proxy_is_left_alone_when_somebody_elses_listener_overflows() {
    let (behind, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), full_listener());
    let mut scene = Scene::before(behind.local_addr().unwrap().port());
    let before = scene.edge.face();
    let port = other.local_addr().unwrap().port();
    let _clients = Overflow::at(port);
    scene.overflow(port);
    scene.daemon.until_told("ladder_exhausted", "overflow");
    let why = scene.daemon.get("/rules/overflow").body;
    // Another test may have its overflow at the same time.
    let told = why.split("cannot help here, because it does not stand before port").nth(1);
    assert!(told.is_some_and(|told| told.split('"').next().unwrap().contains(&port.to_string())), "{why}");
    assert_eq!(scene.daemon.in_force(), [""; 0]);
    scene.end_as(&before);
}

/// nginx tells no ports, so they are written; a reload that writes others counts at once.
#[test]
fn a_service_that_tells_no_ports_stands_before_those_that_are_written() {
    let (server, other) = (Nginx::start(), full_listener());
    let port = other.local_addr().unwrap().port();
    let control = |port: u16| {
        let flags = server.target().flags.unwrap();
        format!("[control.nginx.front]\nflags = \"{}\"\nports = [{port}]\n", flags.display())
    };
    let before = if port == 65535 { port - 1 } else { port + 1 };
    let node = Node::new(&(control(before) + RULE));
    let mut daemon = node.start();
    daemon.until_control("front", "usable");
    let _clients = Overflow::at(port);
    overflow(&node, &mut daemon, port);
    daemon.until_told("ladder_exhausted", "overflow");
    let why = daemon.get("/rules/overflow").body;
    assert!(why.contains("cannot help here, because it does not stand before port"), "{why}");
    assert_eq!(daemon.in_force(), [""; 0]);
    node.edit(&control(before), &control(port));
    daemon.signal(Signal::SIGHUP);
    daemon.until_in_force_of("shed");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_proxy_acts_when_its_own_listener_overflows() {
    let behind = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut scene = Scene::before(behind.local_addr().unwrap().port());
    let before = scene.edge.face();
    let port = scene.edge.own_port();
    let _clients = Overflow::at(port);
    scene.overflow(port);
    scene.daemon.until_in_force_of("throttle");
    scene.end_as(&before);
}

#[test]
fn a_proxy_acts_when_the_listener_behind_it_overflows() {
    let behind = full_listener();
    let port = behind.local_addr().unwrap().port();
    let mut scene = Scene::before(port);
    let before = scene.edge.face();
    let _clients = Overflow::at(port);
    scene.overflow(port);
    scene.daemon.until_in_force_of("throttle");
    scene.end_as(&before);
}
