//! Swapping and the kernel's own kills: /proc/vmstat. Making that file is the dearest of all reads, and what is wanted
//! of it stands in its first page on every kernel seen so far, so only that page is read while that holds.

use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};

use super::counter::{Last, rate};
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub(crate) struct Paging {
    vmstat: Kept,
    last: Last<u64>,
    page_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Raw {
    pub swapped_in_pages: Option<u64>,
    /// Since Linux 4.13.
    pub oom_kills: Option<u64>,
}

impl Paging {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let without = "memory.swap_in_rate and memory.oom_kills are unknown";
        let vmstat = Kept::new(proc_root.join("vmstat"), Shape::FirstPage, without);
        Self { vmstat, last: Last::default(), page_bytes: page_bytes() }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let mut raw = reader.take(&mut self.vmstat, now, parse);
        let complete = |raw: &Raw| raw.swapped_in_pages.is_some() && raw.oom_kills.is_some();
        if self.vmstat.shape() == Shape::FirstPage && !raw.as_ref().is_some_and(complete) {
            self.vmstat.reshape(Shape::Records);
            raw = reader.take(&mut self.vmstat, now, parse);
        }
        let bytes = raw.and_then(|raw| raw.swapped_in_pages).and_then(|pages| pages.checked_mul(self.page_bytes));
        let swap_in = self.last.step(now, bytes, |before, now, elapsed| rate(*before, *now, elapsed)).flatten();
        sample.set(Metric::MemorySwapInRate, swap_in);
        sample.set(Metric::MemoryOomKills, raw.and_then(|raw| raw.oom_kills).map(|kills| kills as f64));
    }
}

#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Raw> {
    let mut raw = Raw::default();
    for line in lines(bytes) {
        match line {
            [b'p', b's', b'w', b'p', b'i', b'n', b' ', ..] => raw.swapped_in_pages = value(line),
            [b'o', b'o', b'm', b'_', b'k', b'i', b'l', b'l', b' ', ..] => raw.oom_kills = value(line),
            _ => {}
        }
    }
    (raw != Raw::default()).then_some(raw)
}

fn value(line: &[u8]) -> Option<u64> {
    let mut words = fields(line);
    words.next()?;
    words.number()
}

/// Bytes of a page of memory; 4096 where the system does not say.
#[must_use]
pub(crate) fn page_bytes() -> u64 {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_in_and_killed() {
        let text = b"nr_free_pages 1\npgpgin 9\npswpin 17\npswpout 3\noom_kill 2\noom_kill_x 5\n";
        assert_eq!(parse(text), Some(Raw { swapped_in_pages: Some(17), oom_kills: Some(2) }));
        assert_eq!(parse(b"pswpin 17\npswpout 3\n"), Some(Raw { swapped_in_pages: Some(17), oom_kills: None }));
        assert_eq!(parse(b"nr_free_pages 1\n"), None);
    }

    #[test]
    fn what_stands_beyond_the_first_page_is_found_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from("pswpin 1\n");
        for line in 0..400 {
            text.push_str(&format!("nr_something_{line} 0\n"));
        }
        text.push_str("oom_kill 3\n");
        std::fs::write(folder.path().join("vmstat"), text).unwrap();
        let (mut paging, mut sample) = (Paging::new(folder.path()), Sample::default());
        paging.sample(Moment::ORIGIN, &mut Reader::default(), &mut sample);
        assert_eq!(sample.get(Metric::MemoryOomKills), Some(3.0));
    }
}
