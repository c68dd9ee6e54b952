//! Medians as a Markdown table, one block per scenario.

use crate::record::Record;
use crate::{scenario, tool};

pub fn print(records: &[Record]) {
    for scenario in &scenario::ALL {
        let of_scenario: Vec<&Record> = records.iter().filter(|record| record.scenario == scenario.name).collect();
        if of_scenario.is_empty() {
            continue;
        }
        println!("\n**{}**: {}\n", scenario.name, scenario.about);
        println!(
            "| guard | answered | p50 | p99 | longest outage | service ended | others ended | first action | guard CPU | guard memory | left behind |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        for tool in &tool::ALL {
            let runs: Vec<&Record> = of_scenario.iter().copied().filter(|record| record.tool == tool.name).collect();
            if !runs.is_empty() {
                println!("{}", row(tool.name, &runs));
            }
        }
    }
}

fn row(name: &str, runs: &[&Record]) -> String {
    let of = |figure: fn(&Record) -> f64| median(runs.iter().map(|run| figure(run)).collect());
    let acted: Vec<f64> = runs.iter().filter_map(|run| run.first_action_s).collect();
    let first = match acted.len() {
        0 => "–".to_owned(),
        n if n == runs.len() => format!("{:.1} s", median(acted)),
        n => format!("{:.1} s ({n} of {})", median(acted), runs.len()),
    };
    let has_guard = runs.iter().any(|run| run.guard_memory_mib > 0.0);
    let own = |text: String| if has_guard { text } else { "–".to_owned() };
    format!(
        "| {name} | {:.1} % | {} | {} | {:.1} s | {:.0} | {:.0} | {first} | {} | {} | {} |",
        of(|run| 100.0 * run.answered as f64 / run.asked.max(1) as f64),
        milliseconds(of(|run| run.p50_ms)),
        milliseconds(of(|run| run.p99_ms)),
        of(|run| run.outage_ms) / 1000.0,
        of(|run| f64::from(run.protected_ended.values().sum::<u32>())),
        of(|run| f64::from(run.others_ended.values().sum::<u32>())),
        own(format!("{:.1} %", of(|run| run.guard_cpu_percent))),
        own(format!("{:.1} MiB", of(|run| run.guard_memory_mib))),
        left(runs),
    )
}

/// A request without an answer counts as long as the client would have waited.
fn milliseconds(value: f64) -> String {
    if value >= 1000.0 { "none".to_owned() } else { format!("{value:.0} ms") }
}

fn left(runs: &[&Record]) -> String {
    let mut what: Vec<&str> = runs.iter().flat_map(|run| run.left_behind.iter().map(String::as_str)).collect();
    what.sort_unstable();
    what.dedup();
    if what.is_empty() { "nothing".to_owned() } else { what.join("; ") }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
