//! A control that is pointed at something else: what it tells is which program is there and why nothing can be done with
//! it, as the real programs say it.

use std::net::TcpStream;

use node_guardian::control::address::Address;

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::Outcome;

use super::super::support::desk::Desk;
use super::super::support::haproxy::Haproxy;
use super::super::support::memcached::Memcached;
use super::super::support::recipe::control;
use super::super::support::redis::Redis;
use super::super::support::varnish::Varnish;
use super::super::support::{Process, eventually};

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn memcached(address: Address) -> Target {
    Target::Memcached(target::Memcached { address, cache_only: true })
}

fn redis(address: Address) -> Target {
    Target::Redis(target::Redis {
        address,
        username: None,
        password_file: None,
        listener: None,
        cache_only: true,
        flush_pattern: None,
        client_buffers: None,
    })
}

fn haproxy(address: &Address) -> Target {
    let Address::Unix(socket) = address else { panic!("HAProxy has a unix socket") };
    let socket = socket.clone();
    Target::Haproxy(target::Haproxy { socket, lease_table: "ng_lease".into(), ..Default::default() })
}

/// What the control of this target tells.
fn told(target: Target) -> (&'static str, String) {
    let view = Desk::new(&[("it", target)]).next_view("it");
    (view.state.name(), view.detail.to_string())
}

fn is_told(target: Target, parts: &[&str]) {
    let (state, detail) = told(target);
    assert_eq!(state, Outcome::Unsupported.name(), "{detail}");
    parts.iter().for_each(|part| assert!(detail.contains(part), "{part}: {detail}"));
}

fn listening(arguments: &[&str], port: u16) -> Process {
    let port_text = port.to_string();
    let all = [&["-u", "root", "-l", "127.0.0.1", "-p", &port_text], arguments].concat();
    let process = Process::start("memcached", "memcached", &all);
    eventually("memcached listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

#[test]
fn a_memcached_that_speaks_its_binary_protocol_alone_is_named() {
    let port = free_port();
    let _server = listening(&["-B", "binary"], port);
    is_told(memcached(Address::Tcp(format!("127.0.0.1:{port}"))), &["binary protocol", "SASL", "-s /run/memcached"]);
}

#[test]
fn a_memcached_that_wants_sasl_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("memcached.conf"), "mech_list: plain\n").unwrap();
    let port = free_port();
    let text = port.to_string();
    let environment = [("SASL_CONF_PATH", folder.path().to_str().unwrap())];
    let arguments = ["-u", "root", "-S", "-l", "127.0.0.1", "-p", &text];
    let _server = Process::start_with(&environment, "memcached", "memcached", &arguments);
    eventually("memcached listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    is_told(memcached(Address::Tcp(format!("127.0.0.1:{port}"))), &["binary protocol", "SASL"]);
}

#[test]
fn a_port_with_tls_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let mut request = vec!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"];
    request.extend(["-keyout", &key, "-out", &certificate]);
    Process::start("openssl", "openssl", &request).ended();
    let port = free_port();
    let _server = listening(&["-Z", "-o", &format!("ssl_chain_cert={certificate},ssl_key={key}")], port);
    let address = Address::Tcp(format!("127.0.0.1:{port}"));
    is_told(memcached(address.clone()), &["answers as TLS", "encrypted"]);
    is_told(redis(address), &["answers as TLS", "encrypted"]);
}

#[test]
fn another_programs_socket_is_named() {
    let (edge, cache, pages) = (Haproxy::start(), Redis::start(), Memcached::start());
    let edge = Address::Unix(edge_socket(&edge));
    let (cache, pages) = (Address::Unix(cache.path("redis.sock")), Address::Unix(pages.path("memcached.sock")));
    is_told(memcached(cache.clone()), &["answers as Redis", "not as memcached"]);
    is_told(haproxy(&cache), &["answers as Redis", "not as HAProxy"]);
    is_told(redis(pages.clone()), &["answers as memcached", "not as Redis"]);
    is_told(haproxy(&pages), &["answers as memcached", "not as HAProxy"]);
    is_told(redis(edge.clone()), &["answers as HAProxy", "not as Redis"]);
    is_told(memcached(edge), &["answers as HAProxy", "not as memcached"]);
}

fn edge_socket(edge: &Haproxy) -> std::path::PathBuf {
    edge.target().socket
}

/// Kinds that only say what a recipe or a protocol tells them.
#[test]
fn an_app_and_a_server_of_http_that_are_none_are_named() {
    let (cache, pages) = (Redis::start(), Memcached::start());
    let app = |address| Target::App(target::App { address, uid: None, token_file: None, tiers: Vec::new() });
    is_told(app(Address::Unix(cache.path("redis.sock"))), &["answers as Redis"]);
    is_told(app(Address::Unix(pages.path("memcached.sock"))), &["answers as memcached"]);
    is_told(app(cache.tcp()), &["answers as Redis", "not as a server of HTTP"]);
    let text = format!(
        "[control.http.c]\nsocket = \"{}\"\nepoch = {{ get = \"/\", json = \"/a\" }}\nthrottle = {{ name = \"limit\", \
         read = {{ get = \"/\", json = \"/b\" }}, set = {{ post = \"/{{value}}\" }}, to = \"{{share}}\" }}\n",
        pages.path("memcached.sock").display()
    );
    is_told(control(&text), &["answers as memcached", "not as a server of HTTP"]);
}

#[test]
fn varnish_is_named_and_one_that_cuts_its_answers_short_has_let_us_in() {
    let server = Varnish::start();
    let target = server.target();
    is_told(memcached(target.address.clone()), &["answers as Varnish", "not as memcached"]);
    server.ask(&["param.set", "cli_limit", "128b"]);
    let (_, detail) = told(Target::Varnish(target));
    assert!(detail.contains("cuts its answer") && detail.contains("cli_limit"), "{detail}");
    assert!(!detail.contains("rejects"), "{detail}");
}
