//! How far `memory.high` is lowered: to a share of the recent peak, but never below the floor, or below the memory that the
//! kernel cannot reclaim. A limit below that only stalls every process in the cgroup. Pure.

use crate::control::failure::Failure;
use crate::policy::mitigation::Amount;
use crate::policy::unit::Unit;

const MIB: u64 = 1 << 20;
pub const NO_LIMIT: &str = "max";

/// What a cgroup says about its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub current: u64,
    /// What the kernel could reclaim.
    pub reclaimable: u64,
}

impl Usage {
    /// `memory.stat`; with swap, programs' own memory can go there.
    pub fn of(current: u64, stat: &str, has_swap: bool) -> Self {
        let sum = |names: &[&str]| -> u64 { names.iter().filter_map(|name| field(stat, name)).sum() };
        let files = sum(&["active_file", "inactive_file", "slab_reclaimable"]);
        let programs = if has_swap { sum(&["active_anon", "inactive_anon"]) } else { 0 };
        Self { current, reclaimable: files.saturating_add(programs).min(current) }
    }
}

/// One number of a file of names and numbers.
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Of `/proc/meminfo`.
pub fn has_free_swap(meminfo: &str) -> bool {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("SwapFree:"));
    line.and_then(|rest| rest.split_whitespace().next()).is_some_and(|kib| kib != "0")
}

/// What `memory.high` is to be; `None` where the cgroup uses no more than the floor. `peak` is what a share is a share of.
///
/// # Errors
/// Where it is not told how far, or nothing there can be taken back.
pub fn goal(usage: Usage, peak: u64, floor: u64, amount: Amount) -> Result<Option<u64>, Failure> {
    let wanted = match amount {
        Amount::Bytes(bytes) => bytes,
        Amount::Keep(percent) => (peak as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64,
        Amount::Whole => {
            return Err(Failure::unsupported("how far to shrink the cgroup? write `to` as a size or percentage"));
        }
    };
    if usage.current <= floor {
        return Ok(None);
    }
    let held = usage.current - usage.reclaimable;
    // Whole pages, of whatever size.
    let goal = wanted.max(floor).max(held).next_multiple_of(MIB);
    if goal >= usage.current && wanted < usage.current {
        let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
        return Err(Failure::refused(format!(
            "the kernel can reclaim {} of its {}, so a limit would only stall it: throttle or freeze it",
            show(usage.reclaimable),
            show(usage.current)
        )));
    }
    Ok((goal < usage.current).then_some(goal))
}

/// The less, the stricter.
pub fn strictness(value: &str) -> Option<f64> {
    if value == NO_LIMIT {
        return Some(f64::NEG_INFINITY);
    }
    value.parse::<u64>().ok().map(|bytes| -(bytes as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "anon 300000000\nfile 500000000\ninactive_anon 100000000\nactive_anon 200000000\n\
                        inactive_file 300000000\nactive_file 200000000\nslab_reclaimable 1000000\n";
    const MANY: u64 = 900 * MIB;

    fn usage(reclaimable: u64) -> Usage {
        Usage { current: MANY, reclaimable }
    }

    #[test]
    fn files_can_be_taken_back_and_programs_memory_where_there_is_swap() {
        assert_eq!(Usage::of(MANY, STAT, false).reclaimable, 501_000_000);
        assert_eq!(Usage::of(MANY, STAT, true).reclaimable, 801_000_000);
        assert_eq!(Usage::of(MIB, STAT, true).reclaimable, MIB, "never more than there is");
        assert_eq!(Usage::of(MIB, "", false).reclaimable, 0);
        assert!(has_free_swap("SwapFree:   123 kB\n") && !has_free_swap("SwapFree:   0 kB\n") && !has_free_swap(""));
        assert_eq!((field(STAT, "file"), field(STAT, "fil")), (Some(500_000_000), None));
    }

    #[test]
    fn the_limit_comes_down_as_far_as_is_asked_and_as_there_is_something_to_take() {
        let goal = |reclaimable, amount| goal(usage(reclaimable), MANY, 64 * MIB, amount).unwrap();
        assert_eq!(goal(MANY, Amount::Keep(50.0)), Some(450 * MIB));
        assert_eq!(goal(MANY, Amount::Bytes(MIB)), Some(64 * MIB), "the floor");
        assert_eq!(goal(100 * MIB, Amount::Keep(50.0)), Some(800 * MIB), "the rest cannot be taken back");
        assert_eq!(goal(MANY, Amount::Bytes(2 * MANY)), None, "it uses less");
    }

    #[test]
    fn where_nothing_can_be_taken_back_nothing_is_done() {
        let refused = goal(usage(0), MANY, 64 * MIB, Amount::Keep(50.0)).unwrap_err();
        assert!(refused.detail.contains("can reclaim 0B of its 900.0MiB"), "{}", refused.detail);
        assert_eq!(goal(Usage { current: MIB, reclaimable: MIB }, MIB, 64 * MIB, Amount::Keep(50.0)).unwrap(), None);
        assert!(goal(usage(MANY), MANY, 0, Amount::Whole).is_err());
    }

    #[test]
    fn a_share_is_of_the_recent_peak() {
        let now = Usage { current: 500 * MIB, reclaimable: 500 * MIB };
        assert_eq!(goal(now, MANY, 0, Amount::Keep(50.0)).unwrap(), Some(450 * MIB));
    }

    #[test]
    fn less_is_stricter() {
        assert!(strictness("1000").unwrap() > strictness("2000").unwrap());
        assert!(strictness("2000").unwrap() > strictness("max").unwrap());
        assert_eq!(strictness("2000 1"), None);
    }
}
