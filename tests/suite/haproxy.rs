//! The HAProxy control against a real HAProxy: what it changes, that it comes back exactly, and whose change wins.

use std::time::{Duration, Instant};

use node_guardian::control::target::{self, Target};
use node_guardian::journal::Journal;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::haproxy::Haproxy;
use super::support::web::{Traffic, serve};

const HALF: Amount = Amount::Keep(50.0);

fn desk(server: &Haproxy) -> Desk {
    Desk::new(&[("edge", Target::Haproxy(server.target()))])
}

#[test]
fn a_graded_throttle_while_requests_flow_and_its_exact_undo() {
    let server = Haproxy::start();
    let counts = serve(&server.path("app.sock"));
    let before = server.face();
    let traffic = Traffic::start(&server.path("web.sock"), 16, counts);
    let mut desk = desk(&server);
    assert_eq!(traffic.most_busy_over(100), 8);

    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "server be/s1 maxconn 8 → 4"));
    assert_eq!((server.limit("be/s1").as_str(), traffic.most_busy_over(100)), ("4", 4));

    let report = desk.apply(1, "edge", Verb::Throttle, Amount::Keep(20.0));
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "server be/s1 maxconn 8 → 2"));
    assert_eq!((server.limit("be/s1").as_str(), traffic.most_busy_over(60)), ("2", 2));

    let report = desk.apply(1, "edge", Verb::Throttle, Amount::Keep(75.0));
    assert_eq!((report.outcome, traffic.most_busy_over(60)), (Outcome::Applied, 6));
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);

    let report = desk.undo(1);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "server be/s1 maxconn back to 8"));
    assert_eq!(traffic.most_busy_over(100), 8);
    assert_eq!(server.face(), before);
    assert!(desk.journaled().is_empty());
    let failed = traffic.stop().failed.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(failed, 0, "a throttle delays requests and fails none");
}

