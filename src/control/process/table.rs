//! What `/proc` says about a process or a thread. Only files that take no lock of its memory: a thrashing process can hold
//! that for seconds, and whoever reads its `cmdline` or `maps` meanwhile waits with it. Parsing is pure.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};

/// Deeper and wider than any service: what is larger is not told apart from a mistake.
pub const MOST_PROCESSES: usize = 4096;
/// `PF_KTHREAD` of the kernel's include/linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// `/proc/PID/stat`; one read, so that all of it is about one life of the pid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    pub command: String,
    pub state: u8,
    pub parent: i32,
    /// Who began it, and has its number: nobody else gets that while any of it is alive.
    pub session: i32,
    pub is_kernel: bool,
    pub nice: i32,
    /// In user mode and in the kernel's, in clock ticks.
    pub cpu_ticks: u64,
    /// Clock ticks since the node started: with the pid and the boot, this names one life of it.
    pub start: u64,
}

/// `/proc/PID/status`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    pub uid: u32,
    /// Its pid as it sees it itself, in the innermost namespace.
    pub inner_pid: i32,
    pub pending: u64,
    pub blocked: u64,
    pub ignored: u64,
    pub caught: u64,
}

impl Stat {
    /// Dead, and only still in the table.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    pub const fn is_stopped(&self) -> bool {
        matches!(self.state, b'T')
    }

    /// Held by whoever traces it, such as strace or gdb.
    pub const fn is_traced(&self) -> bool {
        matches!(self.state, b't')
    }

    /// As `ps -o comm` calls it. The kernel keeps 15 bytes; servers that name themselves write `gunicorn: master`.
    pub fn is_called(&self, command: &str) -> bool {
        let kept = command.get(..15).unwrap_or(command);
        self.command == kept || self.command.strip_prefix(command).is_some_and(|rest| rest.starts_with(':'))
    }
}

/// A mask of `/proc/PID/status` has bit 0 for signal 1.
pub const fn has(mask: u64, signal: i32) -> bool {
    signal > 0 && mask & (1 << (signal - 1)) != 0
}

/// Of a process. Where its main thread has ended and others go on, it does what they do.
pub fn stat(pid: i32) -> Option<Stat> {
    let stat = parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
    let state = if stat.is_over() { living(pid).map(|(_, thread)| thread.state) } else { None };
    Some(Stat { state: state.unwrap_or(stat.state), ..stat })
}

/// Any thread of it that has not ended.
fn living(pid: i32) -> Option<(i32, Stat)> {
    let all = threads(pid).into_iter().filter_map(|id| Some((id, thread_stat(pid, id)?)));
    { all }.find(|(_, stat)| !stat.is_over())
}

pub fn thread_stat(pid: i32, thread: i32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/task/{thread}/stat")).ok()?)
}

pub fn status(pid: i32) -> Option<Status> {
    parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

pub fn threads(pid: i32) -> Vec<i32> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What the process holds of the node's memory. `None` where it is gone.
pub fn resident(pid: i32) -> Option<u64> {
    let pages = |file: String| fs::read_to_string(file).ok()?.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    // A main thread that has ended holds nothing; the others may.
    let of_another = || pages(format!("/proc/{pid}/task/{}/statm", living(pid)?.0));
    let pages = match pages(format!("/proc/{pid}/statm"))? {
        0 => of_another().unwrap_or(0),
        pages => pages,
    };
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    Some(pages * page.unwrap_or(4096))
}

/// One life of a process.
pub type Life = (i32, u64);

pub fn lives(pids: &[i32]) -> Vec<Life> {
    pids.iter().filter_map(|pid| Some((*pid, stat(*pid)?.start))).collect()
}

/// What these lives hold together: what was started since is not theirs, and who has ended holds nothing.
pub fn held(lives: &[Life]) -> u64 {
    let is_there = |life: &&Life| stat(life.0).is_some_and(|stat| stat.start == life.1 && !stat.is_over());
    lives.iter().filter(is_there).filter_map(|life| resident(life.0)).sum()
}

/// Seconds of CPU time that these lives have used together.
pub fn cpu_seconds(lives: &[Life]) -> Option<f64> {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let used = |life: &Life| Some(stat(life.0).filter(|stat| stat.start == life.1)?.cpu_ticks);
    Some(lives.iter().filter_map(used).sum::<u64>() as f64 / per_second as f64)
}

/// Those that it has started and that are not over.
///
/// # Errors
/// Where the kernel does not list them.
pub fn children(pid: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for thread in threads(pid) {
        let file = format!("/proc/{pid}/task/{thread}/children");
        match fs::read_to_string(&file) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self/task").exists() => {
                // The thread has ended, unless the kernel was built without these files.
                if !Path::new(&format!("/proc/self/task/{}/children", std::process::id())).exists() {
                    return Err(error);
                }
            }
            // ESRCH: it ended while we read.
            Err(_) => {}
        }
    }
    Ok(found)
}

