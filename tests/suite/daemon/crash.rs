//! `kill -9` at every message between the daemon and a server, while an action is done, halved and undone: before the
//! request arrives, and before its answer does. Then another daemon starts, and something may have happened
//! meanwhile. Each thread has a server of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, is_calm, short_of_memory};
use super::super::support::proxy::Protocol;
use super::super::support::redis::Redis;
use super::super::support::trap::Trap;

/// Several times what an action and its undo exchange.
const MOST: usize = 300;
/// They mostly wait.
const THREADS: usize = 6;

enum Server {
    Haproxy(Haproxy),
    Redis(Redis),
}

/// What happened between the kill and the next start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    Over,
    StillShort,
    Restarted,
    Changed,
}

const ALL: [Meanwhile; 4] = [Meanwhile::Over, Meanwhile::StillShort, Meanwhile::Restarted, Meanwhile::Changed];

impl Server {
    fn face(&self) -> String {
        match self {
            Server::Haproxy(server) => server.face(),
            Server::Redis(server) => server.face(),
        }
    }

    /// What the step sets.
    fn value(&self) -> String {
        match self {
            Server::Haproxy(server) => server.limit("be/s1"),
            Server::Redis(server) => server.setting("maxmemory"),
        }
    }

    const fn set_by_the_step(&self) -> &'static str {
        match self {
            Server::Haproxy(_) => "6",
            Server::Redis(_) => "67108864",
        }
    }

    fn set_by_hand(&self, value: &str) {
        match self {
            Server::Haproxy(server) => drop(server.ask(&format!("set maxconn server be/s1 {value}"))),
            Server::Redis(server) => drop(server.ask(&["CONFIG", "SET", "maxmemory", value])),
        }
    }

    const fn taste(&self) -> &'static str {
        match self {
            Server::Haproxy(_) => "5",
            Server::Redis(_) => "123456789",
        }
    }

    /// A server that can write its settings down, and one that always reads this one anew.
    const fn may_have_saved_it(&self) -> bool {
        match self {
            Server::Haproxy(_) => false,
            Server::Redis(_) => true,
        }
    }

    const fn at_first(&self) -> &'static str {
        match self {
            Server::Haproxy(_) => "8",
            Server::Redis(_) => "0",
        }
    }

    fn restart(&mut self) {
        match self {
            Server::Haproxy(server) => server.restart(),
            Server::Redis(server) => server.restart(),
        }
    }

    /// A node whose only step acts on this server through a trap.
    fn node(&self, trap: &str, at: usize) -> (Node, Trap) {
        let (front, back, section, step, protocol) = match self {
            Server::Haproxy(server) => (
                server.path(trap),
                server.path("admin.sock"),
                server.section("it", trap),
                r#"{ throttle = "it", to = "75%" }"#,
                Protocol::Haproxy,
            ),
            Server::Redis(server) => (
                server.path(trap),
                server.path("redis.sock"),
                server.section("it", trap),
                r#"{ shrink = "it", to = "64MiB" }"#,
                Protocol::Redis,
            ),
        };
        (Node::new(&(section + &short_of_memory(step))), Trap::set(&front, &back, protocol, at))
    }
}

/// Until the trap kills it; false where it came through alive.
fn lives_until_killed(node: &Node, trap: &Trap) -> bool {
    node.set_available(5);
    let daemon = node.launch(std::process::Command::new(super::super::support::node::EXECUTABLE));
    trap.arm(daemon.pid());
    let gone = |daemon: &Daemon, wanted: &dyn Fn(&serde_json::Value) -> bool| {
        super::super::support::eventually("in force, calm or killed", || {
            if trap.has_sprung() {
                return Some(true);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            daemon.try_get("/status").filter(|reply| wanted(&reply.json())).map(|_| false)
        })
    };
    let in_force = |status: &serde_json::Value| status["in_force"][0]["phase"] == "in_force";
    if gone(&daemon, &in_force) {
        return true;
    }
    node.set_available(60);
    gone(&daemon, &is_calm)
}

fn comes_back(server: &mut Server, at: usize, meanwhile: Meanwhile) -> bool {
    let before = server.face();
    let (node, trap) = server.node(&format!("{meanwhile:?}{at}.sock"), at);
    if !lives_until_killed(&node, &trap) {
        assert_eq!(server.face(), before);
        return false;
    }
    let here = format!("killed at message {at}, then {meanwhile:?}");
    match meanwhile {
        Meanwhile::Over => node.set_available(60),
        Meanwhile::StillShort => node.set_available(5),
        Meanwhile::Restarted => {
            node.set_available(60);
            server.restart();
            // Looks like ours in this new life of the server.
            server.set_by_hand(server.set_by_the_step());
        }
        Meanwhile::Changed => {
            node.set_available(60);
            server.set_by_hand(server.taste());
        }
    }
    let mut daemon = node.start();
    if meanwhile == Meanwhile::StillShort {
        daemon.until(&format!("in force again, {here}"), |daemon| {
            // Where it was being undone, it is first found at what it had come to.
            let in_force = daemon.status()["in_force"][0]["phase"] == "in_force";
            (in_force && server.value() == server.set_by_the_step()).then_some(())
        });
        assert_eq!(daemon.in_force().len(), 1, "{here}");
        node.set_available(60);
    }
    daemon.until_calm();
    let was_in_force = !daemon.told("inherited").is_empty();
    match meanwhile {
        Meanwhile::Over | Meanwhile::StillShort => {}
        Meanwhile::Restarted => {
            // What can be saved over a restart is ours where it is there again.
            if was_in_force && server.may_have_saved_it() {
                assert_eq!(server.value(), server.at_first(), "{here}");
            } else {
                assert_eq!(trap.written_since(), [""; 0], "{here}");
                assert_eq!(server.value(), server.set_by_the_step(), "{here}");
                let told = daemon.events();
                let changed = told.iter().any(|event| event.field("outcome") == Some("epoch_changed"));
                assert_eq!(changed, was_in_force, "{here}: {told:#?}");
            }
            server.set_by_hand(server.at_first());
        }
        Meanwhile::Changed => {
            assert_eq!(server.value(), server.taste(), "{here}");
            let told = daemon.events();
            let overridden = told.iter().any(|event| event.field("outcome") == Some("overridden"));
            assert_eq!(overridden, was_in_force, "{here}: {told:#?}");
            server.set_by_hand(server.at_first());
        }
    }
    assert_eq!(server.face(), before, "{here}");
    assert_eq!(daemon.stop(), 0, "{here}");
    true
}

fn is_killed_at_every_message(start: fn() -> Server) {
    let (next, at_the_end) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut server = start();
        while !at_the_end.load(Ordering::SeqCst) {
            let turn = next.fetch_add(1, Ordering::SeqCst);
            let (at, meanwhile) = (turn / ALL.len(), ALL[turn % ALL.len()]);
            assert!(at < MOST, "no end of messages");
            if !comes_back(&mut server, at, meanwhile) {
                at_the_end.store(true, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let messages = next.load(Ordering::SeqCst) / ALL.len();
    println!("{messages} messages");
    assert!(messages > 20, "{messages}");
}

#[test]
fn haproxy_is_as_it_was_whenever_its_guardian_is_killed() {
    is_killed_at_every_message(|| Server::Haproxy(Haproxy::start()));
}

#[test]
fn redis_is_as_it_was_whenever_its_guardian_is_killed() {
    is_killed_at_every_message(|| Server::Redis(Redis::start()));
}
