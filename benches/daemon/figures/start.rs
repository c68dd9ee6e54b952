//! From the spawning of the process until it says READY=1.

use crate::Figures;
use crate::daemon::Daemon;
use crate::table::{Row, Unit, quantile};

const SPAWNS: usize = 30;

pub fn measure() -> Figures {
    let started = (0..SPAWNS).map(|_| Daemon::start("").map(|daemon| daemon.ready_after.as_secs_f64() * 1e3));
    let started = started.collect::<Result<Vec<_>, _>>()?;
    Ok(vec![
        Row::new("start to READY, median of 30", quantile(&started, 0.5), Unit::Milliseconds)
            .at_most(20.0, 5.0)
            .next_to(format!("p90 {:.2} ms", quantile(&started, 0.9))),
    ])
}
