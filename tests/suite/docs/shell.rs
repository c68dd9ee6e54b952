//! Commands that a page shows: the shell can read them, their programs exist, and each of ours takes these words. What is
//! harmless is run.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use node_guardian::cli::Cli;

use super::names::routes;
use super::{Block, Page, blocks, pages, root, run, taken};
use crate::support::app::{App, LANGUAGES};
use crate::support::haproxy::Haproxy;
use crate::support::node::Node;
use crate::support::redis::Redis;

/// Where the package puts examples, the two programs for applications among them (packaging/deb/build).
const INSTALLED: &str = "/usr/share/node-guardian/examples/";

pub fn exists(block: &Block) {
    let script = script(block);
    taken(run(Command::new("sh").args(["-n", "-c", &script]), "dash"), &block.place());
    for command in commands(&script) {
        known(&command).unwrap_or_else(|why| panic!("{}: {command:?}: {why}", block.place()));
    }
}

/// Each line begins with a prompt.
fn script(block: &Block) -> String {
    let line = |line: &str| {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
        command.unwrap_or_else(|| panic!("{}: no prompt: {line}", block.place())).to_owned() + "\n"
    };
    block.text.lines().map(line).collect()
}

/// The words of each command. No page uses more of the shell than quotes, comments, redirections and what joins commands.
fn commands(script: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut rest = script.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\'' => word.get_or_insert_default().extend(rest.by_ref().take_while(|&quoted| quoted != '\'')),
            '"' => word.get_or_insert_default().extend(rest.by_ref().take_while(|&quoted| quoted != '"')),
            '#' if word.is_none() => while rest.next_if(|&comment| comment != '\n').is_some() {},
            ' ' => words.extend(word.take()),
            '\n' | '|' | '&' | ';' | '(' | ')' => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words: &Vec<String>| !words.is_empty());
    commands
}

/// What the program at the beginning says to the rest.
pub fn known(command: &[String]) -> Result<(), String> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node-guardian", rest @ ..] => taken_by_the_command_line(rest),
        ["runuser", "-u", "node-guardian", "--", ..] => known(&command[4..]),
        ["setpriv", ..] => known(&command[words.iter().position(|&word| word == "python3").ok_or("what for?")?..]),
        ["kubectl", "exec", owner, "-c", "guardian", "--", ..] => {
            let name = owner.strip_prefix("deploy/").ok_or("no deployment")?;
            let manifest = fs::read_to_string(root().join("packaging/kubernetes/sidecar.yaml")).unwrap();
            let is_there = manifest.contains(&format!("kind: Deployment\nmetadata:\n  name: {name}\n"));
            is_there.then_some(()).ok_or("not in the manifest")?;
            known(&command[6..])
        }
        ["make", target, ..] => {
            let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
            makefile.contains(&format!("\n{target}:")).then_some(()).ok_or("not in the Makefile".into())
        }
        [variable, "make", ..] if variable.contains('=') => known(&command[1..]),
        ["cargo", "run", "--example", name, options @ ..] => {
            let sources = root().join("tests/apps").join(name);
            let source =
                ["main.rs", "serve.rs", "control.rs"].map(|file| fs::read_to_string(sources.join(file)).unwrap());
            has_options(options, &source.concat())
        }
        ["cargo", "test", ..] => Ok(()),
        ["python3", "-c", program] => {
            let parse = "import ast, sys; ast.parse(sys.argv[1])";
            let output = run(Command::new("python3").args(["-c", parse, program]), "python3");
            output.status.success().then_some(()).ok_or("no Python".into())
        }
        ["python3", file, options @ ..] => {
            let file = file.replace(INSTALLED, "tests/apps/");
            let source = fs::read_to_string(root().join(file)).map_err(|error| error.to_string())?;
            has_options(options, &source)
        }
        ["curl", .., url] => {
            let path = url.trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
            let is_ours = routes().iter().any(|route| route.trim_start_matches('/') == path);
            (is_ours || path.starts_with("ng/v1/")).then_some(()).ok_or("no such route".into())
        }
        ["apt", "install", file] => {
            let wanted = concat!("./node-guardian_", env!("CARGO_PKG_VERSION"), "_amd64.deb");
            (*file == wanted).then_some(()).ok_or(format!("the package is {wanted}"))
        }
        ["apt", "remove" | "purge", "node-guardian"] | ["gpasswd", "-a", _, _] | ["usermod", "-aG", _, _] => Ok(()),
        ["systemctl", verb, rest @ ..] => {
            let is_known =
                ["enable", "reload", "restart", "edit", "kill", "set-property", "daemon-reload"].contains(verb);
            is_known.then_some(()).ok_or("no such command of systemctl")?;
            let ours = rest.iter().filter(|word| word.starts_with("node-guardian."));
            let missing = ours.filter(|unit| !root().join("systemd").join(unit).exists()).count();
            (missing == 0).then_some(()).ok_or("no such unit".into())
        }
        ["cp", from, _] => {
            let example = from.strip_prefix(INSTALLED).ok_or("from where?")?;
            let file = root().join("packaging/examples").join(example);
            file.exists().then_some(()).ok_or("no such example".into())
        }
        [program, ..] if program.starts_with('.') => exists_here(root(), program),
        [program, ..] => {
            let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(program));
            let is_there = *program == "umask" || folders.iter().any(|path| path.exists());
            is_there.then_some(()).ok_or("no such program".into())
        }
        [] => Ok(()),
    }
}

