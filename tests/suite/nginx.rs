//! The nginx control against a real nginx: flags that it obeys without a reload, caches that it goes on using.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use node_guardian::control::target::{self, Target};
use node_guardian::journal::Journal;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::nginx::{Nginx, files};
use super::support::node::EXECUTABLE;
use super::support::web::{Counts, Traffic};

const HALF: Amount = Amount::Keep(50.0);

fn desk(target: target::Nginx) -> Desk {
    Desk::new(&[("front", Target::Nginx(target))])
}

fn traffic(server: &Nginx) -> Traffic {
    Traffic::start(&server.path("web.sock"), 4, Arc::new(Counts::default()))
}

#[test]
fn at_least_the_share_is_refused_at_once_by_workers_of_another_user_and_all_flags_go_again() {
    let server = Nginx::start();
    let traffic = traffic(&server);
    let mut desk = desk(server.target());
    assert_eq!(traffic.refused_percent_over(200), 0.0);

    let report = desk.apply(1, "front", Verb::Shed, Amount::Keep(80.0));
    let told = "flag shed-10 none → 10%, flag shed-25 none → 25%; nginx refuses 25%, of the shares that its \
                configuration knows";
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, told));
    let refused = traffic.refused_percent_over(2000);
    assert!((20.0..30.0).contains(&refused), "{refused}");

    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Keep(30.0)).outcome, Outcome::Applied);
    assert_eq!(server.set(), ["shed-10", "shed-25", "shed-50", "shed-75"]);
    let refused = traffic.refused_percent_over(2000);
    assert!((70.0..80.0).contains(&refused), "{refused}");
    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!(traffic.refused_percent_over(200), 100.0);
    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Keep(90.0)).outcome, Outcome::Applied);
    assert_eq!((server.set(), desk.verify(1).outcome), (vec!["shed-10".to_owned()], Outcome::Applied));

    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((server.set().len(), desk.journaled().len()), (0, 0));
    assert_eq!(traffic.refused_percent_over(500), 0.0);
    assert_eq!(traffic.stop().failed.load(Ordering::SeqCst), 0);
    assert_eq!(server.complaints(), "");
}

#[test]
fn an_operators_flags_are_left_alone() {
    let server = Nginx::start();
    fs::create_dir(server.flags()).unwrap();
    fs::write(server.flags().join("shed-50"), "").unwrap();
    symlink("/etc/passwd", server.flags().join("shed-100")).unwrap();
    let mut desk = desk(server.target());
    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!(server.set(), ["shed-10", "shed-100", "shed-25", "shed-50", "shed-75"]);
    fs::write(server.flags().join("shed-25"), "mine now").unwrap();
    let report = desk.verify(1);
    assert_eq!((report.outcome, report.theirs.as_deref().is_some()), (Outcome::Applied, true), "{}", report.detail);
    let report = desk.undo(1);
    assert_eq!(report.outcome, Outcome::Overridden);
    assert!(report.detail.contains("left alone: flag shed-25 is somebody else's"), "{}", report.detail);
    assert_eq!(server.set(), ["shed-100", "shed-25", "shed-50"]);
    assert_eq!(fs::read_to_string(server.flags().join("shed-25")).unwrap(), "mine now");

    fs::remove_file(server.flags().join("shed-25")).unwrap();
    assert_eq!(desk.apply(2, "front", Verb::Shed, Amount::Keep(80.0)).outcome, Outcome::Applied);
    for flag in ["shed-10", "shed-25"] {
        fs::remove_file(server.flags().join(flag)).unwrap();
    }
    assert_eq!(desk.verify(2).outcome, Outcome::Overridden, "somebody took them away, and they stay away");
    assert_eq!((server.set(), desk.journaled().len()), (vec!["shed-100".to_owned(), "shed-50".to_owned()], 0));
}

