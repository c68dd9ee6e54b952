//! The other ways to relieve a real HAProxy: shedding by a map, a limit on new connections, the limit of a frontend.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;
use super::support::proxy::{self, Protocol, Verdict, Way};
use super::support::web::{Traffic, serve};

const HALF: Amount = Amount::Keep(50.0);

fn by_map(server: &Haproxy) -> target::Haproxy {
    target::Haproxy { map: server.map(), ..server.target() }
}

fn desk(target: target::Haproxy) -> Desk {
    Desk::new(&[("edge", Target::Haproxy(target))])
}

#[test]
fn without_a_table_a_share_is_shed_by_the_map_and_its_entry_comes_back() {
    let server = Haproxy::with_map();
    let counts = serve(&server.path("app.sock"));
    let before = server.face();
    let traffic = Traffic::start(&server.path("web.sock"), 8, counts);
    let mut desk = desk(by_map(&server));
    let view = desk.view("edge", "usable");
    assert!(view.detail.ends_with("may throttle, drain and shed by its map"), "{}", view.detail);

    let report = desk.apply(1, "edge", Verb::Shed, Amount::Keep(40.0));
    let map = server.map().unwrap();
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, &*format!("map {map} web 0 → 60")));
    let refused = traffic.refused_percent_over(1000);
    assert!((50.0..70.0).contains(&refused), "{refused}");
    assert_eq!(desk.apply(1, "edge", Verb::Shed, Amount::Keep(80.0)).outcome, Outcome::Applied);
    assert_eq!((server.mapped(), desk.verify(1).outcome), (vec!["web 20".to_owned()], Outcome::Applied));

    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(traffic.refused_percent_over(200), 0.0);
    assert_eq!((server.face(), desk.journaled().len()), (before, 0));
    assert_eq!(std::fs::read_to_string(&map).unwrap(), "web 0\n", "the file is the operator's");
    assert_eq!(traffic.stop().failed.load(Ordering::SeqCst), 0);
}