fn exists_here(folder: &Path, path: &str) -> Result<(), String> {
    folder.join(path).exists().then_some(()).ok_or("no such file".into())
}

fn has_options(words: &[&str], source: &str) -> Result<(), String> {
    let options = words.iter().filter(|word| word.len() > 2 && word.starts_with("--"));
    let unknown: Vec<_> = options.filter(|&&option| !source.contains(&option[2..])).collect();
    unknown.is_empty().then_some(()).ok_or(format!("no option {unknown:?}"))
}

/// `[…]` may be left out, `N` is a number, and `…` is more of the same.
pub fn taken_by_the_command_line(words: &[&str]) -> Result<(), String> {
    let filled = words.iter().map(|word| match word.trim_matches(['[', ']']).trim_end_matches('…') {
        "N" => "1",
        word => word,
    });
    let parsed = Cli::try_parse_from(std::iter::once("node-guardian").chain(filled));
    parsed.map(drop).map_err(|error| error.to_string())
}

/// The blocks that talk to the example of an application, over its socket and over HTTP.
#[test]
fn commands_for_an_application_are_answered() {
    let all = blocks();
    let shown: Vec<String> = all.iter().filter(|block| block.fence == "console").map(script).collect();
    let talks =
        |line: &&str| (line.contains("/tmp/pages.sock") || line.contains("/ng/v1/")) && !line.contains("pages.py");
    let lines: Vec<&str> = shown.iter().flat_map(|script| script.lines()).filter(talks).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for language in LANGUAGES {
        let app = App::start(language);
        let (socket, token) = (app.path("ng.sock"), fs::read_to_string(app.path("token")).unwrap());
        for line in lines.iter().filter(|line| !line.contains("--example")) {
            let line = line.replace("/tmp/pages.sock", socket.to_str().unwrap());
            let line = line.replace("http://127.0.0.1:8080", &app.url());
            let line = line.replace("Bearer secret", &format!("Bearer {}", token.trim()));
            let output = run(Command::new("sh").args(["-c", &line]), "dash");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.replace(": ", ":").contains("\"ok\":true"), "{line}: {said}");
        }
    }
}

#[test]
fn a_first_rule_in_five_minutes_works() {
    let page = pages().into_iter().find(|page| page.path == "README.md").unwrap();
    let (rule, session) = first_rule(&page);
    let (edge, cache) = (Haproxy::start(), Redis::start());
    let mut text = rule.text;
    for (shown, real) in [
        ("[control.haproxy.edge]\nsocket = \"/run/haproxy/admin.sock\"\n", edge.section("edge", "admin.sock")),
        ("[control.redis.cache]\nsocket = \"/run/redis/redis-server.sock\"\n", cache.section("cache", "redis.sock")),
    ] {
        assert!(text.contains(shown), "{text}");
        text = text.replace(shown, &real);
    }
    let node = Node::new(&text);
    let config = node.path("config.toml").display().to_string();
    let mut daemon = None;
    let mut said = Vec::new();
    for command in commands(&script(&session)) {
        let words: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
        match words.as_slice() {
            ["check", rest @ ..] => said.push(node.ask(&[&["check", &config], rest].concat())),
            ["run", "--dry-run"] => {}
            ["run"] => daemon = Some(node.start()),
            others => said.push(node.ask(others)),
        }
    }
    let failed: Vec<_> = said.iter().filter(|said| said.code != 0).collect();
    assert!(failed.is_empty() && said.len() == 3, "{failed:#?}");
    let told = said.iter().map(|said| said.out.as_str()).collect::<String>();
    for known in ["edge", "cache", "memory-critical", "memory.available_percent"] {
        assert!(told.contains(known), "no {known} in {told}");
    }
    assert_eq!(daemon.expect("the page runs it").stop(), 0);
}

fn first_rule(page: &Page) -> (Block, Block) {
    let mut blocks = page.blocks().into_iter().skip_while(|block| block.fence != "toml");
    let (rule, session) = (blocks.next().unwrap(), blocks.next().unwrap());
    assert_eq!(session.fence, "console");
    (rule, session)
}
