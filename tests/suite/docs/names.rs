//! What a page names in backticks exists, as far as that can be told: files of the repository, commands, options, keys,
//! kinds, metrics, routes, events.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use node_guardian::cli::Cli;
use node_guardian::config;
use node_guardian::events::NAMES;
use node_guardian::http::ROUTES;
use node_guardian::policy::metric::Metric;

use super::{Page, pages, root, shell};
use crate::support::EXAMPLE;

/// Fails with every name that does not exist.
fn all_exist(what: &str, least: usize, missing: impl Fn(&Page, &str) -> Option<bool>) {
    let (mut unknown, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for name in page.named() {
            let Some(is_missing) = missing(&page, &name) else { continue };
            seen += 1;
            if is_missing {
                unknown.push(format!("{}: `{name}`", page.path));
            }
        }
    }
    assert!(unknown.is_empty(), "{what} that do not exist:\n{}", unknown.join("\n"));
    assert!(seen >= least, "{seen} {what} seen: are they written otherwise now?");
}

fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if !name.starts_with("target") && !name.starts_with(".git/") {
            found.push(name);
            if path.is_dir() && !path.is_symlink() {
                files(&path, found);
            }
        }
    }
}

#[test]
fn files_exist() {
    const FOLDERS: [&str; 9] =
        ["src/", "docs/", "tests/", "benches/", "vm/", "packaging/", "systemd/", "fuzz/", ".ci/"];
    // Made by `make fuzz`, where something was found.
    const MADE: [&str; 1] = ["fuzz/artifacts/"];
    let mut all = Vec::new();
    files(root(), &mut all);
    all_exist("files", 60, |_, name| {
        let is_source = name.ends_with(".rs") && !name.contains(' ');
        let is_path = FOLDERS.iter().any(|folder| name.starts_with(folder)) && !name.contains(' ');
        let name = name.replace("KIND", "redis");
        let end = format!("/{}", name.trim_end_matches('/'));
        (is_source || is_path)
            .then(|| !MADE.contains(&&*name) && !all.iter().any(|file| format!("/{file}").ends_with(&end)))
    });
}

#[test]
fn commands_exist() {
    let ours = ["node-guardian", "make", "cargo", "systemctl", "python3", "apt", "runuser", "gpasswd", "usermod"];
    all_exist("commands", 60, |_, name| {
        let words: Vec<String> = name.split_whitespace().map(str::to_owned).collect();
        let is_command = words.len() > 1 && ours.contains(&&*words[0]) && words[1] != "=";
        is_command.then(|| shell::known(&words).is_err())
    });
}

#[test]
fn subcommands_take_what_pages_give_them() {
    let names: Vec<String> = Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    all_exist("subcommands", 15, |_, name| {
        let words: Vec<&str> = name.split_whitespace().collect();
        let is_ours = words.len() > 1 && names.iter().any(|name| name == words[0]) && words[1] != "=";
        is_ours.then(|| shell::taken_by_the_command_line(&words).is_err())
    });
}

#[test]
fn options_exist() {
    // Of earlyoom and of kubernetes-validate.
    const OTHERS: [&str; 2] = ["--avoid", "--strict"];
    let ours: Vec<String> = Cli::command()
        .get_subcommands()
        .flat_map(|sub| sub.get_arguments())
        .filter_map(|arg| arg.get_long())
        .map(|long| format!("--{long}"))
        .collect();
    let checklist = fs::read_to_string(root().join("tests/apps/conform.py")).unwrap();
    all_exist("options", 8, |_, name| {
        let option = name.split_whitespace().next().filter(|word| word.len() > 2 && word.starts_with("--"))?;
        let is_known = OTHERS.contains(&option) || ours.iter().any(|known| known == option);
        Some(!is_known && !checklist.contains(&format!("\"{option}\"")))
    });
}

#[test]
fn metrics_exist() {
    // Files of a cgroup, which look like metrics.
    const FILES: [&str; 7] =
        ["memory.max", "memory.high", "memory.current", "memory.stat", "memory.reclaim", "cpu.max", "cpu.idle"];
    let names: Vec<&str> = Metric::ALL.iter().map(|metric| metric.describe().name).collect();
    let families: Vec<&str> = names.iter().map(|name| name.split('.').next().unwrap()).collect();
    all_exist("metrics", 30, |_, name| {
        let (family, rest) = name.split_once(['.', '['])?;
        let is_other =
            name.contains([' ', '/']) && !name.contains("[\"") || name.ends_with(".slice") || family == "app";
        // Of one instance; `memory.pressure` and `memory.…` are all that begin so.
        let rest = rest.rsplit_once(']').map_or(rest, |(_, rest)| rest.trim_start_matches('.'));
        let full = format!("{family}.{}", rest.trim_end_matches('…'));
        let group = format!("{}.", full.trim_end_matches('.'));
        let is_known = |known: &&&str| **known == full || known.starts_with(&group);
        (families.contains(&family) && !is_other && !FILES.contains(&name))
            .then(|| names.iter().find(is_known).is_none())
    });
}

