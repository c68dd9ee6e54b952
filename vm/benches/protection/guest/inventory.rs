//! What a guard could have changed, as names and values, to compare before and after.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::shell;

type Inventory = BTreeMap<String, String>;

/// Limits of a cgroup that somebody may lower.
const LIMITS: [&str; 8] =
    ["cgroup.freeze", "memory.high", "memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "io.max", "pids.max"];
const TOWN: [&str; 3] = ["shop", "haproxy", "redis-server"];

pub fn take() -> Inventory {
    let mut found = Inventory::new();
    haproxy(&mut found);
    redis(&mut found);
    for unit in TOWN {
        let (_, state) = shell::run(&format!("systemctl is-active {unit}")).unwrap_or_default();
        found.insert(unit.to_owned(), state.trim().to_owned());
        limits(unit, &mut found);
    }
    stopped(&mut found);
    for folder in ["/run/systemd/system.control", "/etc/systemd/system.control"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            found.insert(format!("{folder}/{}", entry.file_name().display()), "is there".to_owned());
        }
    }
    found
}

pub fn differences(before: &Inventory, after: &Inventory) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let show = |value: Option<&String>| value.map_or_else(|| "nothing".to_owned(), Clone::clone);
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{name}: {} → {}", show(before.get(name)), show(after.get(name))))
        .collect()
}

fn haproxy(found: &mut Inventory) {
    let ask = |command: &str| talk("/run/haproxy/admin.sock", &format!("{command}\n"), "").unwrap_or_default();
    for line in ask("show info").lines().filter(|line| line.starts_with("Maxconn:")) {
        found.insert("haproxy Maxconn".to_owned(), line.to_owned());
    }
    let text = ask("show stat");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |wanted: &str| names.iter().position(|name| *name == wanted);
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let of = |name: &str| column(name).and_then(|at| fields.get(at)).copied().unwrap_or_default();
        if !line.is_empty() {
            let name = format!("haproxy {}/{}", of("pxname"), of("svname"));
            found.insert(name, format!("limit {} state {}", of("slim"), of("status")));
        }
    }
    for line in ask("show table ng_lease").lines().filter(|line| line.contains("key=")) {
        let words: Vec<&str> =
            line.split_whitespace().filter(|word| word.contains('=') && !word.starts_with("exp")).collect();
        found.insert(format!("haproxy lease {}", words.join(" ")), "in force".to_owned());
    }
}

fn redis(found: &mut Inventory) {
    for name in ["maxmemory", "maxmemory-policy"] {
        let answer =
            talk("/run/redis/redis-server.sock", &format!("CONFIG GET {name}\r\n"), "\r\n").unwrap_or_default();
        found.insert(format!("redis {name}"), answer.lines().last().unwrap_or_default().to_owned());
    }
}

/// What is answered until the other side closes, or until the last line of a two-element reply.
fn talk(path: &str, command: &str, end: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(command.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part)? {
            0 => break,
            more => answer.extend_from_slice(&part[..more]),
        }
        if !end.is_empty() && answer.ends_with(end.as_bytes()) {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn limits(unit: &str, found: &mut Inventory) {
    for limit in LIMITS {
        let path = format!("/sys/fs/cgroup/system.slice/{unit}.service/{limit}");
        if let Ok(value) = fs::read_to_string(Path::new(&path)) {
            found.insert(format!("{unit} {limit}"), value.trim().to_owned());
        }
    }
}

/// Processes that a signal has stopped.
fn stopped(found: &mut Inventory) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = text.rsplit_once(')') else { continue };
        if rest.trim_start().starts_with('T') {
            found.insert(format!("process {name})"), "stopped".to_owned());
        }
    }
}
