//! Servers that are absent, stopped, restarting, or not what they seem: each told apart, none of them delaying another.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::control::DEADLINE;
use node_guardian::control::address::Address;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Answered, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;
use super::support::proxy::{self, Protocol, Verdict, Way};
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);

/// More than one deadline, and far from two.
fn within_the_deadline(took: Duration) -> bool {
    took >= DEADLINE && took < DEADLINE * 3 / 2
}

#[test]
fn an_absent_server_is_unreachable_and_said_to_be_absent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nobody.sock");
    let haproxy = target::Haproxy {
        socket: socket.clone(),
        frontends: Vec::new(),
        backends: Vec::new(),
        lease_table: "ng_lease".into(),
        ..Default::default()
    };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(haproxy))]);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Unreachable);
    assert!(report.detail.contains("does not exist"), "{}", report.detail);
    drop(UnixListener::bind(&socket).unwrap());
    let report = desk.apply(2, "edge", Verb::Throttle, HALF);
    assert!(report.outcome == Outcome::Unreachable && report.detail.contains("nobody listens"), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_stopped_server_times_out_and_delays_nobody_else() {
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let redis = target::Redis { cache_only: true, ..cache.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(edge.target())), ("cache", Target::Redis(redis))]);
    desk.view("cache", "usable");
    cache.process().signal(Signal::SIGSTOP);
    desk.order(1, "cache", Verb::Shrink, HALF);
    let began = Instant::now();
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert!(began.elapsed() < DEADLINE / 3, "HAProxy waited for Redis: {:?}", began.elapsed());
    let report = desk.report(1, Answered::Apply);
    assert_eq!(report.outcome, Outcome::Unreachable);
    assert!(within_the_deadline(report.took), "{:?}", report.took);
    assert_eq!(desk.journaled().len(), 1, "only HAProxy's");

    edge.process().signal(Signal::SIGSTOP);
    let report = desk.undo(2);
    assert_eq!(report.outcome, Outcome::TimedOut);
    assert!(within_the_deadline(report.took) && report.detail.contains("is the process stopped"), "{}", report.detail);
    assert_eq!(desk.journaled().len(), 1, "it is still owed");
    edge.process().signal(Signal::SIGCONT);
    cache.process().signal(Signal::SIGCONT);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
    assert_eq!(edge.limit("be/s1"), "8");
    assert_eq!(desk.apply(3, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
}

/// Where an action is interrupted.
fn interrupted(way: Way, at: &'static str, verdict: Verdict) -> (Haproxy, Desk) {
    let server = Haproxy::start();
    let front = server.path("front.sock");
    let once = AtomicBool::new(true);
    proxy::start(&front, &server.path("admin.sock"), Protocol::Haproxy, move |passing| {
        let here = passing.way == way && passing.says(at);
        if here && once.swap(false, Ordering::SeqCst) { verdict } else { Verdict::Pass }
    });
    let target = target::Haproxy { socket: front, ..server.target() };
    let desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    (server, desk)
}

#[test]
fn a_command_that_never_arrived_leaves_a_doubt_that_the_read_back_resolves() {
    let (server, mut desk) = interrupted(Way::Request, "set maxconn", Verdict::Cut);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert_eq!(desk.verify(1).outcome, Outcome::Already);
    assert_eq!((server.limit("be/s1").as_str(), desk.journaled().len()), ("8", 0));
}

#[test]
fn a_command_whose_answer_was_lost_is_found_in_force() {
    let server = Haproxy::start();
    let front = server.path("front.sock");
    let armed = Arc::new(Mutex::new(false));
    proxy::start(&front, &server.path("admin.sock"), Protocol::Haproxy, move |passing| {
        let mut armed = armed.lock().unwrap();
        match passing.way {
            Way::Request => *armed = passing.says("set maxconn"),
            Way::Answer if std::mem::take(&mut *armed) => return Verdict::Half,
            Way::Answer => {}
        }
        Verdict::Pass
    });
    let target = target::Haproxy { socket: front, ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert_eq!(server.limit("be/s1"), "4");
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
}

#[test]
fn an_adjustment_that_never_arrived_is_made_by_the_next_verification() {
    let (server, mut desk) = interrupted(Way::Request, "set maxconn server be/s1 2", Verdict::Cut);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0)).outcome, Outcome::TimedOut);
    assert_eq!(server.limit("be/s1"), "4");
    assert_eq!((desk.verify(1).outcome, server.limit("be/s1").as_str()), (Outcome::Applied, "2"));
    assert_eq!((desk.undo(1).outcome, server.limit("be/s1").as_str()), (Outcome::Applied, "8"));
}

