//! A state directory that cannot be had at start, or is gone later: what is told, what is done and not done meanwhile, and
//! that what it holds is undone first once it is there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::unistd::geteuid;
use node_guardian::journal::Journal;

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};
use super::unprivileged;

const TOLD: &str = "nothing that stays in force is done: the journal cannot be written";

fn node(edge: &Haproxy) -> Node {
    Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)))
}

/// Killed with a throttle in force.
fn owe(node: &Node, edge: &Haproxy) {
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    daemon.kill();
    node.set_available(60);
    assert_eq!(edge.limit("be/s1"), "4");
}

/// The state directory, behind a file in its place.
fn put_away(node: &Node) {
    std::fs::rename(node.path("state"), node.path("away")).unwrap();
    std::fs::write(node.path("state"), "in the way").unwrap();
}

fn bring_back(node: &Node) {
    std::fs::remove_file(node.path("state")).unwrap();
    std::fs::rename(node.path("away"), node.path("state")).unwrap();
}

/// Where everybody looks first.
fn says(node: &Node, daemon: &Daemon, reason: &str) {
    let page = node.ask(&["status"]);
    let first = page.out.split("IN FORCE").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(first.contains(TOLD) && first.contains(reason) && first.contains("tried again"), "{}", page.out);
    assert_eq!(page.code, 3, "{}", page.out);
    let health = daemon.get("/health").json();
    assert_eq!(health["status"], "warn", "{health}");
    assert!(health["output"].as_str().unwrap().contains(TOLD), "{health}");
    assert!(daemon.get("/metrics").body.contains("\nnode_guardian_journal_ok 0\n"));
    assert!(node.log().contains("nothing that stays in force is done"), "{}", node.log());
}

fn acts_not(node: &Node, daemon: &mut Daemon, edge: &Haproxy) {
    let before = edge.face();
    node.set_available(5);
    let acted = daemon.until_told("acted", "throttle edge to 50%: refused");
    assert!(acted.text().contains("its undo could not be recorded: there is no journal"), "{acted:?}");
    assert_eq!((edge.face(), daemon.mode().as_str()), (before, "emergency"));
}

/// The journal came back: it acts, undoes, and nothing is left.
fn acts_as_usual(node: &Node, mut daemon: Daemon, edge: &Haproxy, before: &str) {
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(edge.limit("be/s1"), "4");
    assert!(daemon.get("/metrics").body.contains("\nnode_guardian_journal_ok 1\n"));
    assert!(!node.ask(&["status"]).out.contains(TOLD));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_it_owes_from_before_is_undone_first_when_it_can_be_had() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    owe(&node, &edge);
    put_away(&node);

    let mut daemon = node.start();
    says(&node, &daemon, "something else is in its place: move it away");
    acts_not(&node, &mut daemon, &edge);
    node.set_available(60);
    daemon.until("no emergency", |daemon| (daemon.mode() == "normal").then_some(()));
    assert_eq!(edge.limit("be/s1"), "4", "nobody knows what it owes");

    bring_back(&node);
    daemon.until_told("journal_works", "1 from before, undone first");
    daemon.until_told("undone", "throttle edge");
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    acts_as_usual(&node, daemon, &edge, &before);
    assert_eq!(Journal::peek(&node.path("state")).unwrap(), []);
}

#[test]
fn in_an_emergency_it_acts_as_soon_as_it_can_be_had() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    assert_eq!(node.start().stop(), 0);
    put_away(&node);
    let mut daemon = node.start();
    acts_not(&node, &mut daemon, &edge);
    bring_back(&node);
    acts_as_usual(&node, daemon, &edge, &before);
}

#[test]
fn a_pause_that_could_not_be_read_at_start_counts_when_it_can() {
    let edge = Haproxy::start();
    let node = node(&edge);
    let mut daemon = node.start();
    assert_eq!(node.ask(&["pause", "--for", "30m"]).code, 0);
    daemon.kill();
    put_away(&node);
    daemon = node.start();
    assert!(daemon.status()["paused"].is_null());
    bring_back(&node);
    daemon.until_told("journal_works", "");
    daemon.until("the pause", |daemon| (!daemon.status()["paused"].is_null()).then_some(()));
    assert_eq!(daemon.stop(), 0);
}

