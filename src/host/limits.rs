//! Memory, CPU and tasks of the cgroup that counts, where it may have less of them than the node has. After the node's own
//! readings, which stay where the cgroup has no limit: then the node's end is the one that comes first.
//!
//! Version 2: memory.{max,high,current,stat,events}, cpu.{max,stat}, pids.{max,current}. Version 1: memory.{limit_in_bytes,
//! usage_in_bytes,stat}, cpu.cfs_{quota,period}_us, cpuacct.usage, pids.{max,current}.

use std::fs;
use std::path::PathBuf;

use super::counter::{Last, TOLERANCE, percent, rate};
use super::group::{Group, cpus, parse_cpu_max, parse_limit, parse_quota};
use super::hierarchy::Version;
use super::kept::{Kept, Reader, Scope, Shape};
use super::place::Place;
use super::scan::{fields, lines, number};
use super::usage::parse_usage;
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

const MEMORY: &str = "memory.used_percent, memory.available_percent and memory.available_bytes are unknown";
const CPU: &str = "cpu.used_percent is unknown";
const TASKS: &str = "processes.used_percent is the node's alone";

/// More than all CPUs together in the same time is impossible, but for what was counted late.
const LATE_CPUS: f64 = 1.0;
const JUMPED: &str = "the cgroup's CPU time gained more than the CPUs can give: unknown for that sample";

#[derive(Debug, Default)]
pub(crate) struct Limits {
    memory: Option<Memory>,
    kills: Option<Kept>,
    cpu: Option<Cpu>,
    tasks: Option<Tasks>,
}

#[derive(Debug)]
struct Memory {
    limits: Vec<Kept>,
    used: Kept,
    stat: Kept,
    told: Option<u64>,
    /// At the last full sample.
    allowed: Option<u64>,
}

#[derive(Debug)]
struct Cpu {
    quota: Kept,
    /// Version 1 keeps it in a file of its own.
    period: Option<Kept>,
    used: Kept,
    version: Version,
    told: Option<f64>,
    last: Last<u64>,
}

#[derive(Debug)]
struct Tasks {
    limit: Kept,
    used: Kept,
}

impl Limits {
    #[must_use]
    pub fn new(place: &Place) -> Self {
        let cpu = place.cpu.as_ref().zip(place.cpu_time.as_ref());
        Self {
            memory: place.memory.as_ref().map(|group| Memory::new(group, place.told_memory_bytes)),
            kills: place.memory.as_ref().and_then(kills),
            cpu: cpu.map(|(group, time)| Cpu::new(group, time, place.told_cpus)),
            tasks: place.tasks.as_ref().map(Tasks::new),
        }
    }

    /// At the fastest pace too; after the node's memory.
    pub(crate) fn sample_memory(&mut self, now: Moment, scope: Scope, reader: &mut Reader, sample: &mut Sample) {
        if let Some(memory) = &mut self.memory {
            memory.sample(now, scope, reader, sample);
        }
    }

    /// After the node's CPU; `online` is how many CPUs there are to use.
    pub(crate) fn sample_rates(&mut self, now: Moment, online: Option<u32>, reader: &mut Reader, sample: &mut Sample) {
        if let Some(cpu) = &mut self.cpu {
            cpu.sample(now, online, reader, sample);
        }
        if let Some(kills) = &mut self.kills {
            let count = reader.take(kills, now, parse_kills);
            sample.set(Metric::MemoryOomKills, count.map(|count| count as f64));
        }
    }

    /// After the node's tasks: whichever is nearer to its end.
    pub(crate) fn sample_tasks(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let Some(tasks) = &mut self.tasks else { return };
        let Some(Some(limit)) = reader.take(&mut tasks.limit, now, parse_limit) else { return };
        let Some(Some(used)) = reader.take(&mut tasks.used, now, parse_limit) else { return };
        let ours = percent(used as f64, limit as f64);
        let nodes = sample.get(Metric::ProcessesUsedPercent);
        sample.set(Metric::ProcessesUsedPercent, [ours, nodes].into_iter().flatten().reduce(f64::max));
    }
}

impl Memory {
    fn new(group: &Group, told: Option<u64>) -> Self {
        let kept = |name: &str| Kept::new(group.folder.join(name), Shape::Whole, MEMORY);
        let (limits, used) = match group.version {
            Version::Two => (vec![kept("memory.max"), kept("memory.high")], kept("memory.current")),
            Version::One => (vec![kept("memory.limit_in_bytes")], kept("memory.usage_in_bytes")),
        };
        // The root has no such files, and no limits.
        let limits = limits.into_iter().filter(|file| file.path().exists()).collect();
        Self { limits, used, stat: kept("memory.stat"), told, allowed: None }
    }

    fn sample(&mut self, now: Moment, scope: Scope, reader: &mut Reader, sample: &mut Sample) {
        if scope == Scope::Full {
            let mut allowed = self.told;
            for file in &mut self.limits {
                let limit = reader.take(file, now, parse_limit).flatten();
                allowed = [allowed, limit].into_iter().flatten().min();
            }
            self.allowed = allowed;
        }
        let nodes = sample.get(Metric::MemoryAvailableBytes).zip(sample.get(Metric::MemoryAvailablePercent));
        let Some(allowed) = self.allowed.map(|bytes| bytes as f64) else { return };
        if nodes.is_some_and(|(bytes, percent)| percent > 0.0 && 100.0 * bytes / percent <= allowed) {
            return;
        }
        let used = reader.take(&mut self.used, now, parse_limit).flatten();
        let reclaimable = reader.take(&mut self.stat, now, parse_reclaimable);
        let room = used.zip(reclaimable).map(|(used, spare)| available(allowed, used, spare));
        let room = room.map(|room| nodes.map_or(room, |(bytes, _)| room.min(bytes)));
        let share = room.and_then(|room| percent(room, allowed));
        sample.set(Metric::MemoryAvailableBytes, room);
        sample.set(Metric::MemoryAvailablePercent, share);
        sample.set(Metric::MemoryUsedPercent, share.map(|share| 100.0 - share));
    }
}

