//! Tasks and open files: /proc/loadavg and /proc/sys/fs/file-nr. Counting processes means listing /proc, which is for
//! the slow thread; in a container with its own processes that count is the container's, the number of tasks the node's.

use std::path::Path;

use super::counter::percent;
use super::cpu;
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use super::shared::Shared;
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub(crate) struct Processes {
    loadavg: Kept,
    file_nr: Kept,
    waiting: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Files {
    pub open: u64,
    pub limit: u64,
}

impl Processes {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let load = "cpu.load1_per_core, threads and processes.used_percent are unknown";
        Self {
            loadavg: Kept::new(proc_root.join("loadavg"), Shape::Whole, load),
            file_nr: Kept::new(proc_root.join("sys/fs/file-nr"), Shape::Whole, "files.used_percent is unknown"),
            waiting: None,
        }
    }

    /// `online` is the number of CPUs that share the load.
    pub fn sample(&mut self, now: Moment, online: Option<u32>, reader: &mut Reader, sample: &mut Sample) {
        let load = reader.take(&mut self.loadavg, now, cpu::parse_load);
        let per_core = load.zip(online).map(|(load, online)| load.one_minute / f64::from(online));
        sample.set(Metric::CpuLoad1PerCore, per_core);
        self.waiting = load.zip(online).and_then(|(load, online)| cpu::waiting(load, online));
        sample.set(Metric::Threads, load.map(|load| load.tasks as f64));
        let files = reader.take(&mut self.file_nr, now, parse_files);
        let used = files.and_then(|files| percent(files.open as f64, files.limit as f64));
        sample.set(Metric::FilesUsedPercent, used);
    }

    /// An estimate of cpu.waiting_percent, at the last reading.
    #[must_use]
    pub(crate) const fn waiting(&self) -> Option<f64> {
        self.waiting
    }

    /// Copies what the slow thread knows; after [`Processes::sample`].
    pub(crate) fn sample_table(shared: &Shared, sample: &mut Sample) {
        let tasks = sample.get(Metric::Threads);
        let used = tasks.zip(shared.task_limit.get()).and_then(|(tasks, limit)| percent(tasks, limit));
        sample.set(Metric::ProcessesUsedPercent, used);
        sample.set(Metric::ProcessesCount, shared.processes.get());
    }
}

/// Allocated, allocated but unused (0 since Linux 2.6), limit.
#[must_use]
pub fn parse_files(bytes: &[u8]) -> Option<Files> {
    let mut words = fields(lines(bytes).next()?);
    let (allocated, unused, limit) = (words.number()?, words.number()?, words.number()?);
    Some(Files { open: allocated.checked_sub(unused)?, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files() {
        assert_eq!(parse_files(b"485\t5\t2466177\n"), Some(Files { open: 480, limit: 2_466_177 }));
        assert_eq!(parse_files(b"485\t500\t2466177\n"), None);
        assert_eq!(parse_files(b"485\t0\n"), None);
        let unlimited = parse_files(b"485\t0\t9223372036854775807\n").unwrap();
        assert_eq!(percent(unlimited.open as f64, unlimited.limit as f64).map(f64::round), Some(0.0));
    }
}