#[test]
fn flags_outlive_a_restart_of_nginx_and_not_their_directory() {
    let mut server = Nginx::start();
    let mut desk = desk(server.target());
    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Whole).outcome, Outcome::Applied);
    server.restart();
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    let shedding = traffic(&server);
    assert_eq!(shedding.refused_percent_over(100), 100.0);
    shedding.stop();

    // As systemd does with a guardian that was killed; the next one finds no directory.
    let ledger = desk.stop();
    fs::remove_dir_all(server.flags()).unwrap();
    let mut desk = Desk::resume(ledger, &[("front", Target::Nginx(server.target()))]);
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    assert!(report.detail.contains("was removed since, and with it the flags"), "{}", report.detail);
    assert_eq!(desk.apply(2, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    fs::rename(server.flags(), server.path("run/aside")).unwrap();
    fs::create_dir(server.flags()).unwrap();
    assert_eq!(desk.apply(2, "front", Verb::Shed, Amount::Whole).outcome, Outcome::EpochChanged);
    assert_eq!((server.set().len(), desk.journaled().len()), (0, 0));
}

/// Renamed and perhaps renamed back, or hidden for a while: nginx must not find flags again that nobody knows of.
#[test]
fn flags_go_from_a_directory_that_is_out_of_sight() {
    let server = Nginx::start();
    let aside = server.path("run/aside");
    let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
    for is_replaced in [false, true] {
        let mut desk = desk(server.target());
        assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
        fs::rename(server.flags(), &aside).unwrap();
        if is_replaced {
            fs::create_dir(server.flags()).unwrap();
        }
        let report = desk.undo(1);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
        assert_eq!(left(&aside), 0);
        fs::remove_dir(&aside).unwrap();
    }
}

#[test]
fn flags_are_found_where_the_configuration_says_that_their_directory_is_by_now() {
    let server = Nginx::start();
    let aside = server.path("run/aside");
    let mut desk = desk(server.target());
    assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    let ledger = desk.stop();
    fs::rename(server.flags(), &aside).unwrap();
    let moved = target::Nginx { flags: Some(aside.clone()), ..server.target() };
    let mut desk = Desk::resume(ledger, &[("front", Target::Nginx(moved))]);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Applied, 0), "{}", report.detail);
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
}

#[test]
fn flags_that_moved_with_their_directory_are_still_owed() {
    let server = Nginx::start();
    let mut desk = desk(server.target());
    assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    let aside = server.path("run/aside");
    fs::rename(server.flags(), &aside).unwrap();
    fs::create_dir(server.flags()).unwrap();
    for flag in fs::read_dir(&aside).unwrap().map(Result::unwrap) {
        fs::copy(flag.path(), server.flags().join(flag.file_name())).unwrap();
    }
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    desk.undo(1);
    assert_eq!((server.set().len(), desk.journaled().len()), (0, 0));
}

#[test]
fn a_crash_leaves_enough_to_take_every_flag_away() {
    let (server, state) = (Nginx::start(), tempfile::tempdir().unwrap());
    let controls = [("front", Target::Nginx(server.target()))];
    let mut desk = Desk::on_disk(state.path(), &controls);
    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Keep(80.0)).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    drop(desk);
    // It was killed while it was writing the next one.
    fs::write(server.flags().join(".node-guardian"), "set by").unwrap();
    let mut desk = Desk::on_disk(state.path(), &[]);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    drop(desk);
    assert_eq!((server.set(), Journal::peek(state.path()).unwrap()), (vec![".node-guardian".to_owned()], vec![]));
}

#[test]
fn flags_of_ours_that_no_journal_knows_go_with_the_next() {
    let server = Nginx::start();
    let mut lost = desk(server.target());
    assert_eq!(lost.apply(1, "front", Verb::Shed, Amount::Whole).outcome, Outcome::Applied);
    lost.stop();
    let mut desk = desk(server.target());
    assert_eq!(desk.apply(1, "front", Verb::Shed, Amount::Keep(75.0)).outcome, Outcome::Applied);
    assert_eq!(server.set(), ["shed-10", "shed-25"]);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(server.set().len(), 0);
}

#[test]
fn two_controls_never_hold_one_flag() {
    let server = Nginx::start();
    let at = || Target::Nginx(server.target());
    let mut desk = Desk::new(&[("front", at()), ("same", at())]);
    assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    let report = desk.apply(2, "same", Verb::Shed, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("already holds `flag shed-10`"), "{}", report.detail);
    assert_eq!(server.set(), ["shed-10", "shed-25", "shed-50"]);
}

#[test]
fn a_stopped_nginx_is_told_and_can_be_shed_and_undone_all_the_same() {
    let server = Nginx::start();
    let mut desk = desk(server.target());
    let view = desk.view("front", "usable");
    assert!(
        view.detail.contains("nginx answers, with") && view.detail.contains("and prune its caches"),
        "{}",
        view.detail
    );
    let workers = |signal| {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.process().id())).unwrap();
        let children = children.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap()));
        children.for_each(|child| kill(child, signal).unwrap());
    };
    workers(Signal::SIGSTOP);
    assert!(desk.view("front", "timed_out").detail.contains("no answer from nginx"));
    assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    assert_eq!((desk.undo(1).outcome, server.set().len()), (Outcome::Applied, 0));
    workers(Signal::SIGCONT);
    desk.view("front", "usable");
}

