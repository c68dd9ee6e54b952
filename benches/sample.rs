//! What a sample costs, in one run on one machine: ours, against a bare loop that reads the same files and makes nothing
//! of them, and against sysinfo's CPU, memory, disks and networks. CPU time is user and system time of this thread
//! (getrusage(2), RUSAGE_THREAD); reads are the kernel's own count of this thread's read calls (`syscr` of
//! /proc/thread-self/io). Ours also asks for its own CPU time around what grows with the node; `strace -f -c` counts everything.
//!
//! `cargo bench --bench sample`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use node_guardian::config::settings::Sampling;
use node_guardian::host::kept::Scope;
use node_guardian::host::sampler::Sampler;
use node_guardian::policy::metric::Family;
use node_guardian::policy::moment::Moment;
use node_guardian::policy::sample::Sample;
use sysinfo::{Disks, Networks, System};

const SAMPLES: u32 = 4000;
/// Costs drift with the neighbours on a shared machine: the kinds take turns and the best turn of each counts.
const TURNS: usize = 7;
/// On a busy machine the slow thread keeps a file open for longer than usual.
const LOOKS: usize = 20;

#[derive(Clone, Copy)]
pub struct Cost {
    pub user_us: f64,
    pub system_us: f64,
    pub reads: f64,
}

impl Cost {
    pub fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

fn read_calls() -> f64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("syscr: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(f64::NAN)
}

fn measure(samples: u32, mut sample: impl FnMut()) -> Cost {
    let usage = || getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask for its own usage");
    let (before, reads) = (usage(), read_calls());
    for _ in 0..samples {
        sample();
    }
    // Reading the count costs two calls itself: what was asked for, and the end of the file.
    let reads = read_calls() - reads - 2.0;
    let after = usage();
    let each = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / f64::from(samples);
    Cost {
        user_us: each(after.user_time() - before.user_time()),
        system_us: each(after.system_time() - before.system_time()),
        reads: reads / f64::from(samples),
    }
}

/// What the sampler itself has open: which limits apply and which tables exist differs from machine to machine. The slow
/// thread's own are left out: the table of mounts, and what it opens only for a moment.
///
/// Opened again by descriptor, not by name: the kernel calls a file below /proc/net "(deleted)" once another thread looked
/// it up, and /proc/net/dev, one of the dearer ones, would be missing.
fn open_bare() -> Vec<File> {
    let open = || -> Vec<(PathBuf, PathBuf)> {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter_map(|path| std::fs::read_link(&path).ok().map(|name| (path, name))).collect()
    };
    let is_read = |(path, name): &(PathBuf, PathBuf)| {
        let is_of_kernel = name.starts_with("/proc") || name.starts_with("/sys");
        is_of_kernel && path.is_file() && !name.ends_with("mountinfo")
    };
    let is_same = |(path, name): &(PathBuf, PathBuf), other: &(PathBuf, PathBuf)| {
        let plain = |name: &PathBuf| name.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        *path == other.0 && plain(name) == plain(&other.1)
    };
    let mut stay: Vec<_> = open().into_iter().filter(is_read).collect();
    for _ in 0..LOOKS {
        std::thread::sleep(Duration::from_millis(50));
        let now = open();
        stay.retain(|file| now.iter().any(|other| is_same(file, other)));
    }
    stay.into_iter().filter_map(|(path, _)| File::open(path).ok()).collect()
}

fn best(costs: &[Cost]) -> Cost {
    costs.iter().copied().min_by(|a, b| a.total_us().total_cmp(&b.total_us())).expect("there were turns")
}

const NAMES: [&str; 5] = [
    "bare reads of the same files",
    "full sample, every source (1 s pace)",
    "full sample at 1 ms pace",
    "memory only",
    "sysinfo: cpu, memory, disks, networks",
];

fn main() {
    let costs = measure_all();
    let bare = costs[0].total_us();
    println!("{:<40}{:>9}{:>9}{:>9}{:>8}{:>8}", "per sample", "user us", "sys us", "sum us", "reads", "ratio");
    for (name, cost) in NAMES.iter().zip(&costs) {
        let (user, system, total) = (cost.user_us, cost.system_us, cost.total_us());
        println!("{name:<40}{user:>9.1}{system:>9.1}{total:>9.1}{:>8.1}{:>8.2}", cost.reads, total / bare);
    }
    println!("{:.0} files; best of {TURNS} turns of {SAMPLES} samples", costs[0].reads);
}

/// The best turn of each kind, in the order of [`NAMES`].
pub fn measure_all() -> [Cost; 5] {
    let settings =
        Sampling { interval: Duration::from_secs(1), fast_interval: Duration::from_millis(20), ..Sampling::default() };
    let mut sampler = Sampler::open(&settings);
    let mut sample = Sample::default();
    let mut now = Moment::ORIGIN;
    let mut tick = |step: Duration, scope: Scope| {
        now = now + step;
        sampler.sample(now, scope, &mut sample);
        sample.instances(Family::Disk).len()
    };
    while tick(Duration::from_secs(1), Scope::Full) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let files = open_bare();
    let mut buffer = vec![0; 16 * 1024];
    let mut system = System::new().expect("sysinfo");
    let mut disks = Disks::new_with_refreshed_list().expect("sysinfo");
    let mut networks = Networks::new_with_refreshed_list().expect("sysinfo");

    let mut costs: [Vec<Cost>; 5] = Default::default();
    for _ in 0..TURNS {
        costs[0].push(measure(SAMPLES, || {
            for file in &files {
                file.read_at(&mut buffer, 0).ok();
            }
        }));
        costs[1].push(measure(SAMPLES, || {
            tick(Duration::from_secs(1), Scope::Full);
        }));
        costs[2].push(measure(SAMPLES, || {
            tick(Duration::from_millis(1), Scope::Full);
        }));
        costs[3].push(measure(SAMPLES, || {
            tick(Duration::from_millis(1), Scope::Memory);
        }));
        costs[4].push(measure(SAMPLES / 10, || {
            system.refresh_cpu_all();
            system.refresh_memory();
            disks.refresh(true);
            networks.refresh(true);
        }));
    }
    costs.map(|turns| best(&turns))
}
