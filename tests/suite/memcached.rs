//! The memcached control against a real memcached: pages dropped and the memory measured, the limit put back exactly, and
//! everybody else served all along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use node_guardian::control::DEADLINE;
use node_guardian::control::address::Address;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::memcached::{GIVES_BACK, Memcached};
use super::support::proxy::{self, Protocol, Verdict};

const HALF: Amount = Amount::Keep(50.0);
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 256 * MIB;

fn desk(server: &Memcached) -> Desk {
    Desk::new(&[("cache", Target::Memcached(server.target()))])
}

fn rebuildable(server: &Memcached) -> Desk {
    Desk::new(&[("cache", Target::Memcached(target::Memcached { cache_only: true, ..server.target() }))])
}

#[test]
fn shrink_drops_pages_again_and_again_and_is_undone_exactly() {
    let server = Memcached::start();
    let mut desk = desk(&server);
    assert!(desk.view("cache", "usable").detail.contains("limit 256.0MiB, resident"));
    for round in 1..=3 {
        server.fill(100);
        let (full, prober) = (server.resident(), server.probe());
        let report = desk.apply(round, "cache", Verb::Shrink, HALF);
        println!("{} in {:?}", report.detail, report.took);
        prober.served_all_along();
        assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
        let freed = report.freed_bytes.unwrap();
        assert!(freed > 40 << 20 && full - server.resident() > 40 * MIB, "{}", report.detail);
        assert!((45 * MIB..60 * MIB).contains(&server.limit()), "half of what was in use: {}", server.limit());
        assert!(server.stat("curr_items") > 10_000, "half of it is still there");
        assert_eq!(desk.verify(round).outcome, Outcome::Applied);
        let report = desk.undo(round);
        assert_eq!((report.outcome, server.limit()), (Outcome::Applied, LIMIT), "{}", report.detail);
    }
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_stronger_shrink_is_of_what_there_was_first() {
    let server = Memcached::start();
    server.fill(100);
    let mut desk = desk(&server);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, HALF).outcome, Outcome::Applied);
    let first = server.limit();
    let report = desk.apply(1, "cache", Verb::Shrink, Amount::Keep(25.0));
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(server.limit().abs_diff(first / 2) <= MIB, "{} of {first}", server.limit());
    let report = desk.apply(1, "cache", Verb::Shrink, Amount::Keep(75.0));
    assert_eq!((report.outcome, server.limit() > first), (Outcome::Applied, true), "weaker: {}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.limit()), (Outcome::Applied, LIMIT));
    desk.apply(2, "cache", Verb::Shrink, HALF);
    assert_eq!(server.limit(), first, "after a relapse, not of what the first time left");
    let target = Target::Memcached(server.target());
    let mut desk = Desk::resume(desk.stop(), &[("cache", target)]);
    assert_eq!((desk.undo(2).outcome, server.limit()), (Outcome::Applied, LIMIT));
    desk.apply(3, "cache", Verb::Shrink, HALF);
    assert_eq!(server.limit(), first, "after a crash, not of what it left");
    assert_eq!((desk.undo(3).outcome, server.limit()), (Outcome::Applied, LIMIT));
}

#[test]
fn an_allocator_that_keeps_what_is_freed_is_found_out_and_named() {
    let server = Memcached::start_with(&[], &["-m", "256"]);
    let mut desk = desk(&server);
    let mut told = Vec::new();
    // glibc raises its threshold when the first pages are freed, and keeps those that are allocated after that.
    for round in 1..=4 {
        server.fill(80);
        let report = desk.apply(round, "cache", Verb::Shrink, Amount::Bytes(20 * MIB));
        println!("{:?} {}", report.outcome, report.detail);
        told.push(report);
        assert_eq!((desk.undo(round).outcome, server.limit()), (Outcome::Applied, LIMIT));
    }
    assert!(!told[0].detail.contains("MALLOC"), "the first time all of it comes back: {}", told[0].detail);
    assert!(told.iter().any(|report| report.detail.contains("MALLOC_MMAP_THRESHOLD_=131072")));
    for report in told {
        // Which it is depends on what lies at the top of the heap.
        let is_nothing = report.freed_bytes.unwrap() < MIB as i64;
        assert_eq!(report.outcome == Outcome::NoEffect, is_nothing, "{}", report.detail);
    }
}

