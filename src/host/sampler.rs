//! All sources in turn: one sample. Reads what is kept open, copies what the slow thread knows, allocates nothing in the
//! steady state, waits for nothing, fails never; what cannot be read is missing and becomes a blind spot.
//!
//! Levels (memory, pressure, sockets, space) are read at every full sample. Sources of rates are read 200 ms apart at
//! least, however fast the pace: over less, a rate shows the kernel's clock and single bursts rather than the load. In
//! between they keep their values, so every call is to be given the same `Sample`.

use std::sync::Arc;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::cpu::Cpu;
use super::disk::Disks;
use super::facts::Facts;
use super::fuse::Fuse;
use super::guardian::Guardian;
use super::kept::{Reader, Scope};
use super::limits::{Limits, pressure_folder};
use super::memory::Memory;
use super::network::Network;
use super::paging::Paging;
use super::place::Place;
use super::post::Probe;
use super::pressure::Pressure;
use super::process::Processes;
use super::slot::View;
use super::slow::Slow;
use super::sockets::Sockets;
use super::unread::Unread;
use super::wanted::Wanted;
use crate::config::settings::Sampling;
use crate::policy;
use crate::policy::metric::{Family, Metric};
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;
use crate::status::BlindSpot;

/// How long a rate is measured at least: 20 ticks of the hundredths of a second in which the kernel counts CPU time, so
/// 5 % steps on one core. A little less than the round figure, so that a tick that comes early is not put off.
const RATE_WINDOW: Duration = Duration::from_millis(190);

pub struct Sampler {
    reader: Reader,
    cpu: Cpu,
    memory: Memory,
    paging: Paging,
    pressure: Pressure,
    disks: Disks,
    network: Network,
    sockets: Sockets,
    processes: Processes,
    cgroup: Cgroup,
    guardian: Guardian,
    limits: Limits,
    place: Arc<Place>,
    slow: Slow,
    rates_due: Moment,
    facts: View<Facts>,
    fuse: View<Fuse>,
    slow_blind: View<Vec<BlindSpot>>,
    unread: Unread,
    blind: Arc<Vec<BlindSpot>>,
}

impl Sampler {
    #[must_use]
    pub fn open(settings: &Sampling) -> Self {
        Self::open_with(settings, Probe::default())
    }

    /// With another way to ask file systems how full they are.
    #[must_use]
    pub fn open_with(settings: &Sampling, probe: Probe) -> Self {
        let (proc_root, sys_root) = (settings.proc_root.as_path(), settings.sys_root.as_path());
        let mut reader = Reader::default();
        let place = Arc::new(Place::find(settings));
        if place.is_told_in_vain() {
            reader.blind.note(TOLD, TOLD_IN_VAIN);
        }
        let slow = Slow::start(settings, Arc::clone(&place), probe);
        let fuse = Arc::new(Fuse::find(proc_root, sys_root));
        reader.beware(Arc::clone(&fuse));
        Self {
            cpu: Cpu::new(proc_root, place.cpuset.as_deref()),
            memory: Memory::new(proc_root, &fuse),
            paging: Paging::new(proc_root),
            pressure: Pressure::new(proc_root, pressure_folder(&place).as_deref()),
            disks: Disks::new(proc_root),
            network: Network::new(proc_root),
            sockets: Sockets::new(proc_root),
            processes: Processes::new(proc_root),
            cgroup: Cgroup::new(proc_root, sys_root, place.cpu.as_ref(), &mut reader),
            guardian: Guardian::new(proc_root),
            limits: Limits::new(&place),
            slow,
            place,
            reader,
            rates_due: Moment::ORIGIN,
            facts: View::default(),
            fuse: View::of(fuse),
            slow_blind: View::default(),
            unread: Unread::default(),
            blind: Arc::default(),
        }
    }

