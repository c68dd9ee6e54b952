//! Whose a value is: told by what was seen, never by what it equals. Against a service that obeys badly, and against real
//! ones that are restarted, moved, and set by operators in between.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::control::address::Address;

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Report, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::fickle::{EXACT, Fickle, Manner, PRIOR};
use super::support::haproxy::Haproxy;
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);
const QUARTER: Amount = Amount::Keep(25.0);
const MIB: u64 = 1 << 20;

fn late(seconds: f64) -> Manner {
    Manner { late: Duration::from_secs_f64(seconds), ..EXACT }
}

fn desk(service: &Fickle) -> Desk {
    Desk::new(&[("it", service.target())])
}

fn throttle(desk: &mut Desk, id: u64, kept: f64) -> Report {
    desk.apply(id, "it", Verb::Throttle, Amount::Keep(kept))
}

fn is_as_it_was(service: &Fickle, desk: &Desk) {
    assert_eq!((service.settled(), desk.journaled().len()), (PRIOR, 0));
}

#[test]
fn a_rounded_value_is_ours_and_is_put_back() {
    let service = Fickle::start(Manner { step: 20, ..EXACT });
    let mut desk = desk(&service);
    let report = throttle(&mut desk, 1, 88.0);
    assert_eq!((report.outcome, service.limit()), (Outcome::Applied, 180), "{}", report.detail);
    assert_eq!(&*report.detail, "limit 200 → 180 (told 176)");
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(throttle(&mut desk, 1, 44.0).outcome, Outcome::Applied);
    assert_eq!((desk.verify(1).outcome, service.limit()), (Outcome::Applied, 100));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    is_as_it_was(&service, &desk);
}

/// Whoever sets something by hand knows how it was a minute ago.
#[test]
fn an_earlier_value_of_ours_is_an_operators_when_he_sets_it() {
    let server = Haproxy::start();
    for restarts in [false, true] {
        let mut desk = Desk::new(&[("it", Target::Haproxy(server.target()))]);
        for kept in [90.0, 75.0, 50.0] {
            assert_eq!(throttle(&mut desk, 1, kept).outcome, Outcome::Applied);
            assert_eq!(desk.verify(1).outcome, Outcome::Applied);
        }
        let earlier = "6";
        assert_eq!(server.limit("be/s1"), "4");
        server.ask(&format!("set maxconn server be/s1 {earlier}"));
        if restarts {
            desk = Desk::resume(desk.stop(), &[("it", Target::Haproxy(server.target()))]);
            assert_eq!((desk.undo(1).outcome, server.limit("be/s1").as_str()), (Outcome::Overridden, earlier));
        } else {
            assert_eq!((desk.verify(1).outcome, server.limit("be/s1").as_str()), (Outcome::Overridden, earlier));
        }
        assert!(desk.journaled().is_empty());
        server.ask("set maxconn server be/s1 8");
    }
    // Also once an undo has begun, and could not be done: then only the newest of ours may still be there.
    let mut hung = Desk::new(&[("it", Target::Haproxy(server.target()))]);
    for kept in [75.0, 50.0] {
        assert_eq!(throttle(&mut hung, 1, kept).outcome, Outcome::Applied);
    }
    server.process().signal(Signal::SIGSTOP);
    assert_eq!(hung.undo(1).outcome, Outcome::TimedOut);
    server.process().signal(Signal::SIGCONT);
    server.ask("set maxconn server be/s1 6");
    let mut next = Desk::resume(hung.stop(), &[("it", Target::Haproxy(server.target()))]);
    assert_eq!((next.undo(1).outcome, server.limit("be/s1").as_str()), (Outcome::Overridden, "6"));
    // Where an answer comes before the deed, a slow worker may show it for a moment: the grace, 2.5 s.
    let service = Fickle::start(EXACT);
    let mut desk = desk(&service);
    for kept in [80.0, 50.0] {
        assert_eq!(throttle(&mut desk, 1, kept).outcome, Outcome::Applied);
    }
    service.set(160);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "a worker may be that slow");
    std::thread::sleep(Duration::from_secs(3));
    service.set(160);
    assert_eq!(desk.verify(1).outcome, Outcome::Overridden);
    assert_eq!((service.limit(), desk.journaled().len()), (160, 0));
}

