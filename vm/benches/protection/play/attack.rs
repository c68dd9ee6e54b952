//! What runs away on the node. Everything here is bounded in number and ends by itself when its time is up, also where
//! nobody can end it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::wait::{WaitPidFlag, WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork};

use super::burn;
use crate::Outcome;

const MIB: usize = 1 << 20;
/// MiB.
const PIECE: usize = 2;
/// Where jobs leave their files; also what a script that cleans up would look at.
const SPOOL: &str = "/var/tmp/job";

pub fn run(scenario: &str, seconds: &str) -> Outcome {
    let seconds: u32 = seconds.parse().map_err(|_| "seconds: a number")?;
    alarm::set(seconds);
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    match scenario {
        "runaway" => leak(4096, 2048),
        "leak" | "leak-swap" => leak(120, 2048),
        "swarm" | "swarm-swap" => swarm(14),
        "cpu" => cpu(16, end),
        "fork" => storm(300, end),
        "disk" => fill(),
        "io" => write(32, 4, end),
        other => Err(format!("no attack {other:?}")),
    }
}

/// Takes `rate` MiB/s up to `most`, and keeps it. The kernel fills each piece at once: page by page, the faults of an
/// emulated processor would set the pace.
fn leak(rate: usize, most: usize) -> Outcome {
    let start = Instant::now();
    for piece in 0..most.div_ceil(PIECE) {
        let due = (piece * PIECE) as f64 / rate as f64;
        thread::sleep(Duration::from_secs_f64((due - start.elapsed().as_secs_f64()).max(0.0)));
        let length = NonZeroUsize::new(PIECE * MIB).ok_or("no length")?;
        let how = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: new memory at an address of the kernel's choice, to which nobody ever refers.
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, how) }
            .map_err(|error| format!("memory: {error}"))?;
    }
    rest()
}

/// A service with workers that leak, which replaces those that end, once a second at most.
fn swarm(workers: usize) -> Outcome {
    for _ in 0..workers {
        worker()?;
    }
    loop {
        match wait().map_err(|error| error.to_string())? {
            WaitStatus::Signaled(_, signal, _) => eprintln!("worker ended by {signal}"),
            other => eprintln!("worker: {other:?}"),
        }
        thread::sleep(Duration::from_secs(1));
        worker()?;
    }
}

fn worker() -> Outcome {
    match forked()? {
        Some(_) => Ok(()),
        None => {
            alarm::set(40);
            leak(6, 90)
        }
    }
}

fn cpu(threads: usize, end: Instant) -> Outcome {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < end {
                    burn(Duration::from_millis(100));
                }
            });
        }
    });
    Ok(())
}

/// `most` processes, each of which forks children that end at once.
fn storm(most: usize, end: Instant) -> Outcome {
    for _ in 0..most {
        if forked()?.is_none() {
            alarm::set(30);
            while Instant::now() < end {
                match forked() {
                    Ok(None) => process::exit(0),
                    Ok(Some(child)) => reap(child),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
            process::exit(0);
        }
    }
    while Instant::now() < end && wait().is_ok() {}
    Ok(())
}

fn reap(child: Pid) {
    while waitpid(child, Some(WaitPidFlag::empty())).is_err_and(|error| error == nix::Error::EINTR) {}
}

/// The child's number, or nothing in the child.
fn forked() -> Result<Option<Pid>, String> {
    // SAFETY: this process has one thread wherever it is called.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(Some(child)),
        Ok(ForkResult::Child) => Ok(None),
        Err(error) => Err(format!("fork: {error}")),
    }
}

/// Reserves the free space in steps, then writes what is left block by block, and goes on trying.
fn fill() -> Outcome {
    let mut file = File::create(spool()?.join("export")).map_err(|error| error.to_string())?;
    let mut length = 0i64;
    let mut step = 64 * MIB as i64;
    while step > 4096 {
        match fallocate(&file, FallocateFlags::empty(), length, step) {
            Ok(()) => length += step,
            Err(_) => step /= 2,
        }
        thread::sleep(Duration::from_millis(100));
    }
    let mut number = 0;
    loop {
        if file.write_all(&[b'x'; 4096]).is_err() {
            thread::sleep(Duration::from_millis(20));
            number += 1;
            if number % 50 == 0 {
                // What was deleted under it does not come back by itself: the job goes on in the next file.
                file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(spool()?.join("export"))
                    .map_err(|error| error.to_string())?;
            }
        }
    }
}

/// Writers past the page cache, and others through it that sync.
fn write(direct: usize, synced: usize, end: Instant) -> Outcome {
    let folder = spool()?;
    thread::scope(|scope| {
        for number in 0..direct + synced {
            let path = folder.join(format!("part{number}"));
            scope.spawn(move || {
                let wrote = if number < direct { straight(&path, end) } else { through(&path, end) };
                if let Err(error) = wrote {
                    eprintln!("{}: {error}", path.display());
                }
            });
        }
    });
    Ok(())
}

fn straight(path: &Path, end: Instant) -> std::io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).custom_flags(OFlag::O_DIRECT.bits()).open(path)?;
    let memory = vec![0u8; (64 << 10) + 4096];
    let aligned = memory.as_ptr().align_offset(4096);
    for block in (0u64..64).cycle() {
        if Instant::now() >= end {
            break;
        }
        file.write_all_at(&memory[aligned..aligned + (64 << 10)], block << 16)?;
    }
    Ok(())
}

fn through(path: &Path, end: Instant) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let memory = vec![0u8; MIB];
    for block in (0u64..8).cycle() {
        if Instant::now() >= end {
            break;
        }
        file.write_all_at(&memory, block << 20)?;
        file.sync_data()?;
    }
    Ok(())
}

fn spool() -> Result<PathBuf, String> {
    fs::create_dir_all(SPOOL).map_err(|error| format!("{SPOOL}: {error}"))?;
    Ok(PathBuf::from(SPOOL))
}

fn rest() -> ! {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}
