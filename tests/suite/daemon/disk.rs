//! A full disk under the journal: a tmpfs in a mount namespace that ends with the daemon.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};

/// With this much room for its state.
fn start_in(node: &Node, kibibytes: u32) -> Daemon {
    let state = node.path("state");
    std::fs::create_dir(&state).unwrap();
    let mount = format!("mount -t tmpfs -o size={kibibytes}k,mode=700 tmpfs {} && exec \"$0\" \"$@\"", state.display());
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", &mount, EXECUTABLE]);
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    daemon
}

/// The folder as the daemon sees it.
fn inside(daemon: &Daemon, node: &Node) -> PathBuf {
    let state = node.path("state");
    PathBuf::from(format!("/proc/{}/root", daemon.pid())).join(state.strip_prefix("/").unwrap())
}

fn fill(folder: PathBuf) {
    let mut file = File::create(folder.join("hog")).unwrap();
    let mut wrote = 0;
    while file.write_all(&[b'x'; 1024]).is_ok() {
        wrote += 1;
        assert!(wrote < 10_000, "this disk never gets full");
    }
}

fn node(edge: &Haproxy) -> Node {
    Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)))
}

#[test]
fn a_disk_that_fills_up_later_stops_nothing() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    let mut daemon = start_in(&node, 1024);
    fill(inside(&daemon, &node));
    // More records than one file of the journal has pages left for would need, were they not reserved.
    for _ in 0..3 {
        node.set_available(5);
        daemon.until_in_force(&["throttle edge to 50%"]);
        assert_eq!(edge.limit("be/s1"), "4");
        node.set_available(60);
        daemon.until_calm();
        assert_eq!(edge.face(), before);
        daemon.until("quiet", |daemon| (daemon.status()["rules"][0]["state"] == "quiet").then_some(()));
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn without_room_for_a_journal_nothing_is_changed_and_the_reason_is_told() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    let mut daemon = start_in(&node, 64);
    let failed = daemon.until_told("journal_failed", "nothing that stays in force is done");
    assert!(failed.text().contains("No space left on device"), "{failed:?}");
    let notice = daemon.status()["notices"][0].to_string();
    assert!(notice.contains("No space left on device") && notice.contains("free half a megabyte"), "{notice}");

    node.set_available(5);
    let acted = daemon.until_told("acted", "throttle edge to 50%");
    assert_eq!(acted.field("outcome"), Some("refused"));
    assert!(acted.text().contains("its undo could not be recorded"), "{acted:?}");
    assert_eq!((edge.face(), daemon.in_force().len(), daemon.mode().as_str()), (before.clone(), 0, "emergency"));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.face(), before);
}
