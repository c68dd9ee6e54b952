//! Every kind in the table of kinds: it has its folder, its page, its row, its sections of the example, and what it offers
//! is asked for. A kind that is added is looked at here without being named here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use node_guardian::config::settings::Settings;
use node_guardian::config::{self, Source};
use node_guardian::control::target::{Description, KINDS, LATER, Target};
use node_guardian::policy::mitigation::Verb;
use node_guardian::policy::rule::Asked;
use tempfile::TempDir;

use super::config::uncommented;
use super::support::EXAMPLE;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn page(kind: &Description) -> String {
    text(&format!("docs/controls/{}.md", kind.name))
}

fn load(text: &str) -> Settings {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, text).unwrap();
    config::load(&Source::file(file)).unwrap_or_else(|complaints| panic!("{complaints}\n{text}"))
}

/// The controls of `config.example.toml`, all of them taken into use.
fn example() -> Settings {
    load(&uncommented(EXAMPLE))
}

fn of_kind<'s>(settings: &'s Settings, kind: &Description) -> Vec<&'s Target> {
    let controls = settings.controls.iter().map(|control| &control.target);
    controls.filter(|target| target.kind() == kind.name).collect()
}

/// What these can be asked, as they are declared.
fn able(targets: &[&Target]) -> BTreeSet<Verb> {
    let verbs = targets.iter().flat_map(|target| {
        let place = target.place();
        place.verbs().iter().copied().filter(|verb| !place.is_undeclared(*verb))
    });
    verbs.collect()
}

#[test]
fn the_table_and_the_folders_are_the_same() {
    let folders = fs::read_dir(root("src/control")).unwrap().map(|entry| entry.unwrap());
    let of_kinds = folders.filter(|folder| folder.path().join("target.rs").exists());
    let found: BTreeSet<String> = of_kinds.map(|folder| folder.file_name().into_string().unwrap()).collect();
    let listed: BTreeSet<String> = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
    assert_eq!(listed, found, "the build groups code by folder (build.rs), everything else goes by the table");
    assert_eq!(KINDS.len(), listed.len(), "a kind is listed once");
    let both: Vec<_> = LATER.iter().filter(|name| listed.contains(**name)).collect();
    assert!(both.is_empty(), "announced and there: {both:?}");
}

#[test]
fn every_kind_has_its_place() {
    let example = example();
    for kind in KINDS {
        let targets = of_kind(&example, kind);
        assert!(!targets.is_empty(), "config.example.toml has no [{}.NAME]", kind.section);
        for target in targets {
            assert!(!target.verbs().is_empty(), "a {} can do nothing", kind.name);
            assert!(!target.identity().is_empty());
            assert!(target.is_same(target), "{target:?} is itself");
            assert!(!target.place().open().name().is_empty());
            let json = serde_json::to_value(target).unwrap();
            assert_eq!(json["kind"], kind.name, "the journal of an earlier version names it so");
            assert_eq!(serde_json::from_value::<Target>(json).unwrap(), *target);
        }
    }
}

#[test]
fn every_control_on_its_page_compiles() {
    for kind in KINDS {
        let page = page(kind);
        let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let own: Vec<&str> = blocks.filter(|block| block.contains(&format!("[{}.", kind.section))).collect();
        assert!(!own.is_empty(), "docs/controls/{}.md shows no control of its kind", kind.name);
        for block in own {
            // A step on a page may name a control of another block; docs::configuration_compiles knows which.
            let controls = block.split("[rule.").next().unwrap();
            assert!(!of_kind(&load(controls), kind).is_empty(), "{controls}");
        }
    }
}

#[test]
fn every_page_has_a_row_with_its_verbs() {
    let (index, example) = (text("docs/controls/README.md"), example());
    for kind in KINDS {
        let start = format!("| [{0}]({0}.md) |", kind.name);
        let row = index.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/controls/README.md has no row that begins with {start}"));
        let page = page(kind);
        for verb in able(&of_kind(&example, kind)) {
            assert!(row.contains(verb.name()) || row.contains("your own recipe"), "no {verb} in: {row}");
            assert!(page.contains(verb.name()), "docs/controls/{}.md does not say what {verb} does", kind.name);
        }
    }
}

#[test]
fn every_kind_is_asked_for_what_it_offers() {
    let example = example();
    let steps =
        || example.policy.rules.iter().flat_map(|rule| &rule.steps).filter(|step| step.asked == Asked::ByLadder);
    for kind in KINDS {
        let named = |name: &str| {
            example.controls.iter().any(|control| &*control.name == name && control.target.kind() == kind.name)
        };
        let asked: BTreeSet<Verb> =
            steps().filter(|step| named(&step.mitigation.control)).map(|step| step.mitigation.verb).collect();
        let offered: BTreeSet<Verb> = kind.offers.iter().map(|offer| offer.verb).collect();
        let able = able(&of_kind(&example, kind));
        let unasked: Vec<_> = offered.intersection(&able).filter(|verb| !asked.contains(verb)).collect();
        assert!(unasked.is_empty(), "no ladder asks a {} for {unasked:?}", kind.name);
        assert!(offered.is_empty() || offered.intersection(&able).next().is_some(), "a {} offers nothing", kind.name);
        for offer in kind.offers {
            assert!(offer.rung.class() >= offer.verb.class(), "{} is gentler than {}", offer.verb, kind.name);
        }
    }
}