/// 8 connections of 8 remain at 95 %, and 2 of 8 at 20 %: a range that begins gently reaches small servers too.
#[test]
fn what_a_gentle_throttle_leaves_as_it_is_a_harsher_one_lowers() {
    let server = Haproxy::start();
    let before = server.face();
    let target = target::Haproxy { backends: vec!["be".into(), "other".into()], ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    let limits = || [server.limit("be/s1"), server.limit("other/o1")];
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(95.0)).outcome, Outcome::Applied);
    assert_eq!(limits(), ["8", "95"]);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(20.0)).outcome, Outcome::Applied);
    assert_eq!(limits(), ["2", "20"]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn without_limits_at_the_servers_the_process_is_throttled_where_no_backend_is_named() {
    let server = Haproxy::without_server_limits();
    let before = server.face();
    let target = target::Haproxy { backends: Vec::new(), ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "global maxconn 200 → 100"));
    assert_eq!((server.global_limit().as_str(), server.limit("unlimited/u1").as_str()), ("100", ""));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn who_named_a_backend_did_not_ask_for_the_whole_process() {
    let server = Haproxy::start();
    let before = server.face();
    let target = target::Haproxy { backends: vec!["unlimited".into()], ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert!(report.detail.starts_with("no server of unlimited has a maxconn: give one"), "{}", report.detail);
    assert_eq!((server.face(), desk.journaled().len()), (before, 0));
}

#[test]
fn a_backend_that_does_not_exist_is_named() {
    let server = Haproxy::start();
    let at = |backends: &[&str]| {
        let backends = backends.iter().map(|&name| name.to_owned()).collect();
        Target::Haproxy(target::Haproxy { backends, ..server.target() })
    };
    let mut desk = Desk::new(&[("wrong", at(&["bee"])), ("half", at(&["bee", "be"]))]);
    for control in ["wrong", "half"] {
        let view = desk.view(control, "unsupported");
        assert!(view.detail.starts_with("HAProxy has no backend bee; it has be, other,"), "{}", view.detail);
    }
    for (id, verb) in [(1, Verb::Throttle), (2, Verb::Drain)] {
        let report = desk.apply(id, "wrong", verb, HALF);
        assert_eq!(report.outcome, Outcome::Unsupported);
        assert!(report.detail.contains("no backend bee"), "{}", report.detail);
    }
    assert_eq!(desk.apply(3, "half", Verb::Throttle, HALF).outcome, Outcome::Applied, "better than nothing");
    assert_eq!(server.limit("be/s1"), "4");
}

#[test]
fn with_no_backend_named_every_limited_server_is_throttled() {
    let server = Haproxy::start();
    let before = server.face();
    let target = target::Haproxy { backends: Vec::new(), ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(
        (server.limit("be/s1"), server.limit("other/o1"), server.limit("other/o2")),
        ("4".into(), "50".into(), "".into())
    );
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn a_share_of_the_requests_is_shed_and_the_lease_is_renewed_and_cleared() {
    let server = Haproxy::start();
    let counts = serve(&server.path("app.sock"));
    let before = server.face();
    let traffic = Traffic::start(&server.path("web.sock"), 8, counts);
    let mut desk = desk(&server);
    let report = desk.apply(1, "edge", Verb::Shed, Amount::Keep(40.0));
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "lease ng_lease web none → 60"));
    let refused = traffic.refused_percent_over(1000);
    assert!((50.0..70.0).contains(&refused), "{refused}");

    let left = || {
        server
            .ask("show table ng_lease")
            .split("exp=")
            .nth(1)
            .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
    };
    super::support::eventually("the lease ages", || left().filter(|&left| left < 29_900));
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert!(left().unwrap() > 29_900, "verifying renews it");

    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(traffic.refused_percent_over(200), 0.0);
    assert_eq!(server.face(), before);
    assert_eq!(traffic.stop().failed.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn a_lease_that_lapsed_is_already_undone() {
    let server = Haproxy::start();
    let mut desk = desk(&server);
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.ask("clear table ng_lease key web");
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Already, 0));
}

#[test]
fn a_lease_that_nobody_wants_is_not_renewed_and_its_end_is_noticed() {
    let server = Haproxy::start();
    let mut desk = desk(&server);
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    let held = |desk: &mut Desk| {
        let report = desk.let_lapse(1);
        (report.outcome, report.detail.to_string(), desk.journaled().len())
    };
    assert_eq!(held(&mut desk), (Outcome::Applied, "still in force".into(), 1));
    server.ask("clear table ng_lease key web");
    assert_eq!(held(&mut desk), (Outcome::EpochChanged, "it lapsed".into(), 0));
    assert!(!server.ask("show table ng_lease").contains("key=web"), "nothing was written");
}

#[test]
fn shedding_without_a_table_is_refused_with_what_to_add() {
    let server = Haproxy::without_lease_table();
    let mut desk = desk(&server);
    let report = desk.apply(1, "edge", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("stick-table type string len 32"), "{}", report.detail);
    let view = desk.view("edge", "usable");
    assert!(view.detail.contains("cannot shed"), "{}", view.detail);
}

#[test]
fn servers_are_drained_and_made_ready_except_those_that_somebody_holds() {
    let server = Haproxy::start();
    server.ask("set server other/o2 state maint");
    let before = server.face();
    let target = target::Haproxy { backends: vec!["be".into(), "other".into()], ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    let report = desk.apply(1, "edge", Verb::Drain, Amount::Whole);
    assert_eq!(
        (report.outcome, &*report.detail),
        (Outcome::Applied, "server be/s1 state 0 → 8, server other/o1 state 0 → 8")
    );
    assert!(
        server.ask("show servers state be").contains(" s1 - 2 8 ") || server.ask("show stat be 4 -1").contains("DRAIN")
    );
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn what_is_so_already_is_not_owed() {
    let server = Haproxy::start();
    server.ask("set maxconn server be/s1 1");
    let mut desk = desk(&server);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Already, 0));
    assert_eq!(desk.undo(1).outcome, Outcome::Already);
    assert_eq!(server.limit("be/s1"), "1");
}

#[test]
fn an_operators_change_is_left_alone() {
    let server = Haproxy::start();
    let mut desk = desk(&server);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    server.ask("set maxconn server be/s1 7");
    let report = desk.undo(1);
    assert_eq!(report.outcome, Outcome::Overridden);
    assert_eq!(&*report.detail, "left alone: server be/s1 maxconn is 7, not the 4 that was set");
    assert_eq!((server.limit("be/s1").as_str(), desk.journaled().len()), ("7", 0));

    desk.apply(2, "edge", Verb::Throttle, HALF);
    server.ask("set maxconn server be/s1 6");
    assert_eq!(desk.verify(2).outcome, Outcome::Overridden);
    assert_eq!((server.limit("be/s1").as_str(), desk.journaled().len()), ("6", 0));

    desk.apply(3, "edge", Verb::Throttle, HALF);
    server.ask("set maxconn server be/s1 5");
    assert_eq!(desk.apply(3, "edge", Verb::Throttle, Amount::Keep(20.0)).outcome, Outcome::Overridden);
    assert_eq!((server.limit("be/s1").as_str(), desk.journaled().len()), ("5", 0));

    desk.apply(4, "edge", Verb::Throttle, HALF);
    server.ask("set maxconn server be/s1 5");
    assert_eq!(desk.verify(4).outcome, Outcome::Overridden, "somebody put the prior value back");
    assert!(desk.journaled().is_empty());
}

#[test]
fn of_several_values_only_those_still_ours_are_put_back() {
    let server = Haproxy::start();
    let target = target::Haproxy { backends: Vec::new(), ..server.target() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target))]);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    server.ask("set maxconn server be/s1 7");
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "the other server is still throttled");
    let report = desk.apply(1, "edge", Verb::Throttle, Amount::Keep(20.0));
    assert!(report.detail.contains("left alone, because somebody else set it: server "), "{}", report.detail);
    assert_eq!((server.limit("be/s1").as_str(), server.limit("other/o1").as_str()), ("7", "20"));
    desk.undo(1);
    assert_eq!((server.limit("be/s1").as_str(), server.limit("other/o1").as_str()), ("7", "100"));
}