/// One of several workers that is slow, say: what it was told first it does last.
#[test]
fn what_is_obeyed_after_its_undo_is_put_back_too() {
    let service = Fickle::start(late(600.0));
    let mut desk = desk(&service);
    let report = throttle(&mut desk, 1, 50.0);
    assert_eq!((report.outcome, service.limit()), (Outcome::TimedOut, PRIOR), "{}", report.detail);
    service.set(PRIOR);
    service.obeys(EXACT);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.detail.contains("has not obeyed yet and still may: limit is 200"), "{}", report.detail);
    // Also by a guardian that was killed meanwhile.
    let mut desk = Desk::resume(desk.stop(), &[("it", service.target())]);
    service.set(100);
    let report = desk.undo(1);
    assert_eq!((report.outcome, service.limit()), (Outcome::Applied, PRIOR), "{}", report.detail);
    is_as_it_was(&service, &desk);
}

#[test]
fn a_service_whose_socket_is_renamed_is_found_where_its_control_leads_now() {
    let service = Fickle::start(EXACT);
    let mut desk = desk(&service);
    assert_eq!((throttle(&mut desk, 1, 50.0).outcome, service.limit()), (Outcome::Applied, 100));
    service.rename_to("renamed.sock");
    let mut desk = Desk::resume(desk.stop(), &[("it", service.target())]);
    let report = desk.undo(1);
    assert_eq!((report.outcome, service.limit()), (Outcome::Applied, PRIOR), "{}", report.detail);
    is_as_it_was(&service, &desk);
}

/// Another one there, which calls its life the same, says nothing about this one.
#[test]
fn another_service_in_its_place_pays_no_debt() {
    let (service, other) = (Fickle::start(EXACT), Fickle::start(EXACT));
    let mut desk = desk(&service);
    assert_eq!(throttle(&mut desk, 1, 50.0).outcome, Outcome::Applied);
    service.rename_to("away.sock");
    let mut desk = Desk::resume(desk.stop(), &[("it", other.target())]);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unreachable, 1), "{}", report.detail);
    assert_eq!((service.limit(), other.limit()), (100, PRIOR));
}

#[test]
fn who_obeys_a_second_late_is_waited_for() {
    let service = Fickle::start(late(1.0));
    let mut desk = desk(&service);
    for id in 1..=2 {
        let report = throttle(&mut desk, id, 50.0);
        assert_eq!((report.outcome, service.limit()), (Outcome::Applied, 100), "{}", report.detail);
        assert_eq!(desk.undo(id).outcome, Outcome::Applied);
        is_as_it_was(&service, &desk);
    }
    assert!(!service.ever_had(50), "our own value is never the next prior one");
}

#[test]
fn who_obeys_later_still_is_read_again_and_owns_nothing_meanwhile() {
    let service = Fickle::start(late(5.0));
    let mut desk = desk(&service);
    let report = throttle(&mut desk, 1, 50.0);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.detail.contains("has not obeyed yet: limit is 200"), "{}", report.detail);
    assert_eq!((desk.verify(1).outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "not closed");
    let second = throttle(&mut desk, 2, 50.0);
    assert_eq!(second.outcome, Outcome::Refused, "what is in doubt is held: {}", second.detail);
    eventually("it obeys", || (desk.verify(1).outcome == Outcome::Applied).then_some(()));
    assert_eq!(service.limit(), 100);
    eventually("and takes it back", || (desk.undo(1).outcome == Outcome::Applied).then_some(()));
    is_as_it_was(&service, &desk);
    assert!(!service.ever_had(50));
}

