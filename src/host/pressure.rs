//! Pressure stall information: /proc/pressure/{cpu,io,memory}, or {cpu,io,memory}.pressure of the cgroup that counts. Kernels before 4.20, those booted without `psi=1` and some
//! containers have none; cpu has no `full` line before 5.13.

use std::path::Path;
use std::time::Duration;

use super::counter::{Stamped, TOLERANCE, percent};
use super::kept::{Kept, Reader, Shape};
use super::scan::{decimal, fields, lines, number};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub struct Pressure {
    cpu: Kept,
    waiting: Waiting,
    tells_cpu: bool,
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
            waiting: Waiting::default(),
            tells_cpu: false,
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
        self.tells_cpu = cpu.is_some();
        if let Some(raw) = cpu {
            let waiting = self.waiting.push(now, raw.some.total);
            if waiting == Some(Waited::Impossible) {
                reader.blind.doubt(now, "cpu.waiting_percent", || DOUBT.to_owned());
            }
            sample.set(Metric::CpuWaitingPercent, waiting.and_then(Waited::percent));
        } else {
            self.waiting = Waiting::default();
        }
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

impl Pressure {
    /// Whether the kernel counts who waits for a CPU.
    #[must_use]
    pub(crate) const fn tells_cpu(&self) -> bool {
        self.tells_cpu
    }
}

/// The share of the last second, from the total of the kernel, whose own shortest average takes 10 s to follow.
#[derive(Debug, Default)]
struct Waiting {
    from: Option<Stamped<u64>>,
    next: Option<Stamped<u64>>,
}

impl Waiting {
    /// A reading is measured from for as long as there is none that is half a second old: so over 0.5 to 1 s at a fast pace,
    /// and from sample to sample at a calm one.
    const LEAST: Duration = Duration::from_millis(500);

    fn push(&mut self, at: Moment, raw: u64) -> Option<Waited> {
        let age = |stamped: &Stamped<u64>| at.since(stamped.at);
        if self.next.is_some_and(|next| age(&next) >= Self::LEAST) {
            self.from = self.next.take();
        }
        self.next = self.next.or(Some(Stamped { at, raw }));
        let from = self.from?;
        let Some(microseconds) = raw.checked_sub(from.raw) else {
            *self = Self { from: None, next: Some(Stamped { at, raw }) };
            return Some(Waited::Impossible);
        };
        let (waited, passed) = (microseconds as f64 / 1e6, age(&from).as_secs_f64());
        // A total that outruns the time is not believed.
        if waited > passed * TOLERANCE + 0.05 {
            return Some(Waited::Impossible);
        }
        percent(waited, passed).map(Waited::Percent)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Waited {
    Percent(f64),
    Impossible,
}

impl Waited {
    const fn percent(self) -> Option<f64> {
        match self {
            Self::Percent(percent) => Some(percent),
            Self::Impossible => None,
        }
    }
}

const DOUBT: &str = "the total of /proc/pressure/cpu went back, or gained more than the time that passed";

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
    fn who_waits_is_known_within_a_second() {
        let mut waiting = Waiting::default();
        let mut push = |milliseconds: u64, total_ms: u64| {
            let share = waiting.push(Moment::at(Duration::from_millis(milliseconds)), total_ms * 1000);
            share.and_then(Waited::percent).map(f64::round)
        };
        assert_eq!(push(1000, 10), None);
        assert_eq!(push(2000, 10), Some(0.0));
        // From here on somebody waits all the time, at a fast pace.
        assert_eq!(push(2100, 110), Some(9.0));
        let shares: Vec<f64> = (3..=12).filter_map(|tenth| push(2000 + tenth * 100, 10 + tenth * 100)).collect();
        assert!(shares.is_sorted() && shares[4] > 80.0, "{shares:?}");
        assert_eq!(shares.last(), Some(&100.0));
        assert_eq!(push(4000, 5), None, "a reset");
        assert_eq!(push(5000, 505), Some(50.0));
        assert_eq!(push(6000, 1555), Some(100.0), "no more than all of it");
        assert_eq!(push(7000, 6000), None, "that cannot be");
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
