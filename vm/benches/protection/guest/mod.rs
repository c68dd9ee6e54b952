//! One run in a fresh guest: the town is built, the guard is started, the attack comes and goes, and everything that is
//! left is written down. This process is apparatus, not town: it is locked into memory, comes before all others, and is
//! no candidate for anybody who ends processes.

mod client;
mod ended;
mod guard;
mod inventory;
mod shell;
mod town;

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::mman::{MlockAllFlags, mlockall};

use crate::Outcome;
use crate::record::Record;
use crate::scenario::{self, AFTERMATH, ATTACK, Scenario, WARM_UP};
use crate::tool::{self, Tool};

pub use guard::PACKAGE;

pub const RESULT: &str = "/run/town/result.json";
/// How long one that undoes what it did is given to have done so.
const RECOVERY: Duration = Duration::from_secs(75);
/// The others only need the town to answer again: it does not while a service is being started again.
const SETTLED: Duration = Duration::from_secs(AFTERMATH + 5);

/// Once for all runs of a guard.
pub fn prepare(tool: &str) -> Outcome {
    town::build()?;
    guard::set_up(tool::find(tool)?)
}

pub fn run(tool: &str, scenario: &str) -> Outcome {
    let (tool, scenario) = (tool::find(tool)?, scenario::find(scenario)?);
    let begun = Instant::now();
    let tell = |what: &str| eprintln!("{:6.1} s: {what}", begun.elapsed().as_secs_f64());
    town::arm(scenario)?;
    tell("the town answers");
    guard::start(tool)?;
    tell("the guard is there");
    stand_aside()?;
    town::await_calm()?;
    tell("all is calm");
    let record = measure(tool, scenario)?;
    tell("measured");
    let text = serde_json::to_string(&record).map_err(|error| error.to_string())?;
    fs::write(RESULT, text).map_err(|error| format!("{RESULT}: {error}"))
}

fn measure(tool: &Tool, scenario: &Scenario) -> Outcome<Record> {
    let client = client::Client::start(Duration::from_secs(WARM_UP + ATTACK + AFTERMATH));
    let second = Duration::from_secs(1);
    thread::sleep(Duration::from_secs(WARM_UP) - second);
    let before = inventory::take();
    client.sleep_until(Duration::from_secs(WARM_UP));
    let cost = guard::Cost::watch(tool);
    let attacked = now()?;
    town::attack(scenario)?;
    client.sleep_until(Duration::from_secs(WARM_UP + ATTACK));
    let over = (Instant::now(), now()?);
    town::end_attack(scenario);
    let asked = client.finish()?;
    let (cpu, memory) = cost.finish();
    let mut record = asked.record(Duration::from_secs(WARM_UP));
    (record.tool, record.scenario) = (tool.name.to_owned(), scenario.name.to_owned());
    (record.guard_cpu_percent, record.guard_memory_mib) = (cpu, memory);
    loop {
        record.left_behind = inventory::differences(&before, &inventory::take());
        let patience = if tool.recovers { RECOVERY } else { SETTLED };
        if record.left_behind.is_empty() || over.0.elapsed() > patience {
            break;
        }
        thread::sleep(second);
    }
    record.recovered_s = record.left_behind.is_empty().then(|| over.0.elapsed().as_secs_f64());
    ended::tell(tool, attacked..over.1, &mut record)?;
    Ok(record)
}

fn stand_aside() -> Outcome {
    fs::write("/proc/self/oom_score_adj", "-1000").map_err(|error| format!("oom_score_adj: {error}"))?;
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(|error| format!("mlockall: {error}"))?;
    shell::must(&format!("chrt -f -p 20 {}", std::process::id())).map(drop)
}

/// Seconds since 1970, as the journal counts them.
fn now() -> Outcome<f64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    Ok(since.as_secs_f64())
}
