//! Disks by mount point: rates and waiting times of the device below (/proc/diskstats), and how full it is, from the
//! slow thread. Two mounts on one device show the same rates.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::counter::{Last, TOLERANCE, jumped, rate};
use super::found::Mount;
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use super::slot::View;
use super::slow::Slow;
use super::thrift::{Thrift, thread_time};
use crate::policy::metric::{Family, Metric};
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

/// Of diskstats, whatever the device (Documentation/admin-guide/iostats.rst).
const SECTOR_BYTES: u64 = 512;

#[derive(Debug)]
pub(crate) struct Disks {
    stats: Kept,
    mounts: View<Vec<Arc<Mount>>>,
    names: Vec<String>,
    /// One per mount.
    rows: Vec<Row>,
    pub thrift: Thrift,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    device: Option<(u32, u32)>,
    read: Option<Raw>,
    last: Last<Raw>,
}

/// A line of /proc/diskstats. Kernels before 4.18 count no discards, before 5.5 no flushes; the partitions of those
/// before 2.6.25 have neither times nor queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Raw {
    /// Completed reads, writes, discards and flushes.
    pub requests: u64,
    /// Milliseconds that these took in sum.
    pub request_ms: Option<u64>,
    pub sectors_read: u64,
    pub sectors_written: u64,
    pub in_flight: Option<u64>,
    pub busy_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    pub read: Option<f64>,
    pub write: Option<f64>,
    pub busy_percent: Option<f64>,
    pub wait_seconds: Option<f64>,
}

impl Disks {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let without = "disk.read_rate, disk.write_rate, disk.busy_percent and disk.await are unknown";
        Self {
            stats: Kept::new(proc_root.join("diskstats"), Shape::Records, without),
            mounts: View::default(),
            names: Vec::new(),
            rows: Vec::new(),
            thrift: Thrift::default(),
        }
    }

    /// Follows mounts that came and went, and copies what the slow thread knows of them.
    pub(crate) fn sample_space(&mut self, slow: &Slow, sample: &mut Sample) {
        if self.mounts.refresh(&slow.shared().mounts) {
            self.follow();
        }
        sample.set_instances(Family::Disk, &self.names);
        let now_ms = slow.now_ms();
        for (row, mount) in self.mounts.value.iter().enumerate() {
            let age = mount.age(now_ms);
            if mount.can_fill() {
                let set = |sample: &mut Sample, metric, reading| {
                    sample.set_instance_read(metric, row, mount.recent(reading, now_ms), age);
                };
                set(sample, Metric::DiskUsedPercent, &mount.used_percent);
                set(sample, Metric::DiskFreeBytes, &mount.free_bytes);
                set(sample, Metric::DiskInodesUsedPercent, &mount.inodes_used_percent);
            } else {
                SPACE.iter().for_each(|metric| sample.set_inapplicable(*metric, row));
            }
            sample.set_instance_read(Metric::DiskReadOnly, row, mount.recent(&mount.read_only, now_ms), age);
        }
    }

    /// Derives rates since the last call; to be followed by [`Disks::sample_space`], which makes the rows.
    pub(crate) fn sample_rates(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        if !self.thrift.is_due(now) {
            return;
        }
        let before = thread_time();
        self.read_rates(now, reader, sample);
        self.thrift.spend(now, thread_time().saturating_sub(before));
    }

    fn read_rates(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let rows = &mut self.rows;
        rows.iter_mut().for_each(|row| row.read = None);
        let read = reader.take(&mut self.stats, now, |bytes| {
            parse(bytes, |device, raw| {
                for row in rows.iter_mut().filter(|row| row.device == Some(device)) {
                    row.read = Some(raw);
                }
            })
        });
        for (at, row) in self.rows.iter_mut().enumerate() {
            if read.is_some() && row.read.is_none() {
                // Nothing below this mount is counted as a device, as with overlay and zfs.
                RATES.iter().for_each(|metric| sample.set_inapplicable(*metric, at));
                continue;
            }
            let rates = row.last.step(now, row.read, derive);
            if rates == Some(None) {
                let name = self.names.get(at).map_or("", String::as_str);
                reader.blind.doubt(now, "counters of disks", || jumped("disk", name));
            }
            let rates = rates.flatten().unwrap_or_default();
            sample.set_instance(Metric::DiskReadRate, at, rates.read);
            sample.set_instance(Metric::DiskWriteRate, at, rates.write);
            sample.set_instance(Metric::DiskBusyPercent, at, rates.busy_percent);
            sample.set_instance(Metric::DiskAwait, at, rates.wait_seconds);
        }
    }

    fn follow(&mut self) {
        let row = |mount: &Arc<Mount>| {
            let kept = self.names.iter().position(|name| *name == mount.name).map(|at| self.rows[at]);
            let fresh = Row { device: mount.device, ..Row::default() };
            kept.filter(|row| row.device == mount.device).unwrap_or(fresh)
        };
        let rows = self.mounts.value.iter().map(row).collect();
        self.names = self.mounts.value.iter().map(|mount| mount.name.clone()).collect();
        self.rows = rows;
    }
}

