//! CPU time and load: /proc/stat and /proc/loadavg. Percentages are of all cores together, since the last reading; the
//! reading after a CPU came or went is missing, because the kernel's sums jump then. Counters that gained more than the
//! time that passed are not believed: a hypervisor's steal time may run away, for ever.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counter::{Last, TOLERANCE, percent};
use super::cpuset::CpuSet;
use super::idle::{Group, Idle};
use super::idle_tasks::Task;
use super::kept::{Kept, Reader, Shape};
use super::scan::{Fields, decimal, fields, lines, number};
use super::shared::Shared;
use super::usage::ticks_per_second;
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub(crate) struct Cpu {
    stat: Kept,
    /// Lists the CPUs that count; without it all do.
    usable: Option<Kept>,
    last: Last<Times>,
    online: Option<u32>,
    counted: Option<u32>,
    idle_groups: Idle<Group>,
    idle_tasks: Idle<Task>,
    ticks_per_second: f64,
}

/// Clock ticks since boot, of all CPUs. Guest time is part of user time and not counted again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// user, system, irq, softirq: what nobody can call waiting.
    pub busy: u64,
    /// User time of niced tasks, guests among them: they make way for all others. What groups and processes of the idle class
    /// use is among `busy` and taken off it afterwards.
    pub nice: u64,
    pub idle: u64,
    /// Since Linux 2.5.41.
    pub iowait: Option<u64>,
    /// Since Linux 2.6.11.
    pub steal: Option<u64>,
    pub online: u32,
    /// Of those that are online, whose time this is.
    pub counted: u32,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Shares {
    pub used: Option<f64>,
    pub nice: Option<f64>,
    pub iowait: Option<f64>,
    pub steal: Option<f64>,
    pub doubt: Option<Doubt>,
}

/// Which counters gained what they cannot have gained in the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    Steal,
    All,
}

/// From here on it matters whose work it is.
const BUSY_PERCENT: f64 = 50.0;

const STEAL: &str = "its counter went back, or gained more than the time that passed: cpu.used_percent leaves it out";
const ALL: &str = "the counters of /proc/stat do not fit the time that passed, as after a suspend: CPU time is \
                   unknown for such a sample";

impl Shares {
    /// What makes way for all others, and was booked as if it did not.
    fn without(self, idle: f64) -> Self {
        let Some(used) = self.used else { return self };
        let idle = idle.min(used);
        Self { used: Some(used - idle), nice: self.nice.map(|nice| nice + idle), ..self }
    }
}

impl Cpu {
    #[must_use]
    pub fn new(proc_root: &Path, cpuset: Option<&Path>) -> Self {
        let without = "cpu.used_percent, cpu.iowait_percent, cpu.steal_percent and cpu.load1_per_core are unknown";
        let all = "all CPUs count, not only those that may be used";
        Self {
            stat: Kept::new(proc_root.join("stat"), Shape::Whole, without),
            usable: cpuset.map(|path| Kept::new(path.to_owned(), Shape::Whole, all)),
            last: Last::default(),
            online: None,
            counted: None,
            idle_groups: Idle::default(),
            idle_tasks: Idle::default(),
            ticks_per_second: ticks_per_second(),
        }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader, shared: &Shared, sample: &mut Sample) {
        let usable = self.usable.as_mut().and_then(|usable| reader.take(usable, now, CpuSet::parse));
        let times = reader.take(&mut self.stat, now, |bytes| parse_of(bytes, usable.as_ref()));
        self.online = times.map(|times| times.online).filter(|online| *online > 0);
        self.counted = times.map(|times| times.counted).filter(|counted| *counted > 0);
        let ticks = |elapsed: Duration| elapsed.as_secs_f64() * self.ticks_per_second;
        let shares = self.last.step(now, times, |before, now, elapsed| derive(before, now, ticks(elapsed)));
        let shares = shares.unwrap_or_default();
        shared.is_busy.store(shares.used.is_some_and(|used| used >= BUSY_PERCENT), Ordering::Relaxed);
        let cpus = self.counted.unwrap_or(0);
        let idle = self.idle_groups.share(now, &shared.idle_groups, cpus)
            + self.idle_tasks.share(now, &shared.idle_tasks, cpus);
        let shares = shares.without(idle);
        match shares.doubt {
            Some(Doubt::Steal) => reader.blind.doubt(now, "cpu.steal_percent", || STEAL.to_owned()),
            Some(Doubt::All) => reader.blind.doubt(now, "cpu.used_percent", || ALL.to_owned()),
            None => {}
        }
        sample.set(Metric::CpuUsedPercent, shares.used);
        sample.set(Metric::CpuNicePercent, shares.nice);
        sample.set(Metric::CpuIowaitPercent, shares.iowait);
        sample.set(Metric::CpuStealPercent, shares.steal);
    }

