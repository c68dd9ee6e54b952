//! `check`: the compiled configuration or all its mistakes, as text for people and values for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::compile::{Compiled, compile};
use super::settings::Settings;
use super::source::Source;
use crate::document::complaint::{Complaints, Counted, Located};
use crate::policy::mitigation::Level;
use crate::policy::rule::{Rule, Step};

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
    /// The steps of each rule that has some, in order.
    pub ladders: BTreeMap<String, Vec<StepJson>>,
}

#[derive(Debug, Serialize)]
pub struct StepJson {
    pub text: String,
    pub class: &'static str,
    /// Taken at once with the next one.
    pub together: bool,
    /// The level that it needs, where it is skipped at this one.
    pub needs_level: Option<&'static str>,
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
            for (rules, ladder) in ladders(settings) {
                writeln!(text, "{}: {ladder}", rules.join(", ")).ok();
            }
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
            ladders: self.settings.as_ref().map(ladders_json).unwrap_or_default(),
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

/// Rules that do the same, with what they do: `release cache; shed edge by 25% and throttle shop to 75%; flush cache
/// (lossy: needs level aggressive)`.
fn ladders(settings: &Settings) -> Vec<(Vec<&str>, String)> {
    let mut ladders: Vec<(Vec<&str>, String)> = Vec::new();
    for rule in settings.policy.rules.iter().filter(|rule| !rule.steps.is_empty()) {
        let text = ladder(rule, settings.policy.level);
        match ladders.iter_mut().find(|(_, known)| *known == text) {
            Some((rules, _)) => rules.push(&rule.name),
            None => ladders.push((vec![&rule.name], text)),
        }
    }
    ladders
}

fn ladder(rule: &Rule, level: Level) -> String {
    let mut text = String::new();
    for (at, step) in rule.steps.iter().enumerate() {
        let before = match at.checked_sub(1).map(|before| rule.steps[before].together) {
            None => "",
            Some(true) => " and ",
            Some(false) => "; ",
        };
        write!(text, "{before}{step}").ok();
        if !level.allows(step.class) {
            write!(text, " ({}: needs level {})", step.class.name(), Level::needed_for(step.class)).ok();
        }
    }
    text
}

fn ladders_json(settings: &Settings) -> BTreeMap<String, Vec<StepJson>> {
    let level = settings.policy.level;
    let json = |step: &Step| StepJson {
        text: step.to_string(),
        class: step.class.name(),
        together: step.together,
        needs_level: (!level.allows(step.class)).then(|| Level::needed_for(step.class).name()),
    };
    let rules = settings.policy.rules.iter().filter(|rule| !rule.steps.is_empty());
    rules.map(|rule| (rule.name.to_string(), rule.steps.iter().map(json).collect())).collect()
}