#[test]
fn what_cannot_be_put_back_keeps_nothing_else_from_being_put_back() {
    let server = Haproxy::start();
    let target = Target::Haproxy(target::Haproxy { backends: Vec::new(), ..server.target() });
    let mut desk = Desk::new(&[("edge", target)]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let ledger = desk.stop();
    let key = {
        let mut entries = ledger.entries.lock().unwrap();
        let first = &mut entries[0].undo.changes[0];
        first.prior = "nothing that HAProxy takes".into();
        first.key.clone()
    };
    let mut desk = Desk::resume(ledger, &[]);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 1), "{}", report.detail);
    assert_eq!((key.as_str(), server.limit("be/s1").as_str()), ("server be/s1 maxconn", "4"));
    assert_eq!(server.limit("other/o1"), "100", "the one after it");
}

#[test]
fn a_restart_has_undone_it_already() {
    let mut server = Haproxy::start();
    let before = server.face();
    let mut desk = desk(&server);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    server.restart();
    assert_eq!(desk.undo(1).outcome, Outcome::EpochChanged);
    assert_eq!((server.face(), desk.journaled().len()), (before.clone(), 0));

    desk.apply(2, "edge", Verb::Throttle, HALF);
    server.restart();
    assert_eq!(desk.verify(2).outcome, Outcome::EpochChanged);
    assert!(desk.journaled().is_empty());

    desk.apply(3, "edge", Verb::Throttle, HALF);
    server.restart();
    let report = desk.apply(3, "edge", Verb::Throttle, Amount::Keep(25.0));
    assert_eq!((report.outcome, server.limit("be/s1").as_str()), (Outcome::EpochChanged, "8"));
    assert!(desk.journaled().is_empty(), "what is wanted now is applied anew");
    assert_eq!(desk.apply(4, "edge", Verb::Throttle, Amount::Keep(25.0)).outcome, Outcome::Applied);
    assert_eq!((desk.undo(4).outcome, server.face()), (Outcome::Applied, before));
}

