//! Processes of the idle class (`chrt -i`), which is told by no file but their own: /proc/stat books their work like any other.
//! The slow thread looks for them where CPUs are busy, and only there, since it has to read all processes; the loop reads
//! what those it found used, which is a line of each.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::idle::{Group, Used};
use super::scan::{fields, number};
use super::usage::ticks_per_second;

/// More are counted like any other.
const MOST: usize = 16;
/// A line of /proc/PID/stat has 400 bytes.
const STAT_BYTES: usize = 1024;
/// As sched(7) numbers it.
const SCHED_IDLE: u64 = 5;

/// Found by the slow thread, with its line open to be read.
#[derive(Debug)]
pub struct Task {
    pid: u64,
    started: u64,
    stat: File,
}

/// What counts of the line, in clock ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    runs: bool,
    /// Of all its threads.
    used: u64,
    started: u64,
    /// Its first thread makes way for all others, and /proc/stat does not say so: that counts niced work apart.
    is_idle: bool,
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid && self.started == other.started
    }
}

/// Those that use most, of those that run now or did before. What is in a group of the idle class counts there.
#[must_use]
pub fn find(proc_root: &Path, known: &[Arc<Task>], groups: &[Arc<Group>]) -> Vec<Arc<Task>> {
    let mut found: Vec<(u64, Arc<Task>)> = Vec::new();
    for pid in fs::read_dir(proc_root).into_iter().flatten().flatten() {
        let Some(pid) = number(pid.file_name().as_encoded_bytes()) else { continue };
        let folder = proc_root.join(pid.to_string());
        let Ok(file) = File::open(folder.join("stat")) else { continue };
        let Some(stat) = read(&file).filter(|stat| stat.is_idle) else { continue };
        let same = known.iter().find(|task| task.pid == pid && task.started == stat.started);
        if same.is_none() && (!stat.runs || is_in(&folder, groups)) {
            continue;
        }
        let task = same.map_or_else(|| Arc::new(Task { pid, started: stat.started, stat: file }), Arc::clone);
        found.push((stat.used, task));
    }
    found.sort_unstable_by_key(|(used, task)| (Reverse(*used), task.pid));
    found.truncate(MOST);
    let mut found: Vec<Arc<Task>> = found.into_iter().map(|(_, task)| task).collect();
    found.sort_unstable_by_key(|task| task.pid);
    found
}

fn is_in(folder: &Path, groups: &[Arc<Group>]) -> bool {
    let Ok(own) = fs::read_to_string(folder.join("cgroup")) else { return false };
    let paths = own
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .map(|path| PathBuf::from(path.trim_start_matches('/')));
    let mut above = paths.flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>());
    above.any(|path| !path.as_os_str().is_empty() && groups.iter().any(|group| group.path().ends_with(&path)))
}

impl Used for Task {
    fn used(&self) -> Option<u64> {
        let stat = read(&self.stat).filter(|stat| stat.is_idle)?;
        Some((stat.used as f64 * 1e9 / ticks_per_second()) as u64)
    }
}

fn read(file: &File) -> Option<Stat> {
    let mut text = [0; STAT_BYTES];
    let length = file.read_at(&mut text, 0).ok()?;
    parse(&text[..length])
}

/// Of /proc/PID/stat (proc(5)). A name may hold anything, also what ends it.
fn parse(line: &[u8]) -> Option<Stat> {
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let mut words = fields(&line[end + 1..]);
    let runs = words.next()? == b"R";
    let (user, system) = (number(words.nth(10)?)?, words.number()?);
    let nice = words.nth(3)?;
    let started = number(words.nth(2)?)?;
    let policy = number(words.nth(18)?)?;
    let is_niced = number(nice).is_some_and(|nice| nice > 0);
    Some(Stat { runs, used: user.checked_add(system)?, started, is_idle: policy == SCHED_IDLE && !is_niced })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 (a) b) R 1 7 7 0 -1 4194304 90 0 0 0 30 12 5 6 20 0 1 0 4711 3000 500 18446744073709551615 1 1 0 0 0 0 \
                        0 0 0 0 0 0 17 1 0 5 0 0 0\n";

    #[test]
    fn who_is_of_the_idle_class_says_so() {
        let idle = Stat { runs: true, used: 42, started: 4711, is_idle: true };
        assert_eq!(parse(LINE.as_bytes()), Some(idle));
        let other = |from: &str, to: &str| parse(LINE.replace(from, to).as_bytes()).unwrap();
        assert!(!other(" 17 1 0 5 ", " 17 1 0 0 ").is_idle);
        assert!(!other(" 20 0 1 0 ", " 30 10 1 0 ").is_idle, "its time is counted as niced");
        assert!(other(" 20 0 1 0 ", " 19 -1 1 0 ").is_idle);
        assert!(!other(") R ", ") S ").runs);
        assert_eq!(parse(b"7 (a) R 1 7"), None);
    }

    #[test]
    fn they_are_found_once_and_not_in_groups_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let add = |pid: &str, from: &str, to: &str, group: &str| {
            fs::create_dir(folder.path().join(pid)).unwrap();
            fs::write(folder.path().join(pid).join("stat"), LINE.replacen(from, to, 1)).unwrap();
            fs::write(folder.path().join(pid).join("cgroup"), format!("3:cpu:{group}\n0::/x\n")).unwrap();
        };
        add("7", "", "", "/");
        add("8", ") R ", ") S ", "/");
        add("9", " 17 1 0 5 ", " 17 1 0 0 ", "/");
        add("10", "", "", "/batch/job");
        add("self", "", "", "/");
        let batch = folder.path().join("sys/cpu/batch");
        fs::create_dir_all(&batch).unwrap();
        fs::write(batch.join("cpu.idle"), "1").unwrap();
        fs::write(batch.join("cpuacct.usage"), "0").unwrap();
        let groups = super::super::idle::find(&folder.path().join("sys"), &[]);
        assert_eq!(groups.len(), 1);
        let found = find(folder.path(), &[], &groups);
        assert_eq!(found.iter().map(|task| task.pid).collect::<Vec<_>>(), [7]);
        assert_eq!(find(folder.path(), &[], &[]).len(), 2);
        fs::write(folder.path().join("7/stat"), LINE.replace(") R ", ") S ")).unwrap();
        let again = find(folder.path(), &found, &groups);
        assert!(Arc::ptr_eq(&found[0], &again[0]), "it stays open");
        assert_eq!(found[0].used(), Some((42.0 * 1e9 / ticks_per_second()) as u64));
    }
}
