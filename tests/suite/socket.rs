//! Recipes for anything that answers on a socket or over HTTP, against real servers that have controls of their own too,
//! so that a recipe is held to the same: interrupted at every message, restarted, stopped, and answered with nonsense.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use node_guardian::control::DEADLINE;
use node_guardian::control::target::Target;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;
use super::support::proxy::{self, Protocol, Verdict};
use super::support::recipe::control;
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);
const MIB: i64 = 1 << 20;

/// HAProxy's command line as anybody would write it down.
pub fn conversing(socket: &Path) -> Target {
    prompted(socket, "Maxconn", "maxconn global")
}

fn prompted(socket: &Path, read: &str, set: &str) -> Target {
    control(&format!(
        r#"
        [control.socket.edge]
        socket = "{}"
        ends_with = "\n> "
        keep_open = true
        on_connect = [{{ send = "prompt\n" }}]
        [control.socket.edge.throttle]
        name = "maxconn"
        read = {{ send = "show info\n", take = "{{*}}\n{read}: {{value}}\n" }}
        set = {{ send = "set {set} {{value}}\n", expect = "\n" }}
        to = "{{share}}"
        "#,
        socket.display()
    ))
}

/// The same without a prompt: one command a connection.
fn hanging_up(socket: &Path) -> Target {
    control(&format!(
        r#"
        [control.socket.edge]
        socket = "{}"
        ends_with = ""
        [control.socket.edge.throttle]
        read = {{ send = "show info\n", take = "{{*}}\nMaxconn: {{value}}\n" }}
        set = {{ send = "set maxconn global {{value}}\n" }}
        to = "{{share}}"
        [control.socket.edge.flush]
        do = {{ hex = "636c65617220636f756e74657273 0a", expect = "\n" }}
        "#,
        socket.display()
    ))
}

fn purging(server: &Redis) -> Target {
    control(&format!(
        r#"
        [control.socket.cache]
        socket = "{}"
        ends_with = "\r\n"
        password_file = "{}"
        on_connect = [{{ send = "AUTH admin {{password}}\r\n", expect = "+OK" }}]
        [control.socket.cache.release]
        name = "MEMORY PURGE"
        do = {{ send = "MEMORY PURGE\r\n", expect = "+OK" }}
        memory = true
        "#,
        server.path("redis.sock").display(),
        server.path("root").display()
    ))
}

/// Something that listens where a service should be.
fn http(socket: &Path) -> Target {
    control(&format!(
        r#"
        [control.http.app]
        socket = "{}"
        [control.http.app.throttle]
        read = {{ get = "/limit", json = "/limit" }}
        set = {{ post = "/limit", body = '{{"limit": {{value}}}}' }}
        to = "{{share}}"
        [control.http.app.flush]
        do = {{ post = "/flush" }}
        "#,
        socket.display()
    ))
}

fn postgres(socket: &Path) -> Target {
    control(&format!(
        r#"
        [control.socket.database]
        socket = "{}"
        speaks = "postgres"
        user = "guardian"
        [control.socket.database.throttle]
        read = {{ send = "SELECT 1", take = "{{value}}" }}
        set = {{ send = "SELECT {{value}}" }}
        to = "{{share}}"
        "#,
        socket.display()
    ))
}

#[test]
fn a_recipe_for_haproxy_is_applied_adjusted_and_undone() {
    let mut server = Haproxy::start();
    for (target, name) in
        [(conversing(&server.path("admin.sock")), "maxconn"), (hanging_up(&server.path("admin.sock")), "throttle")]
    {
        let mut desk = Desk::new(&[("edge", target)]);
        assert!(desk.view("edge", "usable").detail.contains(&format!("{name} is 200")));
        let report = desk.apply(1, "edge", Verb::Throttle, HALF);
        assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, &*format!("{name} 200 → 100")));
        desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0));
        assert_eq!(server.global_limit(), "50");
        let mut desk = Desk::resume(desk.stop(), &[]);
        assert_eq!((desk.undo(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
    }
    let mut desk = Desk::new(&[("edge", hanging_up(&server.path("admin.sock")))]);
    let report = desk.apply(2, "edge", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "flush: done"));
    desk.apply(3, "edge", Verb::Throttle, HALF);
    server.ask("set maxconn global 70");
    assert_eq!((desk.undo(3).outcome, server.global_limit().as_str()), (Outcome::Overridden, "70"));
    desk.apply(4, "edge", Verb::Throttle, HALF);
    server.restart();
    assert_eq!((desk.undo(4).outcome, desk.journaled().len()), (Outcome::EpochChanged, 0));
}

