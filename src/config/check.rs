//! `check`: what a configuration comes to, or all that is wrong with it, as text for people and values for scripts.

use std::fmt::Write as _;

use serde::Serialize;

use super::compile::{Compiled, compile};
use super::complaint::{Complaints, Counted, Located};
use super::settings::Settings;
use super::source::Source;

/// The outcome of `check`.
#[derive(Debug)]
pub struct Checked {
    /// `None` where the daemon would refuse to start.
    pub settings: Option<Settings>,
    pub complaints: Complaints,
}

/// The same for `check --json`.
#[derive(Debug, Serialize)]
pub struct CheckedJson {
    pub ok: bool,
    pub mistakes: usize,
    pub warnings: usize,
    pub files: Vec<String>,
    pub complaints: Vec<Located>,
}

/// Compiles the whole configuration by the same path as start-up.
#[must_use]
pub fn check(source: &Source) -> Checked {
    let Compiled { settings, complaints } = compile(source);
    Checked { settings: (complaints.errors() == 0).then_some(settings), complaints }
}

impl Checked {
    /// Complaints where there are any, then what the configuration comes to where it can be used.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.complaints.errors() + self.complaints.warnings() > 0 {
            writeln!(text, "{}", self.complaints).ok();
        }
        if let Some(settings) = &self.settings {
            writeln!(text, "{}", summary(settings)).ok();
        }
        text
    }

    #[must_use]
    pub fn json(&self) -> CheckedJson {
        let files = |settings: &Settings| settings.sources.iter().map(|path| path.display().to_string()).collect();
        CheckedJson {
            ok: self.settings.is_some(),
            mistakes: self.complaints.errors(),
            warnings: self.complaints.warnings(),
            files: self.settings.as_ref().map(files).unwrap_or_default(),
            complaints: self.complaints.located(),
        }
    }
}

/// `ok: 2 files, 21 rules, 2 controls (cache: redis, edge: haproxy), level standard, dry run`
fn summary(settings: &Settings) -> String {
    let files = match settings.sources.len() {
        0 => "built-in defaults".to_owned(),
        files => Counted(files, "file").to_string(),
    };
    let controls: Vec<String> =
        settings.controls.iter().map(|control| format!("{}: {}", control.name, control.target.kind())).collect();
    let controls = match controls.len() {
        0 => "no controls: rules report and hint only".to_owned(),
        count => format!("{} ({})", Counted(count, "control"), controls.join(", ")),
    };
    let policy = &settings.policy;
    let rules = Counted(policy.rules.len(), "rule");
    let dry_run = if policy.dry_run { ", dry run" } else { "" };
    format!("ok: {files}, {rules}, {controls}, level {}{dry_run}", policy.level)
}
