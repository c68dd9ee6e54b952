//! Nothing of a secret is ever told, whatever a service repeats; it is sent to nobody but who it is meant for; and what a
//! service says is nothing that a terminal or a log obeys.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::super::support::node::Node;
use super::super::support::redis::Redis;
use super::super::support::{Process, eventually};

const SECRET: &str = "s3cret";

/// Everything that a person or a program may read of it.
fn all_that_is_told(node: &Node) -> String {
    let mut daemon = node.start();
    daemon.until("the control was looked at", |daemon| daemon.status()["controls"][0]["state"].as_str().map(drop));
    let pages = ["/status", "/events?since=0&limit=1000", "/health", "/metrics"].map(|path| daemon.get(path).body);
    let config = node.path("config.toml");
    let said = [
        node.ask(&["status"]),
        node.ask(&["status", "--all"]),
        node.ask(&["check", "--live", "--config", config.to_str().unwrap()]),
        node.ask(&["drill", "--yes"]),
    ];
    let said = said.map(|said| said.out + &said.err);
    assert_eq!(daemon.stop(), 0);
    pages.concat() + &said.concat() + &node.log()
}

/// Without the command, Redis repeats its arguments: the name and the password.
#[test]
fn a_redis_that_repeats_the_password_does_not_have_it_told() {
    let server = Redis::without("AUTH");
    let node = Node::new(&server.section("cache", "redis.sock"));
    let told = all_that_is_told(&node);
    assert!(told.contains("AUTH"), "{told}");
    assert!(!told.contains(SECRET), "{}", told.replace(SECRET, "<<<SECRET>>>"));
}

#[test]
fn what_an_app_says_is_one_line_that_no_terminal_obeys() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            if stream.read(&mut request).is_err() {
                continue;
            }
            let message = format!("no\\nERROR forged line\\u001b[2J\\u009b31m{}", "x".repeat(50_000));
            writeln!(
                stream,
                "{{\"id\":1,\"ok\":false,\"error\":{{\"code\":\"c\\u001b]0;x\",\"message\":\"{message}\"}}}}"
            )
            .ok();
        }
    });
    let node = Node::new(&format!("[control.app.api]\nsocket = \"{}\"\n", socket.display()));
    let told = all_that_is_told(&node);
    assert!(told.contains("forged line"), "{told}");
    assert!(!told.lines().any(|line| line.starts_with("ERROR forged")), "{told}");
    assert!(!told.contains(['\u{1b}', '\u{9b}']) && !told.contains("\\u001b") && !told.contains("\\u009b"), "{told}");
    assert!(told.len() < 40_000, "{} bytes", told.len());
}

/// Somebody else listens where Redis should: the real one, as a user that is nobody's here; where this is not root, whom the
/// operator does not expect.
#[test]
fn a_password_is_not_sent_to_whoever_listens() {
    const STRANGER: u32 = 54321;
    let me = nix::unistd::geteuid().as_raw();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let (socket, password) = (folder.path().join("r.sock"), folder.path().join("password"));
    std::fs::write(&password, SECRET).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("redis-server");
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--unixsocketperm", "777"]);
    server.args(["--requirepass", SECRET, "--unixsocket", socket.to_str().unwrap(), "--dir", "/"]);
    server.stdin(Stdio::null()).stdout(Stdio::null());
    if me == 0 {
        server.uid(STRANGER).gid(STRANGER);
    }
    let _server = Process::of(server.spawn().expect("redis-server is missing: apt-get install redis-server"));
    eventually("Redis listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
    let expects = if me == 0 { String::new() } else { format!("listener = {}\n", me + 1) };
    let section = |place: &str, expects: &str| {
        format!("[control.redis.c]\n{place}\npassword_file = \"{}\"\n{expects}", password.display())
    };
    for place in [format!("socket = \"{}\"", socket.display()), format!("address = \"127.0.0.1:{port}\"")] {
        let node = Node::new(&section(&place, &expects));
        let mut daemon = node.start();
        let detail = daemon.until_control("c", "refused");
        assert!(detail.contains("no secret was sent") && detail.contains("listener = "), "{detail}");
        assert_eq!(daemon.stop(), 0);
        let uid = if me == 0 { STRANGER } else { me };
        let node = Node::new(&section(&place, &format!("listener = {uid}\n")));
        let mut daemon = node.start();
        daemon.until_control("c", "usable");
        assert_eq!(daemon.stop(), 0);
    }
}
