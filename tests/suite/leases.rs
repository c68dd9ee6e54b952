//! Leases that end before the guardian ends them: one that somebody cleared is theirs, one that lapsed is given again.

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;

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
