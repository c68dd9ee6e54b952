//! Who may import whom: between modules as ARCHITECTURE.md lists it, and between the files of one module in no circle.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, none, root, sources};

type Name = Vec<String>;

/// One file of the library, by its path of modules.
struct Module {
    name: Name,
    /// What it names of this crate, with the modules that lead there.
    paths: Vec<Name>,
    /// What it passes on under another module's name.
    passed_on: Vec<Name>,
}

fn name_of(file: &File) -> Name {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    path.split('/').filter(|part| *part != "lib" && *part != "main").map(str::to_owned).collect()
}

/// The paths of a tree of imports: `a::{b, c::d}`.
fn leaves(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let (mut depth, mut start) = (0, 0);
    let ends = tree.char_indices().chain([(tree.len(), ',')]);
    for (at, c) in ends {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let one = tree[start..at].trim();
                match one.split_once('{') {
                    Some((before, inner)) => {
                        let inner = inner.trim_end().strip_suffix('}').unwrap();
                        leaves(inner, &format!("{prefix}{before}"), found);
                    }
                    None if one.is_empty() => {}
                    None => found.push(format!("{prefix}{}", one.split(" as ").next().unwrap())),
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Seen from the root of the crate; `None` for what is of another crate.
fn absolute(path: &str, of: &Name, all: &BTreeSet<Name>) -> Option<Name> {
    let parts: Vec<String> = path.split("::").map(str::to_owned).collect();
    let ups = parts.iter().take_while(|part| *part == "super").count();
    let (base, rest) = match parts[0].as_str() {
        "crate" => (&of[..0], &parts[1..]),
        "self" => (&of[..], &parts[1..]),
        "super" => (of.get(..of.len().checked_sub(ups)?)?, &parts[ups..]),
        child if all.contains(&[of.as_slice(), &[child.to_owned()]].concat()) => (&of[..], &parts[..]),
        _ => return None,
    };
    Some([base, rest].concat())
}

/// `crate::a::b` and `super::a` outside of imports.
fn inline(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in text.match_indices(root) {
            let is_inner = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            let path: String =
                text[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            if !is_inner {
                found.push(path.trim_end_matches(':').to_owned());
            }
        }
    }
    found
}

fn modules() -> Vec<Module> {
    let files = sources("src");
    let all: BTreeSet<Name> = files.iter().map(name_of).collect();
    let read = |file: &File| {
        let name = name_of(file);
        let text = file.shipped().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        let (mut paths, mut passed_on, mut code) = (Vec::new(), Vec::new(), String::new());
        let mut rest = text.as_str();
        while let Some(at) = rest.find("use ") {
            let before = rest[..at].rsplit('\n').next().unwrap();
            let is_import = before.trim().is_empty() || before.trim().starts_with("pub");
            code.push_str(&rest[..at]);
            rest = &rest[at + "use ".len()..];
            // A sentence in a string may begin so too.
            let is_tree = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "_:{}*, \n".contains(c));
            let Some((tree, after)) = rest.split_once(';').filter(|(tree, _)| is_import && is_tree(tree)) else {
                continue;
            };
            let mut found = Vec::new();
            leaves(tree, "", &mut found);
            if before.trim().starts_with("pub") {
                passed_on.extend(found.iter().filter_map(|path| absolute(path, &name, &all)));
            }
            paths.extend(found);
            rest = after;
        }
        code.push_str(rest);
        paths.extend(inline(&code));
        let paths = paths.iter().filter_map(|path| absolute(path, &name, &all)).collect();
        Module { name, paths, passed_on }
    };
    files.iter().map(read).collect()
}

/// The file that a path leads to, also where another passes it on.
fn leads_to(path: &Name, modules: &BTreeMap<Name, &Module>) -> Option<Name> {
    let mut path = path.clone();
    // No name is passed on through more hands.
    for _ in 0..5 {
        let length = (1..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let passed_on =
            modules[module].passed_on.iter().find(|on| rest.first().is_some_and(|it| on.last() == Some(it)));
        let next = passed_on.map(|on| [on.as_slice(), &rest[1..]].concat()).filter(|next| *next != path);
        match next {
            Some(next) => path = next,
            None => return Some(module.to_vec()),
        }
    }
    None
}

/// Which files name which.
fn edges() -> BTreeMap<Name, BTreeSet<Name>> {
    let modules = modules();
    let by_name = modules.iter().map(|module| (module.name.clone(), module)).collect();
    let targets = |module: &Module| {
        let found = module.paths.iter().filter_map(|path| leads_to(path, &by_name));
        found.filter(|to| !to.is_empty() && *to != module.name).collect()
    };
    modules.iter().filter(|module| !module.name.is_empty()).map(|it| (it.name.clone(), targets(it))).collect()
}

/// `module → imports` of ARCHITECTURE.md.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let list = page.split("<!-- imports -->\n```\n").nth(1).unwrap().split("```").next().unwrap();
    let line = |line: &str| {
        let (module, imports) = line.split_once('→').unwrap();
        (module.trim().to_owned(), imports.split_whitespace().map(str::to_owned).collect())
    };
    list.lines().map(line).collect()
}

#[test]
fn modules_import_only_what_they_may() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, targets) in edges() {
        let imports = found.entry(from[0].clone()).or_default();
        imports.extend(targets.iter().map(|to| to[0].clone()).filter(|to| *to != from[0]));
    }
    let allowed = allowed();
    let mut broken = Vec::new();
    for module in found.keys().chain(allowed.keys()).collect::<BTreeSet<_>>() {
        let none = BTreeSet::new();
        let (found, allowed) = (found.get(module).unwrap_or(&none), allowed.get(module).unwrap_or(&none));
        broken.extend(found.difference(allowed).map(|to| format!("{module} imports {to}, which it may not")));
        broken.extend(allowed.difference(found).map(|to| format!("{module} may import {to} and does not")));
    }
    none("keep to the list in ARCHITECTURE.md, and it true", &broken);
}

