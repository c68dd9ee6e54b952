//! What the daemon says of itself in `detection_seconds`, held against what a child saw that crossed the threshold: memory that
//! fills, again and again, with a daemon that samples at its own pace.

use std::thread::sleep;
use std::time::Duration;

use crate::Figures;
use crate::daemon::Daemon;
use crate::fill;
use crate::histogram::Histogram;
use crate::table::{Row, Unit, quantile};

const DETECTION: &str = "node_guardian_detection_seconds";
const RULE: &str = "runaway";
const CROSSINGS: usize = 40;
/// What clears the rule is taken at once, and the pace is calm again.
const CLEARS: Duration = Duration::from_millis(1500);
/// The child looks each 2 MiB, and decisions are told in ms.
const OWN_ERROR_MS: f64 = 2.0;

pub fn measure() -> Figures {
    fill::warm()?;
    let threshold = fill::available_bytes()? - fill::AHEAD;
    let daemon = Daemon::start(&format!(
        "[emergency]\nhold = \"0s\"\n{}\n[rule.{RULE}]\nwhen = \"memory.available_bytes < {threshold}B\"\n\
         clear = \"memory.available_bytes > {}B\"\nclear_for = \"0s\"\ncooldown = \"0s\"\nseverity = \"emergency\"\nfor = \"0s\"\n\
         priority = 1000\n",
        super::CALM,
        threshold + (64 << 20),
    ))?;
    sleep(CLEARS);
    let before = Histogram::read(daemon.port, DETECTION)?;
    let mut late = Vec::new();
    for _ in 0..CROSSINGS {
        let decided = decisions(&daemon)?;
        let run = fill::past(threshold)?;
        sleep(CLEARS);
        let at = decisions(&daemon)?;
        match at.get(decided.len()..) {
            Some([at]) => late.push(run.late_ms(*at)),
            Some(other) => return Err(format!("{} decisions for one crossing", other.len())),
            None => return Err("the trail has lost decisions".to_owned()),
        }
    }
    let told = Histogram::read(daemon.port, DETECTION)?.since(&before);
    daemon.stop()?;
    if told.count() < CROSSINGS as f64 {
        return Err(format!("{DETECTION} counts {} of {CROSSINGS} crossings", told.count()));
    }
    let rows = [0.5, 0.99].map(|share| {
        let (seen, (least, most)) = (quantile(&late, share), told.bucket(share));
        let [least, most] = [least * 1e3, most * 1e3];
        // No further from what was seen than its bucket, and what the child cannot see, allow.
        let off = (least - seen).max(seen - most).max(0.0);
        let figure = format!("crossing to decision, p{:.0}: the daemon's own figure is off by", share * 100.0);
        Row::new(figure, off, Unit::Milliseconds)
            .at_most(OWN_ERROR_MS, OWN_ERROR_MS / 2.0)
            .next_to(format!("seen {seen:.2} ms, told {least:.0} to {most:.0} ms; {CROSSINGS} crossings"))
    });
    let mut all = vec![
        Row::new(
            "memory fills: crossing to decision at the daemon's own pace, p99",
            quantile(&late, 0.99),
            Unit::Milliseconds,
        )
        .at_most(10.0, 4.0)
        .next_to(format!("p50 {:.2} ms; {CROSSINGS} crossings", quantile(&late, 0.5))),
    ];
    all.extend(rows);
    Ok(all)
}

/// When, in seconds since boot.
fn decisions(daemon: &Daemon) -> Result<Vec<f64>, String> {
    let events = daemon.events()?;
    let fired = events.iter().filter(|event| ["rule_fired", "rule_relapsed"].contains(&event.name.as_str()));
    Ok(fired
        .filter(|event| event.fields.get("rule").is_some_and(|rule| rule == RULE))
        .map(|event| event.at_seconds)
        .collect())
}