#[test]
fn an_entry_that_the_map_does_not_have_is_added_once_and_removed_again() {
    let server = Haproxy::with_map();
    server.ask(&format!("del map {} web", server.map().unwrap()));
    server.ask(&format!("add map {} other 7", server.map().unwrap()));
    let before = server.face();
    let mut desk = desk(by_map(&server));
    for kept in [50.0, 30.0] {
        assert_eq!(desk.apply(1, "edge", Verb::Shed, Amount::Keep(kept)).outcome, Outcome::Applied);
    }
    assert_eq!(server.mapped(), ["other 7", "web 70"]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn what_could_not_be_put_back_as_it_was_is_not_changed() {
    let server = Haproxy::with_words_in_its_map();
    let before = server.face();
    let report = desk(by_map(&server)).apply(1, "edge", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("holds no percentage"), "{}", report.detail);
    assert_eq!(server.face(), before);
}

#[test]
fn a_lease_is_preferred_and_a_users_socket_takes_the_map() {
    let server = Haproxy::with_map_and_table();
    let before = server.face();
    let at = |socket: &str| target::Haproxy { socket: server.path(socket), ..by_map(&server) };
    // One after the other: of two controls that lead to one HAProxy, one acts.
    for (socket, may) in [("operator.sock", "may shed; cannot throttle and drain: "), ("admin.sock", "may ")] {
        let mut desk = desk(at(socket));
        assert!(desk.view("edge", "usable").detail.contains(may));
        let report = desk.apply(1, "edge", Verb::Shed, HALF);
        assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "lease ng_lease web none → 50"));
        assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    }
    let mut desk = desk(at("user.sock"));
    assert!(desk.view("edge", "usable").detail.contains("may shed by its map; cannot throttle and drain: "));
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    assert_eq!(server.mapped(), ["web 50"]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
}

#[test]
fn a_map_that_is_not_there_is_told_with_what_to_add() {
    let server = Haproxy::without_lease_table();
    let mut desk = desk(by_map(&server));
    let report = desk.apply(1, "edge", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("has no map") && report.detail.contains("map_str_int("), "{}", report.detail);
    assert!(desk.view("edge", "usable").detail.contains("cannot shed: HAProxy has no map"));
}

#[test]
fn an_operators_share_stays_and_a_reload_returns_to_the_file() {
    let mut server = Haproxy::with_map();
    let map = server.map().unwrap();
    let mut desk = desk(by_map(&server));
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.ask(&format!("set map {map} web 5"));
    let report = desk.undo(1);
    let theirs = format!("left alone: map {map} web is 5, not the 50 that was set");
    assert_eq!((report.outcome, &*report.detail), (Outcome::Overridden, &*theirs));
    assert_eq!((server.mapped(), desk.journaled().len()), (vec!["web 5".to_owned()], 0));

    assert_eq!(desk.apply(2, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.hand_over();
    assert_eq!(server.mapped(), ["web 0"]);
    assert_eq!(desk.verify(2).outcome, Outcome::EpochChanged);
    assert_eq!(desk.apply(3, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    assert_eq!((desk.undo(3).outcome, server.mapped()), (Outcome::Applied, vec!["web 0".to_owned()]));
}

#[test]
fn a_crash_leaves_enough_to_undo_each_way() {
    let server = Haproxy::with_map();
    let before = server.face();
    let target = target::Haproxy { connection_rate: Some(1000), ..by_map(&server) };
    let mut desk = desk(target);
    for (id, verb) in [(1, Verb::Shed), (2, Verb::Throttle)] {
        assert_eq!(desk.apply(id, "edge", verb, HALF).outcome, Outcome::Applied);
    }
    let mut desk = Desk::resume(desk.stop(), &[]);
    for id in [1, 2] {
        assert_eq!(desk.verify(id).outcome, Outcome::Applied);
        assert_eq!(desk.undo(id).outcome, Outcome::Applied);
    }
    assert_eq!((server.face(), desk.journaled().len()), (before, 0));
}

#[test]
fn a_stopped_haproxy_still_owes_a_share_of_its_map() {
    let server = Haproxy::with_map();
    let mut desk = desk(by_map(&server));
    assert_eq!(desk.apply(1, "edge", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGSTOP);
    assert_eq!((desk.undo(1).outcome, desk.journaled().len()), (Outcome::TimedOut, 1));
    server.process().signal(Signal::SIGCONT);
    let back = eventually("HAProxy goes on", || Some(desk.undo(1)).filter(|it| it.outcome == Outcome::Applied));
    assert_eq!((back.outcome, server.mapped()), (Outcome::Applied, vec!["web 0".to_owned()]));
}

#[test]
fn new_connections_are_limited_to_a_share_of_what_is_normal_and_none_fails() {
    let server = Haproxy::start();
    let counts = serve(&server.path("app.sock"));
    let before = server.face();
    let traffic = Traffic::start(&server.path("web.sock"), 8, counts);
    let mut desk = desk(target::Haproxy { connection_rate: Some(200), backends: Vec::new(), ..server.target() });
    let report = desk.apply(1, "edge", Verb::Throttle, Amount::Keep(20.0));
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "global connection rate 0 → 40"));
    assert_eq!(server.limit("be/s1"), "8", "what is named is throttled, and nothing else");
    let served = |over: Duration| {
        let count = || traffic.counts.served.load(Ordering::SeqCst);
        let (began, before) = (std::time::Instant::now(), count());
        std::thread::sleep(over);
        (count() - before) as f64 / began.elapsed().as_secs_f64()
    };
    served(Duration::from_millis(1100));
    let slow = served(Duration::from_secs(1));
    assert!((1.0..80.0).contains(&slow), "{slow} requests a second");
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(server.connection_rate(), "100");
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    eventually("requests flow again", || Some(served(Duration::from_millis(300))).filter(|now| *now > 2.0 * slow));
    assert_eq!(server.face(), before);
    assert_eq!(traffic.stop().failed.load(Ordering::SeqCst), 0);
}

#[test]
fn a_stricter_limit_of_the_operator_stays_and_servers_are_limited_beside_it() {
    let server = Haproxy::start();
    server.ask("set rate-limit connections global 30");
    let before = server.face();
    let mut desk = desk(target::Haproxy { connection_rate: Some(200), ..server.target() });
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "server be/s1 maxconn 8 → 4"));
    let report = desk.apply(2, "edge", Verb::Throttle, Amount::Keep(10.0));
    assert_eq!(report.outcome, Outcome::Refused, "one action holds the server's limit");
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(desk.apply(3, "edge", Verb::Throttle, Amount::Keep(10.0)).outcome, Outcome::Applied);
    assert_eq!((server.connection_rate().as_str(), server.limit("be/s1").as_str()), ("20", "1"));
    server.ask("set rate-limit connections global 77");
    assert_eq!(desk.undo(3).outcome, Outcome::Overridden);
    assert_eq!((server.connection_rate().as_str(), server.limit("be/s1").as_str()), ("77", "8"));
    server.ask("set rate-limit connections global 30");
    assert_eq!(server.face(), before);
}

#[test]
fn the_limit_of_a_frontend_is_left_alone_where_raising_it_again_would_end_haproxy() {
    let server = Haproxy::start();
    let before = server.face();
    let mut desk = desk(target::Haproxy { frontend_maxconn: true, ..server.target() });
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    for told in ["haproxy/haproxy#2726", "2.6.20", "remove `frontend_maxconn`"] {
        assert!(report.detail.contains(told), "{}", report.detail);
        assert!(desk.view("edge", "usable").detail.contains(told), "the other verbs are usable");
    }
    assert_eq!((server.face(), desk.journaled().len()), (before, 0));
    assert_eq!(desk.apply(2, "edge", Verb::Shed, HALF).outcome, Outcome::Applied, "all else is as it was");
}

/// The same HAProxy, which says that it is a later one. Nobody uses its frontend, and then also this one survives.
#[test]
fn the_limit_of_a_frontend_is_lowered_and_put_back_where_that_is_survived() {
    let server = Haproxy::start();
    let before = server.face();
    proxy::start(&server.path("later.sock"), &server.path("admin.sock"), Protocol::Haproxy, |passing| {
        if passing.way == Way::Answer && passing.says("\nVersion: ") {
            let told = String::from_utf8_lossy(passing.bytes).replace("\nVersion: 2.", "\nVersion: 3.1.");
            return Verdict::Say(told.leak());
        }
        Verdict::Pass
    });
    let target = target::Haproxy {
        socket: server.path("later.sock"),
        backends: Vec::new(),
        frontend_maxconn: true,
        ..server.target()
    };
    let wrong = target::Haproxy { frontends: vec!["web".into(), "wbe".into()], ..target.clone() };
    let mut desk = Desk::new(&[("edge", Target::Haproxy(target)), ("wrong", Target::Haproxy(wrong))]);
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "frontend web maxconn 200 → 100"));
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, Amount::Keep(20.0)).outcome, Outcome::Applied);
    assert_eq!((server.frontend_limit().as_str(), server.limit("be/s1").as_str()), ("40", "8"));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.face(), before);
    let report = desk.apply(2, "wrong", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert!(report.detail.starts_with("HAProxy has no frontend wbe; it has web"), "{}", report.detail);
}

