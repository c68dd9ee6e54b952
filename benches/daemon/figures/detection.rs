//! What the daemon says of itself in `detection_seconds`, held against what a child saw that crossed the threshold: memory that
//! fills, again and again, with a daemon that samples at its own pace.

use std::thread::sleep;
use std::time::Duration;

use node_guardian::config::settings::Settings;

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
/// The child looks each 2 MiB, the kernel brings up to date what it shows now and then, and a crossing is dated by the line
/// between two readings.
const MOST_OFF_MS: f64 = 4.0;

pub fn measure() -> Figures {
    fill::warm()?;
    let threshold = fill::available_bytes()? - fill::AHEAD;
    let daemon = Daemon::start(&format!(
        "[emergency]\nhold = \"10ms\"\n[rule.{RULE}]\nwhen = \"memory.available_bytes < {threshold}B\"\n\
         clear = \"memory.available_bytes > {}B\"\nclear_for = \"0s\"\ncooldown = \"0s\"\nseverity = \"emergency\"\nfor = \"0s\"\n\
         priority = 1000\n{}",
        threshold + (64 << 20),
        others_off(),
    ))?;
    sleep(CLEARS);
    let (mut late, mut off, mut disturbed) = (Vec::new(), Vec::new(), 0);
    while late.len() < CROSSINGS {
        match once(&daemon, threshold)? {
            Some(Crossing { seen, told }) => {
                late.push(seen);
                off.push((told.0 - seen).max(seen - told.1).max(0.0));
            }
            None if disturbed == CROSSINGS => return Err("other programs kept on crossing the threshold".to_owned()),
            None => disturbed += 1,
        }
    }
    daemon.stop()?;
    let seen = |share| quantile(&late, share);
    let more = format!("{CROSSINGS} crossings, and {disturbed} that other programs disturbed");
    Ok(vec![
        Row::new("memory fills: crossing to decision at the daemon's own pace, p99", seen(0.99), Unit::Milliseconds)
            .at_most(10.0, 4.0)
            .next_to(format!("p50 {:.2} ms; {more}", seen(0.5))),
        // No further from what was seen than the bucket, and what the child cannot see, allow.
        Row::new("what detection_seconds says of each is off by, p99", quantile(&off, 0.99), Unit::Milliseconds)
            .at_most(MOST_OFF_MS, MOST_OFF_MS / 2.0)
            .next_to(format!("p50 {:.2} ms beyond its bucket", quantile(&off, 0.5))),
    ])
}

/// In ms.
struct Crossing {
    seen: f64,
    /// The bounds of the bucket that it was counted in.
    told: (f64, f64),
}

/// Nothing where the crossing was not the child's alone.
fn once(daemon: &Daemon, threshold: u64) -> Result<Option<Crossing>, String> {
    let (decided, counted) = (decisions(daemon)?.len(), Histogram::read(daemon.port, DETECTION)?);
    let run = fill::past(threshold)?;
    sleep(CLEARS);
    let (decisions, told) = (decisions(daemon)?, Histogram::read(daemon.port, DETECTION)?.since(&counted));
    let [at] = decisions[decided..] else { return Ok(None) };
    if told.count() != 1.0 {
        return Ok(None);
    }
    let (least, most) = told.bucket(1.0);
    Ok(Some(Crossing { seen: run.late_ms(at), told: (least * 1e3, most * 1e3) }))
}

/// Whatever they cross would be counted too.
fn others_off() -> String {
    let rules = Settings::default().policy.rules;
    rules.iter().map(|rule| format!("[rule.{}]\nenabled = false\n", rule.name)).collect()
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
