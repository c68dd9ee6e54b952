//! Blocks for node-guardian itself, for Prometheus, for a receiver of events and for an application.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use node_guardian::config::{self, Source};
use serde_json::Value;

use super::{Block, run, taken, write};
use crate::support::node::{EXECUTABLE, Node};
use crate::support::receiver::{Answer, Letter, Receiver};

/// As it stands, and with every key that it shows switched on.
pub fn compiles(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    for text in [block.text.clone(), block.text.replace("\n#", "\n")] {
        let checked = config::check(&Source::file(write(&folder, "config.toml", &text)));
        assert_eq!(checked.complaints.errors(), 0, "{}: {}", block.place(), checked.text());
    }
}

pub fn is_replayed(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let rules = "[control.haproxy.edge]\nsocket = \"/run/haproxy/admin.sock\"\n[rule.short]\nwhen = \
                 \"memory.available_percent < 8%\"\nsteps = [{ throttle = \"edge\", to = \"50%\" }]\n";
    let (config, trace) = (write(&folder, "config.toml", rules), write(&folder, "trace.txt", &block.text));
    let output = run(Command::new(EXECUTABLE).arg("replay").arg("--config").arg(config).arg(trace), "node-guardian");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    taken(output, &block.place());
    assert!(
        said.contains("rule short fires") && said.contains("edge"),
        "{}: nothing happens in it:\n{said}",
        block.place()
    );
}

pub fn is_taken_by_promtool(block: &Block) {
    promtool_takes(&block.text, block);
}

/// One expression a line, of which an alert is made.
pub fn is_an_alert(block: &Block) {
    promtool_takes(&block.text.lines().map(|line| format!("- alert: A\n  expr: {line}\n")).collect::<String>(), block);
}

/// The names are those that a daemon exports.
fn promtool_takes(rules: &str, block: &Block) {
    let node = Node::new("[control.webhook.ops]\nurl = \"http://127.0.0.1:9/hook\"\n");
    let exported = node.start().get("/metrics").body;
    for name in rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let is_there = !name.starts_with("node_guardian_") || exported.contains(&format!("# TYPE {name} "));
        assert!(is_there, "{}: no {name}", block.place());
    }
    let folder = tempfile::tempdir().unwrap();
    let indented: String = rules.lines().map(|line| format!("      {line}\n")).collect();
    let file = write(&folder, "rules.yaml", &format!("groups:\n  - name: page\n    rules:\n{indented}"));
    taken(run(Command::new("promtool").args(["check", "rules"]).arg(file), "prometheus"), &block.place());
}

/// As an application runs it: told once, it empties its cache once.
pub fn listens_for_pressure(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let cache = "class Cache:\n    def clear(self): print('cleared', flush=True)\n\ncache = Cache()\n";
    let program = write(&folder, "app.py", &format!("{cache}{}", block.text));
    let mut python = Command::new("python3");
    python.arg(program).env("MEMORY_PRESSURE_WATCH", &fifo).stdout(Stdio::piped());
    let mut app = python.spawn().expect("python3 is needed: apt install python3");
    let opened = crate::support::eventually("it opens the pipe", || {
        std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).ok()
    });
    (&opened).write_all(b"x").unwrap();
    let line = BufReader::new(app.stdout.take().unwrap()).lines().next();
    app.kill().unwrap();
    app.wait().unwrap();
    assert_eq!(line.map(Result::unwrap).as_deref(), Some("cleared"), "{}", block.place());
}

/// `app::document` holds them, with both applications.
pub fn is_of_the_protocol(block: &Block) {
    assert_eq!(block.page, PROTOCOL, "only blocks of that page are tried");
}

const PROTOCOL: &str = "docs/app-protocol.md";

/// What the daemon posts has these headers and these fields, in whatever it says.
pub fn is_as_it_is_sent(block: &Block) {
    if block.page == PROTOCOL {
        return;
    }
    let receiver = Receiver::start(Answer::Status(200));
    let node = Node::new(&format!("[control.webhook.ops]\nurl = \"{}\"\n", receiver.url()));
    let daemon = node.start();
    let posted: Letter = receiver.first(1).remove(0);
    daemon.stop();
    let (head, body) = block.text.split_once("\n\n").unwrap();
    let mut head = head.lines();
    assert_eq!(head.next().unwrap(), posted.request, "{}", block.place());
    for header in head {
        let name = header.split(':').next().unwrap();
        assert!(posted.header(name).is_some(), "{}: no {name}", block.place());
    }
    let fields = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&serde_json::from_str(body).unwrap()), fields(&posted.json), "{}", block.place());
}
