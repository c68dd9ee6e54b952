//! The host's half: which runs are still to be made, a fresh guest for each, and the table.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use node_guardian_vm::{Error, Guest, Machine};

use crate::guest;
use crate::record::{self, Record};
use crate::scenario::{self, Scenario};
use crate::tool::{self, NODE_GUARDIAN, Tool};
use crate::{Outcome, table};

const USAGE: &str =
    "usage: protection [--tool NAME]… [--scenario NAME]… [--runs N] [--results FILE] [--fresh] [--table]";
const PATIENCE: Duration = Duration::from_secs(240);
/// More would be slower than one after the other, where the guest is emulated on two processors.
const AT_A_TIME: usize = 2;
const PROGRAM: &str = "/root/protection";

struct Wanted {
    tools: Vec<&'static Tool>,
    scenarios: Vec<&'static Scenario>,
    runs: u32,
    results: PathBuf,
    /// Forget what was measured before.
    fresh: bool,
    /// Show what there is and measure nothing.
    table: bool,
}

pub fn run(words: &[&str]) -> Outcome {
    let wanted = wanted(words)?;
    if wanted.fresh && wanted.results.exists() {
        fs::remove_file(&wanted.results).map_err(|error| format!("{}: {error}", wanted.results.display()))?;
    }
    let failed = if wanted.table { 0 } else { measure(&wanted)? };
    table::print(&record::read(&wanted.results)?);
    if failed > 0 { Err(format!("{failed} runs failed; the same command tries them again")) } else { Ok(()) }
}

fn wanted(words: &[&str]) -> Outcome<Wanted> {
    let results = target().join("protection/results.jsonl");
    let mut wanted = Wanted { tools: vec![], scenarios: vec![], runs: 3, results, fresh: false, table: false };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().ok_or_else(|| format!("{word} wants a value\n{USAGE}"));
        match *word {
            "--tool" => wanted.tools.push(tool::find(value()?)?),
            "--scenario" => wanted.scenarios.push(scenario::find(value()?)?),
            "--runs" => wanted.runs = value()?.parse().map_err(|_| format!("--runs wants a number\n{USAGE}"))?,
            "--results" => wanted.results = PathBuf::from(value()?),
            "--fresh" => wanted.fresh = true,
            "--table" => wanted.table = true,
            _ => return Err(format!("{word}?\n{USAGE}")),
        }
    }
    if wanted.tools.is_empty() {
        wanted.tools = tool::ALL.iter().collect();
    }
    if wanted.scenarios.is_empty() {
        wanted.scenarios = scenario::ALL.iter().collect();
    }
    Ok(wanted)
}

/// The guards take turns within a scenario, so that what else the machine does meanwhile hits all of them, and each run of
/// all comes before the next, so that an early end leaves a whole table. How many failed.
fn measure(wanted: &Wanted) -> Outcome<usize> {
    if let Some(folder) = wanted.results.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let missing = missing(wanted)?;
    for tool in &wanted.tools {
        if missing.iter().any(|job| job.tool.name == tool.name) {
            eprintln!("setting up {}", tool.name);
            start(tool, &Machine::default())?;
        }
    }
    let (started, next, failed) = (Instant::now(), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(job) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = job.perform(&wanted.results) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{} failed: {why}", job.name());
                    }
                    let (done, minutes) = (next.load(Ordering::Relaxed), started.elapsed().as_secs() / 60);
                    eprintln!("[{minutes} min, {} of {} begun]", done.min(missing.len()), missing.len());
                }
            });
        }
    });
    Ok(failed.into_inner())
}

struct Job {
    scenario: &'static Scenario,
    tool: &'static Tool,
    run: u32,
}

fn missing(wanted: &Wanted) -> Outcome<Vec<Job>> {
    let have = record::read(&wanted.results)?;
    let mut missing = Vec::new();
    for run in 1..=wanted.runs {
        for scenario in &wanted.scenarios {
            let jobs = wanted.tools.iter().map(|tool| Job { scenario, tool, run });
            missing.extend(jobs.filter(|job| !have.iter().any(|record| record.is(job.tool.name, scenario.name, run))));
        }
    }
    Ok(missing)
}

impl Job {
    fn name(&self) -> String {
        format!("{} run {}: {}", self.scenario.name, self.run, self.tool.name)
    }

    fn perform(&self, results: &Path) -> Outcome {
        let record = Record { run: self.run, ..one(self.scenario, self.tool)? };
        eprintln!(
            "{}: {} of {} answered, p99 {:.0} ms, outage {:.1} s, ended {:?} {:?}, left {:?}",
            self.name(),
            record.answered,
            record.asked,
            record.p99_ms,
            record.outage_ms / 1000.0,
            record.protected_ended,
            record.others_ended,
            record.left_behind
        );
        record::append(results, &record)
    }
}

fn one(scenario: &Scenario, tool: &Tool) -> Outcome<Record> {
    let machine = Machine { swap_mib: scenario.swap_mib, disk_iops: scenario.disk_iops, ..Machine::default() };
    let mut guest = start(tool, &machine)?;
    let measured = guest.run(&format!("{PROGRAM} guest {} {}", tool.name, scenario.name), PATIENCE);
    let measured = measured.map_err(|error| error.to_string())?;
    if !measured.succeeded() {
        return Err(format!("status {}: {}", measured.status, measured.text.trim()));
    }
    let result = guest.get(guest::RESULT).map_err(|error| error.to_string())?;
    serde_json::from_slice(&result).map_err(|error| error.to_string())
}

/// With the town built and the guard set up, which is done once and saved.
fn start(tool: &Tool, machine: &Machine) -> Outcome<Guest> {
    let own = tool.name == NODE_GUARDIAN;
    let mut hash = DefaultHasher::new();
    for file in [Some(program()), own.then(package).transpose()?].into_iter().flatten() {
        fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?.hash(&mut hash);
    }
    let name = format!("{:016x}", hash.finish());
    let prepared = machine.start_prepared(&format!("town-{}", tool.name), &name, |mut guest| {
        guest.put(&program(), PROGRAM)?;
        if own {
            guest.put(&package().map_err(Error::new)?, guest::PACKAGE)?;
        }
        guest.must(&format!("{PROGRAM} guest {}", tool.name))?;
        Ok(guest)
    });
    prepared.map_err(|error| error.to_string())
}

/// Absolute, since cargo starts benchmarks in the folder of their package.
fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn program() -> PathBuf {
    env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

/// `NODE_GUARDIAN_DEB`, or the newest for the guest that `make deb` has left.
fn package() -> Outcome<PathBuf> {
    if let Some(named) = env::var_os("NODE_GUARDIAN_DEB") {
        return Ok(PathBuf::from(named));
    }
    let folder = fs::read_dir(target().join("deb")).into_iter().flatten().flatten().map(|entry| entry.path());
    let packages = folder.filter(|path| path.to_string_lossy().ends_with("_amd64.deb"));
    let newest = packages.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest.ok_or_else(|| "no package in target/deb: run `make deb`".to_owned())
}
