//! The largest processes, on request. Never on the hot path and never at a pace: reading two thousand processes costs
//! 66 ms. CPU is the present rate, because a lifetime's sum would name the oldest process.

use std::cmp::Reverse;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use crate::plain;

/// Between the two looks of which the difference is who takes CPU: 50 ticks of the kernel's clock.
const LOOKS_FOR: Duration = Duration::from_millis(500);
/// Of a command line.
const COMMAND_CHARS: usize = 200;
/// What an argument is called whose value is nobody's business.
const SECRET: [&str; 5] = ["pass", "secret", "token", "key", "credential"];

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    /// With what looks like a secret left out; empty for the kernel's own.
    pub command: String,
    /// `nginx.service`, where systemd started it.
    pub unit: Option<String>,
    pub cgroup: Option<String>,
    /// Numeric, since names are looked up where the reader is.
    pub uid: Option<u32>,
    pub resident_bytes: u64,
    /// Of one core, over the last `over_seconds`; `None` where that was not looked at.
    pub cpu_percent: Option<f64>,
    pub over_seconds: Option<f64>,
    /// CPU time since it started.
    pub cpu_seconds: u64,
    pub started_unix_seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    #[default]
    Memory,
    Cpu,
}

/// The first of all processes in that order, largest first. Empty where `/proc` cannot be read. By CPU it takes half a
/// second.
#[must_use]
pub fn largest(order: Order, limit: usize) -> Vec<Process> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let over = match order {
        Order::Memory => None,
        Order::Cpu => {
            refresh(&mut system);
            let began = Instant::now();
            std::thread::sleep(LOOKS_FOR);
            Some(began)
        }
    };
    refresh(&mut system);
    let over = over.map(|began| began.elapsed().as_secs_f64());
    let mut found: Vec<&sysinfo::Process> = system.processes().values().collect();
    found.sort_by(|a, b| {
        let size = |process: &sysinfo::Process| match order {
            Order::Memory => (0.0, process.memory()),
            Order::Cpu => (f64::from(process.cpu_usage()), process.accumulated_cpu_time()),
        };
        let ((rate, sum), (other_rate, other_sum)) = (size(b), size(a));
        rate.total_cmp(&other_rate).then(sum.cmp(&other_sum)).then(Reverse(b.pid()).cmp(&Reverse(a.pid())))
    });
    found.into_iter().take(limit).map(|process| describe(process, over)).collect()
}

fn refresh(system: &mut System) {
    let kind =
        ProcessRefreshKind::nothing().with_memory().with_cpu().with_user(UpdateKind::OnlyIfNotSet).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
}

fn describe(process: &sysinfo::Process, over: Option<f64>) -> Process {
    let folder = Path::new("/proc").join(process.pid().to_string());
    // One that has ended meanwhile has neither any more.
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_default();
    let cgroup = cgroup(&String::from_utf8_lossy(&read("cgroup")));
    Process {
        pid: process.pid().as_u32(),
        name: plain::line(&process.name().to_string_lossy(), COMMAND_CHARS),
        command: command(&read("cmdline")),
        unit: cgroup.as_deref().and_then(unit),
        cgroup,
        uid: process.user_id().map(|uid| **uid),
        resident_bytes: process.memory(),
        cpu_percent: over.map(|_| f64::from(process.cpu_usage())),
        over_seconds: over,
        cpu_seconds: process.accumulated_cpu_time() / 1000,
        started_unix_seconds: process.start_time(),
    }
}

/// Of the unified hierarchy; else of the one that systemd names.
fn cgroup(text: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let unified = lines.clone().find(|(controllers, _)| controllers.is_empty());
    let (_, path) = unified.or_else(|| lines.find(|(controllers, _)| *controllers == "name=systemd"))?;
    Some(plain::line(path, COMMAND_CHARS))
}

/// The innermost unit on the way.
fn unit(cgroup: &str) -> Option<String> {
    let is_unit = |part: &&str| [".service", ".scope"].iter().any(|kind| part.ends_with(kind));
    cgroup.split('/').rev().find(is_unit).map(str::to_owned)
}

fn command(cmdline: &[u8]) -> String {
    let text = String::from_utf8_lossy(cmdline);
    let mut words = Vec::new();
    let mut is_next_secret = false;
    for word in text.split('\0').filter(|word| !word.is_empty()) {
        let name = word.split('=').next().unwrap_or_default().to_ascii_lowercase();
        let is_secret = name.starts_with('-') && SECRET.iter().any(|secret| name.contains(secret));
        words.push(match word.split_once('=') {
            _ if is_next_secret && !word.starts_with('-') => "…".to_owned(),
            Some((name, _)) if is_secret => format!("{name}=…"),
            Some(_) | None => word.to_owned(),
        });
        is_next_secret = is_secret && !word.contains('=');
    }
    plain::line(&words.join(" "), COMMAND_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_among_the_processes_with_what_we_hold() {
        let processes = largest(Order::Memory, usize::MAX);
        let ours = processes.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(ours.resident_bytes > 500_000, "{ours:?}");
        assert_eq!(ours.uid, Some(nix::unistd::getuid().as_raw()));
        assert!(ours.command.contains("node_guardian") && ours.cpu_percent.is_none(), "{ours:?}");
        assert!(processes.is_sorted_by_key(|process| Reverse(process.resident_bytes)));
    }

    #[test]
    fn who_takes_cpu_is_who_takes_it_now() {
        let busy = std::thread::spawn(|| {
            let until = Instant::now() + LOOKS_FOR * 4;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        });
        let processes = largest(Order::Cpu, usize::MAX);
        busy.join().unwrap();
        let rates: Vec<f64> = processes.iter().map(|process| process.cpu_percent.unwrap()).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
        let ours = processes.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(ours.cpu_percent.unwrap() > 0.0 && ours.over_seconds.unwrap() >= 0.5, "{ours:?}");
    }

    #[test]
    fn a_process_is_named_by_its_unit_and_its_command() {
        let text = "12:cpuset:/x\n1:name=systemd:/system.slice/a.service\n0::/system.slice/nginx.service/sub\n";
        let path = cgroup(text).unwrap();
        assert_eq!((path.as_str(), unit(&path).as_deref()), ("/system.slice/nginx.service/sub", Some("nginx.service")));
        assert_eq!(cgroup("1:name=systemd:/a.scope\n").as_deref(), Some("/a.scope"));
        assert_eq!((cgroup(""), unit("/kubepods/pod1")), (None, None));
        assert_eq!(command(b"db\0--password=x y\0--token\0abc\0-v\0\x1b[2J\n\0"), "db --password=… --token … -v [2J");
        assert_eq!(command(b"job\0--monkey\0-k\0"), "job --monkey -k");
    }
}