/// Everything that can be reached from here.
fn reached<'e>(from: &'e Name, edges: &'e BTreeMap<Name, BTreeSet<&'e Name>>) -> BTreeSet<&'e Name> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        open.extend(edges.get(next).into_iter().flatten().filter(|to| seen.insert(**to)));
    }
    seen
}

#[test]
fn no_files_of_a_module_use_each_other_in_a_circle() {
    let all = edges();
    // A folder's file and what goes on with its types are one thing in several files.
    let is_drawn = |from: &Name, to: &Name| from[0] == to[0] && !from.starts_with(to);
    let drawn: BTreeMap<Name, BTreeSet<&Name>> = all
        .iter()
        .map(|(from, targets)| (from.clone(), targets.iter().filter(|to| is_drawn(from, to)).collect()))
        .collect();
    let mut circles: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for from in drawn.keys().filter(|from| reached(from, &drawn).contains(from)) {
        circles.entry(&from[0]).or_default().push(from.join("::"));
    }
    assert!(drawn.len() > 200 && drawn.values().any(|targets| targets.len() > 5), "files were read");
    let drawn = circles.iter().map(|(module, files)| format!("{module} ({}): {}", files.len(), files.join(", ")));
    none("move plain types to a file of their own", &drawn.collect::<Vec<_>>());
}

#[test]
fn a_tree_of_imports_has_these_leaves() {
    let mut found = Vec::new();
    leaves("crate::a::{self, b::{C, D as E}, F}", "", &mut found);
    assert_eq!(found, ["crate::a::self", "crate::a::b::C", "crate::a::b::D", "crate::a::F"]);
    assert_eq!(inline("x(crate::a::B::new(), super::c(), mycrate::d)"), ["crate::a::B::new", "super::c"]);
}