const SPACE: [Metric; 3] = [Metric::DiskUsedPercent, Metric::DiskFreeBytes, Metric::DiskInodesUsedPercent];
const RATES: [Metric; 4] = [Metric::DiskReadRate, Metric::DiskWriteRate, Metric::DiskBusyPercent, Metric::DiskAwait];

/// Shows each device, by major and minor number, to `visit`. `None` where there are lines and none can be understood.
pub fn parse(bytes: &[u8], mut visit: impl FnMut((u32, u32), Raw)) -> Option<()> {
    let mut understood = bytes.is_empty();
    for line in lines(bytes) {
        if let Some((device, raw)) = parse_line(line) {
            understood = true;
            visit(device, raw);
        }
    }
    understood.then_some(())
}

fn parse_line(line: &[u8]) -> Option<((u32, u32), Raw)> {
    let mut words = fields(line);
    let device = (u32::try_from(words.number()?).ok()?, u32::try_from(words.number()?).ok()?);
    words.next()?;
    let mut columns = [None; 17];
    for (column, word) in columns.iter_mut().zip(&mut words) {
        *column = Some(super::scan::number(word)?);
    }
    let raw = match columns {
        [Some(reads), Some(read), Some(writes), Some(written), None, ..] => {
            Raw { requests: reads.checked_add(writes)?, sectors_read: read, sectors_written: written, ..Raw::default() }
        }
        [
            reads,
            _,
            read,
            reads_ms,
            writes,
            _,
            written,
            writes_ms,
            in_flight,
            busy_ms,
            _,
            discards,
            ..,
            discards_ms,
            flushes,
            flushes_ms,
        ] => {
            let sum = |parts: [Option<u64>; 4]| parts.into_iter().flatten().try_fold(0u64, u64::checked_add);
            Raw {
                requests: sum([reads, writes, discards, flushes])?,
                request_ms: Some(sum([reads_ms, writes_ms, discards_ms, flushes_ms])?),
                sectors_read: read?,
                sectors_written: written?,
                in_flight,
                busy_ms: Some(busy_ms?),
            }
        }
    };
    Some((device, raw))
}

/// A device that is busy cannot be so for longer than the time that passed: the clock that counts that is a little coarse,
/// and what is counted when a request ends began before.
const LATE: Duration = Duration::from_secs(1);

