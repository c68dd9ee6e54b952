//! The Redis control against a real Redis: memory given back and measured, limits lowered and restored, whose keys go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use node_guardian::control::LEASE;
use node_guardian::control::address::Address;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::proxy::{self, Protocol, Verdict, Way};
use super::support::redis::Redis;

const HALF: Amount = Amount::Keep(50.0);
const MIB: i64 = 1 << 20;

fn desk(server: &Redis) -> Desk {
    Desk::new(&[("cache", Target::Redis(server.target()))])
}

fn rebuildable(server: &Redis) -> Desk {
    Desk::new(&[("cache", rebuildable_target(server))])
}

fn rebuildable_target(server: &Redis) -> Target {
    Target::Redis(target::Redis { cache_only: true, ..server.target() })
}

#[test]
fn release_gives_free_memory_back_and_measures_it() {
    let server = Redis::start();
    server.fill("cache:", 30_000, 3_000);
    server.empty("cache:", 30_000);
    let mut desk = desk(&server);
    let report = desk.apply(1, "cache", Verb::Release, Amount::Whole);
    println!("{}", report.detail);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 20 * MIB && report.detail.contains("MEMORY PURGE: resident"));
    let report = desk.apply(2, "cache", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::NoEffect, "there is nothing left to give: {}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn shrink_evicts_gives_memory_back_and_is_undone_exactly() {
    let server = Redis::start();
    server.fill("cache:", 4_000, 30_000);
    let before = (server.setting("maxmemory"), server.setting("maxmemory-policy"));
    let mut desk = rebuildable(&server);
    let report = desk.apply(1, "cache", Verb::Shrink, HALF);
    println!("{}", report.detail);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    let limit: u64 = server.setting("maxmemory").parse().unwrap();
    assert!((50 << 20..80 << 20).contains(&limit), "{limit}");
    assert_eq!(server.setting("maxmemory-policy"), "allkeys-lru");
    assert!(server.info("used_memory") <= limit + (64 << 10));
    assert!(report.freed_bytes.unwrap() > 5 * MIB, "{}", report.detail);

    let report = desk.apply(1, "cache", Verb::Shrink, Amount::Keep(25.0));
    println!("{}", report.detail);
    let lower: u64 = server.setting("maxmemory").parse().unwrap();
    assert!(lower.abs_diff(limit / 2) < 2, "a quarter of the first, not of what is left: {lower} of {limit}");

    let report = desk.undo(1);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!((server.setting("maxmemory"), server.setting("maxmemory-policy")), before);
    assert!(desk.journaled().is_empty());

    // A relapse, before the cache has filled again.
    desk.apply(2, "cache", Verb::Shrink, HALF);
    let again: u64 = server.setting("maxmemory").parse().unwrap();
    assert_eq!(again, limit, "half of the first, not of what is left");
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
}

#[test]
fn after_a_crash_a_share_is_still_of_the_recent_peak() {
    let server = Redis::start();
    server.fill("cache:", 4_000, 30_000);
    let mut desk = rebuildable(&server);
    desk.apply(1, "cache", Verb::Shrink, HALF);
    let limit = server.setting("maxmemory");
    for action in 1..3 {
        let mut restarted = Desk::resume(desk.stop(), &[("cache", rebuildable_target(&server))]);
        assert_eq!(restarted.undo(action).outcome, Outcome::Applied);
        assert_eq!(restarted.apply(action + 1, "cache", Verb::Shrink, HALF).outcome, Outcome::Applied);
        assert_eq!(server.setting("maxmemory"), limit, "half of the first, not of what crash {action} left");
        desk = restarted;
    }
    assert_eq!((desk.undo(3).outcome, server.setting("maxmemory")), (Outcome::Applied, "0".to_owned()));
}

#[test]
fn what_redis_spends_on_answering_is_not_waited_for() {
    let server = Redis::start();
    let mut desk = rebuildable(&server);
    // How close to the limit an eviction ends is a matter of luck.
    for round in 1..=4 {
        server.fill("cache:", 20_000, 1000);
        let report = desk.apply(round, "cache", Verb::Shrink, Amount::Bytes(6 << 20));
        // What is left of each page keeps it, or not.
        assert!(matches!(report.outcome, Outcome::Applied | Outcome::NoEffect), "{}", report.detail);
        assert!(report.took < Duration::from_millis(1500), "{:?}", report.took);
        assert_eq!(desk.undo(round).outcome, Outcome::Applied);
    }
}