#[test]
fn a_map_that_is_used_in_several_ways_sheds_and_comes_back() {
    let server = Haproxy::with_map_used_in_two_ways();
    let before = server.mapped();
    println!("{}", server.ask(&format!("get map {} web", server.map().unwrap())));
    let mut desk = desk(by_map(&server));
    let report = desk.apply(1, "edge", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(server.mapped().iter().all(|entry| entry == "web 50"), "{:?}", server.mapped());
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.mapped(), before);
}

#[test]
fn a_frontend_that_does_not_exist_is_named_and_nothing_is_told_as_shed_there() {
    let server = Haproxy::start();
    let at = |frontends: &[&str]| {
        let frontends = frontends.iter().map(|&name| name.to_owned()).collect();
        Target::Haproxy(target::Haproxy { frontends, ..server.target() })
    };
    let mut desk = Desk::new(&[("wrong", at(&["wbe"])), ("half", at(&["wbe", "web"]))]);
    for control in ["wrong", "half"] {
        let view = desk.view(control, "unsupported");
        assert!(view.detail.starts_with("HAProxy has no frontend wbe; it has web"), "{}", view.detail);
    }
    let report = desk.apply(1, "wrong", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert!(report.detail.contains("no frontend wbe"), "{}", report.detail);
    let report = desk.apply(2, "half", Verb::Shed, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "lease ng_lease web none → 50"));
}

