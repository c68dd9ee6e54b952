//! No copy of a secret stays in the guardian's memory once it was sent: not of a service's password, not of a token.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use nix::unistd::Pid;

use super::super::support::node::Node;
use super::super::support::receiver::{Answer, Receiver};
use super::super::support::redis::Redis;

const PASSWORD: &str = "pUtBackOnTheShelf-4711-redis";
const TOKEN: &str = "pUtBackOnTheShelf-4711-hook";
const ASKED_WITH: &str = "pUtBackOnTheShelf-4711-http";

/// How often it is in what the process could write to: heap, stacks, data.
fn copies(pid: Pid, secret: &str) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let writable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")));
    let mut found = 0;
    for line in writable {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(from)).unwrap();
        // The last of them may be the kernel's own.
        if (&mut memory).take(to - from).read_to_end(&mut bytes).is_ok() {
            found += bytes.windows(secret.len()).filter(|window| *window == secret.as_bytes()).count();
        }
    }
    found
}

#[test]
fn secrets_that_were_sent_are_in_memory_no_more() {
    let (cache, receiver) = (Redis::start(), Receiver::start(Answer::Status(200)));
    cache.ask(&["ACL", "SETUSER", "guardian", &format!(">{PASSWORD}")]);
    std::fs::write(cache.path("password"), PASSWORD).unwrap();
    std::fs::write(cache.path("token"), TOKEN).unwrap();
    let hook = format!(
        "[control.webhook.ops]\nurl = \"{}\"\ntoken_file = \"{}\"\nevents = [\"started\"]\n",
        receiver.url(),
        cache.path("token").display()
    );
    let node = Node::new(&(cache.section("cache", "redis.sock") + &hook));
    let mut daemon = node.start();
    daemon.until_control("cache", "usable");
    let letters = receiver.first(1);
    assert_eq!(letters[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()), "it was sent");
    for _ in 0..3 {
        assert_eq!(daemon.sent("/resume", &format!("Authorization: Bearer {ASKED_WITH}\r\n")).status, 202);
    }
    assert!(copies(daemon.pid(), "admin.sock") > 0, "this looks in the right place");
    // An allocator writes over the beginning of what is free by itself.
    let ends = [PASSWORD, TOKEN, ASKED_WITH].map(|secret| &secret[secret.len() - 12..]);
    daemon.until("every request is over", |daemon| ends.iter().all(|end| copies(daemon.pid(), end) == 0).then_some(()));
    assert_eq!(daemon.stop(), 0);
}
