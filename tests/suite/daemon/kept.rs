//! Whoever gets an answer to an order may rely on it: it is on the disk, also on a full one, or the answer says that it is
//! not. The order is carried out in either case.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use serde_json::Value;

use super::super::support::eventually;
use super::super::support::hang::Hang;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, Said, short_of_memory};
use super::orders::for_twenty_ticks;

/// A small file system for the state, in a mount namespace that outlives the daemon.
struct Disk {
    holder: Child,
    state: PathBuf,
}

impl Disk {
    fn of(node: &Node, kibibytes: u32) -> Self {
        let state = node.path("state");
        std::fs::create_dir(&state).unwrap();
        let folder = state.display();
        let mount = format!(
            "mount -t tmpfs -o size={kibibytes}k,mode=700 tmpfs {folder} && touch {folder}/mounted && exec sleep 600"
        );
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let holder =
            command.args(["sh", "-c", &mount]).spawn().expect("unshare is missing: apt-get install util-linux");
        let disk = Self { holder, state };
        eventually("it is mounted (needs root, or user namespaces)", || {
            disk.inside().join("mounted").exists().then_some(())
        });
        disk
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
    }

    fn start(&self, node: &Node) -> Daemon {
        let mut command = self.enter();
        command.arg(EXECUTABLE);
        let mut daemon = node.launch(command);
        daemon
            .until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
        daemon
    }

    /// The folder as the daemon sees it.
    fn inside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.state.strip_prefix("/").unwrap())
    }

    fn fill(&self) {
        let mut file = File::create(self.inside().join("hog")).unwrap();
        let mut wrote = 0;
        while file.write_all(&[b'x'; 1024]).is_ok() {
            wrote += 1;
            assert!(wrote < 10_000, "this disk never gets full");
        }
    }

    fn grow(&self, kibibytes: u32) {
        let options = format!("remount,size={kibibytes}k");
        let grown = self.enter().args(["mount", "-o", &options]).arg(&self.state).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

fn guarded(edge: &Haproxy) -> Node {
    Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)))
}

fn until_in_force(node: &Node, daemon: &mut Daemon) {
    daemon.until_control("edge", "usable");
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
}

/// The answer to an order, as a script would read it.
fn ordered(node: &Node, arguments: &[&str]) -> (Said, Value) {
    let said = node.ask(&[arguments, &["--json"]].concat());
    let answer = serde_json::from_str(&said.out).unwrap_or_default();
    (said, answer)
}

