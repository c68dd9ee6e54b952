//! The habits of CONTRIBUTING.md that a machine can check, so that nobody has to remember them.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use node_guardian::config::Source;

/// A file that is longer is two files.
const MOST_LINES: usize = 500;

struct File {
    path: String,
    text: String,
}

impl File {
    /// What ships: without unit tests, which end a file, and without comments.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let test_file = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let lines = if test_file { "" } else { self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap() };
        let numbered = lines.lines().enumerate().map(|(at, line)| (at + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(File { path: path.strip_prefix(root()).unwrap().display().to_string(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty());
    found
}

/// Fails with every place that breaks the habit.
fn none(habit: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{habit}:\n{}", broken.join("\n"));
}

fn lines_with(sources: &[File], is_bad: impl Fn(&File, &str) -> bool) -> Vec<String> {
    let places = |source| File::shipped(source).map(move |(number, line)| (source, number, line));
    let bad = sources.iter().flat_map(places).filter(|(source, _, line)| is_bad(source, line));
    bad.map(|(source, number, line)| format!("{}:{number}: {}", source.path, line.trim())).collect()
}

#[test]
fn each_file_says_why_it_exists() {
    let all = [sources("src"), sources("tests"), sources("benches")];
    let silent = all.iter().flatten().filter(|source| !source.text.starts_with("//!"));
    none("begin the file with `//!`", &silent.map(|source| source.path.clone()).collect::<Vec<_>>());
}

#[test]
fn no_file_is_too_long() {
    let all = [sources("src"), sources("tests"), sources("benches")];
    let long = all.iter().flatten().filter(|source| source.text.lines().count() > MOST_LINES);
    none("split the file", &long.map(|source| source.path.clone()).collect::<Vec<_>>());
}

#[test]
fn no_error_is_turned_into_a_panic() {
    let broken = lines_with(&sources("src"), |_, line| line.contains(".unwrap()") || line.contains(".expect(\""));
    none("say what went wrong instead", &broken);
}

#[test]
fn the_daemon_never_forks() {
    let broken = lines_with(&sources("src"), |_, line| line.contains("process::Command") || line.contains("fork("));
    none("forking under memory pressure fails when it is needed", &broken);
}

/// The code of stable sorts for long lists is not kept in memory (build.rs).
#[test]
fn who_may_not_be_slow_sorts_unstably() {
    let mut prompt = sources("src/policy");
    for folder in ["src/agent", "src/control", "src/journal"] {
        prompt.extend(sources(folder));
    }
    // These run at the start alone.
    prompt.retain(|file| !["src/policy/condition/parser.rs", "src/journal/recover.rs"].contains(&file.path.as_str()));
    let sorts = [".sort(", ".sort_by(", ".sort_by_key(", ".sort_by_cached_key("];
    none("sorts stably", &lines_with(&prompt, |_, line| sorts.iter().any(|sort| line.contains(sort))));
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TODO", "FIXME", "XXX", concat!("#[ign", "ore")];
    let here = file!();
    let mut broken = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")).filter(|source| source.path != here) {
        let left = |line: &str| marks.iter().any(|mark| line.contains(mark));
        let lines = source.text.lines().enumerate().filter(|(_, line)| left(line));
        broken.extend(lines.map(|(at, line)| format!("{}:{}: {}", source.path, at + 1, line.trim())));
    }
    none("do it or open an issue", &broken);
}

#[test]
fn every_module_is_on_the_maps() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let modules = library.lines().filter_map(|line| {
        line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
    });
    let mut broken = Vec::new();
    for module in modules {
        // What is only there for tests has no page to lead to.
        if ![format!("//! - [`{module}`]: "), format!("//! - `{module}`: ")].iter().any(|line| library.contains(line)) {
            broken.push(format!("{module} has no sentence in src/lib.rs"));
        }
        if !map.contains(&format!("`{module}")) {
            broken.push(format!("{module} is not in ARCHITECTURE.md"));
        }
    }
    none("keep the maps true", &broken);
}

#[test]
fn the_first_rule_of_the_readme_compiles() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, example).unwrap();
    let settings = node_guardian::config::load(&Source { file: Some(file), ..Source::default() }).unwrap();
    assert_eq!(settings.controls.len(), 2);
}
