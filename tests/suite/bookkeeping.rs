//! What the journal says stays what is: through answers that tell nothing, refusals half-way, ends that cannot be
//! recorded, and bugs of ours.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use node_guardian::control::Control;
use node_guardian::control::address::Address;
use node_guardian::control::failure::Failure;
use node_guardian::control::service::{AfterRefusal, Order, Probe, Service};
use node_guardian::control::standing::Live;
use node_guardian::control::target::{self, Target};
use node_guardian::control::undo::Undo;
use node_guardian::policy::mitigation::{Amount, Mitigation, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;
use super::support::proxy::{self, Protocol, Verdict, Way};
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);

/// Answers one kind of question with something else from when it is switched on.
fn instead(
    front: &Path,
    back: &Path,
    protocol: Protocol,
    question: &'static str,
    answer: &'static str,
) -> Arc<AtomicBool> {
    let on = Arc::new(AtomicBool::new(false));
    let (switch, mut asked) = (Arc::clone(&on), false);
    proxy::start(front, back, protocol, move |passing| {
        match passing.way {
            Way::Request => asked = passing.says(question),
            Way::Answer if std::mem::take(&mut asked) && switch.load(Ordering::SeqCst) => return Verdict::Say(answer),
            Way::Answer => {}
        }
        Verdict::Pass
    });
    on
}

#[test]
fn a_value_that_haproxy_does_not_tell_is_not_taken_for_somebody_elses() {
    let answers = [
        (Verb::Drain, Amount::Whole, "show servers state", "1\n\n> "),
        (Verb::Throttle, HALF, "show stat", "# pxname,svname,slim,\n\n> "),
        (Verb::Shed, HALF, "show table", "something else\n\n> "),
    ];
    for (verb, amount, question, answer) in answers {
        let server = Haproxy::start();
        let before = server.face();
        let front = server.path("front.sock");
        let on = instead(&front, &server.path("admin.sock"), Protocol::Haproxy, question, answer);
        let mut desk = Desk::new(&[("edge", Target::Haproxy(target::Haproxy { socket: front, ..server.target() }))]);
        assert_eq!(desk.apply(1, "edge", verb, amount).outcome, Outcome::Applied);
        on.store(true, Ordering::SeqCst);
        let (verified, undone) = (desk.verify(1), desk.undo(1));
        assert_eq!((verified.outcome, undone.outcome), (Outcome::Unsupported, Outcome::Unsupported), "{verb}");
        assert!(undone.detail.contains("does not report"), "{}", undone.detail);
        assert_eq!(desk.journaled().len(), 1, "it is still owed");
        on.store(false, Ordering::SeqCst);
        assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, before.clone()), "{verb}");
    }
}

#[test]
fn a_value_that_redis_does_not_tell_is_not_taken_for_somebody_elses() {
    let server = Redis::start();
    let front = server.path("front.sock");
    let on = instead(&front, &server.path("redis.sock"), Protocol::Redis, "GET\r\n$10\r\nmaxmemory*", "*0\r\n");
    let target = target::Redis { address: Address::Unix(front), cache_only: true, ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
    on.store(true, Ordering::SeqCst);
    assert_eq!((desk.verify(1).outcome, desk.undo(1).outcome), (Outcome::Unsupported, Outcome::Unsupported));
    assert_eq!(desk.apply(2, "cache", Verb::Shrink, Amount::Bytes(32 << 20)).outcome, Outcome::Unsupported);
    assert_eq!(desk.journaled().len(), 1, "it is still owed");
    on.store(false, Ordering::SeqCst);
    assert_eq!((desk.undo(1).outcome, server.setting("maxmemory").as_str()), (Outcome::Applied, "0"));
}

/// Whatever is wanted of it but a probe is a bug.
struct Broken;

#[async_trait(?Send)]
impl Service for Broken {
    fn name(&self) -> &'static str {
        "Broken"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        Ok(Probe::usable(""))
    }

    async fn read(&mut self, _: &Undo) -> Result<Live, Failure> {
        panic!("as this test wants it")
    }

    async fn survey(&mut self, _: &Mitigation) -> Result<Undo, Failure> {
        panic!("as this test wants it")
    }

    async fn write(&mut self, _: &str, _: &[Order<'_>], _: AfterRefusal) -> Result<(), Failure> {
        panic!("as this test wants it")
    }
}

#[test]
fn a_panic_in_one_control_ends_the_thread_that_acts_for_all_to_see() {
    let server = Haproxy::start();
    let folder = tempfile::tempdir().unwrap();
    let open = Box::new(|_: &Target| Control::from(Box::new(Broken) as Box<dyn Service>));
    let desk = Desk::on_disk_with(folder.path(), &[("edge", Target::Haproxy(server.target()))], open);
    desk.order(1, "edge", Verb::Throttle, HALF);
    eventually("the end of the thread", || (!desk.acts()).then_some(()));
    assert!(!desk.ended_well());
    assert_eq!(server.limit("be/s1"), "8");
}

#[test]
fn nothing_is_sent_when_its_undo_cannot_be_recorded() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    desk.ledger.broken.store(true, Ordering::SeqCst);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("No space left"), "{}", report.detail);
    assert_eq!(server.limit("be/s1"), "8");
}

