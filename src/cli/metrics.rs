//! `metrics`: the closed vocabulary that conditions are written in. Needs no daemon.

use serde_json::json;

use super::{MetricsArgs, print};
use crate::http::exported_name;
use crate::policy::metric::{Description, Metric, Worse};

pub fn run(args: &MetricsArgs) -> u8 {
    let all = Metric::ALL.iter().map(|metric| metric.describe());
    let text = if args.json {
        let list: Vec<_> = all.map(as_json).collect();
        format!("{}\n", json!({ "metrics": list }))
    } else {
        let head = format!("{:<36} {:<13} {:<6} {}\n", "METRIC", "UNIT", "WORSE", "MEANING");
        head + &all.map(as_line).collect::<String>()
    };
    print(&text);
    0
}

fn as_json(description: &Description) -> serde_json::Value {
    json!({
        "name": description.name,
        "written": description.metric.written(),
        "unit": description.unit.name(),
        "example": description.unit.example(),
        "worse": worse(description),
        "instances": description.family.instance(),
        "help": description.help,
        "prometheus": exported_name(description.metric),
    })
}

fn as_line(description: &Description) -> String {
    let (name, unit) = (description.metric.written(), description.unit.name());
    format!("{name:<36} {unit:<13} {:<6} {}\n", worse(description), description.help)
}

const fn worse(description: &Description) -> &'static str {
    match description.worse {
        Worse::High => "high",
        Worse::Low => "low",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_listed_as_it_is_written() {
        let line = as_line(Metric::DiskUsedPercent.describe());
        assert!(line.starts_with("disk[mount].used_percent             percent       high   Space in use"), "{line}");
        assert_eq!(as_json(Metric::MemoryAvailableBytes.describe())["worse"], "low");
    }

    #[test]
    fn every_name_and_unit_fits_its_column() {
        for description in Metric::ALL.iter().map(|metric| metric.describe()) {
            let line = as_line(description);
            assert_eq!(line.as_bytes()[36], b' ', "{line}");
            assert!(
                line[37..50].ends_with(' ') && line[51..].starts_with("high   ") || line[51..].starts_with("low    "),
                "{line}"
            );
        }
    }
}
