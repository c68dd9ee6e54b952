//! Which processes are the largest, for a person who asks. Never on the hot path and never at a pace: reading two
//! thousand processes costs 66 ms (research: floors §2), which is fine for an answer and too much for a habit.

use std::cmp::Reverse;

use serde::Serialize;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    /// Numeric, since names are looked up where the reader is.
    pub uid: Option<u32>,
    pub resident_bytes: u64,
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

/// The first of all processes in that order, largest first. Empty where `/proc` cannot be read.
#[must_use]
pub fn largest(order: Order, limit: usize) -> Vec<Process> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu().with_user(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, false, kind);
    let mut processes: Vec<Process> = system.processes().values().map(describe).collect();
    processes.sort_by_key(|process| {
        let size = match order {
            Order::Memory => process.resident_bytes,
            Order::Cpu => process.cpu_seconds,
        };
        (Reverse(size), process.pid)
    });
    processes.truncate(limit);
    processes
}

fn describe(process: &sysinfo::Process) -> Process {
    Process {
        pid: process.pid().as_u32(),
        name: process.name().to_string_lossy().into_owned(),
        uid: process.user_id().map(|uid| **uid),
        resident_bytes: process.memory(),
        cpu_seconds: process.accumulated_cpu_time() / 1000,
        started_unix_seconds: process.start_time(),
    }
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
        assert!(processes.is_sorted_by_key(|process| Reverse(process.resident_bytes)));
        assert_eq!(largest(Order::Cpu, 2).len(), 2);
    }
}