#[test]
fn an_end_that_cannot_be_recorded_is_told_and_recorded_later() {
    let server = Haproxy::start();
    let before = server.face();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    desk.ledger.stuck.store(true, Ordering::SeqCst);
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.face()), (Outcome::Applied, before));
    eventually("it is told", || {
        desk.next_view("edge");
        (!desk.failures.is_empty()).then_some(())
    });
    assert!(desk.failures[0].starts_with("the end of action 1 could not be recorded"), "{:?}", desk.failures);
    assert_eq!((desk.journaled().len(), desk.undo(1).outcome), (1, Outcome::Already), "it is gone all the same");
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied, "and holds nothing");
    assert_eq!(desk.journaled().len(), 2);
    desk.ledger.stuck.store(false, Ordering::SeqCst);
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, Amount::Keep(25.0)).outcome, Outcome::Applied);
    assert_eq!(
        desk.journaled().iter().map(|entry| entry.id.0).collect::<Vec<_>>(),
        [2],
        "the next record took it along"
    );

    desk.ledger.stuck.store(true, Ordering::SeqCst);
    assert_eq!((desk.undo(2).outcome, desk.journaled().len()), (Outcome::Applied, 1));
    desk.ledger.stuck.store(false, Ordering::SeqCst);
    eventually("a look around records it without being told", || desk.journaled().is_empty().then_some(()));
}

/// Puts `between` in the way of one order, and lets HAProxy refuse that order.
fn refused(at: &'static str, between: impl Fn(&Path) + Send + 'static, backends: &[&str]) -> (Haproxy, Desk) {
    let server = Haproxy::start();
    let (front, back) = (server.path("front.sock"), server.path("admin.sock"));
    let admin = back.clone();
    let mut asked = false;
    proxy::start(&front, &back, Protocol::Haproxy, move |passing| {
        if passing.way == Way::Request && passing.says(at) {
            asked = true;
            between(&admin);
            return Verdict::Say("set maxconn server nobody/s1 4\n");
        }
        if std::mem::take(&mut asked) {
            assert!(passing.says("No such backend"));
        }
        Verdict::Pass
    });
    let backends = backends.iter().map(|&name| name.to_owned()).collect();
    let target = target::Haproxy { socket: front, backends, ..server.target() };
    let desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    (server, desk)
}

#[test]
fn after_an_adjustment_that_was_refused_what_was_in_force_is_what_is_wanted() {
    let (server, mut desk) = refused("set maxconn server other/o1 25", |_| (), &["be", "other"]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0)).outcome, Outcome::Refused);
    let entry = &desk.journaled()[0];
    assert_eq!(entry.mitigation.amount, HALF);
    assert_eq!(entry.undo.changes.iter().map(|change| change.wanted()).collect::<Vec<_>>(), ["4", "50"]);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!((server.limit("be/s1").as_str(), server.limit("other/o1").as_str()), ("4", "50"), "not half of each");
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((server.limit("be/s1").as_str(), server.limit("other/o1").as_str()), ("8", "100"));
}

#[test]
fn an_adjustment_that_finds_its_action_ended_says_so() {
    let put_back = |admin: &Path| {
        let mut stream = UnixStream::connect(admin).unwrap();
        stream.write_all(b"set maxconn server be/s1 8\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    let (server, mut desk) = refused("set maxconn server be/s1 2", put_back, &["be"]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let report = desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0));
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    assert_eq!(server.limit("be/s1"), "8");
}