#[test]
fn what_cannot_be_used_is_told_with_what_to_do() {
    let mut server = Nginx::start();
    fs::write(server.path("file"), "").unwrap();
    symlink("run", server.path("link")).unwrap();
    let flags = |path: &Path| target::Nginx { flags: Some(path.to_owned()), ..server.target() };
    let none = target::Nginx { flags: None, caches: Vec::new(), ..server.target() };
    let mut desk = Desk::new(&[
        ("nowhere", Target::Nginx(flags(&server.path("no/where")))),
        ("file", Target::Nginx(flags(&server.path("file")))),
        ("link", Target::Nginx(flags(&server.path("link")))),
        ("none", Target::Nginx(none)),
    ]);
    for (id, control, told) in [
        (1, "nowhere", "is not there: make `flags` a directory in the guardian's own"),
        (2, "file", "is not a directory, or a link to one"),
        (3, "link", "is not a directory, or a link to one"),
        (4, "none", "shed needs flag files: set `flags"),
    ] {
        let report = desk.apply(id, control, Verb::Shed, HALF);
        assert!(report.outcome != Outcome::Applied && report.detail.contains(told), "{control}: {}", report.detail);
    }
    let report = desk.apply(5, "none", Verb::Prune, HALF);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("set `caches"), "{}", report.detail);
    assert_eq!(desk.apply(6, "none", Verb::Throttle, HALF).outcome, Outcome::Unsupported);
    assert!(desk.journaled().is_empty());
    server.end();
    assert!(desk.view("none", "unreachable").detail.contains("web.sock"));
}

/// Flags would be made there, and none ever taken away.
#[test]
fn a_directory_that_keeps_all_that_is_put_there_gets_no_flag() {
    let server = Nginx::start();
    let attribute = |how: &str| {
        let changed = Command::new("chattr").arg(how).arg(server.path("run/nginx")).status();
        assert!(changed.unwrap().success(), "chattr (package e2fsprogs) needs root, and a file system that knows it");
    };
    fs::create_dir(server.path("run/nginx")).unwrap();
    attribute("+a");
    let mut desk = desk(target::Nginx { caches: Vec::new(), ..server.target() });
    let detail = desk.view("front", "refused").detail;
    let report = desk.apply(1, "front", Verb::Shed, HALF);
    let left = fs::read_dir(server.path("run/nginx")).unwrap().count();
    attribute("-a");
    assert!(detail.contains("chattr -a"), "{detail}");
    assert_eq!((report.outcome, desk.journaled().len(), left), (Outcome::Refused, 0, 0), "{}", report.detail);
    assert_eq!(desk.apply(2, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
}

#[test]
fn a_directory_that_nginx_cannot_look_into_is_told() {
    let server = Nginx::start();
    fs::set_permissions(server.path("run"), fs::Permissions::from_mode(0o750)).unwrap();
    let mut desk = desk(server.target());
    let view = desk.view("front", "usable");
    assert!(view.detail.contains("run is closed to others, so nginx sees no flag unless"), "{}", view.detail);
}

/// As many pages, the n-th not used for n hours.
fn fill(server: &Nginx, pages: u64) {
    let put = |page| {
        let key = format!("/cached/{page}");
        assert!(!server.get(&key).0);
        eventually("the page is in the cache", || server.cached(&key))
    };
    // Looking for one is a use of others.
    let files: Vec<_> = (0..pages).map(put).collect();
    for (page, file) in (0..pages).zip(files) {
        let used = SystemTime::now() - Duration::from_secs(3600 * (page + 1));
        let times = fs::FileTimes::new().set_accessed(used).set_modified(used);
        fs::File::options().write(true).open(file).unwrap().set_times(times).unwrap();
    }
}

#[test]
fn half_of_a_cache_goes_the_oldest_first_and_nginx_fills_it_again() {
    let server = Nginx::start();
    fill(&server, 12);
    let mut desk = desk(server.target());
    let report = desk.apply(1, "front", Verb::Prune, HALF);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("removed 6 of 12 cached files, those unused for longest: "), "{}", report.detail);
    assert_eq!(report.freed_bytes, None, "a disk is no memory");
    assert_eq!((files(&server.path("cache")).len(), desk.journaled().len()), (6, 0));
    for page in 0..12 {
        let (hit, answer) = server.get(&format!("/cached/{page}"));
        assert_eq!((hit, answer.contains("xxx")), (page < 6, true), "page {page}");
    }
    assert!((0..12).all(|page| server.get(&format!("/cached/{page}")).0), "all of them are there again");

    let report = desk.apply(2, "front", Verb::Prune, Amount::Bytes(1 << 30));
    assert_eq!((report.outcome, files(&server.path("cache")).len()), (Outcome::NoEffect, 12), "{}", report.detail);
    let report = desk.apply(3, "front", Verb::Prune, Amount::Bytes(10 << 10));
    assert_eq!((report.outcome, files(&server.path("cache")).len()), (Outcome::Applied, 2), "{}", report.detail);
    assert_eq!(server.complaints(), "");
}

#[test]
fn nothing_but_what_nginx_wrote_into_the_cache_is_removed() {
    let server = Nginx::start();
    fill(&server, 2);
    let cache = server.path("cache");
    let entry = files(&cache).remove(0);
    let hash = entry.file_name().unwrap().to_str().unwrap().to_owned();
    let outside = server.path("outside");
    fs::create_dir_all(outside.join("ab")).unwrap();
    let victim = outside.join(format!("ab/{}0aba", &hash[..28]));
    fs::copy(&entry, &victim).unwrap();
    symlink(&outside, cache.join("a")).unwrap();
    symlink(&victim, cache.join(&hash)).unwrap();
    fs::create_dir(cache.join("notes")).unwrap();
    let kept = [format!("notes/{hash}"), "README".into(), format!("{hash}.0000000001"), format!("{}z", &hash[..31])];
    for name in &kept {
        fs::copy(&entry, cache.join(name)).unwrap();
    }
    let mut desk = desk(server.target());
    let report = desk.apply(1, "front", Verb::Prune, Amount::Keep(0.1));
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("removed 2 of 2 "), "{}", report.detail);
    assert!(victim.exists() && cache.join(&hash).is_symlink() && kept.iter().all(|name| cache.join(name).exists()));
    assert_eq!(desk.apply(2, "front", Verb::Prune, HALF).outcome, Outcome::NoEffect);
}