#[test]
fn who_never_obeys_is_taken_at_the_prior_value_and_let_go() {
    let service = Fickle::start(late(3600.0));
    let mut desk = desk(&service);
    assert_eq!(throttle(&mut desk, 1, 50.0).outcome, Outcome::TimedOut);
    let given_up = eventually("it is given up", || {
        let report = desk.verify(1);
        (report.outcome != Outcome::TimedOut).then_some(report)
    });
    assert_eq!((given_up.outcome, desk.journaled().len()), (Outcome::Already, 0), "{}", given_up.detail);
    assert!(given_up.detail.contains("never obeyed"), "{}", given_up.detail);
    service.obeys(EXACT);
    is_as_it_was(&service, &desk);
}

/// Each of them knows by itself for how long it has waited; and the third, which is in use, answers all along.
#[test]
fn two_that_never_obey_are_let_go_beside_each_other_and_beside_the_one_in_use() {
    let (services, third) = ([1, 2].map(|_| Fickle::start(late(3600.0))), Fickle::start(EXACT));
    // Each is in a life of its own.
    services[1].restart();
    (0..2).for_each(|_| third.restart());
    let mut desk = desk(&services[0]);
    assert_eq!(throttle(&mut desk, 1, 50.0).outcome, Outcome::TimedOut);
    desk.reconfigure(&[("it", services[1].target())]);
    assert_eq!(throttle(&mut desk, 2, 50.0).outcome, Outcome::TimedOut);
    desk.reconfigure(&[("it", third.target())]);
    assert!(!desk.view("it", "usable").detail.is_empty());
    desk.forget_views();
    eventually("both are given up", || {
        (1..=2).for_each(|id| drop(desk.undo(id)));
        desk.journaled().is_empty().then_some(())
    });
    let told = desk.views_of("it");
    assert!(told.iter().all(|state| *state == "usable"), "what is owed elsewhere says nothing of it: {told:?}");
    services.iter().for_each(|service| service.obeys(EXACT));
    services.iter().for_each(|service| is_as_it_was(service, &desk));
}

#[test]
fn a_value_on_its_way_is_waited_for_both_ways() {
    let service = Fickle::start(Manner { ramp: Duration::from_millis(1500), ..EXACT });
    let mut desk = desk(&service);
    let report = throttle(&mut desk, 1, 25.0);
    assert_eq!((report.outcome, service.limit()), (Outcome::Applied, 50), "{}", report.detail);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    is_as_it_was(&service, &desk);
}

#[test]
fn a_crash_before_it_was_seen_leaves_nothing_behind() {
    for manner in [late(1.0), Manner { ramp: Duration::from_millis(1200), ..EXACT }, Manner { step: 20, ..EXACT }] {
        let service = Fickle::start(manner);
        let first = desk(&service);
        first.order(1, "it", Verb::Throttle, Amount::Keep(88.0));
        eventually("it is told", || service.ever_had(176_u64.div_ceil(manner.step) * manner.step).then_some(()));
        let ledger = first.stop();
        assert_eq!(ledger.entries.lock().unwrap().len(), 1);
        let mut next = Desk::resume(ledger, &[("it", service.target())]);
        assert_eq!(next.let_lapse(1).outcome, Outcome::Applied, "{manner:?}: it may be in force");
        let undone = next.undo(1);
        assert_eq!(undone.outcome, Outcome::Applied, "{manner:?}: {}", undone.detail);
        is_as_it_was(&service, &next);
    }
}

#[test]
fn an_operators_value_after_a_crash_is_his() {
    let service = Fickle::start(late(1.0));
    let first = desk(&service);
    first.order(1, "it", Verb::Throttle, HALF);
    eventually("it is told", || service.ever_had(100).then_some(()));
    let ledger = first.stop();
    service.set(130);
    let mut next = Desk::resume(ledger, &[("it", service.target())]);
    assert_eq!((next.let_lapse(1).outcome, service.settled(), next.journaled().len()), (Outcome::Overridden, 130, 0));
}