    /// Fills the sample in place.
    pub fn sample(&mut self, now: Moment, scope: Scope, sample: &mut Sample) {
        sample.at = now;
        self.memory.sample(now, scope, &mut self.reader, sample);
        self.limits.sample_memory(now, scope, &mut self.reader, sample);
        if scope == Scope::Full {
            self.sample_levels(now, sample);
            if now >= self.rates_due {
                self.rates_due = now + RATE_WINDOW;
                self.sample_rates(now, sample);
            }
            self.sample_slow(sample);
            self.limits.sample_tasks(now, &mut self.reader, sample);
            self.unread.look(sample);
        }
        self.gather_blind_spots();
    }

    /// Connections are counted of the ports that rules name. Of all others only those whose trouble a rule may be about
    /// are watched, and not as often.
    pub fn expect(&self, plan: &Plan) {
        self.slow.shared().ports_wanted.offer(Wanted::by(plan));
    }

    /// What is seldom looked at is looked at this often, where some rule is about to act on it.
    pub fn hasten(&mut self, every: Duration, guardian: &policy::guardian::Guardian) {
        let pace = |family| guardian.follows(family).then_some(every);
        self.slow.hasten(pace(Family::Disk), pace(Family::Port));
        self.disks.thrift.set_need(guardian.follows(Family::Disk));
        self.network.thrift.set_need(guardian.follows(Family::Network));
    }

    /// What cannot be seen now. The `Arc` is another one only when the list is.
    #[must_use]
    pub fn blind_spots(&self) -> &Arc<Vec<BlindSpot>> {
        &self.blind
    }

    /// Whose readings count; settled when the sampler was opened.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The latest inventory; empty until the first one is taken.
    #[must_use]
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts.value)
    }

    fn sample_levels(&mut self, now: Moment, sample: &mut Sample) {
        self.pressure.sample(now, &mut self.reader, sample);
        self.sockets.sample_counts(now, &mut self.reader, sample);
    }

    fn sample_rates(&mut self, now: Moment, sample: &mut Sample) {
        let reader = &mut self.reader;
        reader.blind.settle(now);
        self.cpu.sample(now, reader, self.slow.shared(), sample);
        self.paging.sample(now, reader, sample);
        self.limits.sample_rates(now, self.cpu.counted(), reader, sample);
        self.disks.sample_rates(now, reader, sample);
        self.network.sample(now, reader, self.slow.shared(), sample);
        self.sockets.sample_rates(now, reader, self.slow.shared(), sample);
        self.processes.sample(now, self.cpu.online(), reader, sample);
        if !self.pressure.tells_cpu() {
            sample.set(Metric::CpuWaitingPercent, self.processes.waiting());
        }
        self.cgroup.sample(now, reader, sample);
        self.guardian.sample(now, reader, sample);
    }

    fn sample_slow(&mut self, sample: &mut Sample) {
        self.slow.attend();
        if self.slow.is_running() {
            self.reader.blind.clear(SLOW);
        } else {
            self.reader.blind.note(SLOW, "no thread can be started: space, ports and processes.count are unknown");
        }
        let shared = self.slow.shared();
        self.disks.sample_space(&self.slow, sample);
        self.sockets.sample_ports(shared, self.slow.now_ms(), sample);
        Processes::sample_table(shared, sample);
        self.facts.refresh(&shared.facts);
        if self.fuse.refresh(&shared.fuse) {
            self.reader.beware(Arc::clone(&self.fuse.value));
        }
    }

    fn gather_blind_spots(&mut self) {
        let slow = self.slow_blind.refresh(&self.slow.shared().blind);
        let read = self.reader.blind.take_changed();
        if self.unread.take_changed() || read || slow {
            let mut all: Vec<BlindSpot> =
                self.reader.blind.spots().iter().chain(self.slow_blind.value.iter()).cloned().collect();
            let unread: Vec<BlindSpot> = self.unread.beyond(&all).cloned().collect();
            all.extend(unread);
            self.blind = Arc::new(all);
        }
    }
}

const SLOW: &str = "the slow thread";
const TOLD: &str = "memory_limit and cpu_limit";
const TOLD_IN_VAIN: &str =
    "no visible cgroup shows their use, so the node's readings count; see `scope` and `cgroup_root` in [sampling]";
