//! The policy's own tests: each folder of `tests/scenarios` is a configuration, a trace and what must be decided. The
//! same files run with `node-guardian replay --config config.toml trace.txt --expect expected.txt`.
//! `UPDATE_EXPECTED=1` writes what is decided now, to be read before it is committed.

use std::fs;
use std::path::Path;

use node_guardian::cli::replay;

#[test]
fn every_scenario_is_decided_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "the scenarios are gone");
    let wrong: Vec<String> = cases.iter().filter_map(|case| differs(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn differs(case: &Path) -> Option<String> {
    let decided = replay::decide(&case.join("config.toml"), &case.join("trace.txt")).unwrap_or_else(|error| error);
    let expected = case.join("expected.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected, &decided).unwrap();
    }
    let expected = fs::read_to_string(&expected).unwrap_or_default();
    let difference = replay::first_difference(&decided, &expected)?;
    Some(format!("{}: {difference}\n--- decided\n{decided}", case.display()))
}