#[test]
fn flush_gives_everything_back_and_leaves_the_limit() {
    let server = Memcached::start();
    let mut desk = rebuildable(&server);
    for round in 1..=2 {
        server.fill(100);
        let prober = server.probe();
        let report = desk.apply(round, "cache", Verb::Flush, Amount::Whole);
        println!("{} in {:?}", report.detail, report.took);
        prober.served_all_along();
        assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
        assert!(report.freed_bytes.unwrap() > 80 << 20, "{}", report.detail);
        assert_eq!((server.limit(), server.ask("get key1").as_str()), (LIMIT, "END"));
    }
    assert!(desk.journaled().is_empty());
}

#[test]
fn flush_while_shrunk_leaves_the_limit_of_the_shrink() {
    let server = Memcached::start();
    server.fill(100);
    let mut desk = rebuildable(&server);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, HALF).outcome, Outcome::Applied);
    let limit = server.limit();
    let report = desk.apply(2, "cache", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, server.limit()), (Outcome::Applied, limit), "{}", report.detail);
    assert!(server.resident() < 40 * MIB);
    assert_eq!((desk.undo(1).outcome, server.limit()), (Outcome::Applied, LIMIT));
}

#[test]
fn only_what_was_called_a_cache_is_emptied() {
    let server = Memcached::start();
    server.fill(1);
    let mut desk = desk(&server);
    let report = desk.apply(1, "cache", Verb::Flush, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("cache_only = true"), "{}", report.detail);
    assert_ne!(server.ask("get key1"), "END");
}

#[test]
fn an_operators_limit_is_left_alone_and_a_lower_one_is_never_raised() {
    let server = Memcached::start();
    let mut desk = desk(&server);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB)).outcome, Outcome::Applied);
    assert_eq!(server.ask("cache_memlimit 100"), "OK");
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.limit()), (Outcome::Overridden, 100 * MIB), "{}", report.detail);
    let report = desk.apply(2, "cache", Verb::Shrink, Amount::Bytes(128 * MIB));
    assert_eq!((report.outcome, server.limit()), (Outcome::Already, 100 * MIB));
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_restart_has_undone_it_already() {
    let mut server = Memcached::start();
    let mut desk = desk(&server);
    desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB));
    server.restart();
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    desk.apply(2, "cache", Verb::Shrink, Amount::Bytes(64 * MIB));
    server.restart();
    // The same value again, and not ours.
    assert_eq!(server.ask("cache_memlimit 64"), "OK");
    assert_eq!((desk.undo(2).outcome, server.limit()), (Outcome::EpochChanged, 64 * MIB));
}

#[test]
fn one_life_has_one_name_all_along() {
    let server = Memcached::start();
    let mut desk = desk(&server);
    desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB));
    let until = std::time::Instant::now() + std::time::Duration::from_millis(2500);
    while std::time::Instant::now() < until {
        assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    }
    assert_eq!((desk.undo(1).outcome, server.limit()), (Outcome::Applied, LIMIT));
}

#[test]
fn what_a_crash_left_behind_is_undone() {
    let server = Memcached::start();
    let mut before = desk(&server);
    before.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB));
    let mut desk = Desk::resume(before.stop(), &[]);
    assert_eq!((desk.undo(1).outcome, server.limit()), (Outcome::Applied, LIMIT));
    let controls = [("cache", Target::Memcached(server.target()))];
    let mut before = Desk::on_disk(&server.path(""), &controls);
    before.apply(7, "cache", Verb::Shrink, Amount::Bytes(64 * MIB));
    drop(before);
    let mut desk = Desk::on_disk(&server.path(""), &[]);
    assert_eq!((desk.undo(7).outcome, server.limit()), (Outcome::Applied, LIMIT));
}

#[test]
fn a_stopped_memcached_times_out_and_is_still_owed() {
    let server = Memcached::start();
    let mut desk = rebuildable(&server);
    desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB));
    server.process().signal(Signal::SIGSTOP);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < DEADLINE * 4 && report.detail.contains("is the process stopped"), "{}", report.detail);
    // It was not even told to flush.
    assert_eq!(desk.apply(2, "cache", Verb::Flush, Amount::Whole).outcome, Outcome::Unreachable);
    server.process().signal(Signal::SIGCONT);
    assert_eq!((desk.undo(1).outcome, server.limit()), (Outcome::Applied, LIMIT));
}

