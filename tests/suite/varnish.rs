//! The Varnish control against a real varnishd: what comes back, as the resident set of its child says, parameters put back
//! exactly, and everybody served all along.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::control::DEADLINE;
use node_guardian::control::address::Address;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::varnish::Varnish;
use super::support::{eventually, halt};

const HALF: Amount = Amount::Keep(50.0);
const MIB: i64 = 1 << 20;

fn desk(server: &Varnish) -> Desk {
    Desk::new(&[("pages", Target::Varnish(server.target()))])
}

fn normal() -> (String, String) {
    ("1000".to_owned(), "60.000".to_owned())
}

fn set(threads: &str, age: &str) -> (String, String) {
    (threads.to_owned(), age.to_owned())
}

#[test]
fn shrink_lets_a_share_of_the_objects_go_and_is_undone_exactly() {
    let server = Varnish::start();
    let mut desk = desk(&server);
    let probed = desk.view("pages", "usable").detail;
    assert!(probed.contains("thread_pool_max 1000, ban_lurker_age 60.000 s, resident"), "{probed}");
    server.fill(600);
    let (full, prober) = (server.resident() as i64, server.probe());
    let report = desk.apply(1, "pages", Verb::Shrink, HALF);
    println!("{} in {:?}", report.detail, report.took);
    assert_eq!((report.outcome, server.face()), (Outcome::Applied, set("500", "0.100")), "{}", report.detail);
    let freed = report.freed_bytes.unwrap();
    assert!((15 * MIB..45 * MIB).contains(&freed), "half of 57 MiB: {}", report.detail);

    let report = desk.apply(1, "pages", Verb::Shrink, Amount::Keep(25.0));
    println!("{} in {:?}", report.detail, report.took);
    assert_eq!((report.outcome, server.face()), (Outcome::Applied, set("250", "0.100")), "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 5 * MIB && full - server.resident() as i64 > 30 * MIB, "{}", report.detail);
    let report = desk.apply(1, "pages", Verb::Shrink, HALF);
    assert_eq!((report.outcome, report.freed_bytes), (Outcome::Applied, None), "weaker: {}", report.detail);
    assert_eq!((desk.verify(1).outcome, server.face()), (Outcome::Applied, set("500", "0.100")));
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.face()), (Outcome::Applied, normal()), "{}", report.detail);
    prober.served_all_along();

    server.fill(600);
    let report = desk.apply(2, "pages", Verb::Shrink, Amount::Bytes(40 << 20));
    println!("{} in {:?}", report.detail, report.took);
    assert!(report.outcome == Outcome::Applied && report.freed_bytes.unwrap() > 10 * MIB, "{}", report.detail);
    server.ask(&["param.set", "thread_pool_max", "300"]);
    let report = desk.undo(2);
    assert_eq!((report.outcome, server.face()), (Outcome::Overridden, set("300", "60.000")), "an operator's stays");
    let report = desk.apply(3, "pages", Verb::Shrink, Amount::Bytes(1 << 40));
    assert_eq!((report.outcome, server.face()), (Outcome::Already, set("300", "60.000")));
    assert!(desk.journaled().is_empty());
}

#[test]
fn flush_says_that_nothing_came_back_until_shrink_lets_the_lurker_go_sooner() {
    let server = Varnish::start();
    let mut desk = desk(&server);
    server.fill(400);
    let report = desk.apply(1, "pages", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, report.freed_bytes), (Outcome::NoEffect, None), "{}", report.detail);
    assert!(report.detail.contains("ban_lurker_age is over, 60.000 s"), "{}", report.detail);
    assert_eq!(desk.apply(2, "pages", Verb::Shrink, Amount::Keep(90.0)).outcome, Outcome::Applied);
    server.fill(400);
    let prober = server.probe();
    let report = desk.apply(3, "pages", Verb::Flush, Amount::Whole);
    println!("{} in {:?}", report.detail, report.took);
    assert!(report.outcome == Outcome::Applied && report.freed_bytes.unwrap() > 25 * MIB, "{}", report.detail);
    prober.served_all_along();
    assert_eq!((desk.undo(2).outcome, server.face()), (Outcome::Applied, normal()));
    let report = desk.apply(4, "pages", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported, "{}", report.detail);
}

