//! `metrics`: every name that a condition may use, as a table for people and values for scripts.

use std::fmt::Write as _;

use serde::Serialize;

use crate::policy::metric::{Description, Family, Metric, Worse};

/// One metric for scripts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MetricLine {
    /// As a condition writes it; what stands in brackets may be left out.
    pub name: String,
    pub unit: &'static str,
    /// `high` or `low`.
    pub worse: &'static str,
    /// A value to compare it with.
    pub compare_with: &'static str,
    pub help: &'static str,
}

/// The vocabulary, in the order of the documentation.
#[must_use]
pub fn metrics() -> Vec<MetricLine> {
    Metric::ALL.iter().map(|metric| line(metric.describe())).collect()
}

fn line(description: &Description) -> MetricLine {
    MetricLine {
        name: selected(description),
        unit: description.unit.name(),
        worse: match description.worse {
            Worse::High => "high",
            Worse::Low => "low",
        },
        compare_with: description.unit.example(),
        help: description.help,
    }
}

/// `disk[mount].used_percent`
fn selected(description: &Description) -> String {
    let instance = match description.family {
        Family::Node => return description.name.to_owned(),
        Family::Disk => "mount",
        Family::Network => "interface",
        Family::Port => "port",
        Family::App => "control",
    };
    let prefix = description.family.prefix();
    let rest = description.name.strip_prefix(prefix).unwrap_or(description.name);
    format!("{prefix}[{instance}]{rest}")
}

/// Aligned columns with a heading.
#[must_use]
pub fn metrics_table() -> String {
    let lines = metrics();
    let width = |column: fn(&MetricLine) -> &str| lines.iter().map(|line| column(line).len()).max().unwrap_or(0);
    let (names, units) = (width(|line| &line.name), width(|line| line.unit));
    let mut text = format!("{:names$}  {:units$}  {:5}  {}\n", "METRIC", "UNIT", "WORSE", "MEANING");
    for line in &lines {
        writeln!(text, "{:names$}  {:units$}  {:5}  {}", line.name, line.unit, line.worse, line.help).ok();
    }
    text.push_str(
        "\nA selector is written disk[\"/var\"].used_percent, network[\"eth0\"].drops_rate or connections[443].established;\n\
         without one the worst instance counts. Functions: avg, max, min, p95 (m, 30s), rate(m), time_to(m, 95%).\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition::parse;

    #[test]
    fn the_table_is_aligned_and_lists_every_metric_once() {
        let table = metrics_table();
        let lines: Vec<&str> = table.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), Metric::ALL.len() + 1);
        let column = lines[0].find("MEANING").unwrap();
        assert!(lines.iter().all(|line| line.as_bytes()[column - 1] == b' ' && line.as_bytes()[column] != b' '));
        assert!(table.contains("\nconnections[port].established"));
    }

    #[test]
    fn every_example_value_fits_its_metric() {
        for metric in Metric::ALL {
            let example = metric.unit().example().rsplit(' ').next().unwrap_or_default();
            let relation = if example == "false" { "==" } else { ">" };
            let name = match metric.family() {
                Family::App => metric.name().replacen('.', "[\"api\"].", 1),
                Family::Node | Family::Disk | Family::Network | Family::Port => metric.name().to_owned(),
            };
            let text = format!("{name} {relation} {example}");
            assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
        }
    }
}