#[test]
fn what_was_seen_and_is_back_was_put_back_by_somebody() {
    let service = Fickle::start(EXACT);
    let mut desk = desk(&service);
    assert_eq!(throttle(&mut desk, 1, 50.0).outcome, Outcome::Applied);
    service.set(PRIOR);
    let report = desk.verify(1);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Overridden, "limit is 200, not the 100 that was set"));
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_server_that_was_put_back_is_not_lowered_again_on_the_way_back() {
    let server = Haproxy::start();
    let target = target::Haproxy { backends: Vec::new(), ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, QUARTER).outcome, Outcome::Applied);
    server.ask("set maxconn server other/o1 100");
    let verified = desk.verify(1);
    assert_eq!(verified.theirs.as_deref(), Some("server other/o1 maxconn is 100, not the 25 that was set"));
    for kept in [50.0, 75.0] {
        assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(kept)).outcome, Outcome::Applied);
        assert_eq!(server.limit("other/o1"), "100", "at {kept} %");
    }
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((server.limit("be/s1").as_str(), server.limit("other/o1").as_str()), ("8", "100"));
}

#[test]
fn what_somebody_else_set_stays_theirs_also_where_it_equals_ours_again() {
    let server = Haproxy::start();
    let target = target::Haproxy { backends: Vec::new(), ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.ask("set maxconn server other/o1 60");
    assert!(desk.verify(1).theirs.is_some());
    server.ask("set maxconn server other/o1 50");
    assert!(desk.verify(1).theirs.is_some(), "they made it that");
    assert_eq!(desk.undo(1).outcome, Outcome::Overridden);
    assert_eq!((server.limit("be/s1").as_str(), server.limit("other/o1").as_str()), ("8", "50"));
}

#[test]
fn what_is_stricter_is_never_loosened() {
    let server = Haproxy::with_map();
    let by_map = target::Haproxy { map: server.map(), ..server.target() };
    let map = by_map.map.clone().unwrap();
    server.ask(&format!("set map {map} web 80"));
    let mut desk = Desk::new(&[("edge", Target::Haproxy(by_map))]);
    assert_eq!(desk.apply(1, "edge", Verb::Shed, Amount::Keep(75.0)).outcome, Outcome::Already);
    assert_eq!(server.mapped(), ["web 80"]);
    assert!(desk.journaled().is_empty());
    assert_eq!(desk.apply(2, "edge", Verb::Shed, Amount::Keep(10.0)).outcome, Outcome::Applied, "stricter still");
    assert_eq!(desk.apply(2, "edge", Verb::Shed, Amount::Keep(75.0)).outcome, Outcome::Applied);
    assert_eq!(server.mapped(), ["web 80"], "the way back ends where it began");
    assert_eq!((desk.undo(2).outcome, server.mapped()), (Outcome::Already, vec!["web 80".to_owned()]));
}

#[test]
fn what_a_new_life_has_kept_of_ours_is_undone_too() {
    let service = Fickle::start(EXACT);
    let mut desk = desk(&service);
    assert_eq!(throttle(&mut desk, 1, 50.0).outcome, Outcome::Applied);
    service.restart_with_what_was_saved();
    let second = throttle(&mut desk, 2, 50.0);
    assert_eq!(second.outcome, Outcome::Refused, "100 is not the prior value of anything: {}", second.detail);
    assert_eq!((desk.verify(1).outcome, desk.journaled().len()), (Outcome::Applied, 1));
    assert_eq!(throttle(&mut desk, 1, 75.0).outcome, Outcome::Applied);
    assert_eq!(service.limit(), 150);
    service.restart_with_what_was_saved();
    assert_eq!(desk.undo(1).outcome, Outcome::Applied, "also where nobody has read it since");
    is_as_it_was(&service, &desk);
}

#[test]
fn servers_that_a_state_file_kept_drained_are_made_ready() {
    let mut server = Haproxy::with_state_file();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    assert_eq!(desk.apply(1, "edge", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    server.restart_with_its_state();
    assert_eq!(server.admin_state("be", "s1"), "8", "as it was saved");
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "still in force");
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((server.admin_state("be", "s1").as_str(), desk.journaled().len()), ("0", 0));
}

#[test]
fn a_limit_that_somebody_saved_over_a_restart_is_put_back() {
    let mut server = Redis::with_configuration();
    let before = server.face();
    let target = target::Redis { cache_only: true, ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB)).outcome, Outcome::Applied);
    assert_eq!(server.ask(&["CONFIG", "REWRITE"]), "+OK");
    server.restart();
    assert_eq!(server.setting("maxmemory"), (64 * MIB).to_string());
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "still in force");
    assert_eq!((desk.undo(1).outcome, server.face(), desk.journaled().len()), (Outcome::Applied, before, 0));
}

