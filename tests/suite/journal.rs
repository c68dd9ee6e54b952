//! The journal against what really happens to it: a full disk, a limit, a kill at any instant, a second guardian.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use node_guardian::control::target::{Haproxy, Target};
use node_guardian::control::undo::{Change, Undo};
use node_guardian::journal::{Entry, Journal};
use node_guardian::policy::mitigation::{ActionId, Amount, Mitigation, Verb};
use tempfile::TempDir;

use crate::again::{again, as_child, mount_tmpfs, succeeds};

fn entry(id: ActionId, size: usize) -> Entry {
    Entry {
        id,
        mitigation: Mitigation { control: "edge".into(), verb: Verb::Throttle, amount: Amount::Keep(50.0) },
        rule: "memory-critical".into(),
        target: Target::Haproxy(Haproxy {
            socket: "/run/haproxy/admin.sock".into(),
            frontends: vec!["web".into()],
            backends: Vec::new(),
            lease_table: "node_guardian".into(),
            ..Default::default()
        }),
        undo: Undo {
            epoch: "1".into(),
            changes: vec![Change::new("maxconn", "x".repeat(size), vec!["50".into()])],
            lapses_unix_ms: None,
        },
        since_unix_ms: 0,
    }
}

fn ids(journal: &Journal) -> BTreeSet<u64> {
    journal.entries().iter().map(|entry| entry.id.0).collect()
}

#[test]
fn a_kill_at_any_instant_loses_nothing_that_was_acknowledged() {
    if let Some(directory) = as_child() {
        return write_until_killed(&directory);
    }
    let directory = TempDir::new().unwrap();
    let mut known = BTreeSet::new();
    let mut acknowledged = 0;
    // A busy machine writes less between two kills, so it is killed more often there.
    for round in 0..400_u64 {
        if round >= 40 && acknowledged > 40 {
            break;
        }
        let mut child = again("journal::a_kill_at_any_instant_loses_nothing_that_was_acknowledged", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("opened") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the child did not open the journal");
        }
        thread::sleep(Duration::from_micros(round * 7919 % 25_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        let begun = replay(&mut known, &rest, &mut acknowledged);

        let opened = Journal::open(directory.path()).unwrap();
        let found = ids(&opened.journal);
        let mut with_begun = known.clone();
        if let Some(begun) = &begun {
            apply(&mut with_begun, begun);
        }
        assert!(found == known || found == with_begun, "{found:?} is neither {known:?} nor after {begun:?}");
        assert!(found.iter().all(|id| *id < opened.journal.next_id().0));
        known = found;
    }
    assert!(acknowledged > 40, "only {acknowledged} records in all rounds");
}

/// Large enough that the files take turns often.
fn write_until_killed(directory: &Path) {
    let mut journal = Journal::open(directory).unwrap().journal;
    println!("opened");
    let mut out = std::io::stdout();
    for round in 0.. {
        let id = journal.next_id();
        writeln!(out, "begin +{id}").unwrap();
        journal.write(&entry(id, 9000)).unwrap();
        writeln!(out, "done +{id}").unwrap();
        if round % 7 == 0 || journal.entries().len() > 8 {
            let oldest = journal.entries()[0].id;
            writeln!(out, "begin -{oldest}").unwrap();
            journal.close(oldest).unwrap();
            writeln!(out, "done -{oldest}").unwrap();
        }
    }
}

/// Applies what was acknowledged; returns what was only begun.
fn replay(known: &mut BTreeSet<u64>, said: &str, acknowledged: &mut usize) -> Option<String> {
    let mut begun = None;
    for line in said.lines() {
        match line.split_once(' ') {
            Some(("begin", change)) => begun = Some(change.to_owned()),
            Some(("done", change)) => {
                apply(known, change);
                *acknowledged += 1;
                begun = None;
            }
            _ => {}
        }
    }
    begun
}

fn apply(known: &mut BTreeSet<u64>, change: &str) {
    let (sign, id) = change.split_at(1);
    // A line that the kill cut short was not acknowledged.
    let Ok(id) = id.parse() else { return };
    if sign == "+" {
        known.insert(id);
    } else {
        known.remove(&id);
    }
}

#[test]
fn a_full_disk_stops_nothing() {
    if let Some(directory) = as_child() {
        return write_on_a_full_disk(&directory);
    }
    let directory = TempDir::new().unwrap();
    succeeds(again("journal::a_full_disk_stops_nothing", directory.path()));
}

fn write_on_a_full_disk(mount_point: &Path) {
    mount_tmpfs(mount_point, "size=640k");
    let mut journal = Journal::open(&mount_point.join("state")).unwrap().journal;
    let mut filler = File::create(mount_point.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    while filler.write_all(&[1]).is_ok() {}
    for _ in 0..500 {
        let id = journal.next_id();
        journal.write(&entry(id, 2000)).unwrap();
        if !id.0.is_multiple_of(10) {
            journal.close(id).unwrap();
        }
    }
    drop(journal);
    let opened = Journal::open(&mount_point.join("state")).unwrap();
    assert_eq!((opened.damage, opened.journal.entries().len()), (None, 50));
    let text = Journal::open(&mount_point.join("elsewhere")).unwrap_err().to_string();
    assert!(text.contains("No space left") && text.contains("free half a megabyte"), "{text}");
}

#[test]
fn a_write_that_is_refused_is_told_and_the_next_one_works() {
    if let Some(directory) = as_child() {
        return write_against_a_limit(&directory);
    }
    let directory = TempDir::new().unwrap();
    succeeds(again("journal::a_write_that_is_refused_is_told_and_the_next_one_works", directory.path()));
}

fn write_against_a_limit(directory: &Path) {
    let mut journal = Journal::open(directory).unwrap().journal;
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 100_000, RLIM_INFINITY).unwrap();
    let mut kept = BTreeSet::new();
    let refusal = loop {
        let id = journal.next_id();
        match journal.write(&entry(id, 2000)) {
            Ok(()) => kept.insert(id.0),
            Err(refusal) => break refusal.to_string(),
        };
    };
    assert!(refusal.contains("File too large") && refusal.contains("LimitFSIZE="), "{refusal}");
    assert!(kept.len() > 30 && ids(&journal) == kept);
    journal.close(ActionId(1)).unwrap_err();
    assert_eq!(ids(&journal), kept);
    setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY).unwrap();
    journal.close(ActionId(1)).unwrap();
    kept.remove(&1);
    drop(journal);
    assert_eq!(ids(&Journal::open(directory).unwrap().journal), kept);
}

#[test]
fn a_second_guardian_is_told_who_holds_the_journal() {
    if let Some(directory) = as_child() {
        let _journal = Journal::open(&directory).unwrap();
        println!("opened");
        loop {
            thread::park();
        }
    }
    let directory = TempDir::new().unwrap();
    let test = "journal::a_second_guardian_is_told_who_holds_the_journal";
    let mut holder = again(test, directory.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("opened")));
    let refused = Journal::open(directory.path()).unwrap_err().to_string();
    let wanted = format!("held by another guardian, process {}: stop that one first", holder.id());
    assert!(refused.contains(&wanted), "{refused}");
    assert!(Journal::peek(directory.path()).is_err());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(Journal::peek(directory.path()).unwrap().len(), 0);
    assert!(Journal::open(directory.path()).is_ok());
}

#[test]
fn a_directory_that_cannot_be_had_is_explained() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let text = Journal::open(&file).unwrap_err().to_string();
    assert!(text.contains("something else is in its place"), "{text}");
    let text = Journal::open(&file.join("below")).unwrap_err().to_string();
    assert!(text.contains("something else is in its place"), "{text}");
}
