//! Resident memory of a service's process, as the kernel counts it: what a service claims to have freed often stays with
//! its allocator. These files of /proc need no lock of the process that is looked at, so reading them never waits for it.

use std::sync::OnceLock;

use nix::unistd::{SysconfVar, sysconf};

use crate::policy::unit::Unit;

/// Less than this is what a resident set moves by anyway.
pub const NOISE_BYTES: i64 = 1 << 20;

/// Who a process is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    pub name: String,
    pub parent: u32,
    /// Clock ticks after the boot: with the boot, no two processes of one id share it.
    pub started_ticks: u64,
}

/// `None` where the process cannot be seen.
#[must_use]
pub fn life(pid: u32) -> Option<Life> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Bytes, or `None` where the process cannot be seen.
#[must_use]
pub fn bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_bytes())
}

/// Seconds of the wall clock, as it is now.
#[must_use]
pub fn started_unix(pid: u32) -> Option<u64> {
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok())?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + life(pid)?.started_ticks.checked_div(ticks_per_second)?)
}

/// How much less it is, and `resident 431 MiB → 134 MiB`.
#[must_use]
pub fn compared(before: u64, after: u64) -> (i64, String) {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    (signed(before) - signed(after), format!("resident {} → {}", show(before), show(after)))
}

fn parse_stat(stat: &str) -> Option<Life> {
    // The name may hold anything, also parentheses (proc(5)).
    let (front, rest) = stat.rsplit_once(") ")?;
    let (_, name) = front.split_once(" (")?;
    let mut fields = rest.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    // Field 22; the state is field 3.
    let started_ticks = fields.nth(17)?.parse().ok()?;
    Some(Life { name: name.to_owned(), parent, started_ticks })
}

fn page_bytes() -> u64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    *PAGE.get_or_init(|| {
        let read = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        read.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let tail = "1 2 3 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 4 0 987654 1 2";
        let life = parse_stat(&format!("42 (a) (b) ) S {tail}")).unwrap();
        assert_eq!((life.name.as_str(), life.parent, life.started_ticks), ("a) (b) ", 1, 987_654));
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn our_own_memory_can_be_read() {
        let me = std::process::id();
        assert!(bytes(me).unwrap() > 1 << 20);
        assert!(life(me).unwrap().started_ticks > 0);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(started_unix(me).unwrap().abs_diff(now) < 3600);
        assert_eq!((life(0), bytes(0)), (None, None));
    }
}