/// With a typo, and nothing to fall back to before the directory is there.
#[test]
fn a_last_good_configuration_that_could_not_be_read_at_start_is_guarded_by_when_it_can() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    let mut daemon = node.start();
    let is_last_good = |name: String| name.starts_with("last-good-");
    daemon.until("the configuration is kept", |_| {
        let mut files = std::fs::read_dir(node.path("state")).unwrap();
        files.any(|file| is_last_good(file.unwrap().file_name().into_string().unwrap())).then_some(())
    });
    assert_eq!(daemon.stop(), 0);
    put_away(&node);
    node.edit("[rule.short]", "[rule.short]\nwehn = 1");
    let mut daemon = node.start();
    assert_eq!(daemon.status()["configuration"]["by"], "built_in");
    bring_back(&node);
    daemon.until("the last good one", |daemon| (daemon.status()["configuration"]["by"] == "last_good").then_some(()));
    acts_as_usual(&node, daemon, &edge, &before);
}

#[test]
fn an_admin_socket_that_is_removed_is_there_again() {
    let node = Node::new("");
    let mut daemon = node.start();
    let log = |node: &Node| node.log().matches("was removed or replaced; it is opened again").count();
    std::fs::remove_file(node.path("admin.sock")).unwrap();
    daemon.until("it answers again", |daemon| daemon.try_get("/status").map(drop));
    daemon.until("that is told", |_| (log(&node) == 1).then_some(()));
    daemon.until("status is asked there", |_| (node.ask(&["status"]).code == 0).then_some(()));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_directory_of_another_user_is_told_and_taken_when_it_is_given() {
    if !geteuid().is_root() {
        return;
    }
    let edge = Haproxy::start();
    std::fs::set_permissions(edge.path(""), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(edge.path("admin.sock"), Permissions::from_mode(0o666)).unwrap();
    let before = edge.face();
    let node = node(&edge);
    owe(&node, &edge);
    std::fs::set_permissions(node.path("state"), Permissions::from_mode(0o500)).unwrap();
    // Root's own, at which nobody else can see whether somebody answers.
    std::fs::remove_file(node.path("admin.sock")).unwrap();
    let mut daemon = unprivileged::start(&node);
    says(&node, &daemon, "run as the user that owns it");
    acts_not(&node, &mut daemon, &edge);
    node.set_available(60);
    for entry in std::fs::read_dir(node.path("state")).unwrap() {
        unprivileged::give(&entry.unwrap().path());
    }
    unprivileged::give(&node.path("state"));
    daemon.until_told("undone", "throttle edge");
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    acts_as_usual(&node, daemon, &edge, &before);
}

/// The first look at the state directory takes 15 s: nobody waits for it.
#[test]
fn a_disk_that_does_not_answer_at_start_delays_no_guarding() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    owe(&node, &edge);
    let mut command = Command::new("strace");
    let slow = "inject=flock:delay_enter=15000000:when=1";
    // As a child of its own, so that what is started is the guardian.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", slow, EXECUTABLE]);
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    says(&node, &daemon, "has not answered for 5 s");
    acts_not(&node, &mut daemon, &edge);
    node.set_available(60);
    daemon.until_told("journal_works", "1 from before, undone first");
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}

/// What can be read is undone at once, since that is safe to repeat.
#[test]
fn on_a_read_only_file_system_debts_are_paid_and_nothing_new_is_done() {
    if !geteuid().is_root() {
        return;
    }
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    owe(&node, &edge);
    let state = node.path("state").display().to_string();
    let mount = format!("mount --bind {state} {state} && mount -o remount,bind,ro {state} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &mount, EXECUTABLE]);
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    daemon.until_told("undone", "throttle edge");
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    says(&node, &daemon, "on a file system that can be written");
    acts_not(&node, &mut daemon, &edge);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(Journal::peek(&node.path("state")).unwrap().len(), 1);
    let pid = daemon.pid().to_string();
    let mended = Command::new("nsenter").args(["-t", &pid, "-m", "mount", "-o", "remount,bind,rw", &state]).status();
    assert!(mended.unwrap().success());
    daemon.until_told("journal_works", "changes that stay in force are made again");
    acts_as_usual(&node, daemon, &edge, &before);
    assert_eq!(Journal::peek(&node.path("state")).unwrap(), []);
}

/// A directory that is removed or mounted over while it runs: the next start would not find what is written there.
#[test]
fn a_directory_that_is_gone_is_made_anew_with_what_is_in_force() {
    is_made_anew_after(|node| std::fs::rename(node.path("state"), node.path("away")).unwrap());
}

/// The directory stays, and the next start would find nothing in it.
#[test]
fn files_that_are_moved_away_are_made_anew_with_what_is_in_force() {
    is_made_anew_after(|node| {
        std::fs::create_dir(node.path("aside")).unwrap();
        for name in ["journal.a", "journal.b"] {
            std::fs::rename(node.path("state").join(name), node.path("aside").join(name)).unwrap();
        }
    });
}

/// Neither has its files moved, nor can the next start find in them what was there.
#[test]
fn files_that_are_cut_off_are_made_anew_with_what_is_in_force() {
    is_made_anew_after(|node| {
        for name in ["journal.a", "journal.b"] {
            let file = std::fs::File::options().write(true).open(node.path("state").join(name));
            file.unwrap().set_len(0).unwrap();
        }
    });
}

fn is_made_anew_after(moved: impl FnOnce(&Node)) {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    let mut daemon = node.start();
    moved(&node);
    node.set_available(5);
    daemon.until_told("journal_damage", "is not where it was");
    daemon.until_in_force(&["throttle edge to 50%"]);
    daemon.kill();
    node.set_available(60);
    let mut daemon = node.start();
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}

/// What an operator ordered when that directory was in use counts again: it is read before anything is written there.
#[test]
fn what_lies_in_a_directory_that_is_mounted_over_it_is_read_and_not_written_over() {
    let edge = Haproxy::start();
    let node = node(&edge);
    let daemon = node.start();
    assert_eq!(node.ask(&["pause", "--for", "2h"]).code, 0);
    daemon.kill();
    let (state, other) = (node.path("state"), node.path("other"));
    std::fs::rename(&state, &other).unwrap();
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", "exec \"$0\" \"$@\"", EXECUTABLE]);
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    assert!(daemon.status()["paused"].is_null());
    let pid = daemon.pid().to_string();
    let mut enter = Command::new("nsenter");
    enter.args(["-t", &pid, "-m"]);
    if !geteuid().is_root() {
        enter.args(["-U", "--preserve-credentials"]);
    }
    let mounted = enter.args(["mount", "--bind"]).args([&other, &state]).status();
    assert!(mounted.is_ok_and(|status| status.success()), "cannot mount over the state directory");
    let ordered = daemon.order("/undo", "").join().unwrap().json();
    assert_eq!(ordered["kept"], false, "{ordered}");
    assert!(ordered["detail"].as_str().unwrap().contains("holds orders that are read first"), "{ordered}");
    daemon.until("the pause of before", |daemon| (!daemon.status()["paused"].is_null()).then_some(()));
    assert_eq!(daemon.order("/undo", "").join().unwrap().json()["kept"], true);
    daemon.kill();
    std::fs::rename(&state, node.path("first")).unwrap();
    std::fs::rename(&other, &state).unwrap();
    let daemon = node.start();
    assert!(!daemon.status()["paused"].is_null());
    assert_eq!(daemon.stop(), 0);
}

/// The disk can be read, and takes 40 s to write: what is owed is undone before it has answered once.
#[test]
fn a_disk_that_takes_nothing_at_start_holds_up_no_undo() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node = node(&edge);
    owe(&node, &edge);
    std::fs::remove_file(node.path("state/orders")).unwrap();
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    let slow = ["inject=fsync:delay_enter=40000000", "inject=fdatasync:delay_enter=40000000"];
    command.args(["-e", slow[0], "-e", slow[1], EXECUTABLE]);
    let mut daemon = node.launch(command);
    daemon.until("undone", |_| (edge.face() == before).then_some(()));
    daemon.until("told", |daemon| {
        let status = daemon.try_get("/status")?.json().to_string();
        (status.contains(TOLD) && status.contains("state/orders (its disk)")).then_some(())
    });
    daemon.kill();
}
