//! What one run found, one JSON line each, so that an interrupted benchmark goes on where it was.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Serialize, Deserialize, Clone, Default, Debug)]
pub struct Record {
    pub tool: String,
    pub scenario: String,
    #[serde(default)]
    pub run: u32,
    /// Requests of the measuring client during the attack and its aftermath.
    pub asked: usize,
    pub answered: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The longest time between two requests that were answered.
    pub outage_ms: f64,
    /// Services of the town that ended unasked, and how often.
    pub protected_ended: BTreeMap<String, u32>,
    /// Everything else that the kernel or the guard ended, by name.
    pub others_ended: BTreeMap<String, u32>,
    /// From the start of the attack.
    pub first_action_s: Option<f64>,
    /// The guard's own lines about what it did.
    pub actions: Vec<String>,
    pub guard_cpu_percent: f64,
    pub guard_memory_mib: f64,
    /// What differs from before the attack, at the end.
    pub left_behind: Vec<String>,
    /// From the end of the attack until nothing was left behind.
    pub recovered_s: Option<f64>,
    /// The warm-up's median, to see how fast the guest was.
    pub calm_p50_ms: f64,
}

impl Record {
    pub fn is(&self, tool: &str, scenario: &str, run: u32) -> bool {
        self.tool == tool && self.scenario == scenario && self.run == run
    }
}

pub fn read(path: &Path) -> Outcome<Vec<Record>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let parse = |line: &str| serde_json::from_str(line).map_err(|error| format!("{}: {error}: {line}", path.display()));
    text.lines().map(parse).collect()
}

pub fn append(path: &Path, record: &Record) -> Outcome {
    let line = serde_json::to_string(record).map_err(|error| error.to_string())?;
    let write = || writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{line}");
    write().map_err(|error| format!("{}: {error}", path.display()))
}
