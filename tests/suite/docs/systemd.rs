//! Lines for units and for tmpfiles, by systemd itself. Needs no systemd to be running.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::Command;

use nix::unistd::{Gid, Uid};

use super::{Block, run, taken, write};

/// Later than systemd 252 of Debian 12, which says so and goes on; the page says from when on.
const LATER: [&str; 1] = ["MemoryPressureWatch"];

/// As a drop-in of a unit, which is where the pages put them.
pub fn is_taken(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let unit = write(&folder, "api.service", "[Service]\nExecStart=/bin/true\n");
    write(&folder, "api.service.d/page.conf", &block.text);
    let output = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit), "systemd");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_known = |line: &&str| !LATER.iter().any(|key| line.contains(&format!("'{key}'")));
    let complaints: Vec<&str> = told.lines().filter(is_known).collect();
    assert!(output.status.success() && complaints.is_empty(), "{}: {told}", block.place());
}

#[test]
fn a_wrong_line_for_a_unit_is_noticed() {
    let text = "[Service]\nUmsk=0077\n".to_owned();
    let block = Block { page: "none.md".to_owned(), line: 1, fence: "ini".to_owned(), text };
    let refused = std::panic::catch_unwind(|| is_taken(&block));
    assert!(refused.is_err(), "systemd does not look at the drop-in");
}

/// Below a root of its own, in which whoever runs the test has the names of the page.
pub fn is_created(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let (user, group) = (Uid::effective(), Gid::effective());
    let names = ["root", "memcache", "node-guardian"];
    let users: String = names.iter().map(|name| format!("{name}:x:{user}:{group}::/:/bin/sh\n")).collect();
    let groups: String = names.iter().map(|name| format!("{name}:x:{group}:\n")).collect();
    write(&folder, "etc/passwd", &users);
    write(&folder, "etc/group", &groups);
    write(&folder, "run/mounted", "");
    let file = write(&folder, "etc/tmpfiles.d/page.conf", &block.text);
    let mut tmpfiles = Command::new("systemd-tmpfiles");
    let output = run(tmpfiles.arg("--create").arg(format!("--root={}", folder.path().display())).arg(file), "systemd");
    taken(output, &block.place());
    for line in block.text.lines() {
        let [kind, path] = line.split_whitespace().take(2).collect::<Vec<_>>()[..] else { panic!("{line}") };
        let made = fs::metadata(folder.path().join(path.trim_start_matches('/'))).unwrap().file_type();
        assert_eq!((made.is_dir(), made.is_fifo()), (kind == "d", kind == "p"), "{line}");
    }
}