impl Cpu {
    fn new(group: &Group, time: &Group, told: Option<f64>) -> Self {
        let kept = |group: &Group, name: &str| Kept::new(group.folder.join(name), Shape::Whole, CPU);
        let (quota, period, used) = match group.version {
            Version::Two => (kept(group, "cpu.max"), None, kept(time, "cpu.stat")),
            Version::One => {
                let period = kept(group, "cpu.cfs_period_us");
                (kept(group, "cpu.cfs_quota_us"), Some(period), kept(time, "cpuacct.usage"))
            }
        };
        Self { quota, period, used, version: group.version, told, last: Last::default() }
    }

    fn sample(&mut self, now: Moment, online: Option<u32>, reader: &mut Reader, sample: &mut Sample) {
        let quota = match &mut self.period {
            _ if !self.quota.path().exists() => None,
            None => reader.take(&mut self.quota, now, parse_cpu_max).flatten(),
            Some(period) => {
                let period = reader.take(period, now, parse_limit).flatten();
                reader.take(&mut self.quota, now, parse_quota).flatten().zip(period).and_then(|(q, p)| cpus(q, p))
            }
        };
        let nodes = online.map_or(f64::INFINITY, f64::from);
        let allowed = [quota, self.told].into_iter().flatten().reduce(f64::min).filter(|cpus| *cpus < nodes);
        let Some(allowed) = allowed else {
            self.last = Last::default();
            return;
        };
        let nanoseconds = match self.version {
            Version::Two => reader.take(&mut self.used, now, parse_usage),
            Version::One => reader.take(&mut self.used, now, parse_limit).flatten(),
        };
        let used = self.last.step(now, nanoseconds, |before, now, elapsed| rate(*before, *now, elapsed)).flatten();
        let used = used.map(|used| used / 1e9);
        if used.is_some_and(|used| used > nodes * TOLERANCE + LATE_CPUS) {
            reader.blind.doubt(now, "cpu.used_percent", || JUMPED.to_owned());
        }
        let used = used.filter(|used| *used <= nodes * TOLERANCE + LATE_CPUS);
        sample.set(Metric::CpuUsedPercent, used.and_then(|used| percent(used, allowed)));
    }
}

impl Tasks {
    fn new(group: &Group) -> Self {
        let kept = |name: &str| Kept::new(group.folder.join(name), Shape::Whole, TASKS);
        Self { limit: kept("pids.max"), used: kept("pids.current") }
    }
}

/// Version 2 alone: the count of version 1 leaves out the cgroups below.
fn kills(group: &Group) -> Option<Kept> {
    let path = group.folder.join("memory.events");
    let counts = fs::read(&path).ok().and_then(|text| parse_kills(&text)).is_some();
    counts.then(|| Kept::new(path, Shape::Whole, "memory.oom_kills is unknown"))
}

/// As MemAvailable counts it: page cache and reclaimable slab are given back before anybody is killed. So it is more than
/// the limit less the kubelet's working set, which counts the active half of the page cache as used.
#[must_use]
pub fn available(allowed: f64, used: u64, reclaimable: u64) -> f64 {
    (allowed - used.saturating_sub(reclaimable) as f64).max(0.0)
}

/// Bytes of memory.stat that the kernel takes back when it must. Version 1 has those of the cgroups below as `total_…`.
#[must_use]
pub fn parse_reclaimable(bytes: &[u8]) -> Option<u64> {
    let (mut own, mut total) = (None, None);
    for line in lines(bytes) {
        let mut words = fields(line);
        let sum = match words.next() {
            Some(b"active_file" | b"inactive_file" | b"slab_reclaimable") => &mut own,
            Some(b"total_active_file" | b"total_inactive_file") => &mut total,
            _ => continue,
        };
        *sum = Some(words.number()?.saturating_add(sum.unwrap_or(0)));
    }
    total.or(own)
}

/// Of memory.events.
#[must_use]
pub fn parse_kills(bytes: &[u8]) -> Option<u64> {
    let line = lines(bytes).find_map(|line| line.strip_prefix(b"oom_kill "))?;
    number(fields(line).next()?)
}

/// Whether pressure of the cgroup can be read: version 2, where the kernel counts it.
#[must_use]
pub(crate) fn pressure_folder(place: &Place) -> Option<PathBuf> {
    let group = place.memory.as_ref().filter(|group| group.version == Version::Two)?;
    fs::read(group.folder.join("memory.pressure")).is_ok().then(|| group.folder.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_and_what_comes_back() {
        assert_eq!(parse_kills(b"low 0\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        let two = b"anon 9\nfile 70\ninactive_anon 9\nactive_file 20\ninactive_file 40\nslab_reclaimable 5\n";
        assert_eq!(parse_reclaimable(two), Some(65));
        let one = b"cache 70\nactive_file 1\ninactive_file 2\ntotal_active_file 30\ntotal_inactive_file 40\n";
        assert_eq!(parse_reclaimable(one), Some(70));
        assert_eq!(parse_reclaimable(b"anon 9\n"), None);
        assert_eq!((available(100.0, 90, 30), available(100.0, 150, 30), available(9.0, 1, 5)), (40.0, 0.0, 9.0));
    }
}
