//! How a service is reached changes while something is in force there: a password is rotated, a control gets another name for
//! its socket. The undo goes the way that is configured then.

use std::path::Path;

use nix::sys::signal::Signal;

use super::super::support::node::{Node, short_of_memory};
use super::super::support::redis::Redis;

/// The old password is worth nothing any more, and its file is gone.
fn rotate(cache: &Redis, node: &Node) {
    let (old, new) = (cache.path("password"), cache.path("rotated"));
    assert_eq!(cache.ask(&["ACL", "SETUSER", "guardian", "resetpass", ">n3w"]), "+OK");
    std::fs::write(&new, "n3w\n").unwrap();
    std::fs::remove_file(&old).unwrap();
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    node.edit(&quoted(&old), &quoted(&new));
}

fn shrunk() -> (Redis, Node) {
    let cache = Redis::start();
    cache.ask(&["CONFIG", "SET", "maxmemory", "100mb"]);
    let rules = short_of_memory(r#"{ shrink = "cache", to = "64MiB" }"#);
    let node = Node::new(&(cache.section("cache", "redis.sock") + &rules));
    (cache, node)
}

#[test]
fn a_password_that_is_rotated_keeps_nothing_in_force() {
    for crashes in [false, true] {
        let (cache, node) = shrunk();
        let before = cache.face();
        let mut daemon = node.start();
        daemon.until_control("cache", "usable");
        node.set_available(5);
        daemon.until_in_force(&["shrink cache to 64.0MiB"]);
        rotate(&cache, &node);
        if crashes {
            daemon.kill();
            node.set_available(60);
            daemon = node.start();
        } else {
            daemon.signal(Signal::SIGHUP);
            daemon.until_told("reloaded", "");
            daemon.until_control("cache", "usable");
            node.set_available(60);
        }
        daemon.until_calm();
        assert_eq!((cache.face(), daemon.stop()), (before, 0));
    }
}