#[test]
fn half_an_answer_before_anything_was_sent_owes_nothing() {
    let (server, mut desk) = interrupted(Way::Answer, "be,s1,", Verdict::Half);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unreachable, 0), "{}", report.detail);
    assert!(report.took < DEADLINE * 3 / 2, "{:?}", report.took);
    assert_eq!((desk.verify(1).outcome, desk.undo(1).outcome), (Outcome::Already, Outcome::Already));
    assert_eq!(server.limit("be/s1"), "8");
}

#[test]
fn a_server_that_restarts_in_the_middle_of_an_action_is_noticed() {
    let server = Arc::new(Mutex::new(Haproxy::start()));
    let (front, back, target) = {
        let server = server.lock().unwrap();
        (server.path("front.sock"), server.path("admin.sock"), server.target())
    };
    // The go-between outlives the test, the server must not.
    let (shared, once) = (Arc::downgrade(&server), AtomicBool::new(true));
    proxy::start(&front, &back, Protocol::Haproxy, move |passing| {
        if passing.way == Way::Request && passing.says("set maxconn") && once.swap(false, Ordering::SeqCst) {
            shared.upgrade().unwrap().lock().unwrap().restart();
        }
        Verdict::Pass
    });
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target::Haproxy { socket: front, ..target }))]);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert_eq!((desk.verify(1).outcome, desk.journaled().len()), (Outcome::EpochChanged, 0));
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
    assert_eq!(server.lock().unwrap().limit("be/s1"), "8");
}

#[test]
fn redis_is_interrupted_at_every_message_of_a_shrink_and_its_undo() {
    // More than a shrink and its undo exchange.
    const MOST: usize = 120;
    let mut reached_the_end = false;
    for nth in 0..MOST {
        let server = Redis::start();
        let front = server.path("front.sock");
        let seen = Arc::new(AtomicBool::new(false));
        let hit = Arc::clone(&seen);
        proxy::start(&front, &server.path("redis.sock"), Protocol::Redis, move |passing| {
            if passing.number == nth {
                hit.store(true, Ordering::SeqCst);
                return Verdict::Cut;
            }
            Verdict::Pass
        });
        let target = target::Redis { address: Address::Unix(front), cache_only: true, ..server.target() };
        let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
        desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20));
        eventually("the undo", || {
            let report = desk.undo(1);
            matches!(report.outcome, Outcome::Applied | Outcome::Already).then_some(())
        });
        assert_eq!(
            (server.setting("maxmemory"), server.setting("maxmemory-policy")),
            ("0".into(), "noeviction".into())
        );
        assert!(desk.journaled().is_empty(), "cut at message {nth}");
        if !seen.load(Ordering::SeqCst) {
            reached_the_end = true;
            break;
        }
    }
    assert!(reached_the_end, "over {MOST} messages");
}

#[test]
fn haproxy_is_interrupted_at_every_message_of_a_throttle_its_adjustment_and_its_undo() {
    const MOST: usize = 120;
    let server = Haproxy::start();
    let before = server.face();
    let mut reached_the_end = false;
    for nth in 0..MOST {
        let front = server.path(&format!("front{nth}.sock"));
        let seen = Arc::new(AtomicBool::new(false));
        let hit = Arc::clone(&seen);
        proxy::start(&front, &server.path("admin.sock"), Protocol::Haproxy, move |passing| {
            hit.fetch_or(passing.number == nth, Ordering::SeqCst);
            if passing.number == nth { Verdict::Cut } else { Verdict::Pass }
        });
        let target = target::Haproxy { socket: front, ..server.target() };
        let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
        desk.apply(1, "edge", Verb::Throttle, HALF);
        desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0));
        eventually("the undo", || {
            let report = desk.undo(1);
            matches!(report.outcome, Outcome::Applied | Outcome::Already).then_some(())
        });
        assert_eq!(server.face(), before, "cut at message {nth}");
        assert!(desk.journaled().is_empty(), "cut at message {nth}");
        if !seen.load(Ordering::SeqCst) {
            reached_the_end = true;
            break;
        }
    }
    assert!(reached_the_end, "over {MOST} messages");
}

