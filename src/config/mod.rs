//! Text to settings. Every complaint of a configuration is found in one run; nothing here touches a control.

mod check;
mod compile;
mod controls;
mod fallback;
mod here;
mod ladders;
pub(crate) mod last_good;
mod lint;
mod rules;
pub mod settings;
pub(crate) mod source;
mod steps;
mod strength;
pub mod whereabouts;

pub use crate::document::complaint::{Complaints, Gravity, Located};
pub use check::{Checked, CheckedJson, check};
pub use compile::{Compiled, compile};
pub use fallback::{Footing, Loaded, load_again, settle};
pub use here::Look;
pub use source::{BUILT_IN, Source, USUAL_FILE, environment};

use crate::control::target::{self, KINDS};
use settings::Settings;

/// Reads a whole configuration: files, drop-ins, environment, command line.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn load(source: &Source) -> Result<Settings, Complaints> {
    let Compiled { settings, complaints } = compile(source);
    if complaints.errors() == 0 { Ok(settings) } else { Err(complaints) }
}

/// The built-in rules and defaults, without any file or variable.
impl Default for Settings {
    fn default() -> Self {
        let nowhere = std::path::PathBuf::from("/nonexistent/node-guardian/config.toml");
        compile(&Source { usual: nowhere, ..Source::default() }).settings
    }
}

/// Every table with the keys that it may have; the example must show each of them.
#[must_use]
pub fn schema() -> Vec<(&'static str, Vec<&'static str>)> {
    let tables = [
        ("", compile::TOP.to_vec()),
        ("sampling", compile::SAMPLING.to_vec()),
        ("http", compile::HTTP.to_vec()),
        ("emergency", compile::EMERGENCY.to_vec()),
        ("control", target::names()),
        ("rule", rules::RULE.to_vec()),
    ];
    let kinds = KINDS.iter().map(|kind| (kind.section, kind.keys.to_vec()));
    tables.into_iter().chain(kinds).collect()
}
