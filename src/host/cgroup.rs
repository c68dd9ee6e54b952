//! Whether a CPU limit holds node-guardian back: cpu.stat of the nearest cgroup above or at our own that has one. Version
//! 2, version 1 and the mixture of both. Where no cgroup on the way up counts periods, nothing can hold us back: 0 %.

use std::path::{Path, PathBuf};

use super::counter::{Last, percent};
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

const WITHOUT: &str = "cpu.throttled_percent is unknown";

#[derive(Debug)]
pub struct Cgroup {
    limit: Limit,
    last: Last<Raw>,
}

#[derive(Debug)]
enum Limit {
    /// No cgroup above us counts periods.
    None,
    Counted(Kept),
    /// Where we are cannot be found out.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Raw {
    pub periods: u64,
    pub throttled: u64,
}

impl Cgroup {
    #[must_use]
    pub fn new(proc_root: &Path, sys_root: &Path, reader: &mut Reader) -> Self {
        let own = proc_root.join("self/cgroup");
        let limit = match std::fs::read(&own) {
            Ok(text) => find(&text, &sys_root.join("fs/cgroup")),
            Err(_) => Limit::Unknown,
        };
        if matches!(limit, Limit::Unknown) {
            reader.blind.note(&own.to_string_lossy(), &format!("our own cgroup cannot be found: {WITHOUT}"));
        }
        Self { limit, last: Last::default() }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let throttled = match &mut self.limit {
            Limit::None => Some(0.0),
            Limit::Unknown => None,
            Limit::Counted(kept) => {
                let raw = reader.take(kept, now, parse);
                self.last.step(now, raw, |before, now, _| derive(before, now)).flatten()
            }
        };
        sample.set(Metric::CpuThrottledPercent, throttled);
    }
}

/// Of cpu.stat. `None` where the CPU controller is not on for that cgroup.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Raw> {
    let (mut periods, mut throttled) = (None, None);
    for line in lines(bytes) {
        let mut words = fields(line);
        match words.next() {
            Some(b"nr_periods") => periods = words.number(),
            Some(b"nr_throttled") => throttled = words.number(),
            _ => {}
        }
    }
    Some(Raw { periods: periods?, throttled: throttled? })
}

/// A cgroup that had nothing to run had no period to be throttled in.
#[must_use]
pub fn derive(before: &Raw, now: &Raw) -> Option<f64> {
    let periods = now.periods.checked_sub(before.periods)?;
    let throttled = now.throttled.checked_sub(before.throttled)?;
    Some(percent(throttled as f64, periods as f64).unwrap_or(0.0))
}

fn find(own: &[u8], mounted: &Path) -> Limit {
    let mut seen = false;
    for (base, path) in places(own, mounted) {
        for folder in path.ancestors() {
            let file = base.join(folder).join("cpu.stat");
            let Ok(text) = std::fs::read(&file) else { continue };
            seen = true;
            if parse(&text).is_some() {
                return Limit::Counted(Kept::new(file, Shape::Whole, WITHOUT));
            }
        }
    }
    if seen { Limit::None } else { Limit::Unknown }
}

/// Where the hierarchies that may limit CPU are mounted, and our path in each.
fn places(own: &[u8], mounted: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut places = Vec::new();
    for line in lines(own).map(String::from_utf8_lossy) {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let bases: &[&str] = match controllers {
            "" => &["", "unified"],
            list if list.split(',').any(|name| name == "cpu") => &["cpu", "cpu,cpuacct"],
            _ => continue,
        };
        // What lies outside of our namespace, `/../..`, is not to be climbed to.
        let path = PathBuf::from(path.trim_start_matches('/').replace("..", "."));
        places.extend(bases.iter().map(|base| (mounted.join(base), path.clone())));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttled_periods() {
        let text = b"usage_usec 5\nnr_periods 40\nnr_throttled 10\nthrottled_usec 9\n";
        assert_eq!(parse(text), Some(Raw { periods: 40, throttled: 10 }));
        assert_eq!(parse(b"usage_usec 5\n"), None);
        let start = Raw::default();
        assert_eq!(derive(&start, &Raw { periods: 40, throttled: 10 }), Some(25.0));
        assert_eq!(derive(&start, &start), Some(0.0));
        assert_eq!(derive(&Raw { periods: 9, throttled: 0 }, &start), None);
    }

    #[test]
    fn the_nearest_cgroup_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str, text: &str| {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
            std::fs::write(folder.path().join(path).join("cpu.stat"), text).unwrap();
        };
        let own = b"12:devices:/x\n0::/system.slice/ng.service\n";
        assert!(matches!(find(own, folder.path()), Limit::Unknown));
        at("system.slice/ng.service", "usage_usec 1\n");
        assert!(matches!(find(own, folder.path()), Limit::None));
        at("system.slice", "nr_periods 1\nnr_throttled 0\n");
        match find(own, folder.path()) {
            Limit::Counted(kept) => assert_eq!(kept.path(), folder.path().join("system.slice/cpu.stat")),
            other => panic!("{other:?}"),
        }
        at("cpu,cpuacct/ng", "nr_periods 1\nnr_throttled 0\n");
        assert!(matches!(find(b"4:cpu,cpuacct:/ng\n", folder.path()), Limit::Counted(_)));
    }
}
