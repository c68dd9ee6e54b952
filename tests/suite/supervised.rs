//! Nothing is done too late, unwanted or without its record; and nothing that needs no record waits for one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use node_guardian::control::target::{self, Target};
use node_guardian::control::worker::RECORDED_WITHIN;
use node_guardian::policy::mitigation::{Amount, Answered, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;
use super::support::processes::Plain;
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);
const QUARTER: Amount = Amount::Keep(25.0);

#[test]
fn what_its_rule_does_not_want_any_more_is_neither_flushed_nor_ended() {
    let (cache, batch) = (Redis::start(), Plain::start("sleep", &["600"]));
    cache.fill("cache:", 10, 10);
    let flushed = target::Redis { cache_only: false, flush_pattern: Some("cache:*".into()), ..cache.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(flushed)), ("batch", batch.sacrificial())]);
    desk.wants = false;
    for (id, control, verb) in [(1, "cache", Verb::Flush), (2, "batch", Verb::Terminate)] {
        let report = desk.apply(id, control, verb, Amount::Whole);
        assert_eq!(report.outcome, Outcome::Expired, "{}", report.detail);
        assert_eq!(&*report.detail, "not done, nothing was sent: its rule does not want it any more");
    }
    assert_eq!((cache.ask(&["DBSIZE"]).as_str(), batch.states().as_str()), (":10", "S"));
    assert_eq!(
        desk.apply(3, "batch", Verb::Freeze, Amount::Whole).outcome,
        Outcome::Applied,
        "can be undone: not asked"
    );
    assert_eq!(desk.undo(3).outcome, Outcome::Applied);
    desk.wants = true;
    let report = desk.apply(4, "cache", Verb::Flush, Amount::Whole);
    // So few keys give no memory back.
    assert!(matches!(report.outcome, Outcome::Applied | Outcome::NoEffect), "{report:?}");
    assert_eq!(cache.ask(&["DBSIZE"]).as_str(), ":0");
}

/// A batch that takes no SIGTERM, and a cache with more keys than go in the time between two questions.
#[test]
fn what_destroys_part_after_part_stops_when_nobody_wants_it_any_more() {
    let batch = Plain::start("bash", &["-c", "trap '' TERM; while :; do read -t 1 < <(:); sleep 0.2; done"]);
    let target = target::Process { sacrificial: true, kill_after_seconds: Some(2), ..batch.target() };
    let cache = Redis::start();
    let all = 400_000;
    let fill = format!("for i=1,{all} do redis.call('set','cache:'..i,'x') end return 1");
    assert_eq!(cache.ask(&["EVAL", &fill, "0"]), ":1");
    let flushed = target::Redis { cache_only: false, flush_pattern: Some("cache:*".into()), ..cache.target() };
    let mut desk = Desk::new(&[("batch", Target::Process(target)), ("cache", Target::Redis(flushed))]);
    eventually("it takes no SIGTERM", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", batch.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        (u64::from_str_radix(mask, 16).unwrap() & 1 << 14 != 0).then_some(())
    });

    desk.order(1, "batch", Verb::Terminate, Amount::Whole);
    desk.change_its_mind_once_asked();
    let report = desk.report(1, Answered::Apply);
    assert_eq!(report.outcome, Outcome::NoEffect, "{}", report.detail);
    assert!(report.detail.ends_with("no SIGKILL followed: its rule does not want it any more"), "{}", report.detail);
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", batch.id())).unwrap();
    assert!(!cmdline.is_empty(), "what has ended has none");

    desk.wants = true;
    desk.order(2, "cache", Verb::Flush, Amount::Whole);
    desk.change_its_mind_once_asked();
    let report = desk.report(2, Answered::Apply);
    assert!(
        report.detail.contains("of cache:*, then stopped (its rule does not want it any more)"),
        "{}",
        report.detail
    );
    let left: usize = cache.ask(&["DBSIZE"])[1..].parse().unwrap();
    assert!((1..all).contains(&left), "{left} are left");
}

#[test]
fn a_loop_that_does_not_answer_wants_nothing() {
    let batch = Plain::start("sleep", &["600"]);
    let mut desk = Desk::new(&[("batch", batch.sacrificial())]);
    desk.order(1, "batch", Verb::Terminate, Amount::Whole);
    // Nobody listens for longer than is waited for the answer.
    std::thread::sleep(Duration::from_millis(1200));
    let report = desk.report(1, Answered::Apply);
    assert_eq!((report.outcome, batch.states().as_str()), (Outcome::Expired, "S"), "{}", report.detail);
    assert!(report.detail.contains("did not say within 1 s"), "{}", report.detail);
}

#[test]
fn what_comes_too_late_is_not_done_but_always_undone() {
    let server = Haproxy::start();
    let before = server.face();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    desk.order_too_late(1, "edge", Verb::Throttle, HALF);
    let report = desk.report(1, Answered::Apply);
    assert_eq!((report.outcome, server.face()), (Outcome::Expired, before.clone()), "{}", report.detail);
    assert!(report.detail.contains("s after it expired"), "{}", report.detail);
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    desk.order_too_late(2, "edge", Verb::Throttle, QUARTER);
    assert_eq!(desk.report(2, Answered::Apply).outcome, Outcome::Expired);
    assert_eq!((server.limit("be/s1").as_str(), desk.journaled()[0].mitigation.amount), ("4", HALF));
    assert_eq!((desk.undo(2).outcome, server.face()), (Outcome::Applied, before));
}