#[test]
fn when_all_its_command_slots_are_taken_haproxy_is_said_to_be_silent() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    desk.view("edge", "usable");
    // HAProxy has 10 by default.
    let taken: Vec<_> = (0..10).map(|_| UnixStream::connect(server.path("admin.sock")).unwrap()).collect();
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unreachable, 0));
    assert!(within_the_deadline(report.took) && report.detail.contains("CLI slots"), "{}", report.detail);
    drop(taken);
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
}

/// Something that listens where a server should be.
fn impostor(socket: &Path, behave: fn(UnixStream)) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || behave(stream));
        }
    });
}

fn says_garbage(mut stream: UnixStream) {
    let mut request = [0; 1024];
    while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
        if stream.write_all(b"220 mail.example ESMTP\r\n\xff\xfe\x00\n> ").is_err() {
            return;
        }
    }
}

fn never_ends(mut stream: UnixStream) {
    let flood = [b'+'; 65536];
    while stream.write_all(&flood).is_ok() {}
}

fn hangs_up(mut stream: UnixStream) {
    drop(stream.read(&mut [0; 16]));
}

fn says_half(mut stream: UnixStream) {
    drop(stream.read(&mut [0; 1024]));
    stream.write_all(b"$500\r\nhalf of it").ok();
    std::thread::sleep(Duration::from_secs(30));
}

fn is_silent(stream: UnixStream) {
    std::thread::sleep(Duration::from_secs(30));
    drop(stream);
}

#[test]
fn whatever_answers_is_survived_within_the_deadline_and_told_apart() {
    type Case = (&'static str, fn(UnixStream), Outcome);
    let cases: [Case; 5] = [
        ("garbage", says_garbage, Outcome::Unsupported),
        ("endless", never_ends, Outcome::Unsupported),
        ("closing", hangs_up, Outcome::TimedOut),
        ("half", says_half, Outcome::TimedOut),
        ("silent", is_silent, Outcome::TimedOut),
    ];
    for (name, behave, outcome) in cases {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join(name);
        impostor(&socket, behave);
        let haproxy = target::Haproxy {
            socket: socket.clone(),
            frontends: Vec::new(),
            backends: Vec::new(),
            lease_table: "ng_lease".into(),
            ..Default::default()
        };
        let memcached = target::Memcached { address: Address::Unix(socket.clone()), cache_only: true };
        let redis = target::Redis {
            listener: None,
            address: Address::Unix(socket),
            username: None,
            password_file: None,
            cache_only: true,
            flush_pattern: None,
            client_buffers: None,
        };
        let mut desk = Desk::new(&[
            ("edge", Target::Haproxy(haproxy)),
            ("cache", Target::Redis(redis)),
            ("pages", Target::Memcached(memcached)),
        ]);
        for (id, control, verb) in [
            (1, "edge", Verb::Throttle),
            (2, "cache", Verb::Shrink),
            (3, "cache", Verb::Release),
            (4, "pages", Verb::Shrink),
            (5, "pages", Verb::Flush),
        ] {
            let report = desk.apply(id, control, verb, Amount::Keep(50.0));
            // Half of Redis's answer is none of memcached's.
            let outcome = if (name, control) == ("half", "pages") { Outcome::Unsupported } else { outcome };
            // It was not even told to lose anything; what releases may have been done, and may be done again.
            let unsent = outcome == Outcome::TimedOut && verb != Verb::Release;
            let outcome = if unsent { Outcome::Unreachable } else { outcome };
            assert_eq!(report.outcome, outcome, "{name} {control}: {}", report.detail);
            assert!(report.took < DEADLINE * 3 / 2, "{name} {control}: {:?}", report.took);
        }
        assert!(desk.journaled().is_empty());
    }
}

#[test]
fn stopping_the_workers_does_not_wait_for_a_silent_server() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    server.process().signal(Signal::SIGSTOP);
    desk.order(1, "edge", Verb::Throttle, Amount::Keep(25.0));
    let began = Instant::now();
    let ledger = desk.stop();
    assert!(began.elapsed() < DEADLINE / 3, "{:?}", began.elapsed());
    server.process().signal(Signal::SIGCONT);
    let mut desk = Desk::resume(ledger, &[]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.limit("be/s1"), "8");
}
