//! Pressure stall information: /proc/pressure/{cpu,io,memory}, or {cpu,io,memory}.pressure of the cgroup that counts. Kernels before 4.20, those booted without `psi=1` and some
//! containers have none; cpu has no `full` line before 5.13.

use std::path::Path;

use super::kept::{Kept, Reader, Shape};
use super::scan::{decimal, fields, lines, number};
pub use super::trigger::Triggers;
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub struct Pressure {
    cpu: Kept,
    io: Kept,
    memory: Kept,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Line {
    /// Percent of the last 10 s.
    pub avg10: f64,
    /// Percent of the last 60 s.
    pub avg60: f64,
    /// Microseconds since boot.
    pub total: u64,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Raw {
    pub some: Line,
    pub full: Option<Line>,
}

impl Pressure {
    #[must_use]
    pub fn new(proc_root: &Path, cgroup: Option<&Path>) -> Self {
        let path = |name: &str| match cgroup {
            Some(folder) => folder.join(format!("{name}.pressure")),
            None => proc_root.join("pressure").join(name),
        };
        let kept = |name: &str, without| Kept::new(path(name), Shape::Whole, without);
        Self {
            cpu: kept("cpu", "cpu.pressure is unknown; it needs Linux 4.20 and psi=1 on the kernel's command line"),
            io: kept("io", "disk.pressure is unknown; it needs Linux 4.20 and psi=1 on the kernel's command line"),
            memory: kept(
                "memory",
                "memory.pressure is unknown; it needs Linux 4.20 and psi=1 on the kernel's command line",
            ),
        }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let cpu = reader.take(&mut self.cpu, now, parse);
        set(sample, cpu.map(|raw| raw.some), [Metric::CpuPressureSomeAvg10, Metric::CpuPressureSomeAvg60]);
        let io = reader.take(&mut self.io, now, parse);
        set(sample, io.map(|raw| raw.some), [Metric::DiskPressureSomeAvg10, Metric::DiskPressureSomeAvg60]);
        set(sample, io.and_then(|raw| raw.full), [Metric::DiskPressureFullAvg10, Metric::DiskPressureFullAvg60]);
        let memory = reader.take(&mut self.memory, now, parse);
        let full = memory.and_then(|raw| raw.full);
        set(sample, memory.map(|raw| raw.some), [Metric::MemoryPressureSomeAvg10, Metric::MemoryPressureSomeAvg60]);
        set(sample, full, [Metric::MemoryPressureFullAvg10, Metric::MemoryPressureFullAvg60]);
    }
}

fn set(sample: &mut Sample, line: Option<Line>, [avg10, avg60]: [Metric; 2]) {
    sample.set(avg10, line.map(|line| line.avg10));
    sample.set(avg60, line.map(|line| line.avg60));
}

#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Raw> {
    let (mut some, mut full) = (None, None);
    for line in lines(bytes) {
        let mut words = fields(line);
        match words.next()? {
            b"some" => some = parse_line(words),
            b"full" => full = parse_line(words),
            _ => {}
        }
    }
    Some(Raw { some: some?, full })
}

fn parse_line<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Line> {
    let avg10 = share(words.next()?.strip_prefix(b"avg10=")?)?;
    let avg60 = share(words.next()?.strip_prefix(b"avg60=")?)?;
    words.next()?.strip_prefix(b"avg300=")?;
    let total = number(words.next()?.strip_prefix(b"total=")?)?;
    Some(Line { avg10, avg60, total })
}

/// More than all of the time is no share.
fn share(text: &[u8]) -> Option<f64> {
    decimal(text).filter(|percent| *percent <= 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_and_full() {
        let text =
            b"some avg10=1.53 avg60=0.62 avg300=0.52 total=16996471\nfull avg10=0.50 avg60=0.10 avg300=0.00 total=7\n";
        let raw = parse(text).unwrap();
        assert_eq!(raw.some, Line { avg10: 1.53, avg60: 0.62, total: 16_996_471 });
        assert_eq!(raw.full.map(|full| full.avg10), Some(0.5));
    }

    #[test]
    fn cpu_of_old_kernels_has_no_full_line() {
        assert_eq!(parse(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n").map(|raw| raw.full), Some(None));
    }

    #[test]
    fn nonsense_is_nothing() {
        let nonsense = [
            &b""[..],
            b"\n",
            b"full avg10=0.50 avg60=0.10 avg300=0.00 total=7\n",
            b"some avg10=nan avg60=0.10 avg300=0.00 total=7\n",
            b"some avg10=101.00 avg60=0.10 avg300=0.00 total=7\n",
            b"some avg10=0.50 avg60=0.10 avg300=0.00 total=7",
        ];
        for text in nonsense {
            assert_eq!(parse(text), None);
        }
    }
}