    /// CPUs online at the last reading.
    #[must_use]
    pub(crate) fn online(&self) -> Option<u32> {
        self.online
    }

    /// Of those, how many may be used.
    #[must_use]
    pub(crate) fn counted(&self) -> Option<u32> {
        self.counted
    }
}

/// Of /proc/stat: the line of all CPUs.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Times> {
    parse_of(bytes, None)
}

/// The sum of those that may be used, where they are a part of them.
fn parse_of(bytes: &[u8], usable: Option<&CpuSet>) -> Option<Times> {
    let mut lines = lines(bytes);
    let all = parse_line(lines.next()?.strip_prefix(b"cpu ")?)?;
    let (mut ours, mut online) = (Times::default(), 0u32);
    for line in lines.map_while(|line| line.strip_prefix(b"cpu")) {
        online = online.saturating_add(1);
        if let Some(usable) = usable
            && usable.has(number(fields(line).next()?)?)
        {
            let mut words = fields(line);
            words.next();
            ours = ours.plus(parse_words(words)?);
        }
    }
    match (usable, ours.counted) {
        (Some(_), 1..) if ours.counted < online => Some(Times { online, ..ours }),
        (Some(_) | None, _) => Some(Times { online, counted: online, ..all }),
    }
}

fn parse_line(line: &[u8]) -> Option<Times> {
    parse_words(fields(line))
}

fn parse_words(mut words: Fields<'_>) -> Option<Times> {
    let [user, nice, system, idle] = [words.number()?, words.number()?, words.number()?, words.number()?];
    let iowait = words.number();
    let interrupts = [words.number(), words.number()].into_iter().flatten().try_fold(0u64, u64::checked_add)?;
    let steal = words.number();
    let busy = [user, system, interrupts].into_iter().try_fold(0u64, u64::checked_add)?;
    Some(Times { busy, nice, idle, iowait, steal, online: 0, counted: 1 })
}

impl Times {
    fn plus(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| a.xor(b).or(a.zip(b).map(|(a, b)| a.saturating_add(b)));
        Self {
            busy: self.busy.saturating_add(other.busy),
            nice: self.nice.saturating_add(other.nice),
            idle: self.idle.saturating_add(other.idle),
            iowait: sum(self.iowait, other.iowait),
            steal: sum(self.steal, other.steal),
            online: self.online,
            counted: self.counted.saturating_add(other.counted),
        }
    }
}

/// Ticks of each CPU that may belong to the time before.
const LATE_TICKS: f64 = 4.0;
/// So much of the time must be accounted for. A guest that its hypervisor keeps waiting without a word loses ticks.
const LEAST: f64 = 0.25;
/// The same where the idle time went back, so that some of it is certainly wrong.
const LEAST_AFTER_A_STEP_BACK: f64 = 0.5;