#[test]
fn a_restart_is_noticed_on_a_connection_that_was_kept() {
    let mut server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", conversing(&server.path("admin.sock")))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.restart();
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0));
    assert!(report.detail.starts_with("the service has restarted"), "{}", report.detail);
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGSTOP);
    let report = desk.undo(2);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < DEADLINE * 3, "{:?}", report.took);
    server.process().signal(Signal::SIGCONT);
    // On a busy machine a try may land and not be read back in time.
    eventually("the undo", || matches!(desk.undo(2).outcome, Outcome::Applied | Outcome::Already).then_some(()));
    assert_eq!(server.global_limit(), "200");
}

#[test]
fn a_recipe_is_interrupted_at_every_message_of_a_throttle_its_adjustment_and_its_undo() {
    const MOST: usize = 120;
    let server = Haproxy::start();
    let mut reached_the_end = false;
    for nth in 0..MOST {
        let front = server.path(&format!("recipe{nth}.sock"));
        let seen = Arc::new(AtomicBool::new(false));
        let hit = Arc::clone(&seen);
        proxy::start(&front, &server.path("admin.sock"), Protocol::Haproxy, move |passing| {
            hit.fetch_or(passing.number == nth, Ordering::SeqCst);
            if passing.number == nth { Verdict::Cut } else { Verdict::Pass }
        });
        let mut desk = Desk::new(&[("edge", conversing(&front))]);
        desk.apply(1, "edge", Verb::Throttle, HALF);
        desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0));
        eventually("the undo", || {
            let report = desk.undo(1);
            matches!(report.outcome, Outcome::Applied | Outcome::Already).then_some(())
        });
        assert_eq!((server.global_limit().as_str(), desk.journaled().len()), ("200", 0), "cut at message {nth}");
        if !seen.load(Ordering::SeqCst) {
            reached_the_end = true;
            break;
        }
    }
    assert!(reached_the_end, "over {MOST} messages");
}

