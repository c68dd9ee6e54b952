//! What node-guardian itself takes: its CPU clock, and /proc/self/statm. How long a tick took is the loop's to say.

use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::counter::Last;
use super::kept::{Kept, Reader, Shape};
use super::paging::page_bytes;
use super::scan::{fields, lines, number};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub struct Guardian {
    statm: Kept,
    last: Last<Duration>,
    page_bytes: u64,
}

impl Guardian {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let statm = Kept::new(proc_root.join("self/statm"), Shape::Whole, "guardian.resident_bytes is unknown");
        Self { statm, last: Last::default(), page_bytes: page_bytes() }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let spent = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok().map(Duration::from);
        let share = self.last.step(now, spent, derive).flatten();
        sample.set(Metric::GuardianCpuPercent, share);
        let pages = reader.take(&mut self.statm, now, parse);
        let resident = pages.and_then(|pages| pages.checked_mul(self.page_bytes));
        sample.set(Metric::GuardianResidentBytes, resident.map(|bytes| bytes as f64));
    }
}

/// Resident pages.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<u64> {
    number(fields(lines(bytes).next()?).nth(1)?)
}

/// Of one core, so several threads may take more than 100 %.
fn derive(before: &Duration, now: &Duration, elapsed: Duration) -> Option<f64> {
    let spent = now.checked_sub(*before)?;
    (!elapsed.is_zero()).then(|| 100.0 * spent.as_secs_f64() / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_pages() {
        assert_eq!(parse(b"765 410 382 5 0 123 0\n"), Some(410));
        assert_eq!(parse(b"765\n"), None);
    }

    #[test]
    fn the_share_of_a_core() {
        let ms = Duration::from_millis;
        assert_eq!(derive(&ms(10), &ms(60), ms(1000)).map(f64::round), Some(5.0));
        assert_eq!(derive(&ms(0), &ms(1500), ms(1000)).map(f64::round), Some(150.0));
        assert_eq!(derive(&ms(60), &ms(10), ms(1000)), None);
    }
}
