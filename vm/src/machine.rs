//! What to start: the guest's size. Each size is booted once and saved; every later start resumes that in a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::Cache;
use crate::channel::Channel;
use crate::guest::Guest;
use crate::qemu::{Accelerator, Changes, Qemu, Root};
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

/// The disk and the memory of a saved guest.
#[derive(Clone)]
struct Saved {
    disk: PathBuf,
    state: PathBuf,
    accelerator: Accelerator,
}

/// A boot takes ten seconds emulated on an idle machine.
const BOOT: Duration = Duration::from_secs(240);
/// A working KVM boots in two seconds; one that cannot run a guest never does.
const BOOT_BY_KVM: Duration = Duration::from_secs(30);
/// So that the last units have started, and nothing of what was done is still to be written.
const SETTLE: &str = "systemctl is-system-running --wait; sync; sleep 2";

impl Machine {
    /// A fresh guest, up and answering; nothing that an earlier one did is left in it.
    pub fn start(&self) -> Result<Guest> {
        let cache = Cache::ready()?;
        let saved = {
            let _held = cache.lock()?;
            self.booted(&cache)?
        };
        self.resume(&cache, &saved)
    }

    /// The same, with something done to it before, which is done once and saved under this name. The name must differ when
    /// what is done differs; what an earlier one of the same `kind` has saved is thrown away.
    pub fn start_prepared(
        &self,
        kind: &str,
        name: &str,
        prepare: impl FnOnce(Guest) -> Result<Guest>,
    ) -> Result<Guest> {
        let cache = Cache::ready()?;
        let saved = {
            let _held = cache.lock()?;
            let base = self.booted(&cache)?;
            let full = format!("{}-{kind}-{name}", self.size());
            let saved = Saved { disk: cache.saved(&full, "qcow2"), state: cache.saved(&full, "state"), ..base.clone() };
            if !saved.state.exists() {
                cache.forget(&format!("{}-{kind}-", self.size()))?;
                make_overlay(&base.disk, "qcow2", &saved.disk)?;
                let root = Root::Resumed { disk: &saved.disk, state: &base.state, changes: Changes::Kept };
                let mut guest = prepare(self.resume_with(&cache, base.accelerator, &root)?)?;
                guest.must(SETTLE)?;
                guest.save(&saved.state)?;
            }
            saved
        };
        self.resume(&cache, &saved)
    }

    fn resume(&self, cache: &Cache, saved: &Saved) -> Result<Guest> {
        let root = Root::Resumed { disk: &saved.disk, state: &saved.state, changes: Changes::ThrownAway };
        let mut guest = self.resume_with(cache, saved.accelerator, &root)?;
        if self.swap_mib > 0 {
            let command = format!("mkswap -q /dev/vdb {} && swapon /dev/vdb", u64::from(self.swap_mib) * 1024);
            guest.must(&command)?;
        }
        if let Some(most) = self.disk_iops {
            guest.monitor().slow_disks(most)?;
        }
        Ok(guest)
    }

    fn resume_with(&self, cache: &Cache, accelerator: Accelerator, root: &Root<'_>) -> Result<Guest> {
        let mut qemu = Qemu::start(cache, self, accelerator, root)?;
        let (channel, monitor) = qemu.connect()?;
        let mut guest = Guest::new(qemu, channel, monitor);
        guest.greet()?;
        Ok(guest)
    }

    fn size(&self) -> String {
        format!("{}m-{}c", self.memory_mib, self.cpus)
    }

    fn booted(&self, cache: &Cache) -> Result<Saved> {
        for accelerator in [Accelerator::Kvm, Accelerator::Emulation] {
            let name = format!("{}-booted-{accelerator:?}", self.size()).to_lowercase();
            let saved = Saved { disk: cache.saved(&name, "qcow2"), state: cache.saved(&name, "state"), accelerator };
            if saved.state.exists() {
                return Ok(saved);
            }
            let failed = cache.saved(&name, "failed");
            if accelerator == Accelerator::Kvm && (!Path::new("/dev/kvm").exists() || failed.exists()) {
                continue;
            }
            match (self.boot_and_save(cache, &saved), accelerator) {
                (Ok(()), _) => return Ok(saved),
                (Err(why), Accelerator::Kvm) => {
                    fs::write(failed, why.to_string()).map_err(Error::while_doing("noting that KVM does not work"))?;
                }
                (Err(why), Accelerator::Emulation) => return Err(why),
            }
        }
        Err(Error::new("no way to run a guest"))
    }

    fn boot_and_save(&self, cache: &Cache, saved: &Saved) -> Result<()> {
        make_overlay(&cache.file("root.img"), "raw", &saved.disk)?;
        let mut qemu = Qemu::start(cache, self, saved.accelerator, &Root::Booted { disk: &saved.disk })?;
        let (mut channel, monitor) = qemu.connect()?;
        let patience = match saved.accelerator {
            Accelerator::Kvm => BOOT_BY_KVM,
            Accelerator::Emulation => BOOT,
        };
        wait_for_boot(&mut channel, patience)
            .map_err(|why| Error::new(format!("{why}; the console's end: {}", tail(&qemu.console()))))?;
        let mut guest = Guest::new(qemu, channel, monitor);
        guest.must(SETTLE)?;
        guest.save(&saved.state)
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

fn make_overlay(base: &Path, format: &str, overlay: &Path) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(overlay);
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
