//! Two guardians never change one target: who comes second watches it and says who has it. And nobody without rights can
//! keep a target from being guarded.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use nix::unistd::geteuid;

use super::super::support::eventually;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Node, short_of_memory};
use crate::again::{again_from_a_copy, as_child};

const NOBODY: u32 = 65534;

fn node(edge: &Haproxy) -> Node {
    let socket = edge.section("edge", "admin.sock");
    Node::new(&(socket + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)))
}

/// What all guardians call this HAProxy.
fn mark(edge: &Haproxy) -> String {
    let socket = std::fs::metadata(edge.path("admin.sock")).unwrap();
    format!("node-guardian/{}:{}", socket.dev(), socket.ino())
}

#[test]
fn the_second_guardian_of_a_target_only_watches_it() {
    let edge = Haproxy::start();
    let before = edge.face();
    let (one, other) = (node(&edge), node(&edge));
    let (mut first, mut second) = (one.start(), other.start());
    one.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    other.set_available(5);
    let told = second.until_told("acted", "already controls this target");
    let pid = first.pid().to_string();
    assert!(told.text().contains(&format!("pid {pid} (uid ")), "{}", told.text());
    assert_eq!((second.in_force().len(), edge.limit("be/s1").as_str()), (0, "4"));
    one.set_available(60);
    first.until_calm();
    assert_eq!(edge.face(), before);

    let third = node(&edge);
    let mut watches = third.start();
    let why = watches.until_control("edge", "refused");
    assert!(why.contains(&format!("pid {pid} ")) && why.contains("only watches"), "{why}");
    first.kill();
    let last = node(&edge);
    last.set_available(5);
    let mut heir = last.start();
    heir.until_in_force(&["throttle edge to 50%"]);
    last.set_available(60);
    heir.until_calm();
    assert_eq!(edge.face(), before);
}

/// The second one takes what the first has set for the prior value, so the first must not take what the second sets for an
/// operator's, and close what it owes.
#[test]
fn what_is_owed_outlives_another_guardian_that_acts_meanwhile() {
    let edge = Haproxy::start();
    let before = edge.face();
    let (one, other) = (node(&edge), node(&edge));
    let mut first = one.start();
    one.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    first.kill();
    let mut second = other.start();
    other.set_available(5);
    second.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(edge.limit("be/s1"), "2", "on top of the first one's 4 of 8");

    one.set_available(60);
    let mut again = one.start();
    let owed = again.until_told("owed", "already controls this target");
    assert!(owed.text().contains("waits for what that one does"), "{}", owed.text());
    assert_eq!(edge.limit("be/s1"), "2", "nothing of the second one's is touched");
    other.set_available(60);
    second.until_calm();
    again.until_calm();
    assert_eq!(edge.face(), before);
}

#[test]
fn guardians_of_different_targets_do_not_know_each_other() {
    let (mine, theirs) = (Haproxy::start(), Haproxy::start());
    let (one, other) = (node(&mine), node(&theirs));
    let (mut first, mut second) = (one.start(), other.start());
    one.set_available(5);
    other.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    second.until_in_force(&["throttle edge to 50%"]);
}

#[test]
fn nobody_without_rights_can_take_the_mark() {
    if let Some(folder) = as_child() {
        return squat(&folder);
    }
    if !geteuid().is_root() {
        // Whoever we are, our own mark counts for us.
        return;
    }
    let edge = Haproxy::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(folder.path().join("name"), mark(&edge)).unwrap();
    let mut squatter = again_from_a_copy("daemon::marks::nobody_without_rights_can_take_the_mark", folder.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the names are taken", || folder.path().join("taken").exists().then_some(()));
    let node = node(&edge);
    let mut daemon = node.start();
    assert!(daemon.until_control("edge", "usable").contains("may throttle"));
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    let second = self::node(&edge);
    let mut watches = second.start();
    assert!(watches.until_control("edge", "refused").contains("already controls"), "behind the squatter it is seen");
    drop(squatter.stdin.take());
    squatter.wait().unwrap();
}

/// As many as its limit of open files allows, among them those that are tried first, until nobody needs it.
fn squat(folder: &Path) {
    let name = std::fs::read_to_string(folder.join("name")).unwrap();
    let numbered = |at: u32| [format!("{name}/{at}"), format!("{name}/{at:016x}")];
    let names = (0..200).flat_map(numbered).map(|name| SocketAddr::from_abstract_name(name).unwrap());
    let taken: Vec<_> = names.map(|name| UnixListener::bind_addr(&name).unwrap()).collect();
    std::fs::write(folder.join("taken"), "").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    assert_eq!(taken.len(), 400);
}
