//! A guardian that was killed while its disk does not answer: it cannot end, and still holds the lock of its directory. The
//! next one guards the node all the same, and undoes what the journal says.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::super::support::eventually;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Node, short_of_memory};
use node_guardian::journal::Journal;

/// A file system of its own that can be frozen: then whoever writes to it waits, whatever signal comes.
struct Volume {
    at: PathBuf,
}

impl Volume {
    fn of(node: &Node) -> Self {
        let (image, at) = (node.path("image"), node.path("state"));
        std::fs::create_dir(&at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        succeeds("mkfs.ext4", &[Path::new("-q"), &image]);
        succeeds("mount", &[Path::new("-o"), Path::new("loop"), &image, &at]);
        std::fs::remove_dir(at.join("lost+found")).unwrap();
        Self { at }
    }

    fn freeze(&self) {
        succeeds("fsfreeze", &[Path::new("--freeze"), &self.at]);
    }

    fn thaw(&self) {
        Command::new("fsfreeze").arg("--unfreeze").arg(&self.at).output().ok();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.thaw();
        Command::new("umount").arg("--lazy").arg(&self.at).status().ok();
    }
}

fn succeeds(program: &str, arguments: &[&Path]) {
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}: apt-get install e2fsprogs util-linux mount"));
    assert!(ran.status.success(), "{program} (needs root and a loop device): {}", String::from_utf8_lossy(&ran.stderr));
}

fn state_of(pid: Pid) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.unwrap_or("gone").trim().to_owned()
}

#[test]
fn who_was_killed_and_waits_for_its_disk_keeps_nobody_from_guarding() {
    if !geteuid().is_root() {
        // A file system cannot be frozen.
        return;
    }
    let edge = Haproxy::start();
    let before = edge.face();
    let rules = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#);
    let node = Node::new(&(edge.section("edge", "admin.sock") + &rules));
    // Dropped after the volume, which they cannot end before.
    let (mut first, mut next);
    let volume = Volume::of(&node);
    first = node.start();
    node.set_available(5);
    first.until_in_force(&["throttle edge to 50%"]);
    volume.freeze();
    // Its record has to be written now.
    let ordered = node.ask(&["pause", "--hold"]);
    assert!([&ordered.out, &ordered.err].iter().any(|said| said.contains("not")), "{} {}", ordered.out, ordered.err);
    kill(first.pid(), Signal::SIGKILL).unwrap();
    eventually("it waits for its disk", || {
        let state = state_of(first.pid());
        (state.starts_with('Z') || state.starts_with('D')).then_some(())
    });

    node.set_available(60);
    next = node.start();
    next.until("undone", |_| (edge.face() == before).then_some(()));
    let told = next.get("/status").body;
    assert!(told.contains("was killed, and still holds") || told.contains("has not answered"), "{told}");
    volume.thaw();
    next.until_told("journal_works", "");
    next.until_calm();
    node.set_available(5);
    next.until("no pause, or a held one", |daemon| (daemon.mode() != "normal").then_some(()));
    node.set_available(60);
    next.until_calm();
    assert_eq!((edge.face(), next.stop()), (before, 0));
    assert_eq!(Journal::peek(&node.path("state")).unwrap(), []);
    drop(first);
}
