//! `[control.pressure.NAME]`

use super::target::Pressure;
use crate::control::place::Written;
use crate::control::process::settings::{locator, require};
use crate::document::node::Entry;
use crate::document::section::{Findings, Section};
use crate::document::value;

impl Written for Pressure {
    const KEYS: &'static [&'static str] = &["fifo", "signal", "pid_file", "command", "cgroup", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let pressure = Pressure {
            fifo: section.get("fifo", findings, value::path),
            signal: section.get("signal", findings, value::boolean).unwrap_or(false),
            locator: locator(section, findings),
        };
        if pressure.signal {
            require(title, section, &pressure.locator, findings);
        } else if !section.has("fifo") {
            let help = "add fifo = \"/run/ng-pressure/NAME.fifo\", or signal = true for a daemon of systemd";
            findings.absence(section.key, format!("{title} has no way to tell the service anything"), help);
        }
        Some(pressure)
    }
}
