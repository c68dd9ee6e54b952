//! Without root: it guards what it may, and says what it cannot see.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};

const NOBODY: u32 = 65534;

/// As nobody, from a copy that nobody may run, wherever this source lies.
pub fn start(node: &Node) -> Daemon {
    start_after(node, &[])
}

/// After a command that is given the rest as its arguments.
fn start_after(node: &Node, before: &[&str]) -> Daemon {
    let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
    if geteuid().is_root() {
        let copy = node.path("node-guardian");
        std::fs::copy(EXECUTABLE, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        give(&node.path(""));
        let nobody = NOBODY.to_string();
        let options = ["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--no-new-privs"];
        words.extend(options.map(str::to_owned));
        words.push(copy.display().to_string());
    } else {
        words.push(EXECUTABLE.to_owned());
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    daemon
}

/// To nobody.
pub fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn blind(daemon: &Daemon) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let status = daemon.status();
    let spots = status["blind_spots"].as_array().unwrap().iter();
    spots.map(|spot| (text(&spot["what"]), text(&spot["why"]))).collect()
}

#[test]
fn it_starts_serves_and_says_what_it_is_refused() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = start(&node);
    let spots = blind(&daemon);
    for (what, advice) in [("real-time scheduling", "CAP_SYS_NICE"), ("locked memory", "CAP_IPC_LOCK")] {
        let spot = spots.iter().find(|(known, _)| known == what);
        assert!(spot.is_some_and(|(_, why)| why.contains(advice)), "{what}: {spots:?}");
    }
    let page = node.ask(&["status"]);
    assert!(page.out.contains("BLIND SPOTS\n"), "{page:?}");
    assert!(page.out.contains("real-time scheduling\n"), "{}", page.out);
    if geteuid().is_root() {
        let detail = daemon.until_control("edge", "unreachable");
        assert_eq!(node.ask(&["status"]).code, 3, "something is broken");
        assert!(detail.contains("mode 0600") && detail.contains("stats socket"), "{detail}");
        node.set_available(5);
        daemon.until_told("acted", "throttle edge to 50%: unreachable");
        assert_eq!((daemon.mode().as_str(), edge.face()), ("emergency", before.clone()));
    }
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
    assert_eq!(edge.face(), before);
}

#[test]
fn a_server_that_lets_it_in_is_throttled_and_restored() {
    let edge = Haproxy::start();
    let before = edge.face();
    std::fs::set_permissions(edge.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(edge.path("admin.sock"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = start(&node);
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(edge.limit("be/s1"), "4");
    assert_eq!(node.ask(&["undo"]).code, 0, "root may always change things");
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_volume_that_is_closed_to_it_is_read_as_df_reads_it() {
    let node = Node::new("");
    let [vault, hidden] = ["vault", "closed/hidden"].map(|name| node.path(name));
    std::fs::create_dir_all(&vault).unwrap();
    std::fs::create_dir_all(&hidden).unwrap();
    let [vault, hidden] = [vault, hidden].map(|path| path.display().to_string());
    node.edit("mounts = []", &format!("mounts = [{vault:?}, {hidden:?}]"));
    // Full, and of a database's user; the other one lies where nobody may go.
    let closed = node.path("closed").display().to_string();
    let mount = format!(
        "mount -t tmpfs -o size=1m,mode=700,uid=1234 tmpfs {vault} && head -c 2M /dev/zero > {vault}/data 2>&-; \
         chown 1234 {closed} && chmod 700 {closed}; exec \"$0\" \"$@\""
    );
    let unshare = if geteuid().is_root() { "--mount" } else { "--map-root-user" };
    let mut daemon = start_after(&node, &["unshare", "--mount", unshare, "sh", "-c", &mount]);
    let line = format!("node_guardian_disk_used_ratio{{mount={vault:?}}} 1\n");
    daemon.until("the volume", |daemon| daemon.try_get("/metrics")?.body.contains(&line).then_some(()));
    if geteuid().is_root() {
        let spots = daemon.until("the other one", |daemon| {
            let spots = blind(daemon);
            spots.iter().any(|(what, _)| what.starts_with("disk[")).then_some(spots)
        });
        let named: Vec<_> = spots.iter().filter(|(what, _)| what.starts_with("disk[")).collect();
        assert_eq!(named.len(), 1, "{spots:?}");
        assert!(named[0].0.contains(&hidden) && named[0].1.contains("Permission denied"), "{named:?}");
    }
    assert_eq!(daemon.stop(), 0);
}

/// As root only: nobody else can become somebody else.
#[test]
fn whoever_else_listens_at_the_admin_socket_is_neither_believed_nor_told() {
    if !geteuid().is_root() {
        return;
    }
    let edge = Haproxy::start();
    for path in ["", "admin.sock"] {
        std::fs::set_permissions(edge.path(path), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = start(&node);
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    // Now anybody may have put the socket there.
    std::fs::set_permissions(node.path(""), std::fs::Permissions::from_mode(0o777)).unwrap();
    for arguments in [&["status"][..], &["undo"], &["status", "--alive"]] {
        let said = node.ask(arguments);
        assert_eq!((said.code, said.out.as_str()), (69, ""), "{said:?}");
        assert!(said.err.contains("uid 65534 listens there") && said.err.contains("nothing was sent"), "{}", said.err);
    }
    assert_eq!((daemon.in_force().len(), edge.limit("be/s1").as_str()), (1, "4"));
    std::fs::set_permissions(node.path(""), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(node.ask(&["undo"]).code, 0);
    assert_eq!(daemon.stop(), 0);
}
