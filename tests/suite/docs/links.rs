//! Each link leads to a file that is there, and to a heading in it.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::{pages, root};

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// `docs/controls/../rules.md` is `docs/rules.md`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leads out of the repository", path.display()),
            other => plain.push(other),
        }
    }
    plain
}

/// A reference that nobody can follow.
#[test]
fn nothing_points_to_notes_that_are_not_here() {
    let notes = concat!("rese", "arch: ");
    let named =
        Command::new("grep").args(["-rl", notes]).current_dir(root()).args(["src", "docs", "tests", "vm"]).output();
    let named = named.unwrap();
    assert!(named.stdout.is_empty(), "{}", String::from_utf8_lossy(&named.stdout));
    assert!(pages().iter().all(|page| !page.text.contains(notes)));
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for page in pages() {
        let prose = page.prose();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            count += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let here = Path::new(&page.path);
            let to = if path.is_empty() { here.to_owned() } else { plain(&here.parent().unwrap().join(path)) };
            let file = root().join(&to);
            let is_there = file.exists();
            let has_heading = heading.is_empty()
                || is_there && anchors(&fs::read_to_string(&file).unwrap()).iter().any(|known| known == heading);
            if !is_there || !has_heading {
                broken.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
    assert!(count > 60, "{count} links: are they written otherwise now?");
}