#[test]
fn a_disk_that_does_not_answer_delays_the_change_that_waits_for_it_and_nothing_else() {
    let (edge, inner) = (Haproxy::start(), Haproxy::start());
    let before = (edge.face(), inner.face());
    let mut desk = Desk::new(&[("edge", Target::Haproxy(edge.target())), ("inner", Target::Haproxy(inner.target()))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(2, "inner", Verb::Shed, HALF).outcome, Outcome::Applied);
    desk.journaled();
    desk.ledger.hangs.store(true, Ordering::SeqCst);

    desk.order(1, "edge", Verb::Throttle, QUARTER);
    let began = Instant::now();
    assert_eq!(desk.verify(2).outcome, Outcome::Applied, "a lease is renewed");
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
    assert!(began.elapsed() < RECORDED_WITHIN / 2, "{:?}", began.elapsed());
    assert_eq!(inner.face(), before.1);
    let report = desk.report(1, Answered::Apply);
    assert_eq!((report.outcome, edge.limit("be/s1").as_str()), (Outcome::Expired, "4"), "{}", report.detail);
    assert!(report.detail.contains("its undo could not be recorded within 2 s"), "{}", report.detail);
    let began = Instant::now();
    assert_eq!(desk.apply(3, "inner", Verb::Throttle, HALF).outcome, Outcome::Expired, "known to be silent");
    assert!(began.elapsed() < RECORDED_WITHIN / 2, "{:?}", began.elapsed());
    assert_eq!(inner.face(), before.1);

    desk.ledger.hangs.store(false, Ordering::SeqCst);
    let kept: Vec<_> = desk.journaled().iter().map(|entry| (entry.id.0, entry.mitigation.amount)).collect();
    assert_eq!(kept, [(1, HALF)], "the record that came late is closed, the change that stands is what it was");
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, QUARTER).outcome, Outcome::Applied);
    assert_eq!((desk.undo(1).outcome, edge.face()), (Outcome::Applied, before.0));
    assert!(desk.journaled().is_empty());
}

/// The first try finds out how slow it is.
#[test]
fn a_disk_that_is_always_slow_delays_what_waits_for_it_and_does_not_forbid_it() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    desk.view("edge", "usable");
    desk.ledger.slow.store(2500, Ordering::SeqCst);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::Expired, "8"), "{}", report.detail);
    desk.until_recorded();
    // What was given up is closed, which is on its way to the disk when the next one comes.
    let report = desk.apply(2, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::Applied, "4"), "{}", report.detail);
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, QUARTER).outcome, Outcome::Applied);
    let began = Instant::now();
    assert_eq!((desk.undo(2).outcome, server.limit("be/s1").as_str()), (Outcome::Applied, "8"));
    assert!(began.elapsed() < RECORDED_WITHIN, "an undo waits for no disk");
    desk.ledger.slow.store(0, Ordering::SeqCst);
    assert!(desk.journaled().is_empty());
}

/// Known to be slow, the disk is waited for; but not by an undo that comes meanwhile, nor against an order to stop.
#[test]
fn what_waits_for_a_slow_disk_gives_way_to_an_undo_and_to_an_order() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    desk.ledger.slow.store(3500, Ordering::SeqCst);
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Expired);
    desk.journaled();
    let began = Instant::now();
    desk.order(3, "edge", Verb::Throttle, HALF);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert!(began.elapsed() < RECORDED_WITHIN + Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(desk.report(3, Answered::Apply).outcome, Outcome::Expired);

    desk.journaled();
    desk.ledger.slow.store(1000, Ordering::SeqCst);
    desk.wants = false;
    let report = desk.apply(4, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::Expired, "8"), "{}", report.detail);
    assert!(report.detail.contains("does not want it any more"), "{}", report.detail);
    desk.ledger.slow.store(0, Ordering::SeqCst);
    assert!(desk.journaled().is_empty());
}

/// Both have read 8, and neither has a record yet.
#[test]
fn two_controls_of_one_server_that_wait_for_their_records_do_not_take_one_value() {
    let server = Haproxy::start();
    let mut desk =
        Desk::new(&[("edge", Target::Haproxy(server.target())), ("other", Target::Haproxy(server.target()))]);
    desk.view("other", "usable");
    desk.ledger.hangs.store(true, Ordering::SeqCst);
    desk.order(1, "edge", Verb::Throttle, HALF);
    desk.order(2, "other", Verb::Throttle, HALF);
    let one_waits = |desk: &mut Desk| {
        let first = desk.any_report();
        assert_eq!(first.outcome, Outcome::Refused, "{}", first.detail);
        assert!(first.detail.contains("already holds"), "{}", first.detail);
        3 - first.id.0
    };
    let waiting = one_waits(&mut desk);
    desk.ledger.hangs.store(false, Ordering::SeqCst);
    let report = desk.report(waiting, Answered::Apply);
    let limit = server.limit("be/s1");
    match report.outcome {
        Outcome::Applied => assert_eq!(limit, "4"),
        outcome => assert_eq!((outcome, limit.as_str()), (Outcome::Expired, "8"), "it was slow"),
    }
    desk.undo(waiting);
    assert_eq!(server.limit("be/s1"), "8");
}
