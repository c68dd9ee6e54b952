//! The Redis control where clients hold much, where Redis writes a copy of itself, and where the guardian or the way in is
//! gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node_guardian::control::LEASE;
use node_guardian::control::address::Address;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::proxy::{self, Protocol, Verdict, Way};
use super::support::redis::{Connection, Redis};

const HALF: Amount = Amount::Keep(50.0);
const MIB: i64 = 1 << 20;

fn rebuildable(server: &Redis) -> Desk {
    Desk::new(&[("cache", Target::Redis(target::Redis { cache_only: true, ..server.target() }))])
}

/// Clients that ask for much and read nothing; what Redis keeps for them is in its resident memory.
fn deaf_clients(server: &Redis, clients: usize) -> Vec<Connection> {
    server.fill("blob:", 100, 30_000);
    let deaf = |_| {
        let mut client = server.connect();
        let names: Vec<String> = (0..100).map(|n| format!("blob:{n}")).collect();
        let words: Vec<&str> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
        (0..4).for_each(|_| client.send(&words));
        client
    };
    let clients = (0..clients).map(deaf).collect();
    eventually("Redis keeps their answers", || (server.info("mem_clients_normal") > 40 << 20).then_some(()));
    clients
}

fn buffers(server: &Redis) -> target::Redis {
    target::Redis { client_buffers: Some(8 << 20), ..server.target() }
}

#[test]
fn what_clients_hold_is_given_back_before_a_single_key_goes() {
    let server = Redis::start();
    let face = server.face();
    let _deaf = deaf_clients(&server, 5);
    let keys = server.ask(&["DBSIZE"]);
    let target = target::Redis { cache_only: true, ..buffers(&server) };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    let report = desk.apply(1, "cache", Verb::Shrink, HALF);
    println!("{}", report.detail);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("maxmemory-clients 0 → 8388608, maxmemory 0 → "), "{}", report.detail);
    assert!(report.detail.contains("; client buffers ") && report.detail.contains("resident "), "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 20 * MIB, "{}", report.detail);
    assert!(server.info("mem_clients_normal") <= 8 << 20);
    assert_eq!((server.ask(&["DBSIZE"]), server.info("evicted_keys")), (keys, 0));
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((server.face(), desk.journaled().len()), (face, 0));
}

#[test]
fn where_no_key_may_be_evicted_what_clients_hold_is_limited_all_the_same_and_undone_after_a_crash() {
    let server = Redis::start();
    server.ask(&["CONFIG", "SET", "maxmemory", "1gb", "maxmemory-clients", "50%"]);
    let face = server.face();
    let _deaf = deaf_clients(&server, 5);
    let mut desk = Desk::new(&[("store", Target::Redis(buffers(&server)))]);
    let report = desk.apply(1, "store", Verb::Shrink, HALF);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("maxmemory-clients 50% → 8388608; client buffers "), "{}", report.detail);
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, face), "a percentage stays one");

    let mut desk = Desk::new(&[("store", Target::Redis(buffers(&server)))]);
    let report = desk.apply(2, "store", Verb::Shrink, HALF);
    assert_eq!(report.outcome, Outcome::Refused, "nobody holds much now: {}", report.detail);
}

#[test]
fn an_operators_limit_on_clients_is_left_alone() {
    let server = Redis::start();
    let _deaf = deaf_clients(&server, 5);
    let target = target::Redis { cache_only: true, ..buffers(&server) };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, HALF).outcome, Outcome::Applied);
    server.ask(&["CONFIG", "SET", "maxmemory-clients", "64mb"]);
    assert_eq!(desk.verify(1).theirs.as_deref(), Some("maxmemory-clients is 67108864, not the 8388608 that was set"));
    assert_eq!(desk.undo(1).outcome, Outcome::Overridden, "the rest is put back");
    assert_eq!(server.face(), "0 noeviction 67108864");
}

/// As versions before 7 answer `CONFIG GET maxmemory*`.
#[test]
fn an_older_redis_is_shrunk_without_its_clients_and_says_so() {
    const OLD: &str = "*4\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n";
    let server = Redis::start();
    let _deaf = deaf_clients(&server, 5);
    let front = server.path("old.sock");
    proxy::start(&front, &server.path("redis.sock"), Protocol::Redis, |passing| {
        let told = passing.way == Way::Answer && passing.says("maxmemory-clients");
        if told { Verdict::Say(OLD) } else { Verdict::Pass }
    });
    let target = target::Redis { address: Address::Unix(front), ..buffers(&server) };
    let mut desk = Desk::new(&[("old", Target::Redis(target))]);
    let view = desk.view("old", "usable");
    assert!(
        view.detail.ends_with("client_buffers is left out, because only Redis 7 and later limits what clients hold")
    );
    let report = desk.apply(1, "old", Verb::Shrink, HALF);
    assert_eq!((report.outcome, server.face().as_str()), (Outcome::Refused, "0 noeviction"), "{}", report.detail);
}