#[test]
fn files_of_others_among_those_of_a_cache_stay() {
    let server = Nginx::start();
    fill(&server, 4);
    let cached = files(&server.path("cache"));
    let beside = |file: &PathBuf| {
        let digits = &file.file_name().unwrap().to_str().unwrap()[29..];
        file.with_file_name(format!("{:029x}{digits}", 7))
    };
    let blobs: Vec<_> = cached.iter().map(beside).collect();
    let old = SystemTime::now() - Duration::from_secs(1_000_000);
    for blob in &blobs {
        fs::write(blob, "precious".repeat(1000)).unwrap();
        let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
        fs::File::options().write(true).open(blob).unwrap().set_times(times).unwrap();
    }
    // Whether a file of nginx's or another is found first in a folder is up to the file system.
    let report = desk(server.target()).apply(1, "front", Verb::Prune, Amount::Keep(0.1));
    println!("{}", report.detail);
    assert!(blobs.iter().all(|blob| blob.exists()), "{}", report.detail);
    assert!(report.detail.contains("files that nginx did not write"), "{}", report.detail);
}

#[test]
fn a_directory_that_is_no_cache_is_left_alone() {
    let server = Nginx::start();
    let blobs = server.path("blobs");
    fs::create_dir(&blobs).unwrap();
    for blob in 0..4 {
        fs::write(blobs.join(format!("{blob:032x}")), "precious".repeat(1000)).unwrap();
    }
    symlink(server.path("cache"), server.path("link")).unwrap();
    let at = |cache: &str| Target::Nginx(target::Nginx { caches: vec![server.path(cache)], ..server.target() });
    let mut desk = Desk::new(&[("blobs", at("blobs")), ("link", at("link")), ("none", at("none"))]);
    for (id, control, told) in [
        (1, "blobs", "has files that nginx did not write, so nothing of it is removed"),
        (2, "link", "is not a directory, or a link to one"),
        (3, "none", "is not there: nginx makes it when it starts"),
    ] {
        let report = desk.apply(id, control, Verb::Prune, HALF);
        assert!(report.outcome != Outcome::Applied && report.detail.contains(told), "{control}: {}", report.detail);
    }
    assert_eq!(files(&blobs).len(), 4);
    assert!(desk.view("none", "unreachable").detail.contains("is not there"));
}

/// As its unit runs it with the drop-in of the documentation: not root, and allowed to remove nginx's files.
#[test]
fn the_capability_that_trims_a_cache_counts_before_the_emergency_too() {
    const NOBODY: &str = "65534";
    if !geteuid().is_root() {
        // Only root can give capabilities away; whoever runs this owns the cache.
        return;
    }
    let server = Nginx::start();
    let (copy, configuration) = (server.path("node-guardian"), server.path("guardian.toml"));
    fs::copy(EXECUTABLE, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(server.path("cache"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&configuration, format!("[control.nginx.front]\ncaches = [{:?}]\n", server.path("cache"))).unwrap();
    fs::set_permissions(&configuration, fs::Permissions::from_mode(0o644)).unwrap();
    let check = |capabilities: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"]).args(capabilities);
        let output = command.arg(&copy).arg("check").arg(&configuration).arg("--live").output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let told = check(&[]);
    assert!(told.contains("the guardian may not trim"), "{told}");
    let told = check(&["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
    assert!(told.contains("may prune its caches"), "{told}");
}
