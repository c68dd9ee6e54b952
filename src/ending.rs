//! A killed process that waits for a disk ends when the disk answers, which may be never. Until then it keeps its locks
//! and sockets, and does nothing. A caller that needs those asks here whether the holder is such a process. Never says
//! so of a process that can still act.

use std::fs;

/// As a bit of the signals that are pending.
const SIGKILL: u64 = 1 << 8;

/// Whether it was killed, or its first thread has ended and another one cannot.
#[must_use]
pub(crate) fn is_ending(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| tells_an_end(&status))
}

fn tells_an_end(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let is_killed = |pending: &str| u64::from_str_radix(pending, 16).is_ok_and(|signals| signals & SIGKILL != 0);
    field("State").is_some_and(|state| state.starts_with(['Z', 'X']))
        || ["SigPnd", "ShdPnd"].into_iter().filter_map(field).any(is_killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_killed_is_told_from_who_waits() {
        let status = |state: &str, own: &str, shared: &str| {
            tells_an_end(&format!(
                "Name:\tState: Z\nState:\t{state}\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0100\n"
            ))
        };
        let (none, killed) = ("0000000000000000", "0000000000000100");
        assert!(!status("D (disk sleep)", none, none) && !status("S (sleeping)", "0000000000004000", none));
        assert!(status("D (disk sleep)", killed, none) && status("D (disk sleep)", none, killed));
        assert!(status("Z (zombie)", none, none));
    }
}
