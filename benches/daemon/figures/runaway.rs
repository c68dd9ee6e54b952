//! Memory that fills as fast as it can be touched: from the threshold's crossing to the daemon's decision.

use std::thread::sleep;
use std::time::Duration;

use crate::Figures;
use crate::daemon::Daemon;
use crate::fill::{self, Run};
use crate::process::{Spinners, cores};
use crate::table::{Row, Unit, quantile};

const IDLE_RUNS: usize = 24;
const SATURATED_RUNS: usize = 15;
/// So that the first ticks are over and the pace is that of the headroom.
const SETTLE: Duration = Duration::from_millis(600);
const TRIES: usize = 3;
pub const RULE: &str = "runaway";

pub fn measure() -> Figures {
    let mut rows = rows("cores idle", IDLE_RUNS, [10.0, 4.0])?;
    let spinners = Spinners::start(cores());
    rows.extend(self::rows("cores saturated", SATURATED_RUNS, [20.0, 4.0])?);
    drop(spinners);
    Ok(rows)
}

fn rows(state: &str, runs: usize, [must, aim]: [f64; 2]) -> Figures {
    let (mut late, mut filled, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let (run, decided) = once("", "", |daemon| daemon.event("rule_fired", RULE).map(|event| event.at_seconds))?;
        late.push(run.late_ms(decided));
        filled.push(run.filled_megabytes(decided));
        rates.push(run.rate());
    }
    let spread = |values: &[f64]| [0.5, 0.99].map(|share| quantile(values, share));
    let ([late_p50, late_p99], [filled_p50, filled_p99]) = (spread(&late), spread(&filled));
    let seen = format!("p50 {late_p50:.2} ms; {runs} runs at {:.1} GB/s", quantile(&rates, 0.5));
    Ok(vec![
        Row::new(format!("memory runs away: crossing to decision, {state}, p99"), late_p99, Unit::Milliseconds)
            .at_most(must, aim)
            .next_to(seen),
        Row::new(format!("memory filled further by then, {state}, p99"), filled_p99, Unit::Megabytes)
            .at_most(50.0, None)
            .next_to(format!("p50 {filled_p50:.1} MB")),
    ])
}

/// One run past a threshold that is 1 GiB away, with a daemon of its own that has these controls and steps. Where other programs gave back as much memory
/// meanwhile, once more.
pub fn once<T>(controls: &str, steps: &str, look: impl Fn(&Daemon) -> Result<T, String>) -> Result<(Run, T), String> {
    let mut outcome = attempt(controls, steps, &look);
    for _ in 1..TRIES {
        if outcome.is_ok() {
            break;
        }
        outcome = attempt(controls, steps, &look);
    }
    outcome
}

fn attempt<T>(controls: &str, steps: &str, look: impl Fn(&Daemon) -> Result<T, String>) -> Result<(Run, T), String> {
    fill::warm()?;
    let threshold = fill::available_bytes()? - fill::AHEAD;
    let rule = format!(
        "{controls}\n[rule.{RULE}]\nwhen = \"memory.available_bytes < {threshold}B\"\nseverity = \"emergency\"\n\
         for = \"0s\"\npriority = 1000\nsteps = [{steps}]\n"
    );
    let daemon = Daemon::start(&rule)?;
    sleep(SETTLE);
    let run = fill::past(threshold)?;
    let seen = look(&daemon)?;
    daemon.stop()?;
    Ok((run, seen))
}
