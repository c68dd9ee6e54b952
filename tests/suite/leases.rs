//! Leases that end before the guardian ends them: one that somebody cleared is theirs, one that lapsed is given again.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::clock;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Answered, Lease, Outcome, Verb};

use super::support::desk::Desk;
use super::support::haproxy::Haproxy;
use super::support::node::{Daemon, Node, short_of_memory};
use super::support::{eventually, halt};

const HALF: Amount = Amount::Keep(50.0);

#[test]
fn a_lease_that_somebody_cleared_is_told_and_not_given_again() {
    let server = Haproxy::with_two_frontends();
    let target = target::Haproxy { frontends: vec!["web".into(), "api".into()], ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    let leases = || server.ask("show table ng_lease").matches("key=").count();
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    assert_eq!((desk.verify(1).outcome, leases()), (Outcome::Applied, 2));

    server.ask("clear table ng_lease key web");
    let report = desk.verify(1);
    assert_eq!((report.outcome, leases()), (Outcome::Applied, 1), "the other one is renewed");
    assert_eq!(report.theirs.as_deref(), Some("lease ng_lease web was cleared by hand"));
    let report = desk.apply(1, "edge", Verb::Shed, Amount::Keep(25.0));
    assert!(report.detail.ends_with("left alone, because somebody else set it: lease ng_lease web"), "{report:?}");
    assert_eq!((desk.verify(1).outcome, leases()), (Outcome::Applied, 1));

    server.ask("clear table ng_lease key api");
    let report = desk.verify(1);
    assert_eq!((report.outcome, leases(), desk.journaled().len()), (Outcome::Overridden, 0, 0), "{report:?}");
    assert_eq!(desk.apply(2, "edge", Verb::Shed, HALF).outcome, Outcome::Applied, "what is wanted anew is given anew");
    assert_eq!((desk.verify(2).theirs, leases()), (None, 2));
    server.ask("clear table ng_lease");
    assert_eq!(desk.apply(2, "edge", Verb::Shed, Amount::Keep(25.0)).outcome, Outcome::Overridden);
    assert_eq!((leases(), desk.journaled().len()), (0, 0));
}

#[test]
fn a_lease_that_lapsed_before_it_was_renewed_is_given_again() {
    let server = Haproxy::with_leases_of("1500ms");
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    eventually("it lapses", || (!server.ask("show table ng_lease").contains("key=")).then_some(()));
    let report = desk.verify(1);
    assert_eq!((report.outcome, report.theirs), (Outcome::Applied, None));
    assert!(server.ask("show table ng_lease").contains("key=web"));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
}

/// By a rule whose condition was not seen to hold since the guardian was stopped.
#[test]
fn a_lease_that_lapsed_while_nobody_looked_is_renewed_only_where_it_stands() {
    let server = Haproxy::with_leases_of("3s");
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    let lease = || server.ask("show table ng_lease");
    let keep = |desk: &mut Desk| {
        desk.order_verify(1, Lease::Keep { valid_until: clock::now().unwrap() + Duration::from_secs(10) });
        desk.report(1, Answered::Verify)
    };
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(keep(&mut desk).outcome, Outcome::Applied);
        assert!(lease().contains("key=web"));
        std::thread::sleep(Duration::from_millis(300));
    }
    eventually("it lapses", || (!lease().contains("key=")).then_some(()));
    let report = keep(&mut desk);
    assert_eq!((report.outcome, report.theirs), (Outcome::EpochChanged, None), "{}", report.detail);
    assert!(!lease().contains("key=") && desk.journaled().is_empty());
}

fn stop_until_it_lapses(daemon: &Daemon, server: &Haproxy) {
    let began = Instant::now();
    halt(daemon.pid());
    let is_gone = || !server.ask("show table ng_lease").contains("key=");
    // What is longer than 3 s was watched by nobody.
    eventually("it lapses", || (is_gone() && began.elapsed() > Duration::from_secs(4)).then_some(()));
}

fn is_never_given(daemon: &Daemon, server: &Haproxy) {
    let from = daemon.ticks();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until || daemon.ticks() < from + 10 {
        let leases = server.ask("show table ng_lease");
        assert!(!leases.contains("key="), "given again: {leases}");
    }
}

#[test]
fn what_lapsed_while_the_guardian_was_stopped_waits_for_a_fresh_look() {
    let server = Haproxy::with_leases_of("6s");
    let shed = r#"{ shed = "edge", share = "25%" }"#;
    let node = Node::new(&(server.section("edge", "admin.sock") + &short_of_memory(shed)));
    let mut daemon = node.start();
    let is_shed = || server.ask("show table ng_lease").contains("key=web").then_some(());
    node.set_available(5);
    daemon.until("shed", |_| is_shed());

    // Neither short of memory nor clear of that, by then.
    stop_until_it_lapses(&daemon, &server);
    node.set_available(15);
    daemon.signal(Signal::SIGCONT);
    is_never_given(&daemon, &server);
    assert_eq!(daemon.mode(), "emergency");
    node.set_available(5);
    daemon.until("shed again", |_| is_shed());

    stop_until_it_lapses(&daemon, &server);
    daemon.signal(Signal::SIGCONT);
    daemon.until("shed again, as it is needed still", |_| is_shed());

    stop_until_it_lapses(&daemon, &server);
    node.set_available(60);
    daemon.signal(Signal::SIGCONT);
    is_never_given(&daemon, &server);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}