#[test]
fn exported_metrics_exist() {
    const PREFIX: &str = "node_guardian_";
    // Made of what an application calls its numbers; app::numbers sees them.
    const OF_APPS: [&str; 2] = ["app_number", "app_bytes"];
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &str| text.split(|c| !is_of_a_name(c)).next().unwrap().to_owned();
    let sources = ["src/telemetry.rs", "src/http/metrics.rs"];
    let source = sources.map(|path| fs::read_to_string(root().join(path)).unwrap()).concat();
    let mut known: Vec<String> = source.split(PREFIX).skip(1).map(name).collect();
    known.extend(Metric::ALL.iter().map(|&metric| node_guardian::http::exported_name(metric).replace(PREFIX, "")));
    known.extend(OF_APPS.map(str::to_owned));
    all_exist("exported metrics", 5, |_, named| {
        let rest = name(named.strip_prefix(PREFIX)?);
        let is_known = |known: &String| *known == rest || rest.ends_with('_') && known.starts_with(&rest);
        Some(!rest.is_empty() && !known.iter().any(is_known))
    });
}

/// Of the daemon, as its index lists them.
pub fn routes() -> Vec<String> {
    ROUTES.iter().map(|route| route.path.to_owned()).collect()
}

#[test]
fn each_route_has_a_row_of_its_own() {
    let page = pages().into_iter().find(|page| page.path == "docs/http.md").unwrap();
    let rows = page.text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut shown = Vec::new();
    for row in rows {
        let mut method = String::new();
        for name in row.split('`').step_by(2) {
            let words: Vec<&str> = name.split(' ').collect();
            let [.., path] = words[..] else { continue };
            if words.len() == 2 {
                words[0].clone_into(&mut method);
            }
            shown.push(format!("{method} {}", path.split('?').next().unwrap()));
        }
    }
    let mut routes: Vec<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    shown.sort();
    routes.sort();
    assert_eq!(shown, routes);
}

#[test]
fn routes_exist() {
    // Where a system keeps its files, and what others than the daemon answer.
    const FILES: [&str; 9] = ["etc", "run", "usr", "var", "proc", "sys", "dev", "tmp", "ng"];
    const OTHERS: [&str; 3] = ["docs/controls/http.md", "docs/protection.md", "vm/protection.md"];
    let routes = routes();
    all_exist("routes", 20, |page, name| {
        let path = name.trim_start_matches("GET ").trim_start_matches("POST ");
        let first = path.strip_prefix('/')?.split(['/', '?']).next().unwrap();
        let is_route =
            name != "//!" && !FILES.contains(&first) && !OTHERS.contains(&&*page.path) && !path.contains(' ');
        let path = path.split('?').next().unwrap();
        is_route.then(|| !routes.iter().any(|known| known == path))
    });
}

/// All that the configuration reads, by the names in its source.
fn is_key(name: &str) -> bool {
    let mut folders = vec![root().join("src/config"), root().join("src/control")];
    let quoted = format!("\"{name}\"");
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains(&quoted) {
                return true;
            }
        }
    }
    EXAMPLE.contains(&format!("\n#{name} = "))
}

#[test]
fn keys_in_tables_exist() {
    let mut unknown = Vec::new();
    let mut count = 0;
    for page in pages() {
        let mut is_of_keys = false;
        for line in page.text.lines() {
            let Some(first) = line.strip_prefix('|').and_then(|row| row.split(" |").next()).map(str::trim) else {
                is_of_keys = false;
                continue;
            };
            is_of_keys |= first.starts_with("key");
            for key in first.split('`').skip(1).step_by(2).filter(|_| is_of_keys && !first.starts_with("key")) {
                count += 1;
                if !is_key(key) {
                    unknown.push(format!("{}: {key}", page.path));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(count > 25, "{count} keys: are the tables headed otherwise now?");
}

#[test]
fn keys_that_are_set_exist() {
    let not_ours = ["docs/protection.md", "vm/protection.md", "docs/app-protocol.md"];
    all_exist("keys", 15, |page, name| {
        let (key, _) = name.split_once(" = ")?;
        let is_key_like = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (is_key_like && !not_ours.contains(&&*page.path)).then(|| !is_key(key))
    });
}

#[test]
fn kinds_exist() {
    let known: Vec<String> = config::schema()
        .iter()
        .filter_map(|(section, _)| section.strip_prefix("control.").map(str::to_owned))
        .collect();
    assert!(known.len() > 10);
    all_exist("kinds", 5, |_, name| {
        let kind = name.trim_start_matches('[').strip_prefix("control.")?.split(['.', ']']).next().unwrap();
        Some(kind != "KIND" && !known.iter().any(|name| name == kind))
    });
}

#[test]
fn the_readme_states_the_rust_version() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    let readme = pages().into_iter().find(|page| page.path == "README.md").unwrap();
    assert!(readme.text.contains(&format!("Rust {version} or newer")), "{version}");
}

#[test]
fn events_that_are_posted_exist() {
    let page = pages().into_iter().find(|page| page.path == "docs/controls/webhook.md").unwrap();
    let list = page.text.split("Without `events` these are posted").nth(1).unwrap().split("\n\n").next().unwrap();
    let named: Vec<&str> = list.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '-'])).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !NAMES.contains(name)).collect();
    assert!(unknown.is_empty() && named.len() > 15, "{unknown:?}");
}
