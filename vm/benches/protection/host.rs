//! The host's half: which runs are still to be made, a fresh guest for each, and the table.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node_guardian_vm::Machine;

use crate::guest;
use crate::record::{self, Record};
use crate::scenario::{self, Scenario};
use crate::tool::{self, NODE_GUARDIAN, Tool};
use crate::{Outcome, table};

const USAGE: &str = "usage: protection [--tool NAME]… [--scenario NAME]… [--runs N] [--results FILE] [--fresh] [--table]";
const PATIENCE: Duration = Duration::from_secs(240);

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
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let results = target.join("protection/results.jsonl");
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

/// The guards take turns within a scenario, so that what else the machine does meanwhile hits all of them. How many failed.
fn measure(wanted: &Wanted) -> Outcome<usize> {
    if let Some(folder) = wanted.results.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let have = record::read(&wanted.results)?;
    let mut missing = Vec::new();
    for scenario in &wanted.scenarios {
        for run in 1..=wanted.runs {
            let of_run = wanted.tools.iter().map(|tool| (*scenario, run, *tool));
            missing.extend(of_run.filter(|(_, _, tool)| !have.iter().any(|record| record.is(tool.name, scenario.name, run))));
        }
    }
    let (start, mut failed) = (Instant::now(), 0);
    for (number, (scenario, run, tool)) in missing.iter().enumerate() {
        let minutes = start.elapsed().as_secs() / 60;
        eprintln!("[{minutes} min, {} of {}] {} run {run}: {}", number + 1, missing.len(), scenario.name, tool.name);
        match one(scenario, tool) {
            Ok(record) => {
                let record = Record { run: *run, ..record };
                eprintln!(
                    "    {} of {} answered, p99 {:.0} ms, outage {:.1} s, ended {:?} {:?}, left {:?}",
                    record.answered, record.asked, record.p99_ms, record.outage_ms / 1000.0, record.protected_ended,
                    record.others_ended, record.left_behind
                );
                record::append(&wanted.results, &record)?;
            }
            Err(why) => {
                failed += 1;
                eprintln!("    failed: {why}");
            }
        }
    }
    Ok(failed)
}

fn one(scenario: &Scenario, tool: &Tool) -> Outcome<Record> {
    let machine = Machine { memory_mib: 1024, cpus: 2, swap_mib: scenario.swap_mib, disk_iops: scenario.disk_iops };
    let run = || -> node_guardian_vm::Result<Outcome<Record>> {
        let mut guest = machine.start()?;
        guest.put(&program(), "/root/protection")?;
        if tool.name == NODE_GUARDIAN {
            match package() {
                Some(package) => guest.put(&package, guest::PACKAGE)?,
                None => guest.put(&daemon(), guest::PROGRAM)?,
            }
        }
        let done = guest.run(&format!("/root/protection guest {} {}", tool.name, scenario.name), PATIENCE)?;
        if !done.succeeded() {
            return Ok(Err(format!("status {}: {}", done.status, done.text.trim())));
        }
        let result = guest.get(guest::RESULT)?;
        Ok(serde_json::from_slice(&result).map_err(|error| error.to_string()))
    };
    run().map_err(|error| error.to_string())?
}

fn program() -> PathBuf {
    env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

/// `NODE_GUARDIAN_DEB`, or the newest that `make deb` has left.
fn package() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NODE_GUARDIAN_DEB") {
        return Some(PathBuf::from(named));
    }
    let mut found: Vec<PathBuf> = fs::read_dir("target/deb").ok()?.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    found.sort_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    found.pop()
}

/// `NODE_GUARDIAN_BINARY`, or where a release build for musl is.
fn daemon() -> PathBuf {
    let built = Path::new("target/x86_64-unknown-linux-musl/release/node-guardian");
    env::var_os("NODE_GUARDIAN_BINARY").map_or_else(|| built.to_path_buf(), PathBuf::from)
}