#[test]
fn a_restarted_child_gives_all_back_whatever_its_allocator_and_keeps_what_is_in_force() {
    let server = Varnish::start_with(&[]);
    let target = target::Varnish { restart_to_free: true, ..server.target() };
    let mut desk = Desk::new(&[("pages", Target::Varnish(target))]);
    desk.apply(1, "pages", Verb::Shrink, HALF);
    server.fill(600);
    let child = server.child();
    let report = desk.apply(2, "pages", Verb::Flush, Amount::Whole);
    println!("{} in {:?}", report.detail, report.took);
    assert!(report.outcome == Outcome::Applied && report.freed_bytes.unwrap() > 45 * MIB, "{}", report.detail);
    assert!(server.child().is_some() && server.child() != child);
    server.fill(1);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "parameters are the manager's");
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, normal()));
}

#[test]
fn another_manager_has_forgotten_it_and_a_crash_of_ours_has_not() {
    let mut server = Varnish::start();
    let mut before = desk(&server);
    before.apply(1, "pages", Verb::Shrink, HALF);
    let mut desk = Desk::resume(before.stop(), &[]);
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, normal()));
    drop(desk);
    let controls = [("pages", Target::Varnish(server.target()))];
    let mut before = Desk::on_disk(&server.path("journal"), &controls);
    before.apply(7, "pages", Verb::Shrink, HALF);
    drop(before);
    let mut desk = Desk::on_disk(&server.path("journal"), &[]);
    assert_eq!((desk.undo(7).outcome, server.face()), (Outcome::Applied, normal()));

    let mut desk = self::desk(&server);
    desk.apply(2, "pages", Verb::Shrink, HALF);
    server.restart();
    // The same values again, and not ours.
    server.ask(&["param.set", "thread_pool_max", "500"]);
    let report = desk.verify(2);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    assert_eq!(server.parameter("thread_pool_max"), "500");
}

#[test]
fn a_stopped_manager_is_still_owed_and_a_stuck_child_hinders_no_undo() {
    let server = Varnish::start();
    let mut desk = desk(&server);
    desk.apply(1, "pages", Verb::Shrink, HALF);
    server.process().signal(Signal::SIGSTOP);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < DEADLINE * 4 && report.detail.contains("is varnishd stopped"), "{}", report.detail);
    server.process().signal(Signal::SIGCONT);

    let child = Pid::from_raw(server.child().unwrap() as i32);
    halt(child);
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.face()), (Outcome::Applied, normal()), "{}", report.detail);
    desk.reconfigure(&[("pages", Target::Varnish(target::Varnish { restart_to_free: true, ..server.target() }))]);
    let report = desk.apply(2, "pages", Verb::Flush, Amount::Whole);
    assert_eq!(report.outcome, Outcome::TimedOut, "a stuck child is not stopped: {}", report.detail);
    kill(child, Signal::SIGCONT).unwrap();
    eventually("the child answers again", || server.ask(&["ban.list"]).contains("Present bans").then_some(()));
    assert_eq!(server.child(), Some(child.as_raw() as u32));
}

