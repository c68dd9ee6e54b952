//! A controller's files of one cgroup, and the limits that stand in them.

use std::fs;
use std::path::PathBuf;

use super::cpuset::CpuSet;
use super::hierarchy::Version;
use super::scan::{fields, lines, number};

/// Where version 1 writes "no limit": the largest multiple of a page, and what rounds to it.
const UNLIMITED: u64 = i64::MAX as u64 / 2;

/// Where a controller's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub version: Version,
    pub folder: PathBuf,
}

/// Bytes; the smaller of what is enforced and what is throttled at.
#[must_use]
pub(crate) fn memory_allowed(group: &Group) -> Option<u64> {
    let read = |name: &str| fs::read(group.folder.join(name)).ok().and_then(|text| parse_limit(&text)).flatten();
    match group.version {
        Version::Two => [read("memory.max"), read("memory.high")].into_iter().flatten().min(),
        Version::One => read("memory.limit_in_bytes"),
    }
}

#[must_use]
pub(crate) fn cpus_allowed(group: &Group) -> Option<f64> {
    let read = |name: &str| fs::read(group.folder.join(name)).ok();
    match group.version {
        Version::Two => read("cpu.max").and_then(|text| parse_cpu_max(&text)).flatten(),
        Version::One => {
            let quota = read("cpu.cfs_quota_us").and_then(|text| parse_quota(&text)).flatten()?;
            cpus(quota, read("cpu.cfs_period_us").and_then(|text| parse_limit(&text)).flatten()?)
        }
    }
}

#[must_use]
pub(crate) fn tasks_allowed(group: &Group) -> Option<u64> {
    fs::read(group.folder.join("pids.max")).ok().and_then(|text| parse_limit(&text)).flatten()
}

/// A number alone, or `max`: `Some(None)` is no limit.
#[must_use]
pub fn parse_limit(bytes: &[u8]) -> Option<Option<u64>> {
    let word = fields(lines(bytes).next()?).next()?;
    match word {
        b"max" => Some(None),
        digits => number(digits).map(|limit| Some(limit).filter(|limit| *limit < UNLIMITED)),
    }
}

/// `150000 100000`, `max 100000`.
#[must_use]
pub fn parse_cpu_max(bytes: &[u8]) -> Option<Option<f64>> {
    let mut words = fields(lines(bytes).next()?);
    let quota = words.next()?;
    let period = words.number()?;
    match quota {
        b"max" => Some(None),
        digits => cpus(number(digits)?, period).map(Some),
    }
}

/// Of cpu.cfs_quota_us: -1 is none.
#[must_use]
pub fn parse_quota(bytes: &[u8]) -> Option<Option<u64>> {
    let word = fields(lines(bytes).next()?).next()?;
    if word == b"-1" { Some(None) } else { number(word).map(Some) }
}

/// The file that says on which CPUs the group may run, and how many these are.
#[must_use]
pub(crate) fn pinned(group: &Group) -> Option<(PathBuf, u32)> {
    let names: &[&str] = match group.version {
        Version::Two => &["cpuset.cpus.effective"],
        Version::One => &["cpuset.effective_cpus", "cpuset.cpus"],
    };
    names.iter().find_map(|name| {
        let path = group.folder.join(name);
        let cpus = CpuSet::parse(&fs::read(&path).ok()?)?.count();
        Some((path, cpus))
    })
}

pub(crate) fn cpus(quota: u64, period: u64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_they_are_written() {
        assert_eq!(parse_limit(b"536870912\n"), Some(Some(536_870_912)));
        assert_eq!((parse_limit(b"max\n"), parse_limit(b"9223372036854771712\n")), (Some(None), Some(None)));
        assert_eq!((parse_limit(b"\n"), parse_limit(b"-1\n"), parse_limit(b"12")), (None, None, None));
        assert_eq!(parse_cpu_max(b"150000 100000\n"), Some(Some(1.5)));
        assert_eq!((parse_cpu_max(b"max 100000\n"), parse_cpu_max(b"5 0\n")), (Some(None), None));
        assert_eq!((parse_quota(b"-1\n"), parse_quota(b"50000\n")), (Some(None), Some(Some(50_000))));
    }
}
