//! From the spawning of the process until it says READY=1.

use crate::Figures;
use crate::daemon::Daemon;
use crate::table::{Row, Unit, quantile};

const SPAWNS: usize = 30;

pub fn measure() -> Figures {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let started = || {
        let daemon = Daemon::start_in(folder.path(), "")?;
        let ready = daemon.ready_after.as_secs_f64() * 1e3;
        daemon.stop().map(|()| ready)
    };
    let first = started()?;
    let started = (0..SPAWNS).map(|_| started()).collect::<Result<Vec<_>, String>>()?;
    Ok(vec![
        Row::new("start to READY, median of 30", quantile(&started, 0.5), Unit::Milliseconds)
            .at_most(20.0, 5.0)
            .next_to(format!(
                "p90 {:.2} ms; the very first, which makes the journal, {first:.2}",
                quantile(&started, 0.9)
            )),
    ])
}
