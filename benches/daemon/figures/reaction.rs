//! From the crossing of a threshold until HAProxy's limit was changed and read back. What is to be undone is made durable
//! before, so a disk that other programs keep busy shows here: next to it is what one small durable write takes.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::runaway;
use crate::table::{Row, Unit, quantile};
use crate::{Figures, servers};

const RUNS: usize = 16;

pub fn measure() -> Figures {
    let haproxy = servers::haproxy()?;
    let control = format!("[control.haproxy.edge]\nsocket = {:?}\nbackends = [\"be\"]\n", haproxy.path("admin.sock"));
    let (mut late, mut durable) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (run, acted) = runaway::once(&control, |daemon| {
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
