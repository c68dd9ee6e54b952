//! From the crossing of a threshold until HAProxy's limit was changed and read back.

use super::runaway;
use crate::table::{Row, Unit, quantile};
use crate::{Figures, servers};

const RUNS: usize = 16;

pub fn measure() -> Figures {
    let haproxy = servers::haproxy()?;
    let control = format!("[control.haproxy.edge]\nsocket = {:?}\nbackends = [\"be\"]\n", haproxy.path("admin.sock"));
    let mut late = Vec::new();
    for _ in 0..RUNS {
        let (run, acted) = runaway::once(&control, |daemon| {
            let acted = daemon.event("acted", runaway::RULE)?;
            match (acted.fields.get("outcome").map(String::as_str), &*servers::haproxy_limit(&haproxy)?) {
                (Some("applied"), "4") => Ok(acted.at_seconds),
                (outcome, limit) => Err(format!("{outcome:?}, the limit is {limit} and not 4: {}", acted.text)),
            }
        })?;
        late.push(run.late_ms(acted));
        let limit = servers::haproxy_limit(&haproxy)?;
        if limit != "8" {
            return Err(format!("the limit was 8, and is {limit} after the daemon has ended"));
        }
    }
    Ok(vec![
        Row::new("crossing to HAProxy's limit changed and read back, p99", quantile(&late, 0.99), Unit::Milliseconds)
            .at_most(50.0, 15.0)
            .next_to(format!("p50 {:.2} ms; {RUNS} runs", quantile(&late, 0.5))),
    ])
}
