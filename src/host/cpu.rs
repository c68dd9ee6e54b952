//! CPU time and load: /proc/stat and /proc/loadavg. Percentages are of all cores together, since the last reading; the
//! reading after a CPU came or went is missing, because the kernel's sums jump then.

use std::path::Path;

use super::counter::{Last, percent};
use super::kept::{Kept, Reader, Shape};
use super::scan::{decimal, fields, lines, number};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub struct Cpu {
    stat: Kept,
    last: Last<Times>,
    online: Option<u32>,
}

/// Clock ticks since boot, of all CPUs. Guest time is part of user time and not counted again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// user, nice, system, irq, softirq: what nobody can call waiting.
    pub busy: u64,
    pub idle: u64,
    /// Since Linux 2.5.41.
    pub iowait: Option<u64>,
    /// Since Linux 2.6.11.
    pub steal: Option<u64>,
    pub online: u32,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Shares {
    pub used: Option<f64>,
    pub iowait: Option<f64>,
    pub steal: Option<f64>,
}

impl Cpu {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let without = "cpu.used_percent, cpu.iowait_percent, cpu.steal_percent and cpu.load1_per_core are unknown";
        Self { stat: Kept::new(proc_root.join("stat"), Shape::Whole, without), last: Last::default(), online: None }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let times = reader.take(&mut self.stat, now, parse);
        self.online = times.map(|times| times.online).filter(|online| *online > 0);
        let shares = self.last.step(now, times, |before, now, _| derive(before, now)).unwrap_or_default();
        sample.set(Metric::CpuUsedPercent, shares.used);
        sample.set(Metric::CpuIowaitPercent, shares.iowait);
        sample.set(Metric::CpuStealPercent, shares.steal);
    }

    /// CPUs online at the last reading.
    #[must_use]
    pub fn online(&self) -> Option<u32> {
        self.online
    }
}

/// Of /proc/stat: the line of all CPUs, and how many lines of single CPUs follow it.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Times> {
    let mut lines = lines(bytes);
    let mut words = fields(lines.next()?);
    (words.next()? == b"cpu").then_some(())?;
    let [user, nice, system, idle] = [words.number()?, words.number()?, words.number()?, words.number()?];
    let iowait = words.number();
    let interrupts = [words.number(), words.number()].into_iter().flatten().try_fold(0u64, u64::checked_add)?;
    let steal = words.number();
    let busy = [user, nice, system, interrupts].into_iter().try_fold(0u64, u64::checked_add)?;
    let mut online = 0u32;
    for _ in lines.take_while(|line| line.starts_with(b"cpu")) {
        online = online.saturating_add(1);
    }
    Some(Times { busy, idle, iowait, steal, online })
}

/// Idle and iowait may go back a little by the kernel's own account (proc(5)); then they stood still. Anything else that
/// goes back is a reset.
#[must_use]
pub fn derive(before: &Times, now: &Times) -> Shares {
    if before.online != now.online {
        return Shares::default();
    }
    let stood = |before: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(before?) as f64);
    let went = |before: u64, now: u64| Some(now.checked_sub(before)? as f64);
    let steal = before.steal.zip(now.steal).and_then(|(before, now)| went(before, now));
    let steal_is_sound = before.steal.is_none() || now.steal.is_none() || steal.is_some();
    let (Some(busy), true) = (went(before.busy, now.busy), steal_is_sound) else {
        return Shares::default();
    };
    let idle = stood(Some(before.idle), Some(now.idle)).unwrap_or(0.0);
    let iowait = stood(before.iowait, now.iowait);
    let busy = busy + steal.unwrap_or(0.0);
    let total = busy + idle + iowait.unwrap_or(0.0);
    let share = |part: Option<f64>| percent(part?, total);
    Shares { used: share(Some(busy)), iowait: share(iowait), steal: share(steal) }
}

/// /proc/loadavg: load of the last minute, and how many tasks exist.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    pub one_minute: f64,
    pub tasks: u64,
}

#[must_use]
pub fn parse_load(bytes: &[u8]) -> Option<Load> {
    let mut words = fields(lines(bytes).next()?);
    let one_minute = decimal(words.next()?)?;
    let of_tasks = words.nth(2)?;
    let slash = of_tasks.iter().position(|byte| *byte == b'/')?;
    Some(Load { one_minute, tasks: number(&of_tasks[slash + 1..])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: &[u8] =
        b"cpu  100 10 50 800 40 5 5 20 7 0\ncpu0 50 5 25 400 20 2 3 10 7 0\ncpu1 50 5 25 400 20 3 2 10 0 0\nintr 5 0\n";

    #[test]
    fn all_cpus_and_their_number() {
        let times = Times { busy: 170, idle: 800, iowait: Some(40), steal: Some(20), online: 2 };
        assert_eq!(parse(MODERN), Some(times));
        let old = Times { busy: 6, idle: 4, iowait: None, steal: None, online: 1 };
        assert_eq!(parse(b"cpu 1 2 3 4\ncpu0 1 2 3 4\n"), Some(old));
        for broken in [&b""[..], b"cpu\n", b"cpu 1 2 3\n", b"intr 1 2 3 4\n", b"cpu 1 2 3 4"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn shares_of_what_passed() {
        let before = Times { busy: 100, idle: 800, iowait: Some(40), steal: Some(0), online: 2 };
        let now = Times { busy: 150, idle: 820, iowait: Some(60), steal: Some(10), online: 2 };
        let shares = derive(&before, &now);
        assert_eq!((shares.used, shares.iowait, shares.steal), (Some(60.0), Some(20.0), Some(10.0)));
    }

    #[test]
    fn iowait_may_step_back_but_nothing_else() {
        let before = Times { busy: 100, idle: 800, iowait: Some(40), steal: Some(0), online: 2 };
        let now = Times { busy: 150, idle: 850, iowait: Some(39), ..before };
        assert_eq!(derive(&before, &now).used, Some(50.0));
        assert_eq!(derive(&before, &now).iowait, Some(0.0));
        assert_eq!(derive(&now, &before), Shares::default());
        assert_eq!(derive(&before, &Times { online: 3, ..now }), Shares::default());
        assert_eq!(derive(&before, &before).used, None, "no time has passed");
    }

    #[test]
    fn load_and_tasks() {
        assert_eq!(parse_load(b"0.52 0.06 0.07 1/88 6821\n"), Some(Load { one_minute: 0.52, tasks: 88 }));
        assert_eq!(parse_load(b"0.52 0.06 0.07 188 6821\n"), None);
    }
}