#[test]
fn what_is_missing_is_named() {
    let server = Varnish::start();
    std::fs::write(server.path("wrong"), "no").unwrap();
    let with = |file: Option<&str>| {
        let secret_file = file.map(|file| server.path(file));
        Target::Varnish(target::Varnish { secret_file, ..server.target() })
    };
    let mut desk = Desk::new(&[
        ("right", with(Some("secret"))),
        ("wrong", with(Some("wrong"))),
        ("missing", with(Some("missing"))),
        ("none", with(None)),
    ]);
    assert!(desk.view("right", "usable").detail.contains("obeys"));
    assert!(desk.view("wrong", "refused").detail.contains("rejects the secret"));
    assert!(desk.view("missing", "refused").detail.contains("LoadCredential="));
    assert!(desk.view("none", "refused").detail.contains("set `secret_file`"));
    let report = desk.apply(1, "wrong", Verb::Shrink, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
    server.ask(&["stop"]);
    eventually("no child", || server.child().is_none().then_some(()));
    for verb in [Verb::Shrink, Verb::Flush] {
        let report = desk.apply(2, "right", verb, HALF);
        assert!(report.outcome == Outcome::Refused && report.detail.contains("varnishadm start"), "{}", report.detail);
    }
    assert_eq!(server.face(), normal());
}

#[test]
fn a_parameter_that_is_protected_is_found_before_another_is_set() {
    let server = Varnish::protecting("ban_lurker_age");
    let before = server.face();
    let mut desk = desk(&server);
    let detail = desk.view("pages", "usable").detail;
    assert!(detail.contains("may flush; cannot shrink: ") && detail.contains("`-r ban_lurker_age`"), "{detail}");
    let report = desk.apply(1, "pages", Verb::Shrink, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
    assert_eq!(server.face(), before);
}

/// Something that listens where Varnish should be, and says this at once and again to each line.
fn impostor(says: &'static [u8]) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                while stream.write_all(says).is_ok() && stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

#[test]
fn whatever_answers_is_survived_within_the_deadline_and_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    let challenge = b"107 33      \n0123456789abcdef0123456789abcdef\n\n";
    let cases: [(&[u8], Outcome); 7] = [
        (b"220 mail.example ESMTP\r\n", Outcome::Unsupported),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Outcome::Unsupported),
        (b"200 999999999999\nfar more than there is", Outcome::Unsupported),
        (b"200 99999   \nless than it said", Outcome::Unreachable),
        (b"107 5       \nshort\n", Outcome::Unsupported),
        (challenge, Outcome::Refused),
        (b"", Outcome::Unreachable),
    ];
    for (says, outcome) in cases {
        let secret_file = Some(folder.path().join("secret"));
        let target = target::Varnish { listener: None, address: impostor(says), secret_file, restart_to_free: true };
        let mut desk = Desk::new(&[("pages", Target::Varnish(target))]);
        let shown = String::from_utf8_lossy(says);
        let report = desk.apply(1, "pages", Verb::Shrink, HALF);
        assert_eq!(report.outcome, outcome, "{shown}: {}", report.detail);
        assert!(report.took < DEADLINE * 4, "{shown}: {:?}", report.took);
        let report = desk.apply(2, "pages", Verb::Flush, Amount::Whole);
        assert_eq!((report.outcome, desk.journaled().len()), (outcome, 0), "{shown}: {}", report.detail);
    }
}

#[test]
fn it_is_interrupted_at_every_piece_of_a_shrink_its_undo_and_a_restart() {
    // More than these exchange.
    const MOST: usize = 200;
    let server = Varnish::start();
    let mut cases = 0;
    // A third of them, since each waits for the lurker.
    for nth in (0..MOST).step_by(3) {
        let (front, passed) = server.cut_at(nth);
        let target = target::Varnish { address: front, restart_to_free: true, ..server.target() };
        let mut desk = Desk::new(&[("pages", Target::Varnish(target))]);
        desk.apply(1, "pages", Verb::Shrink, HALF);
        eventually("the undo", || {
            let report = desk.undo(1);
            matches!(report.outcome, Outcome::Applied | Outcome::Already).then_some(())
        });
        assert_eq!((server.face(), desk.journaled().len()), (normal(), 0), "cut at piece {nth}");
        if nth % 2 == 0 {
            desk.apply(2, "pages", Verb::Flush, Amount::Whole);
            eventually("a child", || server.child());
        }
        cases += 1;
        if passed.load(Ordering::SeqCst) <= nth {
            println!("{cases} cases");
            return;
        }
    }
    panic!("over {MOST} pieces");
}

#[test]
fn a_ban_that_did_not_get_through_is_ordered_again() {
    let server = Varnish::start();
    server.fill(20);
    let before = server.face();
    let target = target::Varnish { address: server.cut_at_first("ban obj"), ..server.target() };
    let mut desk = Desk::new(&[("pages", Target::Varnish(target))]);
    let report = desk.apply(1, "pages", Verb::Shrink, HALF);
    assert_eq!(report.outcome, Outcome::NoEffect, "{}", report.detail);
    assert!(report.detail.contains("it is unknown whether objects went"), "{}", report.detail);
    let report = desk.apply(1, "pages", Verb::Shrink, HALF);
    assert!(report.detail.contains("banned about 50 % of the objects"), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, before));
}
