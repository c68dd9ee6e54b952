//! How late ticks begin while four threads a core want the CPU, next to bare loops over the
//! same seconds: a thread that sleeps as long, and one with a timer and real-time scheduling that does nothing else. What
//! the latter is late is the machine's doing: its host, its kernel, its other programs.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use node_guardian::clock::{self, Timer};
use node_guardian::privilege::{Urgency, schedule_in_real_time};

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
    let timer = std::thread::spawn(|| bare_timer(WINDOW));
    let plain = sleeper();
    let bare = timer.join().map_err(|_| "the bare timer failed".to_owned())?.map_err(|errno| errno.to_string())?;
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
            "p50 {:.2}, {:.0} ticks; a bare real-time timer {:.2}, a thread that sleeps {:.2} ms",
            lag.quantile(0.5) * 1e3,
            lag.count(),
            quantile(&bare, 0.99),
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

/// Lateness in milliseconds, over a while.
pub fn bare_timer(window: Duration) -> nix::Result<Vec<f64>> {
    if let Some(refused) = schedule_in_real_time(Urgency::Loop) {
        eprintln!("{}: {}", refused.what, refused.why);
    }
    let (started, mut timer, mut late) = (clock::now()?, Timer::new()?, Vec::new());
    let mut now = started;
    while now.since(started) < window {
        let due = now + PERIOD;
        timer.arm(due)?;
        poll(&mut [PollFd::new(timer.as_fd(), PollFlags::POLLIN)], PollTimeout::MAX)?;
        now = clock::now()?;
        late.push(now.since(due).as_secs_f64() * 1e3);
    }
    Ok(late)
}
