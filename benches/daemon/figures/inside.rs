//! What is measured inside this process, at the daemon's own code, and counted at the daemon from outside.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::CALM;
use crate::daemon::Daemon;
use crate::process::Process;
use crate::table::{Row, Unit};
use crate::{Figures, allocations as counted, rules as thousand, sample as cost};

const TRACED: Duration = Duration::from_secs(5);

pub fn sample() -> Figures {
    let cost = cost::measure_all();
    let [bare, full, _, memory, sysinfo] = cost.map(cost::Cost::total_us);
    let [reads, ours, ..] = cost;
    let peers = format!("bare reads {bare:.1}, ours {full:.1}, memory alone {memory:.1}, sysinfo {sysinfo:.1} us");
    Ok(vec![
        Row::new("one full sample against the bare reads, user and system", full / bare, Unit::Times)
            .at_most(1.5, 1.15)
            .next_to(peers),
        Row::new("reads in one full sample", ours.reads, Unit::Count)
            .at_most(24.0, 18.0)
            .next_to(format!("bare reads {:.1}", reads.reads)),
        Row::new("system calls in one tick, waiting and all (strace)", system_calls()?, Unit::Count)
            .at_most(24.0, None),
    ])
}

/// Of the loop's thread, all of a tick: those of the sample, the wait, the timer, the inbox.
fn system_calls() -> Result<f64, String> {
    let daemon = Daemon::start(&format!("{CALM}[sampling]\ninterval = \"100ms\"\n"))?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let report = folder.path().join("strace");
    sleep(Duration::from_secs(2));
    let mut command = Command::new("strace");
    command.args(["-c", "-o"]).arg(&report).arg("-p").arg(daemon.process.id().to_string());
    let mut strace = Process::quietly(&mut command)?;
    sleep(Duration::from_millis(500));
    let before = daemon.ticks()?;
    sleep(TRACED);
    let ticks = daemon.ticks()? - before;
    strace.signal(Signal::SIGINT);
    strace.ends();
    let text = std::fs::read_to_string(&report).map_err(|error| format!("strace reported nothing: {error}"))?;
    // Half a second was traced before the ticks were counted.
    let whole = (TRACED + Duration::from_millis(500)).as_secs_f64() / TRACED.as_secs_f64();
    let total = text
        .lines()
        .find(|line| line.trim_end().ends_with("total"))
        .and_then(|line| line.split_whitespace().nth(3).and_then(|calls| calls.parse::<f64>().ok()));
    total.map(|calls| calls / (ticks * whole)).ok_or_else(|| format!("strace may not look at the daemon here: {text}"))
}

pub fn rules() -> Figures {
    let (pass, bare) = thousand::measure();
    Ok(vec![
        Row::new("1,000 rules, one pass", pass * 1e6, Unit::Microseconds)
            .at_most(50.0, 15.0)
            .next_to(format!("the bare comparisons {:.1} us", bare * 1e6)),
    ])
}

pub fn allocations() -> Figures {
    let ticks = counted::in_a_thousand_ticks();
    Ok(vec![Row::new("allocations in 1,000 steady ticks", ticks as f64, Unit::Count).at_most(0.0, None)])
}
