//! What loses something is done once in a firing, also where nobody heard whether it was done; and what could not be begun is
//! tried again. A restart is no reason to do it again either.

use std::path::Path;

use super::super::support::memcached::Memcached;
use super::super::support::node::{Node, short_of_memory};
use super::super::support::proxy::{self, Protocol, Verdict, Way};
use super::super::support::redis::Redis;
use super::orders::for_twenty_ticks;

/// The first so many answers to this order do not come through; to the ones that only ask whether it may be given, they do.
fn losing_answers(front: &Path, back: &Path, protocol: Protocol, order: &'static str, mut lost: usize) {
    let (mut asks, mut ordered) = (false, false);
    proxy::start(front, back, protocol, move |passing| match passing.way {
        Way::Request => {
            asks = (asks || passing.says("MULTI")) && !passing.says("DISCARD");
            ordered = !asks && passing.says(order);
            Verdict::Pass
        }
        Way::Answer if ordered && lost > 0 => {
            lost -= 1;
            Verdict::Cut
        }
        Way::Answer => Verdict::Pass,
    });
}

/// A firing in which a failed step would be tried again after 1, 2 and 4 s.
fn flushes_once(section: &str, flushed: impl Fn() -> u64) {
    let node = Node::new(&(section.to_owned() + &short_of_memory(r#"{ flush = "cache", settle = "200ms" }"#)));
    node.edit("state_directory", "level = \"aggressive\"\nstate_directory");
    let mut daemon = node.start();
    daemon.until_control("cache", "usable");
    assert_eq!(flushed(), 0);
    node.set_available(5);
    daemon.until_told("acted", "it may have been done, so it is not repeated");
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(flushed(), 1);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}

fn as_flusher(cache: &Redis) -> String {
    cache.section("cache", "front.sock").replace("username = \"guardian\"", "username = \"flusher\"")
}

#[test]
fn a_redis_whose_answer_is_lost_is_flushed_once() {
    let cache = Redis::start();
    let front = cache.path("front.sock");
    losing_answers(&front, &cache.path("redis.sock"), Protocol::Redis, "FLUSHALL", usize::MAX);
    flushes_once(&as_flusher(&cache), || {
        let stats = cache.ask(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_flushall:calls="));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    });
}

#[test]
fn a_memcached_whose_answer_is_lost_is_flushed_once() {
    let cache = Memcached::start();
    let front = cache.path("front.sock");
    losing_answers(&front, &cache.path("memcached.sock"), Protocol::Memcached, "flush_all", usize::MAX);
    let section = format!("[control.memcached.cache]\nsocket = \"{}\"\ncache_only = true\n", front.display());
    flushes_once(&section, || cache.stat("cmd_flush"));
}

#[test]
fn what_could_not_be_begun_is_tried_again() {
    let cache = Redis::start();
    let (front, mut down) = (cache.path("front.sock"), true);
    let lift = cache.path("lifted");
    let lifted = lift.clone();
    proxy::start(&front, &cache.path("redis.sock"), Protocol::Redis, move |_| {
        down &= !lifted.exists();
        if down && lifted.with_file_name("down").exists() { Verdict::Cut } else { Verdict::Pass }
    });
    let section = as_flusher(&cache);
    let node = Node::new(&(section + &short_of_memory(r#"{ flush = "cache", settle = "200ms" }"#)));
    node.edit("state_directory", "level = \"aggressive\"\nstate_directory");
    let mut daemon = node.start();
    daemon.until_control("cache", "usable");
    cache.fill("cache", 1, 10);
    std::fs::write(cache.path("down"), "").unwrap();
    node.set_available(5);
    daemon.until_told("acted", "flush cache: unreachable");
    assert_eq!(cache.ask(&["DBSIZE"]), ":1");
    std::fs::write(lift, "").unwrap();
    daemon.until("flushed", |_| (cache.ask(&["DBSIZE"]) == ":0").then_some(()));
    assert_eq!(daemon.stop(), 0);
}

/// As in a crash loop, in one and the same trouble.
#[test]
fn a_restart_is_no_reason_to_flush_again() {
    let cache = Redis::start();
    let section = as_flusher(&cache).replace("front.sock", "redis.sock");
    let node = Node::new(&(section + &short_of_memory(r#"{ flush = "cache", settle = "200ms" }"#)));
    node.edit("state_directory", "level = \"aggressive\"\nstate_directory");
    let mut daemon = node.start();
    daemon.until_control("cache", "usable");
    node.set_available(5);
    daemon.until_told("acted", "flush cache");
    cache.fill("cache", 1, 10);
    for _ in 0..2 {
        daemon.kill();
        daemon = node.start();
        daemon.until_control("cache", "usable");
        daemon.until_told("step_skipped", "its cooldown is not over");
        for_twenty_ticks(&mut daemon, |_| assert_eq!(cache.ask(&["DBSIZE"]), ":1"));
    }
    node.set_available(60);
    daemon.until_calm();
    node.set_available(5);
    daemon.until("flushed", |_| (cache.ask(&["DBSIZE"]) == ":0").then_some(()));
    assert_eq!(daemon.stop(), 0);
}