#[test]
fn what_was_answered_outlives_a_crash_at_once_also_on_a_full_disk() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let disk = Disk::of(&node, 1024);
    let mut daemon = disk.start(&node);
    until_in_force(&node, &mut daemon);
    disk.fill();
    for _ in 0..5 {
        let (paused, answer) = ordered(&node, &["pause", "--hold"]);
        assert_eq!((paused.code, paused.err.as_str(), &answer["kept"]), (0, "", &true.into()), "{answer}");
        daemon.kill();
        daemon = disk.start(&node);
        assert!(daemon.status()["paused"].is_object());
        let (resumed, answer) = ordered(&node, &["resume"]);
        assert_eq!((resumed.code, &answer["kept"]), (0, &true.into()), "{answer}");
        daemon.kill();
        daemon = disk.start(&node);
        assert!(daemon.status()["paused"].is_null());
    }
    daemon.until_in_force(&["throttle edge to 50%"]);
    let undone = node.ask(&["undo"]);
    assert_eq!((undone.code, undone.err.as_str()), (0, ""), "{undone:?}");
    daemon.kill();
    let mut daemon = disk.start(&node);
    daemon.until("firing again", |daemon| (daemon.status()["rules"][0]["state"] == "firing").then_some(()));
    for_twenty_ticks(&mut daemon, |_| assert_eq!(edge.limit("be/s1"), "8"));
    assert_eq!(daemon.status()["undone"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn without_room_from_the_start_the_answer_says_so_until_there_is_some() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    // The journal has room, and half of what the orders need is left.
    let disk = Disk::of(&node, 640);
    let mut daemon = disk.start(&node);
    until_in_force(&node, &mut daemon);
    let spots = || daemon.status()["blind_spots"].to_string();
    assert!(spots().contains("state/orders") && spots().contains("No space left"), "{}", spots());
    let (paused, answer) = ordered(&node, &["pause"]);
    assert_eq!((paused.code, &answer["kept"]), (0, &false.into()), "{answer}");
    let told = "not on the disk (No space left on device";
    assert!(paused.err.contains(told) && answer["detail"].as_str().unwrap().contains(told), "{paused:?}");
    daemon.until("carried out", |_| (edge.limit("be/s1") == "8").then_some(()));
    disk.grow(2048);
    // It is tried again every 10 s, and with every order.
    let (resumed, answer) = ordered(&node, &["pause", "--for", "1h"]);
    assert_eq!((resumed.code, &answer["kept"]), (0, &true.into()), "{answer}");
    daemon.until("no blind spot", |daemon| {
        (!daemon.status()["blind_spots"].to_string().contains("state/orders")).then_some(())
    });
    daemon.kill();
    let daemon = disk.start(&node);
    assert!(daemon.status()["paused"].is_object());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_disk_that_does_not_answer_holds_up_no_order_and_the_answer_says_that_it_is_not_kept() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let mut daemon = node.start();
    until_in_force(&node, &mut daemon);
    let hang = Hang::of_disk(daemon.pid());
    let asked = Instant::now();
    let (paused, answer) = ordered(&node, &["pause"]);
    assert_eq!((paused.code, &answer["kept"]), (0, &false.into()), "{answer}");
    assert!(paused.err.contains("did not take it within 2 s"), "{paused:?}");
    assert!(asked.elapsed() >= Duration::from_secs(2));
    daemon.until("carried out", |_| (edge.limit("be/s1") == "8").then_some(()));
    let ticks = daemon.ticks();
    daemon.until("the loop goes on", |daemon| (daemon.ticks() > ticks).then_some(()));
    hang.end();
    let (_, answer) = ordered(&node, &["pause"]);
    assert_eq!(answer["kept"], true, "{answer}");
    daemon.kill();
    let daemon = node.start();
    assert!(daemon.status()["paused"].is_object());
    assert_eq!(daemon.stop(), 0);
}

/// What an earlier version kept is in force after an upgrade, and in the new place from then on.
#[test]
fn orders_of_an_earlier_version_are_taken_over() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let state = node.path("state");
    std::fs::create_dir(&state).unwrap();
    let now = node_guardian::clock::unix_ms();
    let text = format!(
        r#"{{"pause":{{"since_unix_ms":{now},"until_unix_ms":{},"keeps":false,"by":"uid 0 (root)"}},"undone":[]}}"#,
        now + 3_600_000
    );
    std::fs::write(state.join("orders.json"), text).unwrap();
    for _ in 0..2 {
        let mut daemon = node.start();
        assert!(daemon.status()["paused"]["by"] == "uid 0 (root)");
        daemon.until("taken over", |_| (!state.join("orders.json").exists()).then_some(()));
        daemon.kill();
    }
}

/// What is answered is in the directory that the next start looks into, not in the one that was moved away.
#[test]
fn an_order_is_kept_where_the_next_start_finds_it() {
    let edge = Haproxy::start();
    let node = guarded(&edge);
    let mut daemon = node.start();
    until_in_force(&node, &mut daemon);
    std::fs::rename(node.path("state"), node.path("away")).unwrap();
    std::fs::create_dir(node.path("state")).unwrap();
    let (undone, answer) = ordered(&node, &["undo"]);
    assert_eq!((undone.code, &answer["kept"]), (0, &true.into()), "{answer}");
    std::fs::remove_file(node.path("state/orders")).unwrap();
    let (paused, answer) = ordered(&node, &["pause", "--for", "1h"]);
    assert_eq!((paused.code, &answer["kept"]), (0, &true.into()), "{answer}");
    daemon.until("the last good configuration is kept there, too", |_| {
        let mut files = std::fs::read_dir(node.path("state")).unwrap();
        files.any(|file| file.unwrap().file_name().to_str().unwrap().starts_with("last-good-")).then_some(())
    });
    daemon.kill();
    let daemon = node.start();
    let status = daemon.status();
    assert!(status["paused"].is_object() && status["undone"].as_array().unwrap().len() == 1, "{status}");
    assert_eq!((daemon.stop(), edge.limit("be/s1").as_str()), (0, "8"));
}
