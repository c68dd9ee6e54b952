//! What the pages say is true: each block that they show is run by the program that it is for, each link leads somewhere,
//! and what they name exists. A page with something that no test knows fails here.

mod links;
mod names;
mod programs;
mod servers;
mod shell;
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const FENCE: &str = "```";

/// One Markdown file.
struct Page {
    /// From the root of the repository.
    path: String,
    text: String,
}

/// What stands between two fences.
struct Block {
    page: String,
    line: usize,
    fence: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Those for users, and those for who changes the project.
fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/controls", "vm", "fuzz"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Page { path: path.strip_prefix(root()).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(found.len() > 20);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Page {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (at, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix(FENCE), &mut open) {
                (Some(fence), None) => {
                    open = Some(Block {
                        page: self.path.clone(),
                        line: at + 1,
                        fence: fence.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence that is not closed", self.path);
        blocks
    }

    /// Without what stands between fences.
    fn prose(&self) -> String {
        let mut inside = false;
        let lines = self.text.lines().filter(|line| {
            let is_fence = line.trim_start().starts_with(FENCE);
            inside ^= is_fence;
            !inside && !is_fence
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What stands in backticks.
    fn named(&self) -> Vec<String> {
        let prose = self.prose();
        let paragraphs = prose.split("\n\n").flat_map(|paragraph| paragraph.split("\n|"));
        let mut named = Vec::new();
        for paragraph in paragraphs {
            let pieces: Vec<&str> = paragraph.split('`').collect();
            assert!(pieces.len() % 2 == 1, "{}: a backtick too many in: {paragraph}", self.path);
            named.extend(pieces.iter().skip(1).step_by(2).map(|piece| piece.replace('\n', " ")));
        }
        named
    }
}

/// Drawings and signatures for who changes the project.
const DRAWINGS: &str = "ARCHITECTURE.md";

fn blocks() -> Vec<Block> {
    pages().iter().filter(|page| page.path != DRAWINGS).flat_map(Page::blocks).collect()
}

/// All that are fenced as this.
fn each(fence: &str, run: impl Fn(&Block)) {
    let found: Vec<Block> = blocks().into_iter().filter(|block| block.fence == fence).collect();
    assert!(!found.is_empty(), "no page has a block that is fenced as {fence}");
    found.iter().for_each(run);
}

/// Each fence once, with what runs its blocks: a test, and a fence that is known.
macro_rules! fences {
    ($($fence:literal $name:ident: $run:path;)*) => {
        const KNOWN: &[&str] = &[$($fence),*];
        $(#[test]
        fn $name() {
            each($fence, $run);
        })*
    };
}

fences! {
    "toml" configuration_compiles: programs::compiles;
    "trace" traces_are_replayed: programs::is_replayed;
    "yaml" alerts_are_taken_by_promtool: programs::is_taken_by_promtool;
    "promql" expressions_are_taken_by_promtool: programs::is_an_alert;
    "python" programs_do_what_the_page_says: programs::listens_for_pressure;
    "http" requests_are_as_they_are_sent: programs::is_as_it_is_sent;
    "transcript" conversations_are_held_elsewhere: programs::is_of_the_protocol;
    "console" commands_exist: shell::exists;
    "ini" units_are_taken_by_systemd: systemd::is_taken;
    "tmpfiles" tmpfiles_are_created: systemd::is_created;
    "haproxy" haproxy_takes_its_lines: servers::haproxy;
    "haproxy-map" haproxy_takes_a_map_instead: servers::haproxy_map;
    "nginx-http" nginx_takes_lines_in_http: servers::nginx_http;
    "nginx-location" nginx_takes_lines_in_a_location: servers::nginx_location;
    "redis" redis_takes_its_lines: servers::redis;
    "memcached" memcached_takes_its_options: servers::memcached;
}

#[test]
fn every_fence_is_known_and_nothing_is_shown_without_one() {
    let unknown = blocks().into_iter().filter(|block| !KNOWN.contains(&&*block.fence));
    let mut wrong: Vec<String> =
        unknown.map(|block| format!("{}: no test runs ```{}", block.place(), block.fence)).collect();
    for page in pages() {
        let prose = page.prose();
        let indented = |paragraph: &&str| paragraph.trim_start_matches('\n').starts_with("    ");
        let found = prose.split("\n\n").filter(indented);
        wrong.extend(found.map(|paragraph| format!("{}: indented, so no test runs it: {paragraph}", page.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn taken(output: Output, what: &str) {
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{what}", String::from_utf8_lossy(&said));
}

fn run(command: &mut Command, package: &str) -> Output {
    let shown = format!("{command:?}");
    command.output().unwrap_or_else(|error| panic!("{shown}: {error}: run `apt-get install {package}`"))
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let file = folder.path().join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    file
}
