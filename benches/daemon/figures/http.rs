//! How many probes a second, next to nginx, and whether the loop notices.

use std::process::Command;
use std::time::Duration;

use super::CALM;
use super::lateness::bare_timer;
use crate::daemon::Daemon;
use crate::histogram::{Histogram, TICK_LAG};
use crate::table::{Row, Unit, quantile};
use crate::{Figures, servers};

const ROUNDS: usize = 3;
/// Of all rounds, each of two times three seconds.
const WINDOW: Duration = Duration::from_secs(18);

pub fn measure() -> Figures {
    // Faster than usual, so that a few seconds have ticks enough for a quantile.
    let daemon = Daemon::start(&format!("{CALM}[sampling]\ninterval = \"20ms\"\nfast_interval = \"20ms\"\n"))?;
    let nginx = servers::nginx()?;
    let before = Histogram::read(daemon.port, TICK_LAG)?;
    let timer = std::thread::spawn(|| bare_timer(WINDOW));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(wrk(daemon.port, "/health")?);
        theirs.push(wrk(nginx.port, "/")?);
    }
    let lag = Histogram::read(daemon.port, TICK_LAG)?.since(&before);
    let bare = timer.join().map_err(|_| "the bare timer failed".to_owned())?.map_err(|errno| errno.to_string())?;
    let (ours, theirs) = (quantile(&ours, 0.5), quantile(&theirs, 0.5));
    Ok(vec![
        Row::new("/health on loopback, 64 clients", ours, Unit::PerSecond)
            .at_least(30_000.0, theirs / 1.5)
            .next_to(format!("nginx `return 200` {theirs:.0} /s")),
        Row::new("tick lateness meanwhile, p99, at most", lag.quantile(0.99) * 1e3, Unit::Milliseconds)
            .at_most(1.0, 0.2)
            .next_to(format!(
                "p50 {:.2}, {:.0} ticks; a bare real-time timer {:.2} ms",
                lag.quantile(0.5) * 1e3,
                lag.count(),
                quantile(&bare, 0.99)
            )),
    ])
}

fn wrk(port: u16, path: &str) -> Result<f64, String> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let output = Command::new("wrk").args(["-t1", "-c64", "-d3s", &url]).output();
    let output = output.map_err(|error| format!("cannot start wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(failed) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        return Err(format!("{url}: {}", failed.trim()));
    }
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).ok_or_else(|| format!("wrk said nothing of use: {text}"))
}