/// In `ticks`, which each CPU had since the reading before. Idle and iowait may go back a little by the kernel's own account
/// (proc(5)); then they stood still. Anything else that goes back is a reset.
#[must_use]
pub fn derive(before: &Times, now: &Times, ticks: f64) -> Shares {
    if (before.online, before.counted) != (now.online, now.counted) {
        return Shares::default();
    }
    let went = |before: u64, now: u64| Some(now.checked_sub(before)? as f64);
    let doubtful = Shares { doubt: Some(Doubt::All), ..Shares::default() };
    let (Some(busy), Some(nice)) = (went(before.busy, now.busy), went(before.nice, now.nice)) else {
        return doubtful;
    };
    let idle = now.idle.saturating_sub(before.idle) as f64;
    let iowait = before.iowait.zip(now.iowait).map(|(before, now)| now.saturating_sub(before) as f64);
    let ours = busy + nice + idle + iowait.unwrap_or(0.0);
    let bound = |share: f64, late: f64| (ticks * share + late) * f64::from(now.counted.max(1));
    let most = bound(TOLERANCE, LATE_TICKS);
    // Steal alone may be what cannot be; what the CPUs did for us is known all the same.
    let counted = before.steal.zip(now.steal);
    let steal = counted.and_then(|(before, now)| went(before, now)).filter(|steal| ours + steal <= most);
    let total = ours + steal.unwrap_or(0.0);
    let least = if now.idle < before.idle { LEAST_AFTER_A_STEP_BACK } else { LEAST };
    if ours > most || (total > 0.0 && total < bound(least, -LATE_TICKS)) {
        return doubtful;
    }
    let share = |part: Option<f64>| percent(part?, total);
    Shares {
        used: share(Some(busy + steal.unwrap_or(0.0))),
        nice: share(Some(nice)),
        iowait: share(iowait),
        steal: share(steal),
        doubt: (counted.is_some() && steal.is_none()).then_some(Doubt::Steal),
    }
}

/// /proc/loadavg: load of the last minute, and how many tasks want to run and exist.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    pub one_minute: f64,
    /// On a CPU or waiting for one, at this moment.
    pub runnable: u64,
    pub tasks: u64,
}

#[must_use]
pub fn parse_load(bytes: &[u8]) -> Option<Load> {
    let mut words = fields(lines(bytes).next()?);
    let one_minute = decimal(words.next()?)?;
    let of_tasks = words.nth(2)?;
    let slash = of_tasks.iter().position(|byte| *byte == b'/')?;
    let (runnable, tasks) = (number(&of_tasks[..slash])?, number(&of_tasks[slash + 1..])?);
    Some(Load { one_minute, runnable, tasks })
}

