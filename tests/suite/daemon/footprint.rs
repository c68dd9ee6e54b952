//! What it takes, and that strangers cannot make it take more: descriptors, threads, children, memory, time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::super::http::house::exchange;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::redis::Redis;

/// The loop, HTTP, controls, slow sources, the journal, small files.
const THREADS: usize = 6;
/// 35 in the steady state.
const DESCRIPTORS: usize = 48;
/// 2.5 MB were seen while its buffers grew, and nothing more after.
const GROWTH_KIB: u64 = 4096;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn count(daemon: &Daemon, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().count()
}

fn resident_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processes whose parent it is, dead ones included.
fn children(daemon: &Daemon) -> usize {
    let wanted = format!("PPid:\t{}", daemon.pid());
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        // Others come and go meanwhile.
        std::fs::read_to_string(entry.ok()?.path().join("status")).ok()
    });
    processes.filter(|status| status.lines().any(|line| line == wanted)).count()
}

#[test]
fn thousands_of_requests_and_emergencies_leave_no_trace() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let steps = r#"{ throttle = "edge", to = "50%", settle = "100ms" }, { shrink = "cache", to = "64MiB" }"#;
    let port = free_port();
    let sections = edge.section("edge", "admin.sock") + &cache.section("cache", "redis.sock");
    let node = Node::listening(&(sections + &short_of_memory(steps)), &format!("127.0.0.1:{port}"));
    let mut daemon = node.start();
    daemon.until_control("cache", "usable");
    let emergency = |daemon: &mut Daemon| {
        node.set_available(5);
        daemon.until_in_force(&["throttle edge to 50%", "shrink cache to 64.0MiB"]);
        node.set_available(60);
        daemon.until_calm();
        daemon.until("quiet", |daemon| (daemon.status()["rules"][0]["state"] == "quiet").then_some(()));
    };
    // The first act on a target marks it, which takes a descriptor for good.
    emergency(&mut daemon);
    ask_often(port, 300);
    let (memory, descriptors) = (resident_kib(&daemon), count(&daemon, "fd"));
    (0..3).for_each(|_| emergency(&mut daemon));
    ask_often(port, 2000);
    daemon.until("connections are closed", |daemon| (count(daemon, "fd") <= descriptors).then_some(()));
    assert!(descriptors <= DESCRIPTORS, "{descriptors} descriptors");
    assert_eq!(count(&daemon, "task"), THREADS);
    assert_eq!(children(&daemon), 0);
    let growth = resident_kib(&daemon).saturating_sub(memory);
    println!("{descriptors} descriptors, {memory} KiB and {growth} more");
    assert!(growth < GROWTH_KIB, "{memory} KiB grew by {growth}");
    assert_eq!(daemon.stop(), 0);
}

fn ask_often(port: u16, requests: usize) {
    const PATHS: [&str; 5] = ["/status", "/health", "/metrics", "/events?since=0&limit=1000", "/rules"];
    for request in 0..requests {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let path = PATHS[request % PATHS.len()];
        let reply =
            exchange(stream, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 200, "{path}");
    }
}

/// A xorshift, so that every run sends the same.
struct Garbage(u64);

impl Garbage {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 as u8
        };
        (0..length).map(|_| next()).collect()
    }
}

#[test]
fn a_flood_of_garbage_and_silence_delays_nobody() {
    let port = free_port();
    let node = Node::listening("", &format!("127.0.0.1:{port}"));
    let daemon = node.start();
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let before = daemon.ticks();
    let began = Instant::now();
    let silent: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = connect();
            // Nothing, half a line, half a head.
            let start: &[u8] = [&b""[..], b"GET /sta", b"GET /status HTTP/1.1\r\nHost: local"][number % 3];
            stream.write_all(start).unwrap();
            stream
        })
        .collect();
    let mut garbage = Garbage(0x9E37_79B9_7F4A_7C15);
    for number in 0..300 {
        let mut stream = connect();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // A server that refuses early may have closed before all of it was written.
        stream.write_all(&garbage.bytes(1 + number * 37)).ok();
        stream.write_all(b"\r\n\r\n").ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
        if number % 50 == 0 {
            assert_eq!(daemon.get("/livez").status, 200);
            assert_eq!(node.ask(&["status"]).code, 0);
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let expected = began.elapsed().as_millis() as u64 / 50;
    let ticks = daemon.ticks() - before;
    assert!(ticks >= expected / 2, "{ticks} ticks where {expected} were due");
    assert!(count(&daemon, "fd") < 200, "not every stranger keeps a seat");
    assert_eq!(
        exchange(connect(), b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status,
        200
    );
    drop(silent);
    assert_eq!((count(&daemon, "task"), children(&daemon)), (THREADS, 0));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn it_gives_up_what_it_never_does() {
    let node = Node::new("");
    let daemon = node.start();
    for task in std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()), ("2", "1"), "{}", field("Name:"));
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let told = daemon.told("source_lost").concat();
    assert!(!told.contains("confinement"), "{told}");
    assert_eq!(daemon.stop(), 0);
}