#[test]
fn a_drained_server_that_follows_another_into_maintenance_is_in_service_again_afterwards() {
    let server = Haproxy::with_a_server_that_follows_another();
    let mut desk = desk(target::Haproxy { backends: vec!["other".into()], ..server.target() });
    assert_eq!(desk.apply(1, "edge", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!(server.admin_state("other", "o1"), "8");
    server.ask("set server be/s1 state maint");
    assert_eq!(server.admin_state("other", "o1"), "10", "drained by us, and in the maintenance of the other");
    let report = desk.verify(1);
    assert_eq!((report.outcome, report.theirs), (Outcome::Applied, None));
    let report = desk.undo(1);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    server.ask("set server be/s1 state ready");
    assert_eq!(server.admin_state("other", "o1"), "0");
}

#[test]
fn a_lease_that_would_not_last_until_it_is_renewed_is_told() {
    for (time, told) in [("4s", Some("drops it after 4s")), ("10s", Some("drops it after 10s")), ("30s", None)] {
        let server = Haproxy::with_leases_of(time);
        let report = desk(server.target()).apply(1, "edge", Verb::Shed, HALF);
        assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
        match told {
            Some(told) => assert!(report.detail.contains(told), "{}", report.detail),
            None => assert_eq!(&*report.detail, "lease ng_lease web none → 50"),
        }
    }
    let server = Haproxy::with_leases_that_stay();
    let report = desk(server.target()).apply(1, "edge", Verb::Shed, HALF);
    assert!(report.detail.contains("keeps it for ever"), "{}", report.detail);
}

/// A proxy that is short of processor time, and has many servers.
#[test]
fn many_servers_of_a_slow_haproxy_are_all_throttled_and_all_come_back() {
    const SERVERS: usize = 20;
    let server = Haproxy::with_servers(SERVERS);
    proxy::start(&server.path("slow.sock"), &server.path("admin.sock"), Protocol::Haproxy, |passing| {
        if passing.way == Way::Request && passing.says("set maxconn") {
            std::thread::sleep(Duration::from_millis(100));
        }
        Verdict::Pass
    });
    let limits = |limit: &str| (1..=SERVERS).filter(|n| server.limit(&format!("many/s{n}")) == limit).count();
    let slow = server.path("slow.sock");
    let mut desk = desk(target::Haproxy { socket: slow, backends: vec!["many".into()], ..server.target() });
    let report = desk.apply(1, "edge", Verb::Throttle, HALF);
    assert_eq!((report.outcome, limits("50")), (Outcome::Applied, SERVERS), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, limits("100")), (Outcome::Applied, SERVERS));
}

#[test]
fn the_socket_of_the_master_process_is_told_from_the_one_that_is_needed() {
    let mut server = Haproxy::managed();
    let mut desk = desk(target::Haproxy { socket: server.path("manager.sock"), ..server.target() });
    let report = desk.apply(1, "edge", Verb::Shed, HALF);
    server.end();
    assert_eq!(report.outcome, Outcome::Unsupported, "{}", report.detail);
    assert!(report.detail.contains("name in `socket` the one of a `stats socket` line"), "{}", report.detail);
}
