//! From the crossing of a threshold until HAProxy's limit was changed and read back; and until it refuses a share, where
//! others are asked before. What is to be undone is made durable
//! before, so a disk that other programs keep busy shows here: next to it is what one small durable write takes.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::runaway;
use crate::table::{Row, Unit, quantile};
use crate::{Figures, servers};

const RUNS: usize = 16;
/// More than a step's way to its last answer takes.
const PATIENCE: Duration = Duration::from_secs(8);

pub fn measure() -> Figures {
    let mut rows = alone()?;
    rows.extend(asked_first()?);
    Ok(rows)
}

fn alone() -> Figures {
    let haproxy = servers::haproxy()?;
    let control = format!("[control.haproxy.edge]\nsocket = {:?}\nbackends = [\"be\"]\n", haproxy.path("admin.sock"));
    let (mut late, mut durable) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (run, acted) = runaway::once(&control, "{ throttle = \"edge\", to = \"50%\" }", |daemon| {
            let acted = daemon.event("acted", runaway::RULE)?;
            match (acted.fields.get("outcome").map(String::as_str), &*servers::haproxy_limit(&haproxy)?) {
                (Some("applied"), "4") => Ok(acted.at_seconds),
                (outcome, limit) => Err(format!("{outcome:?}, the limit is {limit} and not 4: {}", acted.text)),
            }
        })?;
        late.push(run.late_ms(acted));
        durable.push(durable_write().map_err(|error| format!("cannot write to the disk: {error}"))?);
        let limit = servers::haproxy_limit(&haproxy)?;
        if limit != "8" {
            return Err(format!("the limit was 8, and is {limit} after the daemon has ended"));
        }
    }
    Ok(vec![
        Row::new("crossing to HAProxy's limit changed and read back, p99", quantile(&late, 0.99), Unit::Milliseconds)
            .at_most(50.0, 15.0)
            .next_to(format!(
                "p50 {:.2}; {RUNS} runs; a durable write p50 {:.2}, p99 {:.2} ms",
                quantile(&late, 0.5),
                quantile(&durable, 0.5),
                quantile(&durable, 0.99)
            )),
    ])
}

/// Until a share is refused, where who listens for pressure, an application and Redis are asked for memory before: what only
/// asks holds up nobody. Each run has others, which have something to give.
fn asked_first() -> Figures {
    let (mut late, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (proxy, redis) = (servers::haproxy_with_leases()?, servers::redis()?);
        let (listener, app) = (servers::listener()?, servers::app()?);
        servers::churn(&redis)?;
        let controls = servers::controls(&proxy, &redis)
            + &format!(
                "[control.pressure.listener]\nfifo = {:?}\npid_file = {:?}\ncommand = \"python3\"\n\
                 [control.app.api]\nsocket = {:?}\n",
                listener.path("fifo"),
                listener.path("pid"),
                app.path("app.sock")
            );
        let steps = "{ release = \"listener\" }, { release = \"api\" }, { release = \"cache\" }, \
                     { shed = \"edge\", share = \"50%\" }";
        let (run, (shed, answered)) = runaway::once(&controls, steps, |daemon| {
            let of = |verb| [("rule", runaway::RULE), ("verb", verb)];
            let shed = daemon.event_with("acted", &of("shed"), PATIENCE)?;
            if shed.fields.get("outcome").is_none_or(|outcome| outcome != "applied") {
                return Err(shed.text);
            }
            let released = daemon.event_with("acted", &[of("release")[0], ("control", "listener")], PATIENCE)?;
            Ok((shed.at_seconds, released.at_seconds))
        })?;
        late.push(run.late_ms(shed));
        asked.push(run.late_ms(answered));
    }
    let figure = "crossing to a share refused, where pressure, an app and Redis are asked first, p99";
    Ok(vec![Row::new(figure, quantile(&late, 0.99), Unit::Milliseconds).at_most(100.0, 30.0).next_to(format!(
        "p50 {:.2}; {RUNS} runs; who was asked first answered after {:.0} ms",
        quantile(&late, 0.5),
        quantile(&asked, 0.5)
    ))])
}

/// Milliseconds for 512 bytes to a file that has its room already.
fn durable_write() -> std::io::Result<f64> {
    let file = tempfile::tempfile()?;
    file.write_all_at(&[1; 4096], 0)?;
    file.sync_all()?;
    let started = Instant::now();
    file.write_all_at(&[2; 512], 0)?;
    file.sync_data()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