#[test]
fn a_service_that_moved_is_protected_at_once_and_the_debt_waits_at_the_old_place() {
    let service = Fickle::start(EXACT);
    let mut desk = desk(&service);
    let earlier = service.path();
    assert_eq!(throttle(&mut desk, 1, 50.0).outcome, Outcome::Applied);
    service.move_to("new.sock");
    desk.reconfigure(&[("it", service.target())]);
    assert_eq!(desk.undo(1).outcome, Outcome::Unreachable);
    assert_eq!(throttle(&mut desk, 2, 50.0).outcome, Outcome::Applied);
    assert_eq!((service.limit(), desk.journaled().len()), (100, 2), "the old debt is kept");
    assert_eq!((desk.undo(2).outcome, service.limit()), (Outcome::Applied, PRIOR));
    std::fs::remove_file(service.path()).unwrap();
    service.move_to(earlier.file_name().unwrap().to_str().unwrap());
    assert_eq!(desk.undo(1).outcome, Outcome::EpochChanged);
    is_as_it_was(&service, &desk);
}

#[test]
fn a_redis_that_moved_while_it_was_shrunk_is_not_kept_from_anything() {
    let (old, new) = (Redis::start(), Redis::start());
    let at = |server: &Redis| Target::Redis(target::Redis { cache_only: true, ..server.target() });
    let mut desk = Desk::new(&[("cache", at(&old))]);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 * MIB)).outcome, Outcome::Applied);
    desk.reconfigure(&[("cache", at(&new))]);
    drop(old);
    let paused = desk.apply(2, "cache", Verb::Throttle, Amount::Whole);
    assert_eq!(paused.outcome, Outcome::Applied, "a shrink elsewhere excludes nothing here: {}", paused.detail);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
    assert_eq!(desk.apply(3, "cache", Verb::Shrink, Amount::Bytes(64 * MIB)).outcome, Outcome::Applied);
    assert_eq!((desk.undo(3).outcome, desk.journaled().len()), (Outcome::Applied, 1));
}

#[test]
fn one_service_has_one_identity_under_every_name() {
    let server = Redis::start();
    let link = server.path("link.sock");
    std::os::unix::fs::symlink(server.path("redis.sock"), &link).unwrap();
    let (direct, linked) = (server.target(), target::Redis { address: Address::Unix(link), ..server.target() });
    let treated = target::Redis { cache_only: true, ..server.target() };
    let identity = |target: &target::Redis| Target::Redis(target.clone()).identity();
    assert_eq!((identity(&direct), identity(&direct)), (identity(&linked), identity(&treated)));
    let tcp = |at: &str| target::Redis { address: Address::Tcp(at.into()), ..server.target() };
    assert_eq!(identity(&tcp("Cache.local:6379")), identity(&tcp("cache.local:6379")));
    assert_ne!(identity(&tcp("cache.local:6379")), identity(&direct));
}

#[test]
fn an_adjustment_waits_no_longer_than_its_service_needs() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    let began = Instant::now();
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, QUARTER).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
