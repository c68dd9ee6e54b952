//! From the moment that more tasks want a CPU than there are CPUs until the first step of the built-in rules was done. The
//! batch job that it acts on ran before, alone on its CPU, and was declared sacrificial. No load lasts for 10 s.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use node_guardian::clock;

use crate::Figures;
use crate::daemon::Daemon;
use crate::process::{Process, Spinners, cores};
use crate::table::{Row, Unit, quantile};

const FIGURE: &str = "tasks wait for a CPU: load to the first step done, worst";
const RUNS: usize = 5;
const TRIES: usize = 3 * RUNS;
/// Until the daemon has seen what the batch job takes, and its first second is over.
const SETTLE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(8);

pub fn measure() -> Figures {
    let (mut late, mut disturbed) = (Vec::new(), 0);
    while late.len() < RUNS {
        match once()? {
            Some(seconds) => late.push(seconds * 1e3),
            None if late.len() + disturbed >= TRIES => {
                let peers = format!("{} of {RUNS} runs; else other programs kept all CPUs busy", late.len());
                return Ok(vec![Row::new(FIGURE, quantile(&late, 1.0), Unit::Milliseconds).next_to(peers)]);
            }
            None => disturbed += 1,
        }
    }
    Ok(vec![Row::new(FIGURE, quantile(&late, 1.0), Unit::Milliseconds).at_most(3000.0, 1000.0).next_to(format!(
        "p50 {:.0} ms; {RUNS} runs, {} tasks on {} CPUs",
        quantile(&late, 0.5),
        load(),
        cores()
    ))])
}

fn load() -> usize {
    cores() * 2
}

/// Nothing where something was done before there was any load.
fn once() -> Result<Option<f64>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let pid_file = folder.path().join("pid");
    let batch = Process::quietly(Command::new("sh").args(["-c", "while :; do :; done"]))?;
    std::fs::write(&pid_file, batch.id().to_string()).map_err(|error| format!("no pid file: {error}"))?;
    let control = format!("[control.process.batch]\npid_file = {pid_file:?}\ncommand = \"sh\"\nsacrificial = true\n");
    let daemon = Daemon::start(&control)?;
    sleep(SETTLE);
    // Else other programs' load would be taken for ours.
    if daemon.events()?.iter().any(|event| event.name == "acted") {
        return daemon.stop().map(|()| None);
    }
    let began = clock::now().map_err(|errno| errno.to_string())?;
    let spinners = Spinners::start(load());
    let acted = daemon.event_with("acted", &[("outcome", "applied")], PATIENCE);
    drop(spinners);
    daemon.stop()?;
    // What did not come in time is shown as missed, and does not end the run of all the others.
    Ok(Some(acted.map_or(PATIENCE.as_secs_f64(), |acted| acted.at_seconds - began.seconds())))
}
