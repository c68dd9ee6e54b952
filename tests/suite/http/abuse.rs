//! Clients that are slow, greedy or talk nonsense: the server answers the next one as if nothing had happened.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::house::{House, exchange};

#[test]
fn slow_clients_hold_neither_the_operator_nor_the_probe_up() {
    let house = House::open();
    let dribble = |_| {
        let mut stream = TcpStream::connect(house.tcp).unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: local").unwrap();
        stream
    };
    let slow: Vec<TcpStream> = (0..300).map(dribble).collect();
    let before = Instant::now();
    let admin = house.ask_admin("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(admin.status, 200);
    assert_eq!(house.get("/livez").status, 200);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    drop(slow);

    let idle_admins: Vec<_> = (0..40).map(|_| UnixStream::connect(&house.socket).unwrap()).collect();
    assert_eq!(house.ask_admin("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status, 200);
    drop(idle_admins);
}

#[test]
fn what_is_too_long_is_refused_by_name() {
    let house = House::open();
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(house.ask(&long).status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert_eq!(house.ask(&many).status, 431);
    let body = " ".repeat(65 * 1024);
    let head = "POST /undo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let declared = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    assert!(house.ask_admin(&declared).problem(413).contains("65536"));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    house.ask_admin(&chunked).problem(413);
    assert!(house.inbox.take().is_none());
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let house = House::open();
    let mut stream = UnixStream::connect(&house.socket).unwrap();
    stream.write_all(b"POST /undo HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"act").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    assert!(house.inbox.take().is_none());
    // Nobody publishes here: what is alive by its clock depends on how long this took.
    assert_eq!(house.get("/status").status, 200);
}

#[test]
fn requests_can_be_pipelined_on_one_connection() {
    let house = House::open();
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
    let reply = exchange(
        TcpStream::connect(house.tcp).unwrap(),
        format!("{one}GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert_eq!(reply.body.matches("HTTP/1.1 200").count() + 1, 20);
    assert!(reply.body.contains("404 Not Found"));
}

#[test]
fn garbage_never_ends_the_server() {
    let house = House::open();
    let verbs = prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("DELETE"), Just("\0"), Just("")];
    let nearly =
        (verbs, "\\PC{0,40}", proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(verb, path, tail)| {
            let mut bytes = format!("{verb} /{path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
            bytes.extend(tail);
            bytes.extend(b"\r\n\r\n");
            bytes
        });
    let input = prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), nearly];
    proptest!(ProptestConfig::with_cases(2000), |(bytes in input)| {
        let mut stream = TcpStream::connect(house.tcp).unwrap();
        stream.write_all(&bytes).ok();
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.read_to_end(&mut answer).ok();
        prop_assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    });
    assert_eq!(house.get("/livez").status, 200);
}
