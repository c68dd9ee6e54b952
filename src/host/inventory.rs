//! What the node is and has: the inventory, by sysinfo, at a slow pace and never on the hot path.
//!
//! Disks are those that are watched, from the mount table: sysinfo's own list asks all mounts in one go, and one that
//! hangs would hang all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::cpu;
use super::facts::{Disk, Facts, Interface};
use super::found::{Mount, Speed};
use super::network;
use super::place::Place;

/// Asks sysinfo about this machine; what it cannot tell stays empty.
#[must_use]
pub(crate) fn take_inventory(proc_root: &Path, place: &Place, mounts: &[Arc<Mount>], speeds: &[Speed]) -> Facts {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let memory = System::new_with_specifics(kind).ok();
    Facts {
        host: System::host_name().unwrap_or_default(),
        kernel: System::kernel_version().unwrap_or_default(),
        os: System::long_os_version().unwrap_or_default(),
        boot_unix_seconds: System::boot_time().unwrap_or_default(),
        cpus: online(proc_root),
        memory_bytes: memory.as_ref().map_or(0, System::total_memory),
        swap_bytes: memory.as_ref().map_or(0, System::total_swap),
        disks: mounts.iter().map(|mount| disk(mount)).collect(),
        interfaces: interfaces(proc_root, speeds),
        container: place.container.clone(),
        judged: place.judged,
        judged_why: place.why,
        standing: place.to_string(),
        allowed: place.allowed(),
    }
}

/// What the standard library tells is what our own cgroup may use, in whole CPUs: second best.
fn online(proc_root: &Path) -> usize {
    let times = std::fs::read(proc_root.join("stat")).ok().and_then(|text| cpu::parse(&text));
    let online = times.and_then(|times| usize::try_from(times.online).ok()).filter(|online| *online > 0);
    online.unwrap_or_else(|| std::thread::available_parallelism().map_or(0, Into::into))
}

fn disk(mount: &Mount) -> Disk {
    Disk {
        mount: mount.name.clone(),
        device: mount.source.clone(),
        file_system: mount.file_system.clone(),
        size_bytes: mount.size_bytes.load(Ordering::Relaxed),
    }
}

fn interfaces(proc_root: &Path, speeds: &[Speed]) -> Vec<Interface> {
    let listed = std::fs::read(proc_root.join("net/dev")).unwrap_or_default();
    let speed = |name: &str| {
        let at = speeds.binary_search_by(|speed| speed.interface.as_str().cmp(name)).ok()?;
        speeds.get(at).map(|speed| speed.bits)
    };
    let interface = |name: String| Interface { speed_bits: speed(&name), name };
    let mut interfaces: Vec<_> = network::names(&listed).map(interface).collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let mount = Arc::new(Mount { name: "/".into(), source: "/dev/vda".into(), ..Mount::default() });
        let facts = take_inventory(
            Path::new("/proc"),
            &Place::default(),
            &[mount],
            &[Speed { interface: "lo".into(), bits: 7 }],
        );
        assert!(!facts.kernel.is_empty() && facts.cpus > 0 && facts.memory_bytes > 0 && facts.boot_unix_seconds > 0);
        assert_eq!(facts.disks[0].device, "/dev/vda");
        assert!(facts.interfaces.contains(&Interface { name: "lo".into(), speed_bits: Some(7) }), "{facts:?}");
    }
}
