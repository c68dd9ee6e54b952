//! The example configurations as they are shipped, with the places of a test's own servers in them.

use std::path::Path;

use node_guardian::config::{self, Source};
use node_guardian::control::target::Target;

/// Controls of one of `packaging/examples`; each of the texts must be there to be replaced.
pub fn example(name: &str, replaced: &[(&str, &str)]) -> Vec<(String, Target)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(name);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    controls(&text)
}

pub fn controls(text: &str) -> Vec<(String, Target)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let settings =
        config::load(&Source { file: Some(file), ..Source::default() }).unwrap_or_else(|why| panic!("{why}"));
    settings.controls.into_iter().map(|control| (control.name.to_string(), control.target)).collect()
}

pub fn control(text: &str) -> Target {
    controls(text).remove(0).1
}

/// As `Desk` takes them.
pub fn named(controls: &[(String, Target)]) -> Vec<(&str, Target)> {
    controls.iter().map(|(name, target)| (name.as_str(), target.clone())).collect()
}