#[test]
fn a_reload_has_undone_it_already_in_either_way_of_reloading() {
    let undone = |server: &Haproxy, desk: &mut Desk, before: &str| {
        assert_eq!(desk.verify(1).outcome, Outcome::EpochChanged);
        let report = desk.apply(2, "edge", Verb::Throttle, Amount::Keep(25.0));
        assert_eq!(report.outcome, Outcome::EpochChanged, "{}", report.detail);
        assert_eq!(desk.undo(3).outcome, Outcome::EpochChanged);
        assert_eq!((server.face().as_str(), desk.journaled().len()), (before, 0));
    };
    let in_force = |server: &Haproxy| {
        let backends = |names: &[&str]| {
            let backends = names.iter().map(|&name| name.to_owned()).collect();
            Target::Haproxy(target::Haproxy { backends, ..server.target() })
        };
        let mut desk = Desk::new(&[("app", backends(&["be"])), ("edge", backends(&["other"]))]);
        for (id, control, verb) in [(1, "app", Verb::Throttle), (2, "edge", Verb::Throttle), (3, "app", Verb::Shed)] {
            assert_eq!(desk.apply(id, control, verb, HALF).outcome, Outcome::Applied);
        }
        desk
    };
    let mut server = Haproxy::start();
    let before = server.face();
    let mut desk = in_force(&server);
    server.hand_over();
    undone(&server, &mut desk, &before);

    let mut server = Haproxy::managed();
    let mut desk = in_force(&server);
    server.reload_managed();
    undone(&server, &mut desk, &before);
    assert_eq!(desk.apply(4, "app", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!((desk.undo(4).outcome, server.face()), (Outcome::Applied, before));
    server.end();
}

#[test]
fn what_was_set_before_a_reboot_is_gone_without_asking() {
    let server = Haproxy::start();
    let mut desk = desk(&server);
    for id in [1, 2] {
        desk.apply(id, "edge", if id == 1 { Verb::Throttle } else { Verb::Shed }, HALF);
    }
    let ledger = desk.stop();
    for entry in ledger.entries.lock().unwrap().iter_mut() {
        let life = entry.undo.epoch.split_once(':').unwrap().1.to_owned();
        entry.undo.epoch = format!("00000000-0000-0000-0000-000000000000:{life}");
    }
    drop(server);
    let mut desk = Desk::resume(ledger, &[]);
    assert_eq!(desk.verify(1).outcome, Outcome::EpochChanged);
    assert_eq!(desk.undo(2).outcome, Outcome::EpochChanged);
    assert!(desk.journaled().is_empty());
}

#[test]
fn after_a_crash_the_journal_alone_is_enough_even_for_a_control_that_is_gone() {
    let server = Haproxy::start();
    let before = server.face();
    let mut desk = desk(&server);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    let ledger = desk.stop();
    let mut desk = Desk::resume(ledger, &[]);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn the_journal_on_disk_carries_an_undo_over_a_restart_of_ours() {
    let (server, state) = (Haproxy::start(), tempfile::tempdir().unwrap());
    let before = server.face();
    let controls = [("edge", Target::Haproxy(server.target()))];
    let mut desk = Desk::on_disk(state.path(), &controls);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(25.0)).outcome, Outcome::Applied);
    drop(desk);
    assert_eq!(Journal::peek(state.path()).unwrap()[0].undo.changes[0].ours, ["4", "2"]);
    let mut desk = Desk::on_disk(state.path(), &controls);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    drop(desk);
    assert_eq!((server.face(), Journal::peek(state.path()).unwrap()), (before, vec![]));
}

#[test]
fn a_control_that_moved_is_undone_where_it_was() {
    let (old, new) = (Haproxy::start(), Haproxy::start());
    let mut desk = desk(&old);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    desk.reconfigure(&[("edge", Target::Haproxy(new.target()))]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((old.limit("be/s1").as_str(), new.limit("be/s1").as_str()), ("8", "8"));
    assert_eq!(desk.apply(2, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!((old.limit("be/s1").as_str(), new.limit("be/s1").as_str()), ("8", "4"));
}

#[test]
fn two_controls_never_hold_one_value() {
    let server = Haproxy::start();
    let before = server.face();
    let link = server.path("link.sock");
    std::os::unix::fs::symlink(server.path("admin.sock"), &link).unwrap();
    let at = |socket| Target::Haproxy(target::Haproxy { socket, backends: Vec::new(), ..server.target() });
    let mut desk = Desk::new(&[
        ("all", at(server.path("admin.sock"))),
        ("same", at(link)),
        ("edge", at(server.path("second.sock"))),
    ]);
    assert_eq!(desk.apply(1, "all", Verb::Throttle, HALF).outcome, Outcome::Applied);
    for (id, control) in [(2, "same"), (3, "edge")] {
        let report = desk.apply(id, control, Verb::Throttle, Amount::Keep(25.0));
        assert_eq!(report.outcome, Outcome::Refused);
        assert_eq!(
            &*report.detail,
            "action 1 (throttle all to 50%) already holds `server be/s1 maxconn`; undo that first, or make one \
             control of the two"
        );
    }
    assert_eq!((server.limit("be/s1").as_str(), desk.journaled().len()), ("4", 1));
    assert_eq!(desk.apply(4, "same", Verb::Shed, HALF).outcome, Outcome::Applied, "that is another value");

    desk.reconfigure(&[("renamed", at(server.path("admin.sock")))]);
    assert_eq!(desk.apply(5, "renamed", Verb::Throttle, HALF).outcome, Outcome::Refused);
    assert_eq!((desk.undo(1).outcome, desk.undo(4).outcome), (Outcome::Applied, Outcome::Applied));
    assert_eq!(server.face(), before);
    assert_eq!(desk.apply(6, "renamed", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!((desk.undo(6).outcome, server.face()), (Outcome::Applied, before));
}

#[test]
fn each_level_of_the_socket_may_what_it_may() {
    let server = Haproxy::start();
    let at = |socket: &str| Target::Haproxy(target::Haproxy { socket: server.path(socket), ..server.target() });
    // Each on its own: of two controls of one service only one acts.
    let alone = |control: &'static str| Desk::new(&[(control, at(&format!("{control}.sock")))]);
    let (mut admin, mut operator, mut user) = (alone("admin"), alone("operator"), alone("user"));
    assert!(admin.view("admin", "usable").detail.contains("may throttle, drain and shed"));
    assert!(operator.view("operator", "usable").detail.contains("may shed; cannot throttle and drain: "));
    assert!(user.view("user", "refused").detail.contains("level admin"));
    for (desk, control) in [(&mut user, "user"), (&mut operator, "operator")] {
        let report = desk.apply(1, control, Verb::Throttle, HALF);
        assert_eq!(report.outcome, Outcome::Refused);
        assert!(report.detail.contains("give its `stats socket` line `level admin`"), "{}", report.detail);
        assert!(desk.journaled().is_empty(), "nothing was begun, so nothing is owed");
    }
    assert_eq!(operator.apply(2, "operator", Verb::Shed, HALF).outcome, Outcome::Applied);
    assert_eq!(user.apply(2, "user", Verb::Shed, HALF).outcome, Outcome::Refused);
}

#[test]
fn what_haproxy_cannot_do_is_said() {
    let server = Haproxy::start();
    let mut desk = desk(&server);
    for (id, verb, amount) in
        [(1, Verb::Shrink, HALF), (2, Verb::Release, Amount::Whole), (3, Verb::Throttle, Amount::Bytes(5))]
    {
        assert_eq!(desk.apply(id, "edge", verb, amount).outcome, Outcome::Unsupported);
    }
    let nobody = desk.apply(4, "nobody", Verb::Throttle, HALF);
    assert_eq!((nobody.outcome, &*nobody.detail), (Outcome::Unsupported, "no control nobody is configured"));
}

#[test]
fn a_limit_is_changed_and_read_back_within_fifteen_milliseconds() {
    let server = Haproxy::start();
    let mut desk = desk(&server);
    desk.apply(1, "edge", Verb::Throttle, HALF);
    let mut times: Vec<Duration> = (0..200)
        .map(|round| {
            let kept = if round % 2 == 0 { 20.0 } else { 50.0 };
            let began = Instant::now();
            assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(kept)).outcome, Outcome::Applied);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("limit changed and read back: median {:?}, p99 {:?}", times[100], times[198]);
    // The median, because the machine that runs the tests may be busy with others.
    assert!(times[100] < Duration::from_millis(15), "{:?}", times[100]);
}
