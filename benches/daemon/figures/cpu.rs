//! What guarding costs: CPU time of all threads at two paces, over the same seconds as the peers'.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::CALM;
use crate::daemon::Daemon;
use crate::process::Process;
use crate::table::{Row, Unit};
use crate::{Figures, servers};

const SETTLE: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_secs(30);

pub fn measure() -> Figures {
    let (haproxy, redis) = (servers::haproxy()?, servers::redis()?);
    let controls = servers::controls(&haproxy, &redis);
    let paced = |interval: &str| Daemon::start(&format!("{controls}{CALM}[sampling]\ninterval = {interval:?}\n"));
    let (second, tenth) = (paced("1s")?, paced("100ms")?);
    let (earlyoom, exporter) = (servers::earlyoom()?, servers::exporter()?);
    sleep(SETTLE);

    let daemons = [&second, &tenth];
    let ticks = || daemons.map(Daemon::ticks).into_iter().collect::<Result<Vec<_>, _>>();
    let before = ticks()?;
    let processes = [&second.process, &tenth.process, &earlyoom.process, &exporter.process];
    let (started, spent) = (Instant::now(), processes.map(Process::cpu_seconds));
    sleep(WINDOW);
    let (window, after) = (started.elapsed().as_secs_f64(), processes.map(Process::cpu_seconds));
    let percent: Vec<f64> = after.iter().zip(spent).map(|(after, before)| 100.0 * (after - before) / window).collect();
    let ticks: Vec<f64> = ticks()?.iter().zip(before).map(|(after, before)| after - before).collect();

    let peers = format!("earlyoom {:.3}, node_exporter, not scraped, {:.4} %", percent[2], percent[3]);
    // Where stalls of other programs quickened the pace, what it would have been without comes from both daemons.
    let each = (percent[1] - percent[0]) / (ticks[1] - ticks[0]);
    let calm = percent[0] - each * (ticks[0] - window);
    let figure =
        |pace: &str, ticks: f64| format!("CPU at {pace} pace, all sources ({ticks:.0} ticks in {window:.0} s)");
    Ok(vec![
        Row::new(figure("1 s", ticks[0]), percent[0], Unit::Percent).at_most(0.1, 0.05).next_to(peers),
        Row::new("the same, reckoned for one tick a second from both", calm, Unit::Percent),
        Row::new(figure("100 ms", ticks[1]), percent[1], Unit::Percent).at_most(0.6, 0.35),
    ])
}
