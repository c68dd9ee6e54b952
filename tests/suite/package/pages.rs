//! Manual pages and completions, made from the command line, the metrics and config.example.toml. They are kept in the
//! repository, because the binary and the package contain them; here they are made anew, so that they cannot rot.

use std::env;
use std::fs;
use std::process::Command as Process;

use clap::CommandFactory;
use clap_complete::Generator;
use clap_complete::shells::{Bash, Fish, Zsh};
use node_guardian::cli::Cli;

use super::{file, manual, text};

/// Set it to write the files instead of comparing them.
const WRITE: &str = "NODE_GUARDIAN_WRITE_PAGES";

fn is_up_to_date(name: &str, made: &str) {
    let path = format!("packaging/generated/{name}");
    if env::var_os(WRITE).is_some() {
        return fs::write(file(&path), made).unwrap();
    }
    assert!(text(&path) == made, "{path} is out of date: run {WRITE}=1 cargo test --test suite pages::made");
}

fn completion(shell: impl Generator) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "node-guardian", &mut script);
    String::from_utf8(script).unwrap()
}

fn subcommands() -> Vec<String> {
    Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect()
}

fn printed(arguments: &[&str]) -> String {
    let output = Process::new(env!("CARGO_BIN_EXE_node-guardian")).args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn made_completions_know_every_command() {
    let made = [
        ("bash", "node-guardian.bash", completion(Bash)),
        ("zsh", "_node-guardian", completion(Zsh)),
        ("fish", "node-guardian.fish", completion(Fish)),
    ];
    for (shell, name, script) in made {
        is_up_to_date(name, &script);
        let absent: Vec<String> = subcommands().into_iter().filter(|sub| !script.contains(sub)).collect();
        assert!(absent.is_empty(), "{shell} does not know {absent:?}");
    }
}

#[test]
fn made_manual_has_every_command() {
    let page = manual::of_the_command_line(&text("packaging/man/after-commands.roff"));
    is_up_to_date("node-guardian.8", &page);
    for sub in subcommands() {
        assert!(page.contains(&format!(".SS \"node\\-guardian {sub}")), "{sub} is not in the manual");
    }
}

#[test]
fn made_manual_of_the_configuration_has_every_key() {
    let example = text("config.example.toml");
    let page = manual::of_the_configuration(&example);
    is_up_to_date("node-guardian.toml.5", &page);
    for key in example.lines().filter(|line| !line.starts_with("# ")).filter_map(|line| line.split_once(" = ")) {
        assert!(page.contains(&manual::escape(key.0.trim_start_matches('#'))), "{} is not in the manual", key.0);
    }
}

#[test]
fn the_binary_prints_them() {
    for (shell, name) in [("bash", "node-guardian.bash"), ("zsh", "_node-guardian"), ("fish", "node-guardian.fish")] {
        assert_eq!(printed(&["completions", shell]), text(&format!("packaging/generated/{name}")));
    }
    assert_eq!(printed(&["man"]), text("packaging/generated/node-guardian.8"));
}

#[test]
fn the_changelog_of_the_package_has_whole_sentences() {
    let mut script = Process::new(file("packaging/deb/changelog"));
    script.arg("1.0.0").env("SOURCE_DATE_EPOCH", "0").stdin(fs::File::open(file("CHANGELOG.md")).unwrap());
    let made = String::from_utf8(script.output().unwrap().stdout).unwrap();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let newest = text("CHANGELOG.md").split("\n## ").nth(1).unwrap().to_owned();
    for item in newest.split("\n- ").skip(1) {
        let item = words(item.split("\n\n").next().unwrap()).join(" ");
        assert!(words(&made).join(" ").contains(&item), "cut short: {item}");
    }
}