/// The process and all that descend from it, parents first.
///
/// # Errors
/// Where the kernel does not list them, or they are more than can be told apart from a mistake.
pub fn tree(pid: i32) -> io::Result<Vec<i32>> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        for child in children(next)? {
            if !found.contains(&child) {
                found.push(child);
            }
            if found.len() > MOST_PROCESSES {
                return Err(io::Error::other(format!("more than {MOST_PROCESSES} processes")));
            }
        }
        at += 1;
    }
    Ok(found)
}

/// Those that descend from whoever began this session, also once it has ended. None where it began none.
pub fn session(pid: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_of_it = |other: &i32| stat(*other).is_some_and(|stat| stat.session == pid && !stat.is_over());
    pids.filter(is_of_it).take(MOST_PROCESSES).collect()
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    // The name may hold spaces and brackets: it ends at the last one.
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let command = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        command,
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        is_kernel: number(6)? & KERNEL_THREAD != 0,
        nice: fields.get(16)?.parse().ok()?,
        cpu_ticks: number(11)?.checked_add(number(12)?)?,
        start: number(19)?,
    })
}

fn parse_status(text: &str) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let mask = |name: &str| u64::from_str_radix(field(name)?.trim(), 16).ok();
    let pid = |name: &str| field(name)?.split_ascii_whitespace().last()?.parse().ok();
    Some(Status {
        // Real, effective, saved, of the file system: the effective one counts.
        uid: field("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        inner_pid: pid("NSpid").or_else(|| pid("Pid"))?,
        pending: mask("SigPnd")? | mask("ShdPnd")?,
        blocked: mask("SigBlk")?,
        ignored: mask("SigIgn")?,
        caught: mask("SigCgt")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = b"77 (a) R 1 (b) S 5 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 -3 1 0 123456 99 9\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.command.as_str(), stat.state, stat.parent), ("a) R 1 (b", b'S', 5));
        assert_eq!((stat.nice, stat.start, stat.is_kernel), (-3, 123_456, false));
        assert_eq!(stat.cpu_ticks, 5 + 6);
        let kernel = parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 4 0 0").unwrap();
        assert!(kernel.is_kernel);
        for cut in ["", "77", "77 (a", "77 (a) S 5 77", ") 77 ("] {
            assert_eq!(parse_stat(cut.as_bytes()), None, "{cut:?}");
        }
    }

    #[test]
    fn a_server_that_names_itself_is_known_by_its_first_word() {
        let called = |command: &str| Stat { command: command.into(), ..stat(1).unwrap() };
        assert!(called("gunicorn").is_called("gunicorn"));
        assert!(called("gunicorn: maste").is_called("gunicorn"));
        assert!(called("a-name-of-more-").is_called("a-name-of-more-than-15"));
        assert!(!called("gunicorn2").is_called("gunicorn"));
    }

    #[test]
    fn signals_are_found_in_their_masks() {
        let text = "Pid:\t7\nUid:\t0\t33\t0\t0\nNSpid:\t7\t1\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000200000\n\
                    SigBlk:\t0008000000000000\nSigIgn:\t0000000001001000\nSigCgt:\t0000000000000004\n";
        let status = parse_status(text).unwrap();
        assert_eq!((status.uid, status.inner_pid), (33, 1));
        assert!(has(status.pending, libc::SIGTTOU) && has(status.caught, libc::SIGQUIT) && has(status.blocked, 52));
        assert_eq!(parse_status("Pid:\t7\n"), None);
    }

    #[test]
    fn we_are_told_apart_from_whom_we_started() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat = stat(own).unwrap();
        assert!(!stat.is_over() && stat.start > 0);
        assert!(threads(own).len() > 1 && resident(own).unwrap() > 500_000);
        assert_eq!(tree(own).unwrap()[0], own);
    }
}