#[test]
fn while_redis_writes_a_copy_of_itself_nothing_is_promised_but_a_full_flush() {
    let server = Redis::start();
    server.fill("cache:", 2_000, 10_000);
    let face = server.face();
    let pattern = target::Redis { flush_pattern: Some("cache:*".into()), ..server.target() };
    let flusher = target::Redis { username: Some("flusher".into()), cache_only: true, ..server.target() };
    let mut desk = rebuildable(&server);
    desk.reconfigure(&[
        ("cache", Target::Redis(target::Redis { cache_only: true, ..server.target() })),
        ("keys", Target::Redis(pattern)),
        ("all", Target::Redis(flusher)),
    ]);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, HALF).outcome, Outcome::Applied);
    // 0.1 s for each key, so that it lasts.
    server.ask(&["CONFIG", "SET", "rdb-key-save-delay", "100000"]);
    assert_eq!(server.ask(&["BGSAVE"]), "+Background saving started");
    for (id, control, verb, amount) in [
        (1, "cache", Verb::Shrink, Amount::Keep(25.0)),
        (2, "cache", Verb::Release, Amount::Whole),
        (3, "keys", Verb::Flush, Amount::Whole),
    ] {
        let report = desk.apply(id, control, verb, amount);
        assert_eq!(report.outcome, Outcome::Refused, "{}", report.detail);
        assert!(report.detail.starts_with("Redis is saving a snapshot, for "), "{}", report.detail);
    }
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, face), "an undo waits for nothing");
    let report = desk.apply(4, "all", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, server.ask(&["DBSIZE"]).as_str()), (Outcome::Applied, ":0"), "{}", report.detail);
    eventually("the snapshot is over", || (server.info("rdb_bgsave_in_progress") == 0).then_some(()));
}

#[test]
fn a_pause_whose_guardian_is_gone_ends_by_itself() {
    let server = Redis::start();
    let mut client = server.connect();
    let mut desk = rebuildable(&server);
    let began = Instant::now();
    assert_eq!(desk.apply(1, "cache", Verb::Throttle, Amount::Whole).outcome, Outcome::Applied);
    drop(desk.stop());
    client.send(&["SET", "a", "1"]);
    assert!(!client.answers_within(Duration::from_secs(1)), "writes wait");
    assert!(client.answers_within(LEASE + Duration::from_secs(10)));
    assert!(began.elapsed() >= LEASE - Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(client.answer(), "+OK");
}

#[test]
fn other_clients_hardly_notice_that_keys_are_unlinked() {
    let server = Redis::start();
    server.fill("cache:", 60_000, 1_000);
    let over = Arc::new(AtomicBool::new(false));
    let prober = {
        let (mut client, over) = (server.connect(), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                client.ask(&["GET", "other"]);
                took.push(asked.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            took.sort();
            took
        })
    };
    let target = target::Redis { flush_pattern: Some("cache:*".into()), ..server.target() };
    let mut desk = Desk::new(&[("cache", Target::Redis(target))]);
    let report = desk.apply(1, "cache", Verb::Flush, Amount::Whole);
    over.store(true, Ordering::Relaxed);
    let took = prober.join().unwrap();
    let p99 = took[took.len() * 99 / 100];
    println!("{}, in {:?}: p99 {p99:?}, longest {:?} of {}", report.detail, report.took, took.last(), took.len());
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    // 4 ms on a machine of its own; flushing at once would hold everybody for longer.
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
}

#[test]
fn a_server_that_lets_nobody_in_is_undone_over_the_connection_that_is_open() {
    let server = Redis::start();
    let mut admin = server.connect();
    let mut desk = rebuildable(&server);
    assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
    assert_eq!(admin.ask(&["CONFIG", "SET", "maxclients", "1"]), "+OK");
    assert!(server.try_ask(&["PING"]).contains("max number of clients reached"));
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(admin.ask(&["CONFIG", "SET", "maxclients", "100"]), "+OK");
    assert_eq!(server.face(), "0 noeviction");
}

#[test]
fn the_keys_of_a_cluster_are_flushed_though_they_are_of_many_slots() {
    let server = Redis::cluster();
    server.fill("cache:", 1_000, 3_000);
    server.fill("session:", 10, 10);
    let target = target::Redis { flush_pattern: Some("cache:*".into()), ..server.target() };
    let report = Desk::new(&[("cache", Target::Redis(target))]).apply(1, "cache", Verb::Flush, Amount::Whole);
    assert!(report.detail.starts_with("unlinked 1000 keys of cache:*"), "{}", report.detail);
    assert_eq!(server.ask(&["DBSIZE"]), ":10");
}

/// It leaves eviction to its master.
#[test]
fn a_replica_that_evicts_nothing_is_no_effect() {
    let server = Redis::start();
    server.fill("cache:", 1_000, 30_000);
    let face = server.face();
    assert_eq!(server.ask(&["REPLICAOF", "127.0.0.1", "1"]), "+OK");
    let mut desk = rebuildable(&server);
    let report = desk.apply(1, "cache", Verb::Shrink, HALF);
    assert_eq!(report.outcome, Outcome::NoEffect, "{}", report.detail);
    assert!(report.detail.contains("evicting, which left "), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, face));
}
