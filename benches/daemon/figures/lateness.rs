//! How late ticks begin while four threads a core want the CPU, next to a plain thread that sleeps as long.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::CALM;
use crate::Figures;
use crate::daemon::Daemon;
use crate::histogram::{Histogram, TICK_LAG};
use crate::process::{Spinners, cores};
use crate::table::{Row, Unit, quantile};

const WINDOW: Duration = Duration::from_secs(12);
const PERIOD: Duration = Duration::from_millis(10);

pub fn measure() -> Figures {
    let daemon = Daemon::start(&format!("{CALM}[sampling]\ninterval = \"10ms\"\nfast_interval = \"10ms\"\n"))?;
    let spinners = Spinners::start(cores() * 4);
    sleep(Duration::from_secs(1));
    let before = Histogram::read(daemon.port, TICK_LAG)?;
    let plain = sleeper();
    let lag = Histogram::read(daemon.port, TICK_LAG)?.since(&before);
    drop(spinners);
    Ok(vec![
        Row::new(
            "tick lateness at four-fold oversubscription, p99, at most",
            lag.quantile(0.99) * 1e3,
            Unit::Milliseconds,
        )
        .at_most(1.0, 0.2)
        .next_to(format!(
            "p50 {:.2}, {:.0} ticks; a thread without privilege {:.2} ms",
            lag.quantile(0.5) * 1e3,
            lag.count(),
            quantile(&plain, 0.99)
        )),
    ])
}

/// Lateness in milliseconds.
fn sleeper() -> Vec<f64> {
    let started = Instant::now();
    let mut late = Vec::new();
    while started.elapsed() < WINDOW {
        let due = Instant::now() + PERIOD;
        sleep(PERIOD);
        late.push(due.elapsed().as_secs_f64() * 1e3);
    }
    late
}
