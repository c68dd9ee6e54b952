//! This machine: what is sampled agrees with what sysinfo, statvfs and the kernel's own tools' sources say.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use node_guardian::config::settings::{self, Sampling, Settings};
use node_guardian::host::guardian;
use node_guardian::host::kept::Scope;
use node_guardian::host::kept::{Kept, Reader, Shape};
use node_guardian::host::sampler::Sampler;
use node_guardian::host::space;
use node_guardian::policy::condition::parse;
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::plan::Plan;
use node_guardian::policy::sample::Sample;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::{at, sample_until, sampling};

fn near(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance
}

#[test]
fn memory_as_sysinfo_and_free_see_it() {
    let mut sampler = Sampler::open(&sampling("/proc", "/sys"));
    let mut sample = Sample::default();
    sampler.sample(at(1), Scope::Memory, &mut sample);
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::everything())).unwrap();
    let (total, available) = (system.total_memory() as f64, system.available_memory() as f64);
    let found = sample.get(Metric::MemoryAvailableBytes).unwrap();
    // Other tests run meanwhile: a twentieth of the memory is more than they take.
    assert!(near(found, available, total / 20.0), "{found} and {available}");
    assert!(near(sample.get(Metric::MemoryAvailablePercent).unwrap(), 100.0 * available / total, 5.0));
    assert_eq!(sample.get(Metric::CpuLoad1PerCore), None, "only memory was asked for");
}

#[test]
fn load_as_uptime_sees_it() {
    let mut sampler = Sampler::open(&sampling("/proc", "/sys"));
    let mut sample = Sample::default();
    sampler.sample(at(1), Scope::Full, &mut sample);
    let cpus = std::fs::read_to_string("/proc/stat").unwrap().lines().filter(|l| l.starts_with("cpu")).count() - 1;
    let expected = System::load_average().unwrap().one / cpus as f64;
    assert!(near(sample.get(Metric::CpuLoad1PerCore).unwrap(), expected, 1.0));
    assert_eq!(sample.get(Metric::CpuUsedPercent), None, "a first sample has no rates");
}

#[test]
fn disks_as_df_sees_them() {
    let mut sampler = Sampler::open(&sampling("/proc", "/sys"));
    let full = |_: &Sampler, sample: &Sample| sample.get(Metric::DiskUsedPercent).is_some();
    let sample = sample_until(&mut sampler, at(1), "disk", full);
    for (row, mount) in sample.instances(Family::Disk).iter().enumerate() {
        let expected = space::derive(&space::ask(Path::new(mount)).unwrap());
        let used = sample.instance(Metric::DiskUsedPercent, row).unwrap();
        assert!(near(used, expected.used_percent.unwrap(), 2.0), "{mount}: {used} and {expected:?}");
        let free = sample.instance(Metric::DiskFreeBytes, row).unwrap();
        assert!(near(free, expected.free_bytes, 4e9), "{mount}: {free} and {expected:?}");
    }
    assert!(sample.row(Family::Disk, "/proc").is_none());
}

#[test]
fn work_shows_as_work() {
    let mut sampler = Sampler::open(&sampling("/proc", "/sys"));
    let mut sample = Sample::default();
    sampler.sample(at(1), Scope::Full, &mut sample);
    let started = Instant::now();
    let mut spins = 0u64;
    while started.elapsed() < Duration::from_millis(400) {
        spins = std::hint::black_box(spins + 1);
    }
    sampler.sample(at(1) + started.elapsed(), Scope::Full, &mut sample);
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    // Half of what we asked for, since other tests want to run too.
    assert!(sample.get(Metric::CpuUsedPercent).unwrap() > 50.0 / cpus);
    assert!(sample.get(Metric::GuardianCpuPercent).unwrap() > 5.0);
    assert!(sample.get(Metric::GuardianResidentBytes).unwrap() > 100_000.0);
}

/// Threads of ours that compute until they are told to stop, with a niceness.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn new(count: usize, niceness: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let compute = move |stop: Arc<AtomicBool>| {
            // SAFETY: numbers go in and come out; 0 is the calling thread.
            let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
            assert_eq!(set, 0);
            while !stop.load(Ordering::Relaxed) {
                std::hint::black_box((0..10_000).sum::<u64>());
            }
        };
        let start = |_| {
            std::thread::spawn({
                let stop = Arc::clone(&stop);
                move || compute(stop)
            })
        };
        Self { threads: (0..count).map(start).collect(), stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Samples once a second, as the daemon does, until the reading is above a bound.
fn rises_above(metric: Metric, bound: f64) -> f64 {
    // Whatever this runs in.
    let mut sampler = Sampler::open(&Sampling { scope: settings::Scope::Node, ..sampling("/proc", "/sys") });
    let mut sample = Sample::default();
    let started = Instant::now();
    for _ in 0..20 {
        sampler.sample(at(1) + started.elapsed(), Scope::Full, &mut sample);
        if let Some(value) = sample.get(metric).filter(|value| *value > bound) {
            return value;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    panic!("{} stays at {:?}", metric.name(), sample.get(metric));
}

#[test]
fn who_waits_for_a_cpu_is_known_at_once() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let _busy = Busy::new(3 * cpus, 0);
    rises_above(Metric::CpuWaitingPercent, 50.0);
}

#[test]
fn niced_work_is_told_apart() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    // One step down, so that it gets its turn beside other tests.
    let _busy = Busy::new(6 * cpus, 1);
    rises_above(Metric::CpuNicePercent, 5.0);
}

/// A cgroup of the idle class, where this machine lets us make one; with what is in it, it is gone in the end.
struct IdleGroup(PathBuf);

impl IdleGroup {
    fn make() -> Self {
        let roots = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists()).expect("no cgroups are mounted");
        let group = Self(root.join(format!("node-guardian-idle-{}", std::process::id())));
        std::fs::create_dir(&group.0).expect("needs root, and cgroups that can be written");
        std::fs::write(group.0.join("cpu.idle"), "1").expect("needs Linux 5.15, and the cpu controller");
        group
    }

    /// Computes in it.
    fn spin(&self) -> Child {
        let script = "echo $$ > \"$0/cgroup.procs\"; test ! -e \"$0/../../cpuacct\" || {
            mkdir -p \"$0/../../cpuacct/${0##*/}\"; echo $$ > \"$0/../../cpuacct/${0##*/}/cgroup.procs\"; }
            while :; do :; done";
        Command::new("sh").args(["-c", script, self.0.to_str().unwrap()]).spawn().unwrap()
    }
}

