//! What somebody sets while a record waits for its disk is theirs: never overwritten unseen, and what an undo goes back to.

use std::sync::atomic::Ordering;

use node_guardian::control::target::Target;
use node_guardian::policy::mitigation::{Amount, Answered, Outcome, Report, Verb};

use super::support::desk::Desk;
use super::support::fickle::{EXACT, Fickle};
use super::support::haproxy::Haproxy;
use super::support::processes::Plain;

const HALF: Amount = Amount::Keep(50.0);
const QUARTER: Amount = Amount::Keep(25.0);

/// Orders a throttle, and does something once its record is on its way to a disk that does not answer yet.
fn throttle_while(desk: &mut Desk, amount: Amount, meanwhile: impl FnOnce()) -> Report {
    desk.journaled();
    desk.ledger.hangs.store(true, Ordering::SeqCst);
    desk.order(1, "it", Verb::Throttle, amount);
    desk.until_recording();
    meanwhile();
    desk.ledger.hangs.store(false, Ordering::SeqCst);
    desk.report(1, Answered::Apply)
}

#[test]
fn what_is_set_before_the_first_write_is_what_is_lowered_and_put_back() {
    for (set, throttled) in [("2", "1"), ("20", "10")] {
        let server = Haproxy::start();
        let mut desk = Desk::new(&[("it", Target::Haproxy(server.target()))]);
        let report = throttle_while(&mut desk, HALF, || {
            server.ask(&format!("set maxconn server be/s1 {set}"));
        });
        assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::Applied, throttled), "{report:?}");
        let before = [desk.undo(1).outcome, desk.undo(1).outcome];
        assert_eq!(before, [Outcome::Applied, Outcome::Already]);
        assert_eq!(server.limit("be/s1"), set);
        assert!(desk.journaled().is_empty());
    }
}

#[test]
fn another_kind_of_control_looks_again_just_so() {
    let service = Fickle::start(EXACT);
    let mut desk = Desk::new(&[("it", service.target())]);
    let report = throttle_while(&mut desk, HALF, || service.set(30));
    assert_eq!((report.outcome, service.limit()), (Outcome::Applied, 15), "{report:?}");
    assert!(!service.ever_had(100), "half of what is no more");
    assert_eq!((desk.undo(1).outcome, service.limit()), (Outcome::Applied, 30));

    let process = Plain::start("sleep", &["600"]);
    let mut desk = Desk::new(&[("it", Target::Process(process.target()))]);
    throttle_while(&mut desk, HALF, || process.renice(15));
    assert!(process.nice().parse::<i32>().unwrap() >= 15, "{}", process.nice());
    desk.undo(1);
    assert_eq!(process.nice(), "15");
}

#[test]
fn what_is_set_before_another_strength_is_written_is_theirs() {
    for (first, then) in [(HALF, QUARTER), (QUARTER, HALF)] {
        let server = Haproxy::start();
        let mut desk = Desk::new(&[("it", Target::Haproxy(server.target()))]);
        assert_eq!(desk.apply(1, "it", Verb::Throttle, first).outcome, Outcome::Applied);
        let report = throttle_while(&mut desk, then, || {
            server.ask("set maxconn server be/s1 1");
        });
        assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::Overridden, "1"), "{report:?}");
        assert_eq!((desk.undo(1).outcome, server.limit("be/s1").as_str()), (Outcome::Already, "1"));
    }
}

/// Also where that is what we had set before.
#[test]
fn an_earlier_value_that_is_set_before_another_strength_is_written_is_theirs() {
    for then in [QUARTER, Amount::Keep(88.0)] {
        let server = Haproxy::start();
        let mut desk = Desk::new(&[("it", Target::Haproxy(server.target()))]);
        for kept in [Amount::Keep(75.0), HALF] {
            assert_eq!(desk.apply(1, "it", Verb::Throttle, kept).outcome, Outcome::Applied);
        }
        let report = throttle_while(&mut desk, then, || {
            server.ask("set maxconn server be/s1 6");
        });
        assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::Overridden, "6"), "{report:?}");
        assert_eq!((desk.undo(1).outcome, server.limit("be/s1").as_str()), (Outcome::Already, "6"));
    }
}

#[test]
fn one_of_several_that_somebody_set_is_left_and_the_others_follow() {
    let server = Haproxy::with_servers(2);
    let mut target = server.target();
    target.backends = vec!["many".into()];
    let mut desk = Desk::new(&[("it", Target::Haproxy(target))]);
    assert_eq!(desk.apply(1, "it", Verb::Throttle, QUARTER).outcome, Outcome::Applied);
    let report = throttle_while(&mut desk, HALF, || {
        server.ask("set maxconn server many/s1 13");
    });
    let limits = || (server.limit("many/s1"), server.limit("many/s2"));
    assert_eq!((report.outcome, limits()), (Outcome::Applied, ("13".into(), "50".into())), "{report:?}");
    assert!(report.detail.contains("left alone, because somebody else set it: server many/s1"), "{}", report.detail);
    assert!(desk.verify(1).theirs.is_some());
    assert_eq!((desk.undo(1).outcome, limits()), (Outcome::Overridden, ("13".into(), "100".into())));
}

#[test]
fn a_service_that_begins_a_new_life_meanwhile_is_not_written_to() {
    let service = Fickle::start(EXACT);
    let mut desk = Desk::new(&[("it", service.target())]);
    let report = throttle_while(&mut desk, HALF, || service.restart());
    assert_eq!((report.outcome, service.ever_had(100)), (Outcome::EpochChanged, false), "{report:?}");
    assert!(desk.journaled().is_empty());
}
