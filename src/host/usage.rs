//! What a group or a process used of the CPUs.

use nix::unistd::{SysconfVar, sysconf};

use super::scan::{fields, lines, number};

/// Nanoseconds, of cpu.stat, less those of niced work where the kernel tells them apart (since Linux 6.13).
#[must_use]
pub fn parse_usage(bytes: &[u8]) -> Option<u64> {
    let value = |name: &[u8]| number(fields(lines(bytes).find_map(|line| line.strip_prefix(name))?).next()?);
    let nice = value(b"nice_usec ").unwrap_or(0);
    value(b"usage_usec ")?.saturating_sub(nice).checked_mul(1000)
}

/// In which /proc/stat counts; 100 where the system does not say.
pub(crate) fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn niced_work_is_left_out() {
        assert_eq!(parse_usage(b"usage_usec 1500\nuser_usec 7\n"), Some(1_500_000));
        assert_eq!(parse_usage(b"usage_usec 1500\nuser_usec 1200\nnice_usec 1100\n"), Some(400_000));
    }
}