impl Drop for IdleGroup {
    fn drop(&mut self) {
        let apart = Path::new("/sys/fs/cgroup/cpuacct").join(self.0.file_name().unwrap());
        for group in [&self.0, &apart] {
            std::fs::remove_dir(group).ok();
        }
    }
}

#[test]
fn work_of_groups_of_the_idle_class_is_told_apart() {
    if !Uid::effective().is_root() {
        // Nobody else may make a group.
        return;
    }
    let group = IdleGroup::make();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let mut busy: Vec<Child> = (0..cpus).map(|_| group.spin()).collect();
    let seen = std::panic::catch_unwind(|| rises_above(Metric::CpuNicePercent, 5.0));
    for process in &mut busy {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    seen.unwrap();
}

#[test]
fn work_of_processes_of_the_idle_class_is_told_apart() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let spin = |_| Command::new("chrt").args(["-i", "0", "sh", "-c", "while :; do :; done"]).spawn().unwrap();
    let mut busy: Vec<Child> = (0..cpus).map(spin).collect();
    let seen = std::panic::catch_unwind(|| rises_above(Metric::CpuNicePercent, 5.0));
    for process in &mut busy {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    seen.unwrap();
}

#[test]
fn connections_are_told_by_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    let mut sampler = Sampler::open(&sampling("/proc", "/sys"));
    let name = address.port().to_string();
    sampler.expect(&asking(&format!("connections[{name}].established > 5")));
    let listed = |_: &Sampler, sample: &Sample| sample.row(Family::Port, &name).is_some();
    let sample = sample_until(&mut sampler, at(1), "listening port", listed);
    let row = sample.row(Family::Port, &name).unwrap();
    assert_eq!(sample.instance(Metric::PortEstablished, row), Some(2.0));
    assert!(sample.instance(Metric::PortBacklogPercent, row).unwrap() > 0.0);
    assert_eq!(sample.instances(Family::Port).len(), 1, "nobody asks about others");
}

/// A plan with one rule.
fn asking(condition: &str) -> Plan {
    let mut policy = Settings::default().policy;
    policy.rules.truncate(1);
    policy.rules[0].when = parse(condition).unwrap();
    policy.rules[0].clear = None;
    Plan::new(policy)
}

#[test]
fn the_node_is_counted_and_described() {
    let mut sampler = Sampler::open(&sampling("/proc", "/sys"));
    let sample = sample_until(&mut sampler, at(1), "inventory", |sampler, _| sampler.facts().cpus > 0);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).count() as f64;
    let found = sample.get(Metric::ProcessesCount).unwrap();
    assert!(near(found, processes, 100.0), "{found} and {processes}");
    assert!(sample.get(Metric::ProcessesUsedPercent).unwrap() > 0.0);
    assert!(sample.get(Metric::Threads).unwrap() >= 1.0);
    assert!(sample.get(Metric::FilesUsedPercent).unwrap() < 100.0);
    let facts = sampler.facts();
    assert!(!facts.disks.is_empty() && !facts.interfaces.is_empty() && facts.disks[0].size_bytes > 0, "{facts:?}");
}

#[test]
fn the_list_of_blind_spots_is_the_same_one_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut sampler = Sampler::open(&sampling(folder.path(), folder.path()));
    let mut sample = sample_until(&mut sampler, at(1), "inventory", |sampler, _| sampler.facts().cpus > 0);
    sampler.sample(at(2), Scope::Full, &mut sample);
    let before = Arc::clone(sampler.blind_spots());
    assert!(before.len() > 10, "an empty /proc is all blind spots: {before:?}");
    for second in 3..60 {
        sampler.sample(at(second), Scope::Full, &mut sample);
    }
    assert!(Arc::ptr_eq(&before, sampler.blind_spots()), "{:?}", sampler.blind_spots());
    assert_eq!(sample.get(Metric::MemoryUsedPercent), None);
}

#[test]
fn a_descriptor_that_went_bad_is_opened_again_and_then_told() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let path = PathBuf::from(format!("/proc/{}/statm", child.id()));
    let (mut reader, mut kept) = (Reader::default(), Kept::new(path, Shape::Whole, "its memory is unknown"));
    assert!(reader.take(&mut kept, at(1), guardian::parse).is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reader.take(&mut kept, at(2), guardian::parse), None);
    assert_eq!(reader.blind.spots()[0].why, "No such file or directory: its memory is unknown");
}