/// `None` where a counter went back or gained what it cannot have gained: another device has come in the place of this one,
/// or a counter of 32 bits is full. Then nothing is known of the others either.
///
/// A device without requests waits for none: 0, as iostat has it. One whose requests do not complete is unknown.
#[must_use]
pub fn derive(before: &Raw, now: &Raw, elapsed: Duration) -> Option<Rates> {
    let busy = before.busy_ms.zip(now.busy_ms).map(|(before, now)| rate(before, now, elapsed));
    let waited = before.request_ms.zip(now.request_ms).map(|(before, now)| now.checked_sub(before));
    let requests = now.requests.checked_sub(before.requests)?;
    if busy == Some(None) || waited == Some(None) {
        return None;
    }
    let busy_ms = busy.flatten();
    let most = TOLERANCE * (elapsed + LATE).as_secs_f64() / elapsed.as_secs_f64();
    if busy_ms.is_some_and(|busy| busy > most * 1000.0) {
        return None;
    }
    let bytes = |before: u64, now: u64| rate(before, now, elapsed).map(|sectors| sectors * SECTOR_BYTES as f64);
    let wait = || match requests {
        0 => (now.in_flight? == 0).then_some(0.0),
        requests => Some(waited.flatten()? as f64 / 1000.0 / requests as f64),
    };
    Some(Rates {
        read: Some(bytes(before.sectors_read, now.sectors_read)?),
        write: Some(bytes(before.sectors_written, now.sectors_written)?),
        // Milliseconds a second are tenths of a percent.
        busy_percent: busy_ms.map(|ms| (ms / 10.0).min(100.0)),
        wait_seconds: wait(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Option<((u32, u32), Raw)> {
        let mut found = None;
        parse(line.as_bytes(), |device, raw| found = Some((device, raw)));
        found
    }

    #[test]
    fn the_columns_of_every_kernel() {
        let common = Raw {
            requests: 100 + 300,
            request_ms: Some(10 + 20),
            sectors_read: 200,
            sectors_written: 400,
            in_flight: Some(2),
            busy_ms: Some(25),
        };
        let base = "254 0 vda 100 1 200 10 300 2 400 20 2 25 30";
        assert_eq!(only(&format!("{base}\n")), Some(((254, 0), common)));
        let with_discards = Raw { requests: 450, request_ms: Some(37), ..common };
        assert_eq!(only(&format!("{base} 50 3 60 7\n")).unwrap().1, with_discards);
        let with_flushes = Raw { requests: 455, request_ms: Some(40), ..common };
        assert_eq!(only(&format!("{base} 50 3 60 7 5 3\n")).unwrap().1, with_flushes);
        assert_eq!(only(&format!("{base} 50 3 60 7 5 3 9 9 9\n")).unwrap().1, with_flushes, "columns to come");
        let partition = Raw { requests: 4, sectors_read: 2, sectors_written: 4, ..Raw::default() };
        assert_eq!(only("3 1 hda1 1 2 3 4\n").unwrap().1, partition);
        assert_eq!(only("3 1 hda1 1 2 3\n"), None);
        assert_eq!(only("254 0 vda 1 2 3 4 5 6 x 8 9 10 11\n"), None);
        assert_eq!(parse(b"", |_, _| ()), Some(()), "no disks are no mistake");
        assert_eq!(parse(b"garbage\n", |_, _| ()), None);
    }

    #[test]
    fn rates_and_waiting() {
        let before =
            Raw { requests: 10, request_ms: Some(100), in_flight: Some(0), busy_ms: Some(50), ..Raw::default() };
        let now = Raw { requests: 14, request_ms: Some(140), sectors_read: 8, busy_ms: Some(550), ..before };
        let rates = derive(&before, &now, Duration::from_secs(2)).unwrap();
        assert_eq!((rates.read, rates.write), (Some(2048.0), Some(0.0)));
        assert_eq!((rates.busy_percent, rates.wait_seconds), (Some(25.0), Some(0.01)));
    }

    #[test]
    fn idle_waits_for_nothing_stuck_is_unknown_wrapped_is_missing() {
        let idle = Raw { request_ms: Some(1), in_flight: Some(0), busy_ms: Some(5), ..Raw::default() };
        let second = Duration::from_secs(1);
        assert_eq!(derive(&idle, &idle, second).unwrap().wait_seconds, Some(0.0));
        let stuck = Raw { in_flight: Some(1), busy_ms: Some(1005), ..idle };
        let rates = derive(&idle, &stuck, second).unwrap();
        assert_eq!((rates.wait_seconds, rates.busy_percent), (None, Some(100.0)));
        let full = Raw { busy_ms: Some(u64::from(u32::MAX)), ..idle };
        assert_eq!(derive(&full, &idle, second), None);
    }

    #[test]
    fn another_device_in_its_place_is_no_load() {
        let second = Duration::from_secs(1);
        let old =
            Raw { requests: 90, request_ms: Some(900), busy_ms: Some(500), sectors_written: 10, ..Raw::default() };
        let busier =
            Raw { requests: 9000, request_ms: Some(1000), busy_ms: Some(90_500), sectors_written: 9_000_000, ..old };
        assert_eq!(derive(&old, &busier, second), None, "ninety seconds of work in one");
        let younger = Raw { requests: 5, sectors_written: 4_000_000, ..old };
        assert_eq!(derive(&old, &younger, second), None, "what it wrote is not what was written since");
        let burst = Raw { busy_ms: Some(2400), ..old };
        assert_eq!(derive(&old, &burst, second).unwrap().busy_percent, Some(100.0), "one long request has ended");
    }
}
