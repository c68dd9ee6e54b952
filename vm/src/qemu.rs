//! One qemu process: the arguments, its sockets, and its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cache::Cache;
use crate::channel::Channel;
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::{Error, Result};

/// How the guest's processor is made. Some machines have a KVM device that cannot run a guest, so it is tried, not asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accelerator {
    Kvm,
    Emulation,
}

/// What is on the guest's root disk, and where its changes go.
#[derive(Debug)]
pub enum Root<'a> {
    /// From its kernel on; changes stay.
    Booted { disk: &'a Path },
    /// From where it was saved.
    Resumed { disk: &'a Path, state: &'a Path, changes: Changes },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changes {
    Kept,
    ThrownAway,
}

/// Units that a guest without network, console and hardware has no use for; each costs a second of emulated boot.
const MASKED: [&str; 9] = [
    "getty.target",
    "modprobe@drm.service",
    "systemd-machine-id-commit.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "serial-getty@ttyS0.service",
];

#[derive(Debug)]
pub struct Qemu {
    process: Child,
    folder: TempDir,
}

impl Qemu {
    pub fn start(cache: &Cache, machine: &Machine, accelerator: Accelerator, root: &Root<'_>) -> Result<Self> {
        let folder = TempDir::new().map_err(Error::while_doing("making a temporary folder"))?;
        let errors = File::create(folder.path().join("errors")).map_err(Error::while_doing("making a log file"))?;
        // The guest ends with whoever started it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(arguments(cache, machine, accelerator, root, folder.path()));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn();
        Ok(Self { process: process.map_err(Error::while_doing("starting qemu"))?, folder })
    }

    /// Once the guest runs: what is sent to one that is still being resumed gets lost.
    pub fn connect(&mut self) -> Result<(Channel, Monitor)> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut monitor = self.open_monitor(until)?;
        while !monitor.go_on()? {
            if Instant::now() > until {
                return Err(Error::new("qemu did not resume the guest in time"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let channel = Channel::open(&self.folder.path().join("agent.sock"));
        Ok((channel.map_err(Error::while_doing("connecting to the guest"))?, monitor))
    }

    fn open_monitor(&mut self, until: Instant) -> Result<Monitor> {
        loop {
            let failed = match Monitor::open(&self.folder.path().join("monitor.sock")) {
                Ok(monitor) => return Ok(monitor),
                Err(failed) => failed,
            };
            if self.process.try_wait().ok().flatten().is_some() || Instant::now() > until {
                let errors = fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default();
                return Err(Error::new(format!("qemu did not start: {failed}; {}", errors.trim())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the kernel has printed on the serial console.
    pub fn console(&self) -> String {
        let console = fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&console).into_owned()
    }
}

impl Drop for Qemu {
    /// Its disks are thrown away, so there is nothing to wait for.
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            self.process.wait().map(drop).unwrap_or_default();
        }
    }
}

fn arguments(
    cache: &Cache,
    machine: &Machine,
    accelerator: Accelerator,
    root: &Root<'_>,
    folder: &Path,
) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let processor = match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Emulation => ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem"],
    };
    let (disk, throw_away) = match root {
        Root::Booted { disk } | Root::Resumed { disk, changes: Changes::Kept, .. } => (disk, "off"),
        Root::Resumed { disk, changes: Changes::ThrownAway, .. } => (disk, "on"),
    };
    let drive = |id: &str, path: PathBuf, format: &str, snapshot: &str| {
        format!("id={id},file={},if=none,format={format},snapshot={snapshot},cache=unsafe,aio=threads", path.display())
    };
    let mut all: Vec<String> = processor.map(str::to_owned).to_vec();
    let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
    add("-machine", "pc,hpet=off,usb=off".to_owned());
    add("-m", machine.memory_mib.to_string());
    add("-smp", machine.cpus.to_string());
    add("-display", "none".to_owned());
    add("-vga", "none".to_owned());
    add("-nic", "none".to_owned());
    add("-rtc", "base=utc,clock=host".to_owned());
    add("-kernel", cache.file("vmlinuz").display().to_string());
    add("-initrd", cache.file("initrd").display().to_string());
    add("-append", kernel_line());
    add("-drive", drive("root", disk.to_path_buf(), "qcow2", throw_away));
    add("-device", "virtio-blk-pci,drive=root".to_owned());
    add("-drive", drive("swap", cache.file("swap.img"), "raw", "on"));
    add("-device", "virtio-blk-pci,drive=swap".to_owned());
    add("-device", "virtio-serial-pci".to_owned());
    add("-chardev", format!("socket,id=agent,path={},server=on,wait=off", file("agent.sock")));
    add("-device", "virtserialport,chardev=agent".to_owned());
    add("-chardev", format!("file,id=console,path={}", file("console")));
    add("-serial", "chardev:console".to_owned());
    add("-monitor", "none".to_owned());
    add("-qmp", format!("unix:{},server=on,wait=off", file("monitor.sock")));
    if let Root::Resumed { state, .. } = root {
        add("-incoming", format!("exec:cat '{}'", state.display()));
    }
    all.push("-nodefaults".to_owned());
    all
}

fn kernel_line() -> String {
    // Emulated time-stamp counters look unstable to the kernel, and calibrating by them takes seconds.
    let mut line =
        "console=ttyS0 quiet loglevel=5 panic=-1 tsc=reliable clocksource=tsc no_timer_check mitigations=off \
                    lpj=10000000 systemd.show_status=no systemd.getty_auto=no"
            .to_owned();
    for unit in MASKED {
        line.push_str(" systemd.mask=");
        line.push_str(unit);
    }
    line
}