#[test]
fn without_eviction_a_shrink_is_refused() {
    let server = Redis::start();
    let mut desk = desk(&server);
    let report = desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20));
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("cache_only = true"), "{}", report.detail);
    assert_eq!(server.setting("maxmemory"), "0");
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    assert_eq!(desk.apply(2, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
    assert_eq!(
        (server.setting("maxmemory"), server.setting("maxmemory-policy")),
        ("67108864".into(), "allkeys-lfu".into())
    );
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
    assert_eq!(server.setting("maxmemory"), "0");
}

#[test]
fn a_lower_limit_is_never_raised() {
    let server = Redis::start();
    server.ask(&["CONFIG", "SET", "maxmemory", "32mb"]);
    let mut desk = rebuildable(&server);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Already);
    assert_eq!((server.setting("maxmemory").as_str(), desk.journaled().len()), ("33554432", 0));
}

#[test]
fn an_operators_change_is_left_alone() {
    let server = Redis::start();
    let mut desk = rebuildable(&server);
    desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20));
    server.ask(&["CONFIG", "SET", "maxmemory", "48mb"]);
    let report = desk.undo(1);
    assert_eq!(report.outcome, Outcome::Overridden, "{}", report.detail);
    assert_eq!(
        (server.setting("maxmemory"), server.setting("maxmemory-policy")),
        ("50331648".into(), "noeviction".into())
    );
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_restart_has_undone_it_already() {
    let mut server = Redis::start();
    let mut desk = rebuildable(&server);
    desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20));
    server.restart();
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    desk.apply(2, "cache", Verb::Shrink, Amount::Bytes(64 << 20));
    server.restart();
    assert_eq!(desk.undo(2).outcome, Outcome::EpochChanged);
    assert_eq!(server.setting("maxmemory"), "0");
}

#[test]
fn writes_are_paused_and_resumed() {
    let server = Redis::start();
    let mut client = server.connect();
    let mut desk = desk(&server);
    let report = desk.apply(1, "cache", Verb::Throttle, Amount::Keep(0.0));
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "client pause write off → on"));
    assert_eq!(client.ask(&["GET", "a"]), "nil", "reads go on");
    client.send(&["SET", "a", "1"]);
    assert!(!client.answers_within(Duration::from_millis(200)));
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert!(!client.answers_within(Duration::from_millis(100)));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(client.answer(), "+OK");
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_pause_that_a_crash_left_behind_is_ended() {
    let server = Redis::start();
    let mut desk = desk(&server);
    desk.apply(1, "cache", Verb::Throttle, Amount::Whole);
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.ask(&["SET", "a", "1"]), "+OK");
}

/// A desk after a crash, as it is so much later, and every request that it sends to Redis from then on.
fn later(server: &Redis, desk: Desk, later: Duration) -> (Desk, Arc<Mutex<String>>) {
    let ledger = desk.stop();
    let (front, said) = (server.path(&format!("{}.sock", later.as_secs())), Arc::new(Mutex::new(String::new())));
    let heard = Arc::clone(&said);
    proxy::start(&front, &server.path("redis.sock"), Protocol::Redis, move |passing| {
        if passing.way == Way::Request {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(passing.bytes));
        }
        Verdict::Pass
    });
    for entry in ledger.entries.lock().unwrap().iter_mut() {
        let lapses = entry.undo.lapses_unix_ms.as_mut().unwrap();
        *lapses -= later.as_millis() as u64;
        let Target::Redis(target) = &mut entry.target else { panic!("Redis") };
        target.address = Address::Unix(front.clone());
    }
    (Desk::resume(ledger, &[]), said)
}