#[test]
fn two_controls_never_hold_one_value() {
    let server = Haproxy::start();
    let (near, other) = (conversing(&server.path("admin.sock")), conversing(&server.path("second.sock")));
    let mut desk = Desk::new(&[("near", near), ("other", other)]);
    assert_eq!(desk.apply(1, "near", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let report = desk.apply(2, "other", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("already holds `maxconn`"), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
}

/// The same verb under the same name, for another setting of the same service.
fn rated(socket: &Path) -> Target {
    prompted(socket, "SessRateLimit", "rate-limit sessions global")
}

#[test]
fn a_verb_that_is_pointed_at_another_setting_leaves_nothing_at_the_first() {
    let server = Haproxy::start();
    let socket = server.path("admin.sock");
    assert_ne!(conversing(&socket).identity(), rated(&socket).identity(), "a rule wants another knob now");
    // The second is what we set at the first, and nobody's business.
    for rate in ["SessRateLimit: 400", "SessRateLimit: 100"] {
        server.ask(&rate.replace("SessRateLimit:", "set rate-limit sessions global"));
        let mut desk = Desk::new(&[("edge", conversing(&socket))]);
        assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
        let mut desk = Desk::resume(desk.stop(), &[("edge", rated(&socket))]);
        assert_eq!((desk.verify(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "100"));
        let report = desk.undo(1);
        assert_eq!((report.outcome, server.global_limit().as_str()), (Outcome::Applied, "200"), "{}", report.detail);
        assert!(server.ask("show info").contains(rate));
    }
}

/// What is written as one strength from now on is meant by the recipe that says so.
#[test]
fn a_recipe_that_was_rewritten_says_what_its_share_means() {
    let server = Haproxy::start();
    let always = |to: &str| {
        control(&format!(
            r#"
            [control.socket.edge]
            socket = "{}"
            ends_with = ""
            [control.socket.edge.throttle]
            read = {{ send = "show info\n", take = "{{*}}\nMaxconn: {{value}}\n" }}
            set = {{ send = "set maxconn global {{value}}\n" }}
            to = "{to}"
            "#,
            server.path("admin.sock").display()
        ))
    };
    let mut desk = Desk::new(&[("edge", always("{share}"))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    desk.reconfigure(&[("edge", always("70"))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!(server.global_limit(), "70");
    assert_eq!((desk.undo(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
}

#[test]
fn the_journal_on_disk_has_the_whole_recipe() {
    let (server, folder) = (Haproxy::start(), tempfile::tempdir().unwrap());
    let mut desk = Desk::on_disk(folder.path(), &[("edge", conversing(&server.path("admin.sock")))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    desk.stop();
    assert_eq!(server.global_limit(), "100");
    let mut desk = Desk::on_disk(folder.path(), &[]);
    assert_eq!((desk.undo(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
}

#[test]
fn memory_is_given_back_only_as_the_process_shows_it() {
    let server = Redis::start();
    std::fs::write(server.path("root"), "root\n").unwrap();
    server.fill("cache:", 30_000, 3_000);
    server.empty("cache:", 30_000);
    let mut desk = Desk::new(&[("cache", purging(&server))]);
    let report = desk.apply(1, "cache", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 20 * MIB && report.detail.starts_with("MEMORY PURGE: done; resident"));
    let report = desk.apply(2, "cache", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::NoEffect, "whatever it says of itself: {}", report.detail);
    std::fs::write(server.path("root"), "wrong\n").unwrap();
    let report = desk.apply(3, "cache", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("on_connect") && !report.detail.contains("AUTH"), "{}", report.detail);
}

fn impostor(socket: &Path, behave: fn(UnixStream)) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || behave(stream));
        }
    });
}

fn answers(mut stream: UnixStream, answer: &[u8]) {
    let mut request = [0; 1024];
    while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) && stream.write_all(answer).is_ok() {}
}

fn says_garbage(stream: UnixStream) {
    answers(stream, b"\xff\xfe\x00 220 mail.example\r\n\n> ");
}

fn never_ends(mut stream: UnixStream) {
    let flood = [b'+'; 65536];
    drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
    while stream.write_all(&flood).is_ok() {}
}

fn hangs_up(mut stream: UnixStream) {
    drop(stream.read(&mut [0; 16]));
}

fn says_half(mut stream: UnixStream) {
    drop(stream.read(&mut [0; 1024]));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"limit\"").ok();
    std::thread::sleep(Duration::from_secs(30));
}

/// It would end the statement, were it put back.
fn says_more_than_a_value(stream: UnixStream) {
    answers(
        stream,
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"limit\": \"5}; DROP TABLE x\"}  \nMaxconn: 5;quit\n\n> ",
    );
}

#[test]
fn whatever_answers_is_survived_within_the_deadline_and_changes_nothing() {
    type Case = (&'static str, fn(UnixStream), Outcome);
    let cases: [Case; 5] = [
        ("garbage", says_garbage, Outcome::Unsupported),
        ("endless", never_ends, Outcome::Unsupported),
        ("closing", hangs_up, Outcome::Unreachable),
        ("half", says_half, Outcome::Unreachable),
        ("more", says_more_than_a_value, Outcome::Unsupported),
    ];
    for (name, behave, outcome) in cases {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join(name);
        impostor(&socket, behave);
        let mut desk =
            Desk::new(&[("text", conversing(&socket)), ("http", http(&socket)), ("postgres", postgres(&socket))]);
        // Where PostgreSQL tells how long its answer is, the others say nonsense.
        let length = if name == "closing" { outcome } else { Outcome::Unsupported };
        for (id, control, outcome) in [(1, "text", outcome), (2, "http", outcome), (3, "postgres", length)] {
            let report = desk.apply(id, control, Verb::Throttle, HALF);
            assert_eq!(report.outcome, outcome, "{name} {control}: {}", report.detail);
            assert!(report.took < DEADLINE * 3 / 2, "{name} {control}: {:?}", report.took);
        }
        assert!(desk.journaled().is_empty());
    }
}

#[test]
fn a_restart_that_cannot_be_seen_is_no_base_for_an_undo() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("absent.sock");
    let mut desk = Desk::new(&[("http", http(&socket))]);
    let view = desk.view("http", "unreachable");
    assert!(view.detail.contains("does not exist"), "{}", view.detail);
    assert_eq!(desk.apply(1, "http", Verb::Flush, Amount::Whole).outcome, Outcome::Unreachable);
    let report = desk.apply(2, "http", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported, "it has no recipe for that: {}", report.detail);
}

/// As some do with what they do not understand.
fn echoes(mut stream: UnixStream) {
    let mut request = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut request) {
        let answer = [b"unknown command: ", &request[..length]].concat();
        if stream.write_all(&answer).is_err() {
            break;
        }
    }
}

#[test]
fn a_password_that_the_service_repeats_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, password) = (folder.path().join("app.sock"), folder.path().join("password"));
    std::fs::write(&password, "hunter2\n").unwrap();
    impostor(&socket, echoes);
    let head = format!("[control.socket.app]\nsocket = {socket:?}\npassword_file = {password:?}\n");
    let greets = "on_connect = [{ send = \"login {password}\\n\", expect = \"OK\" }]\n";
    let flush = |act: &str| format!("[control.socket.app.flush]\ndo = {act}\n");
    for text in [
        format!("{head}{greets}{}", flush("{ send = \"flush\\n\", expect = \"OK\" }")),
        format!("{head}{}", flush("{ send = \"flush {password}\\n\", expect = \"OK\" }")),
        format!("{head}{}", flush("{ send = \"flush {password}\\n\", take = \"flushed {value}\" }")),
    ] {
        let mut desk = Desk::new(&[("app", control(&text))]);
        let report = desk.apply(1, "app", Verb::Flush, Amount::Whole);
        assert_ne!(report.outcome, Outcome::Applied);
        assert!(report.detail.contains("{password}") && !report.detail.contains("hunter2"), "{}", report.detail);
    }
}

static GREETED: AtomicUsize = AtomicUsize::new(0);

/// Lets everybody in, and then speaks of copying.
fn copies(mut stream: UnixStream) {
    drop(stream.read(&mut [0; 1024]));
    GREETED.fetch_add(1, Ordering::SeqCst);
    if stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").is_ok() {
        answers(stream, b"H\0\0\0\x07\0\0\0");
    }
}

#[test]
fn a_session_that_said_what_it_should_not_is_never_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pg.sock");
    impostor(&socket, copies);
    let text = format!(
        "[control.socket.database]\nsocket = {socket:?}\nspeaks = \"postgres\"\nuser = \"guardian\"\nkeep_open = true\n\
         [control.socket.database.flush]\ndo = {{ send = \"SELECT 1\" }}\n"
    );
    let mut desk = Desk::new(&[("database", control(&text))]);
    desk.view("database", "usable");
    for id in 1..=3 {
        assert_eq!(desk.apply(id, "database", Verb::Flush, Amount::Whole).outcome, Outcome::Unsupported);
        assert_eq!(GREETED.load(Ordering::SeqCst), usize::try_from(id).unwrap());
    }
}

/// What is told of a service that answers so where its epoch is asked for.
fn with_epoch(behave: fn(UnixStream)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    impostor(&socket, behave);
    let mut desk = Desk::new(&[(
        "app",
        control(&format!(
            r#"
            [control.socket.app]
            socket = "{}"
            epoch = {{ send = "show\n", take = "limit: 200 epoch: {{value}}", may_be_empty = true }}
            [control.socket.app.throttle]
            read = {{ send = "show\n", take = "limit: {{value}} epoch" }}
            set = {{ send = "set {{value}}\n" }}
            to = "{{share}}"
            "#,
            socket.display()
        )),
    )]);
    let report = desk.apply(1, "app", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unsupported, 0), "{}", report.detail);
    report.detail.to_string()
}

#[test]
fn an_empty_epoch_names_no_life() {
    let detail = with_epoch(|stream| answers(stream, b"limit: 200 epoch: \n"));
    assert!(detail.contains("`epoch` of") && detail.contains("is empty"), "{detail}");
}

#[test]
fn an_epoch_that_is_a_page_is_not_kept() {
    let detail = with_epoch(|stream| answers(stream, &[b"limit: 200 epoch: ", &[b'x'; 50_000][..], b"\n"].concat()));
    assert!(detail.contains("epoch: ") && detail.contains("narrow its `take`") && detail.len() < 500, "{detail}");
}
