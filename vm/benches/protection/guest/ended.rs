//! Who was ended, by whom, and when the guard first did something: from the service manager and the journal.

use std::collections::BTreeMap;
use std::ops::Range;

use super::shell;
use crate::Outcome;
use crate::record::Record;
use crate::tool::Tool;

const TOWN: [&str; 3] = ["shop", "haproxy", "redis-server"];
const KEPT: usize = 12;

/// `attack` is from when to when, in seconds since 1970; what ends later was ended by this benchmark.
pub fn tell(tool: &Tool, attack: Range<f64>, record: &mut Record) -> Outcome {
    for unit in TOWN {
        let shown = shell::must(&format!("systemctl show -P NRestarts -P ActiveState {unit}"))?;
        let restarts = shown.lines().next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let down = u32::from(!shown.contains("\nactive") && restarts == 0);
        if restarts + down > 0 {
            record.protected_ended.insert(unit.to_owned(), restarts + down);
        }
    }
    let lines = journal(attack.start)?;
    if !tool.unit.is_empty() {
        let own: Vec<&(f64, String)> = lines.iter().filter(|(_, line)| by_guard(tool, line)).collect();
        record.first_action_s = own.first().map(|(time, _)| time - attack.start);
        record.actions =
            own.iter().take(KEPT).map(|(time, line)| format!("{:.2} {line}", time - attack.start)).collect();
    }
    record.others_ended = others(&lines, attack.end);
    Ok(())
}

/// Seconds since 1970, and the rest of the line, since the attack.
fn journal(since: f64) -> Outcome<Vec<(f64, String)>> {
    let text = shell::must(&format!("journalctl -o short-unix --no-hostname --no-pager --since @{}", since.floor()))?;
    let parse = |line: &str| {
        let (time, rest) = line.split_once(' ')?;
        Some((time.parse().ok()?, rest.to_owned())).filter(|(time, _): &(f64, String)| *time >= since)
    };
    Ok(text.lines().filter_map(parse).collect())
}

fn by_guard(tool: &Tool, line: &str) -> bool {
    let name = tool.unit.trim_end_matches(".service");
    line.starts_with(name) && tool.acts.iter().any(|act| line.contains(act))
}

/// The kernel names each process that its OOM killer ended; the manager each unit's main process; the swarm's master each
/// of its workers. One end may be told by two of them: the manager's is left out where another counts.
fn others(lines: &[(f64, String)], until: f64) -> BTreeMap<String, u32> {
    let mut ended = BTreeMap::new();
    let mut count = |name: &str| {
        if !TOWN.contains(&name) {
            *ended.entry(name.to_owned()).or_insert(0) += 1;
        }
    };
    for (_, line) in lines.iter().filter(|(time, _)| *time < until) {
        if line.contains("worker ended by") {
            count("worker");
        } else if line.contains("Main process exited, code=killed") {
            let unit = line.split(": ").nth(1).unwrap_or_default();
            count(unit.trim_end_matches(".service"));
        }
    }
    ended
}
