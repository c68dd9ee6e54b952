//! A program that runs away with memory, bounded: a child of the bench that touches 2 MiB at a time, at 4 GB/s at most,
//! and after each step reads what is available. When that is first below the threshold is the truth that the daemon's
//! decision is held against.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use node_guardian::clock;
use node_guardian::policy::moment::Moment;

pub const FLAG: &str = "--fill";

const STEP: usize = 2 << 20;
const MOST: usize = 3 << 30;
/// How far below what is available now thresholds are set.
pub const AHEAD: u64 = 1 << 30;
/// Where a virtual machine's host supplies memory only when it is touched, a first touch is ten times slower than 4 GB/s:
/// this much is touched and given back before the daemon starts.
const WARM: usize = 1700 << 20;
/// It goes on for so long past the threshold, to show how far a slow decision would have let it come.
const BEYOND: usize = 512 << 20;
const BYTES_PER_SECOND: f64 = 4e9;
const PAGE: usize = 4096;

/// What the child saw, from the crossing on.
pub struct Run {
    /// Since boot in seconds, and how much was filled by then since the crossing. The first is the crossing itself.
    steps: Vec<(f64, f64)>,
}

impl Run {
    /// Zero where the decision came before the child itself had seen the crossing.
    pub fn late_ms(&self, decided_seconds: f64) -> f64 {
        (decided_seconds - self.steps[0].0).max(0.0) * 1e3
    }

    pub fn filled_megabytes(&self, decided_seconds: f64) -> f64 {
        let filled = self.steps.iter().take_while(|(at, _)| *at <= decided_seconds).last();
        filled.map_or(0.0, |(_, bytes)| bytes / 1e6)
    }

    /// In GB/s.
    pub fn rate(&self) -> f64 {
        let (first, last) = (self.steps[0], self.steps[self.steps.len() - 1]);
        (last.1 - first.1) / (last.0 - first.0) / 1e9
    }
}

pub fn available_bytes() -> Result<u64, String> {
    let text = std::fs::read("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    parse(&text).ok_or_else(|| "/proc/meminfo has no MemAvailable".to_owned())
}

/// Makes the host supply what a run will need.
pub fn warm() -> Result<(), String> {
    child(0, WARM).map(drop)
}

fn child(threshold: u64, most: usize) -> Result<String, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command.arg(FLAG).arg(threshold.to_string()).arg(most.to_string()).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("cannot start what fills memory: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the child until it has crossed the threshold.
pub fn past(threshold: u64) -> Result<Run, String> {
    let text = child(threshold, MOST)?;
    let step =
        |line: &str| line.split_once(' ').and_then(|(at, filled)| Some((at.parse().ok()?, filled.parse().ok()?)));
    let steps: Vec<(f64, f64)> = text.lines().filter_map(step).collect();
    if steps.len() < 2 {
        return Err(format!("{MOST} bytes did not bring what is available below {threshold}; is the machine in use?"));
    }
    Ok(Run { steps })
}

pub fn run(arguments: &[String]) -> ExitCode {
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let [threshold, most] = numbers[..] else { return ExitCode::FAILURE };
    let most = usize::try_from(most).map_or(MOST, |most| most.min(MOST));
    let steps = fill(threshold, most).unwrap_or_default();
    for (at, filled) in &steps {
        println!("{:.6} {filled}", at.seconds());
    }
    if steps.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn fill(threshold: u64, most: usize) -> Option<Vec<(Moment, usize)>> {
    let meminfo = File::open("/proc/meminfo").ok()?;
    let mut text = [0; 4096];
    let room = std::num::NonZero::new(MOST)?;
    let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
    // SAFETY: a mapping of its own, at no given address, that lives as long as the process.
    let memory = unsafe {
        let memory =
            nix::sys::mman::mmap_anonymous(None, room, protection, nix::sys::mman::MapFlags::MAP_PRIVATE).ok()?;
        nix::sys::mman::madvise(memory, MOST, nix::sys::mman::MmapAdvise::MADV_HUGEPAGE).ok();
        memory.cast::<u8>()
    };
    let pause = Duration::from_secs_f64(STEP as f64 / BYTES_PER_SECOND);
    let (mut steps, mut crossed_at): (Vec<(Moment, usize)>, usize) = (Vec::with_capacity(1024), 0);
    for filled in (STEP..=most).step_by(STEP) {
        // Each step by itself: what was not filled in time is not made up for at a higher rate.
        let due = clock::now().ok()? + pause;
        for page in (filled - STEP..filled).step_by(PAGE) {
            // SAFETY: within the mapping.
            unsafe { memory.add(page).write_volatile(1) };
        }
        let length = meminfo.read_at(&mut text, 0).ok()?;
        let available = parse(&text[..length])?;
        if !steps.is_empty() || available < threshold {
            if steps.is_empty() {
                crossed_at = filled;
            }
            steps.push((clock::now().ok()?, filled - crossed_at));
        }
        if !steps.is_empty() && filled - crossed_at >= BEYOND {
            break;
        }
        while clock::now().ok()? < due {
            std::hint::spin_loop();
        }
    }
    Some(steps)
}

fn parse(meminfo: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(meminfo).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