#[test]
fn after_a_crash_a_pause_is_ended_only_while_it_can_still_hold() {
    let server = Redis::start();
    let pauses = |said: &Mutex<String>| said.lock().unwrap().matches("PAUSE").count();
    let mut desk = desk(&server);
    assert_eq!(desk.apply(1, "cache", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
    let (mut desk, said) = later(&server, desk, Duration::from_secs(20));
    assert_eq!((desk.let_lapse(1).outcome, pauses(&said)), (Outcome::Applied, 0), "it may still be on");
    assert_eq!((desk.undo(1).outcome, pauses(&said)), (Outcome::Applied, 1));
    assert_eq!(server.ask(&["SET", "a", "1"]), "+OK");

    for undos in [false, true] {
        let mut desk = self::desk(&server);
        assert_eq!(desk.apply(2, "cache", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
        let (mut desk, said) = later(&server, desk, LEASE + Duration::from_secs(u64::from(undos)));
        let report = if undos { desk.undo(2) } else { desk.let_lapse(2) };
        let ended = if undos { Outcome::Already } else { Outcome::EpochChanged };
        assert_eq!((report.outcome, pauses(&said), desk.journaled().len()), (ended, 0, 0));
        assert!(undos || &*report.detail == "it lapsed", "{}", report.detail);
        server.ask(&["CLIENT", "UNPAUSE"]);
    }
}

#[test]
fn a_pause_is_renewed_while_it_is_wanted_and_the_journal_knows_how_long() {
    let server = Redis::start();
    let mut desk = desk(&server);
    desk.apply(1, "cache", Verb::Throttle, Amount::Whole);
    let lapses = |desk: &Desk| desk.journaled()[0].undo.lapses_unix_ms.unwrap();
    let first = lapses(&desk);
    eventually("a later end", || {
        assert_eq!(desk.verify(1).outcome, Outcome::Applied);
        (lapses(&desk) > first).then_some(())
    });
    let renewed = lapses(&desk);
    assert_eq!((desk.let_lapse(1).outcome, lapses(&desk)), (Outcome::Applied, renewed));
    let (mut desk, said) = later(&server, desk, LEASE);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "what has lapsed is set again where it is wanted");
    assert!(said.lock().unwrap().contains("PAUSE"));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.ask(&["SET", "a", "1"]), "+OK");
}

#[test]
fn a_share_of_the_writes_cannot_be_paused_and_a_pause_stops_eviction() {
    let server = Redis::start();
    let mut desk = rebuildable(&server);
    let report = desk.apply(1, "cache", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert_eq!(desk.apply(2, "cache", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
    let report = desk.apply(3, "cache", Verb::Shrink, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("undo that first"), "{}", report.detail);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
}

#[test]
fn two_controls_never_hold_one_limit() {
    let server = Redis::start();
    let cache = target::Redis { cache_only: true, ..server.target() };
    let far = target::Redis { address: server.tcp(), ..cache.clone() };
    let mut desk = Desk::new(&[("first", Target::Redis(cache)), ("second", Target::Redis(far))]);
    assert_eq!(desk.apply(1, "first", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
    let report = desk.apply(2, "second", Verb::Shrink, Amount::Bytes(32 << 20));
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.starts_with("action 1 (shrink first to 64"), "{}", report.detail);
    assert!(report.detail.contains("already holds `maxmemory`"), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.setting("maxmemory").as_str()), (Outcome::Applied, "0"));
}

#[test]
fn only_the_keys_of_the_pattern_are_flushed() {
    let server = Redis::start();
    server.fill("cache:", 3_000, 10_000);
    server.fill("session:", 100, 10);
    let target = target::Redis { flush_pattern: Some("cache:*".into()), ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    let report = desk.apply(1, "cache", Verb::Flush, Amount::Whole);
    println!("{}", report.detail);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("unlinked 3000 keys of cache:*"), "{}", report.detail);
    assert_eq!(server.ask(&["DBSIZE"]), ":100");
    assert!(report.freed_bytes.unwrap() > 5 * MIB);
}

#[test]
fn a_pattern_beyond_the_acl_is_refused() {
    let server = Redis::start();
    server.fill("session:", 10, 10);
    let target = target::Redis { flush_pattern: Some("session:*".into()), ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    let report = desk.apply(1, "cache", Verb::Flush, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("flush_pattern"), "{}", report.detail);
    assert_eq!(server.ask(&["DBSIZE"]), ":10");
}

#[test]
fn everything_is_flushed_only_where_all_of_it_can_be_rebuilt() {
    let server = Redis::start();
    server.fill("any:", 3_000, 10_000);
    let flusher = target::Redis { username: Some("flusher".into()), ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(flusher.clone()))]);
    let report = desk.apply(1, "cache", Verb::Flush, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("cache_only = true"), "{}", report.detail);
    assert_eq!(server.ask(&["DBSIZE"]), ":3000");
    desk.reconfigure(&[("cache", Target::Redis(target::Redis { cache_only: true, ..flusher }))]);
    let report = desk.apply(2, "cache", Verb::Flush, Amount::Whole);
    println!("{}", report.detail);
    assert_eq!((report.outcome, server.ask(&["DBSIZE"]).as_str()), (Outcome::Applied, ":0"));
}

#[test]
fn tcp_works_like_the_socket() {
    let server = Redis::start();
    let target = target::Redis { address: server.tcp(), cache_only: true, ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    assert!(desk.view("cache", "usable").detail.contains("maxmemory 0, noeviction"));
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.setting("maxmemory"), "0");
}

#[test]
fn each_missing_permission_is_named() {
    let server = Redis::start();
    std::fs::write(server.path("wrong"), "no").unwrap();
    let with = |change: fn(&mut target::Redis, &Redis)| {
        let mut target = server.target();
        change(&mut target, &server);
        Target::Redis(target)
    };
    let mut desk = Desk::new(&[
        ("right", with(|_, _| {})),
        ("wrong", with(|target, server| target.password_file = Some(server.path("wrong")))),
        ("missing", with(|target, server| target.password_file = Some(server.path("missing")))),
        ("nobody", with(|target, _| (target.username, target.password_file) = (None, None))),
        ("reader", with(|target, _| target.username = Some("reader".into()))),
    ]);
    assert!(desk.view("right", "usable").detail.contains("may release, throttle and shrink"));
    assert!(desk.view("wrong", "refused").detail.contains("rejects the password of user guardian"));
    assert!(desk.view("missing", "refused").detail.contains("cannot read the password file"));
    assert!(desk.view("nobody", "refused").detail.contains("set `password_file`"));
    let reader = desk.view("reader", "refused");
    assert!(reader.detail.contains("ACL SETUSER reader +config|set"), "{}", reader.detail);
    let report = desk.apply(1, "reader", Verb::Throttle, Amount::Whole);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
    assert_eq!(server.setting("maxmemory"), "0", "a probe changes nothing");
}

#[test]
fn what_could_not_be_undone_is_not_begun() {
    let server = Redis::start();
    let user =
        |name: &str| Target::Redis(target::Redis { username: Some(name.into()), cache_only: true, ..server.target() });
    let mut desk = Desk::new(&["pauser", "stuck", "blind", "flusher"].map(|name| (name, user(name))));
    let pauser = desk.view("pauser", "usable").detail;
    assert!(pauser.contains("may throttle;") && pauser.contains("cannot shrink: "), "{pauser}");
    let stuck = desk.view("stuck", "usable").detail;
    assert!(stuck.contains("may release;") && stuck.contains("cannot throttle: "), "{stuck}");
    assert!(stuck.contains("ACL SETUSER stuck +client|unpause"), "{stuck}");
    assert!(stuck.contains("ACL SETUSER stuck +config|set") && stuck.contains("+flushall"), "{stuck}");
    let blind = desk.view("blind", "usable").detail;
    assert!(blind.contains("+multi +discard"), "it cannot be seen whether the pause could be ended: {blind}");

    for (id, name, verb) in [
        (1, "stuck", Verb::Throttle),
        (2, "stuck", Verb::Shrink),
        (3, "pauser", Verb::Shrink),
        (4, "blind", Verb::Throttle),
        (5, "stuck", Verb::Flush),
    ] {
        let amount = if verb == Verb::Shrink { HALF } else { Amount::Whole };
        let report = desk.apply(id, name, verb, amount);
        assert_eq!(report.outcome, Outcome::Refused, "{verb} {name}: {}", report.detail);
        assert!(desk.journaled().is_empty(), "{verb} {name}: {}", report.detail);
    }
    let seen = server.ask(&["SET", "a", "1"]);
    assert_eq!(seen, "+OK", "nothing is paused");

    assert_eq!(desk.apply(6, "pauser", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!(desk.verify(6).outcome, Outcome::Applied, "a pause is read back and ended without CONFIG");
    assert_eq!((desk.undo(6).outcome, desk.journaled().len()), (Outcome::Applied, 0));
}

#[test]
fn a_redis_whose_config_was_renamed_away_is_paused_and_resumed_and_nothing_else() {
    let server = Redis::without("CONFIG");
    let mut desk = rebuildable(&server);
    let told = desk.view("cache", "usable").detail;
    assert!(told.contains("may release and throttle; cannot shrink: "), "{told}");
    let report = desk.apply(1, "cache", Verb::Shrink, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unsupported, 0), "{}", report.detail);
    assert_eq!(desk.apply(2, "cache", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!((desk.undo(2).outcome, desk.journaled().len()), (Outcome::Applied, 0));
}

#[test]
fn a_redis_whose_pause_could_not_be_ended_is_not_paused() {
    let server = Redis::without("CLIENT");
    let mut desk = desk(&server);
    let told = desk.view("cache", "usable").detail;
    assert!(told.contains("may release and shrink; cannot throttle: "), "{told}");
    let report = desk.apply(1, "cache", Verb::Throttle, Amount::Whole);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unsupported, 0), "{}", report.detail);
}

#[test]
fn a_password_that_changes_is_read_again() {
    let mut server = Redis::start();
    let mut desk = desk(&server);
    desk.view("cache", "usable");
    std::fs::write(server.path("password"), "other").unwrap();
    let users = std::fs::read_to_string(server.path("users.acl")).unwrap();
    std::fs::write(server.path("users.acl"), users.replace("guardian on >s3cret", "guardian on >other")).unwrap();
    server.restart();
    assert_eq!(desk.apply(1, "cache", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
}