/// What pressure would be, where the kernel does not count it: of two tasks per CPU one waits all the time. One of those
/// that run is we who ask.
#[must_use]
pub fn waiting(load: Load, online: u32) -> Option<f64> {
    percent(load.runnable.saturating_sub(1 + u64::from(online)) as f64, f64::from(online))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: &[u8] =
        b"cpu  100 10 50 800 40 5 5 20 7 0\ncpu0 50 5 25 400 20 2 3 10 7 0\ncpu1 50 5 25 400 20 3 2 10 0 0\nintr 5 0\n";

    const BEFORE: Times =
        Times { busy: 100, nice: 0, idle: 800, iowait: Some(40), steal: Some(0), online: 2, counted: 2 };

    #[test]
    fn all_cpus_and_their_number() {
        let times = Times { busy: 160, nice: 10, idle: 800, iowait: Some(40), steal: Some(20), online: 2, counted: 2 };
        assert_eq!(parse(MODERN), Some(times));
        let old = Times { busy: 4, nice: 2, idle: 4, iowait: None, steal: None, online: 1, counted: 1 };
        assert_eq!(parse(b"cpu 1 2 3 4\ncpu0 1 2 3 4\n"), Some(old));
        for broken in [&b""[..], b"cpu\n", b"cpu 1 2 3\n", b"intr 1 2 3 4\n", b"cpu 1 2 3 4"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn of_pinned_cpus_only_their_own_time_counts() {
        let of = |list: &[u8]| parse_of(MODERN, CpuSet::parse(list).as_ref()).unwrap();
        let second = Times { busy: 80, nice: 5, idle: 400, iowait: Some(20), steal: Some(10), online: 2, counted: 1 };
        assert_eq!(of(b"1\n"), second);
        assert_eq!((of(b"0-1\n").counted, of(b"0-1\n").busy), (2, 160));
        assert_eq!(of(b"40-41\n").counted, 2, "they are shown by other numbers (lxcfs)");
        let all_busy = Times { busy: 180, ..second };
        assert_eq!(derive(&second, &all_busy, 100.0).used, Some(100.0));
    }

    #[test]
    fn shares_of_what_passed() {
        let now = Times { busy: 150, nice: 10, idle: 810, iowait: Some(60), steal: Some(10), ..BEFORE };
        let shares = derive(&BEFORE, &now, 50.0);
        assert_eq!((shares.used, shares.iowait, shares.steal), (Some(60.0), Some(20.0), Some(10.0)));
        assert_eq!(shares.nice, Some(10.0), "it is nobody's trouble");
    }

    #[test]
    fn iowait_may_step_back_but_nothing_else() {
        let now = Times { busy: 150, idle: 850, iowait: Some(39), ..BEFORE };
        assert_eq!(derive(&BEFORE, &now, 50.0).used, Some(50.0));
        assert_eq!(derive(&BEFORE, &now, 50.0).iowait, Some(0.0));
        assert_eq!(derive(&now, &BEFORE, 50.0).used, None);
        assert_eq!(derive(&BEFORE, &Times { online: 3, ..now }, 50.0), Shares::default());
        assert_eq!(derive(&BEFORE, &BEFORE, 50.0).used, None, "no time has passed");
    }

    #[test]
    fn a_counter_that_outruns_the_time_is_not_believed() {
        // Two idle CPUs for a second, and a steal counter that runs at twice their time.
        let idle = Times { busy: 104, idle: 990, ..BEFORE };
        let shares = derive(&BEFORE, &Times { steal: Some(400), ..idle }, 100.0);
        assert_eq!((shares.used.map(f64::round), shares.steal), (Some(2.0), None));
        let shares = derive(&Times { steal: Some(500), ..BEFORE }, &Times { steal: Some(3), ..idle }, 100.0);
        assert_eq!((shares.used.map(f64::round), shares.steal), (Some(2.0), None), "it went backwards");
        assert_eq!(shares.doubt, Some(Doubt::Steal));
        for (busy, nice, idle) in [(1100, 0, 800), (100, 1000, 800), (100, 0, 1800)] {
            let shares = derive(&BEFORE, &Times { busy, nice, idle, ..BEFORE }, 100.0);
            assert_eq!(shares, Shares { doubt: Some(Doubt::All), ..Shares::default() });
        }
        let stolen = Times { busy: 150, idle: 810, steal: Some(140), ..BEFORE };
        assert_eq!(derive(&BEFORE, &stolen, 100.0).steal, Some(70.0), "it may be true");
    }

    #[test]
    fn an_idle_counter_that_jumps_back_does_not_make_an_idle_guest_busy() {
        // Four ticks of work in a second of two CPUs, after a suspend that cost the idle time of one of them.
        let jumped = Times { busy: 104, idle: 700, ..BEFORE };
        let shares = derive(&BEFORE, &jumped, 100.0);
        assert_eq!((shares.used, shares.doubt), (None, Some(Doubt::All)));
        let by_one = Times { busy: 104, idle: 799, ..BEFORE };
        assert_eq!(derive(&BEFORE, &by_one, 100.0).used, None, "it should have gained");
        assert_eq!(derive(&jumped, &Times { busy: 108, idle: 896, ..BEFORE }, 100.0).used, Some(2.0));
        let hardly_any = Times { busy: 104, idle: 806, ..BEFORE };
        assert_eq!(derive(&BEFORE, &hardly_any, 100.0).used, None, "a tenth of the time is accounted for");
        let asleep = Times { busy: 110, idle: 990, ..BEFORE };
        assert_eq!(derive(&BEFORE, &asleep, 30_000.0).used, None, "suspended for five minutes");
        let starved = Times { busy: 200, ..BEFORE };
        assert_eq!(derive(&BEFORE, &starved, 100.0).used, Some(100.0), "its hypervisor tells of no steal");
    }

    #[test]
    fn load_and_tasks() {
        assert_eq!(parse_load(b"0.52 0.06 0.07 1/88 6821\n"), Some(Load { one_minute: 0.52, runnable: 1, tasks: 88 }));
        assert_eq!(parse_load(b"0.52 0.06 0.07 188 6821\n"), None);
        let waiting = |runnable| waiting(Load { one_minute: 0.0, runnable, tasks: 9 }, 4);
        assert_eq!([1, 5, 7, 9, 90].map(waiting), [0.0, 0.0, 50.0, 100.0, 100.0].map(Some));
    }
}
