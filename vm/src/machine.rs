//! What to start: the guest's size. Each size is booted once and saved; every later start resumes that in a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::Cache;
use crate::channel::Channel;
use crate::guest::Guest;
use crate::qemu::{Accelerator, Qemu, Root};
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub struct Machine {
    pub memory_mib: u32,
    pub cpus: u32,
    /// 0 to 1024.
    pub swap_mib: u32,
    /// Operations a second of all disks together; `None` as fast as the host's.
    pub disk_iops: Option<u32>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { memory_mib: 1024, cpus: 2, swap_mib: 0, disk_iops: None }
    }
}

/// The disk and the memory of a guest that has booted.
struct Booted {
    disk: PathBuf,
    state: PathBuf,
    accelerator: Accelerator,
}

/// A boot takes ten seconds emulated on an idle machine.
const BOOT: Duration = Duration::from_secs(240);
/// A working KVM boots in two seconds; one that cannot run a guest never does.
const BOOT_BY_KVM: Duration = Duration::from_secs(30);

impl Machine {
    /// A fresh guest, up and answering; nothing that an earlier one did is left in it.
    pub fn start(&self) -> Result<Guest> {
        let cache = Cache::ready()?;
        let booted = self.booted(&cache)?;
        let root = Root::Resumed { disk: &booted.disk, state: &booted.state };
        let mut qemu = Qemu::start(&cache, self, booted.accelerator, &root)?;
        let (channel, monitor) = qemu.connect()?;
        let mut guest = Guest::new(qemu, channel, monitor);
        guest.greet()?;
        if self.swap_mib > 0 {
            let command = format!("mkswap -q /dev/vdb {} && swapon /dev/vdb", u64::from(self.swap_mib) * 1024);
            guest.must(&command)?;
        }
        if let Some(most) = self.disk_iops {
            guest.monitor().slow_disks(most)?;
        }
        Ok(guest)
    }

    fn booted(&self, cache: &Cache) -> Result<Booted> {
        let _held = cache.lock()?;
        for accelerator in [Accelerator::Kvm, Accelerator::Emulation] {
            let kind = format!("{}m-{}c-{accelerator:?}", self.memory_mib, self.cpus).to_lowercase();
            let booted =
                Booted { disk: cache.booted(&kind, "qcow2"), state: cache.booted(&kind, "state"), accelerator };
            if booted.state.exists() {
                return Ok(booted);
            }
            let failed = cache.booted(&kind, "failed");
            if accelerator == Accelerator::Kvm && (!Path::new("/dev/kvm").exists() || failed.exists()) {
                continue;
            }
            match (self.boot_and_save(cache, &booted), accelerator) {
                (Ok(()), _) => return Ok(booted),
                (Err(why), Accelerator::Kvm) => {
                    fs::write(failed, why.to_string()).map_err(Error::while_doing("noting that KVM does not work"))?;
                }
                (Err(why), Accelerator::Emulation) => return Err(why),
            }
        }
        Err(Error::new("no way to run a guest"))
    }

    fn boot_and_save(&self, cache: &Cache, booted: &Booted) -> Result<()> {
        make_overlay(&cache.file("root.img"), &booted.disk)?;
        let mut qemu = Qemu::start(cache, self, booted.accelerator, &Root::Kept(&booted.disk))?;
        let (mut channel, mut monitor) = qemu.connect()?;
        let patience = match booted.accelerator {
            Accelerator::Kvm => BOOT_BY_KVM,
            Accelerator::Emulation => BOOT,
        };
        wait_for_boot(&mut channel, patience)
            .map_err(|why| Error::new(format!("{why}; the console's end: {}", tail(&qemu.console()))))?;
        // So that the last units have started, and nothing of the boot is still to be written.
        let settled = "systemctl is-system-running --wait; sync; echo 3 >/proc/sys/vm/drop_caches; sleep 2";
        let request = crate::channel::Request::Run { command: settled, seconds: 120.0 };
        channel.ask(&request, &[], Duration::from_secs(130))?;
        drop(channel);
        let unfinished = booted.state.with_extension("unfinished");
        monitor.save(&unfinished)?;
        drop(qemu);
        fs::rename(unfinished, &booted.state).map_err(Error::while_doing("keeping the saved guest"))
    }
}

pub fn wait_for_boot(channel: &mut Channel, patience: Duration) -> Result<()> {
    loop {
        let (head, _) = channel.hear(patience)?;
        if head.ready {
            return Ok(());
        }
    }
}

fn make_overlay(base: &Path, overlay: &Path) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(base).arg(overlay);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::new(format!("qemu-img ended with {status}"))),
        Err(error) => Err(Error::new(format!("starting qemu-img: {error}"))),
    }
}

fn tail(console: &str) -> &str {
    let start = console.len().saturating_sub(800);
    console.get(start..).unwrap_or(console).trim()
}