#[test]
fn it_is_interrupted_at_every_message_of_a_shrink_its_undo_and_a_flush() {
    // More than these exchange.
    const MOST: usize = 400;
    let server = Memcached::start();
    let mut reached_the_end = false;
    let mut cases = 0;
    // Every message at first, then some of the many that move pages.
    for nth in (0..24).chain((24..MOST).step_by(7)) {
        server.fill(12);
        let front = server.path(&format!("front{nth}.sock"));
        let seen = Arc::new(AtomicBool::new(false));
        let hit = Arc::clone(&seen);
        proxy::start(&front, &server.path("memcached.sock"), Protocol::Memcached, move |passing| {
            hit.fetch_or(passing.number == nth, Ordering::SeqCst);
            if passing.number == nth { Verdict::Cut } else { Verdict::Pass }
        });
        let target = target::Memcached { address: Address::Unix(front), cache_only: true };
        let mut desk = Desk::new(&[("cache", Target::Memcached(target))]);
        desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(9 * MIB));
        eventually("the undo", || {
            let report = desk.undo(1);
            matches!(report.outcome, Outcome::Applied | Outcome::Already).then_some(())
        });
        assert_eq!((server.limit(), desk.journaled().len()), (LIMIT, 0), "cut at message {nth}");
        desk.apply(2, "cache", Verb::Flush, Amount::Whole);
        assert_eq!(server.limit(), LIMIT, "cut at message {nth}");
        cases += 1;
        if !seen.load(Ordering::SeqCst) {
            reached_the_end = true;
            break;
        }
    }
    println!("{cases} cases");
    assert!(reached_the_end, "over {MOST} messages");
}

#[test]
fn tcp_works_like_the_socket_and_what_cannot_be_seen_is_not_claimed() {
    let server = Memcached::over_tcp();
    let target = target::Memcached { address: server.tcp(), cache_only: true };
    let mut desk = Desk::new(&[("cache", Target::Memcached(target))]);
    assert!(desk.view("cache", "usable").detail.contains("resident"));
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB)).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);

    let server = Memcached::start();
    server.fill(40);
    let front = server.path("front.sock");
    proxy::start(&front, &server.path("memcached.sock"), Protocol::Memcached, |_| Verdict::Pass);
    let target = target::Memcached { address: Address::Unix(front), cache_only: true };
    let mut desk = Desk::new(&[("cache", Target::Memcached(target))]);
    assert!(desk.view("cache", "usable").detail.contains("cannot be measured"), "the listener is somebody else");
    let report = desk.apply(1, "cache", Verb::Shrink, HALF);
    assert_eq!((report.outcome, report.freed_bytes), (Outcome::Applied, None), "{}", report.detail);
    assert!(report.detail.contains("not measured") && server.resident() < 40 * MIB, "{}", report.detail);
    let report = desk.apply(2, "cache", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, report.freed_bytes), (Outcome::Applied, None), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.limit()), (Outcome::Applied, LIMIT));
}

#[test]
fn each_option_that_stands_in_the_way_is_named() {
    for (options, told) in [
        (&["-M"][..], "`-M`"),
        (&["-o", "no_slab_reassign"], "no_slab_reassign"),
        (&["-L", "-m", "64"], "without `-L`"),
    ] {
        let server = Memcached::start_with(GIVES_BACK, options);
        let mut desk = rebuildable(&server);
        let detail = desk.view("cache", "usable").detail;
        assert!(detail.contains("may flush; cannot shrink: ") && detail.contains(told), "{detail}");
        let report = desk.apply(1, "cache", Verb::Shrink, HALF);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
        let mut desk = self::desk(&server);
        desk.view("cache", "refused");
    }
    let server = Memcached::start_with(GIVES_BACK, &["-F"]);
    let mut desk = rebuildable(&server);
    let detail = desk.view("cache", "usable").detail;
    assert!(detail.contains("may shrink; cannot flush: ") && detail.contains("`-F`"), "{detail}");
    let report = desk.apply(1, "cache", Verb::Flush, Amount::Whole);
    assert!(report.outcome == Outcome::Refused && report.detail.contains("`-F`"), "{}", report.detail);
    let report = desk.apply(2, "cache", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported, "{}", report.detail);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users"), "a:b\n").unwrap();
    let users = folder.path().join("users");
    let server = Memcached::start_with(GIVES_BACK, &["-Y", users.to_str().unwrap()]);
    let mut desk = rebuildable(&server);
    assert!(desk.view("cache", "refused").detail.contains("`-Y`"));
}
