//! Whether a CPU limit holds us back: cpu.stat of the cgroup that counts, else of the nearest one above or at our own that
//! counts periods. Where no cgroup on the way up does, nothing can hold us back: 0 %.

use std::path::Path;

use super::counter::{Last, percent};
use super::group::Group;
use super::hierarchy::lineage;
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

const STAT: &str = "cpu.stat";
const WITHOUT: &str = "cpu.throttled_percent is unknown";

#[derive(Debug)]
pub(crate) struct Cgroup {
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
    pub fn new(proc_root: &Path, sys_root: &Path, judged: Option<&Group>, reader: &mut Reader) -> Self {
        let own = proc_root.join("self/cgroup");
        let limit = match (judged.and_then(|group| counted(&group.folder)), std::fs::read(&own)) {
            (Some(limit), _) => limit,
            (None, Ok(text)) => find(&text, &sys_root.join("fs/cgroup")),
            (None, Err(_)) => Limit::Unknown,
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
    let Some(lineage) = lineage(own, mounted, "cpu") else { return Limit::Unknown };
    let seen = lineage.folders.iter().any(|folder| folder.join(STAT).exists());
    let found = lineage.folders.iter().find_map(|folder| counted(folder));
    found.unwrap_or(if seen { Limit::None } else { Limit::Unknown })
}

fn counted(folder: &Path) -> Option<Limit> {
    let file = folder.join(STAT);
    let counts = std::fs::read(&file).is_ok_and(|text| parse(&text).is_some());
    counts.then(|| Limit::Counted(Kept::new(file, Shape::Whole, WITHOUT)))
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
