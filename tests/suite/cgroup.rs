//! The cgroup control on real cgroups of version 2: what is in there stands still and goes on, what an operator set stays,
//! one that was made anew was never touched. Limits of memory and CPU need controllers: vm/tests/package/cgroup.rs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;

/// A cgroup of our own with one process in it, both gone at the end.
struct Group {
    path: String,
    folder: PathBuf,
    inhabitant: Option<Child>,
}

impl Group {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let is_version_2 = |root: &&&str| statfs(**root).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let root = roots.iter().find(is_version_2);
        let root = root.expect("no cgroup tree of version 2: mount -t cgroup2 none /sys/fs/cgroup/unified");
        let path = format!("ng-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut group = Self { folder: PathBuf::from(root).join(&path), path, inhabitant: None };
        group.make();
        group
    }

    fn make(&mut self) {
        let made = fs::create_dir(&self.folder);
        made.unwrap_or_else(|error| panic!("{}: {error}: cgroups are made by root alone", self.folder.display()));
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        fs::write(self.folder.join("cgroup.procs"), child.id().to_string()).unwrap();
        self.inhabitant = Some(child);
    }

    fn remove(&mut self) {
        fs::write(self.folder.join("cgroup.freeze"), "0").unwrap();
        if let Some(mut child) = self.inhabitant.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        eventually("the cgroup is empty", || fs::remove_dir(&self.folder).ok());
    }

    fn target(&self) -> Target {
        Target::Cgroup(target::Cgroup { path: self.path.clone(), floor_bytes: 64 << 20, sacrificial: true })
    }

    fn desk(&self) -> Desk {
        Desk::new(&[("batch", self.target())])
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.join("cgroup.freeze")).unwrap().trim().to_owned()
    }

    fn tell(&self, value: &str) {
        fs::write(self.folder.join("cgroup.freeze"), value).unwrap();
    }

    fn stands_still(&self) -> bool {
        fs::read_to_string(self.folder.join("cgroup.events")).unwrap().contains("frozen 1")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.folder.exists() {
            self.remove();
        }
    }
}

#[test]
fn what_is_in_there_stands_still_until_it_is_undone() {
    let group = Group::new();
    let mut desk = group.desk();
    assert!(desk.view("batch", "usable").detail.contains("may freeze"));
    let report = desk.apply(1, "batch", Verb::Freeze, Amount::Whole);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "cgroup.freeze thawed → frozen"));
    assert!(group.stands_still());
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    let report = desk.undo(1);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "cgroup.freeze back to thawed"));
    assert!(!group.stands_still() && group.told() == "0" && desk.journaled().is_empty());
}

#[test]
fn a_guardian_that_crashed_thaws_at_its_next_start() {
    let group = Group::new();
    let mut desk = group.desk();
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert!(group.stands_still(), "nobody has undone it");
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert!(!group.stands_still());
}

#[test]
fn what_an_operator_froze_or_thawed_is_left_alone() {
    let group = Group::new();
    group.tell("1");
    let mut desk = group.desk();
    let report = desk.apply(1, "batch", Verb::Freeze, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Already, "{}", report.detail);
    group.tell("0");
    assert_eq!(desk.apply(2, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    group.tell("0");
    let report = desk.verify(2);
    assert_eq!((report.outcome, group.told().as_str()), (Outcome::Overridden, "0"), "{}", report.detail);
}

#[test]
fn one_that_was_made_anew_is_another() {
    let mut group = Group::new();
    let mut desk = group.desk();
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    group.remove();
    group.make();
    group.tell("1");
    let report = desk.undo(1);
    assert_eq!((report.outcome, group.told().as_str()), (Outcome::EpochChanged, "1"), "{}", report.detail);
    assert!(desk.journaled().is_empty(), "nothing is owed to one that is gone");
}

#[test]
fn two_that_reach_one_cgroup_do_not_both_freeze_it() {
    let group = Group::new();
    let mut desk = Desk::new(&[("batch", group.target()), ("again", group.target())]);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    let report = desk.apply(2, "again", Verb::Freeze, Amount::Whole);
    assert_ne!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert!(!group.stands_still());
}

#[test]
fn limits_without_their_controllers_say_what_to_switch_on() {
    let group = Group::new();
    if group.folder.join("cpu.max").exists() {
        return assert!(group.desk().view("batch", "usable").detail.contains("may throttle"));
    }
    let report = group.desk().apply(1, "batch", Verb::Throttle, Amount::Keep(50.0));
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert!(report.detail.contains("write `+cpu` into the cgroup.subtree_control above it"), "{}", report.detail);
}

/// The daemon's own eyes, from within the cgroup that it is told to act on, and from a cgroup below it.
#[test]
fn a_guardian_never_acts_on_where_it_runs() {
    let group = Group::new();
    let below = group.folder.join("below");
    fs::create_dir(&below).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("[control.cgroup.own]\npath = \"{}\"\nsacrificial = true\n", group.path)).unwrap();
    for home in [&group.folder, &below] {
        let output = Command::new("sh")
            .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$1\" check --live \"$2\""])
            .args([home.as_os_str(), env!("CARGO_BIN_EXE_node-guardian").as_ref(), file.path().as_os_str()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the guardian itself runs in cgroup ng-test-"), "{said}");
    }
    fs::remove_dir(&below).unwrap();
    assert!(group.desk().view("batch", "usable").detail.contains("may freeze"), "seen from elsewhere");
}
