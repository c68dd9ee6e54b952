//! As a sidecar runs it: nobody's user, no capability and no way to gain one, a root that is read-only, volumes that are
//! root's, and a limit of memory that the container has and the node does not.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};

/// The user of the image.
const GUARDIAN: u32 = 65532;
const MIB: u64 = 1 << 20;

/// Only the node's folder, which stands for the volumes, can be written. What follows is the command.
const CONFINE: &str = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@""#;

fn edge() -> Haproxy {
    let edge = Haproxy::start();
    fs::set_permissions(edge.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(edge.path("admin.sock"), fs::Permissions::from_mode(0o660)).unwrap();
    if geteuid().is_root() {
        // As fsGroup does.
        chown(edge.path("admin.sock"), None, Some(GUARDIAN)).unwrap();
    }
    edge
}

/// In a container of 512 MiB with somebody else, on a node that has plenty.
fn node(edge: &Haproxy) -> Node {
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let write = |path: &str, text: &str| {
        let path = node.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/self/cgroup", "0::/\n");
    write("proc/self/root/run/.containerenv", "");
    write("sys/fs/cgroup/cgroup.procs", "1\n7\n");
    write("sys/fs/cgroup/memory.max", &format!("{}\n", 512 * MIB));
    write("sys/fs/cgroup/memory.current", &format!("{}\n", 300 * MIB));
    write("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 0\nactive_file 0\nslab_reclaimable 0\n");
    let volume = node.path("state");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(EXECUTABLE, node.path("node-guardian")).unwrap();
    fs::set_permissions(node.path("node-guardian"), fs::Permissions::from_mode(0o755)).unwrap();
    if geteuid().is_root() {
        chown(node.path(""), Some(GUARDIAN), Some(GUARDIAN)).unwrap();
    }
    node
}

fn start(node: &Node) -> Daemon {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", CONFINE]).arg(node.path("")).arg("setpriv");
    if geteuid().is_root() {
        let user = GUARDIAN.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    }
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(node.path("node-guardian"));
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    daemon
}

/// Digits in place of digits, so that no reading ever sees half a number.
fn set_used(node: &Node, mebibytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(node.path("sys/fs/cgroup/memory.current")).unwrap();
    file.write_all_at(format!("{}\n", mebibytes * MIB).as_bytes(), 0).unwrap();
}

fn is_confined(daemon: &Daemon) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", daemon.pid())).unwrap();
    let status = read("status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("CapBnd:").as_str(), field("NoNewPrivs:").as_str()), ("0000000000000000", "1"));
    if geteuid().is_root() {
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert!(field("Uid:").starts_with(&GUARDIAN.to_string()), "{}", field("Uid:"));
    }
    let mounts = read("mountinfo");
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
}

#[test]
fn it_throttles_by_the_containers_limit_and_undoes_when_it_is_told_to_stop() {
    let edge = edge();
    let before = edge.face();
    let node = node(&edge);
    let mut daemon = start(&node);
    is_confined(&daemon);
    daemon.until("the inventory", |daemon| {
        let facts = daemon.get("/node").json();
        (facts["judged"] == "container" && facts["allowed"]["memory_bytes"] == 512 * MIB).then_some(())
    });
    let page = node.ask(&["status"]);
    assert!(
        page.out.contains("using the container's limits (memory 512.0MiB), in a container (Podman)"),
        "{}",
        page.out
    );
    assert_eq!(node.ask(&["status", "--alive"]).code, 0);
    set_used(&node, 500);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!((edge.limit("be/s1").as_str(), daemon.get("/readyz").status), ("4", 503));
    let alive = node.ask(&["status", "--alive"]);
    assert_eq!((alive.code, alive.out.as_str(), alive.err.as_str()), (0, "", ""), "an emergency is no death");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.face(), before);
    assert_eq!(node.ask(&["status", "--alive"]).code, 69);
}

#[test]
fn a_container_that_was_killed_is_cleaned_up_after_by_the_next() {
    let edge = edge();
    let before = edge.face();
    let node = node(&edge);
    let mut daemon = start(&node);
    set_used(&node, 500);
    daemon.until_in_force(&["throttle edge to 50%"]);
    daemon.kill();
    assert_eq!(edge.limit("be/s1"), "4");
    assert!(Path::new(&node.path("state")).read_dir().unwrap().count() > 0);
    set_used(&node, 300);
    let mut next = start(&node);
    next.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(next.stop(), 0);
}
