//! `[control.KIND.NAME]`: the services that may be acted on, each with where it is and what may be touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Entry, Node, Value};
use super::origin::{Place, printable};
use super::section::{Findings, Read, Section, proposal, refuse};
use super::value;
use crate::control::target::{Address, Haproxy, Redis, Target};

pub const KINDS: &[&str] = &["haproxy", "redis"];
pub const HAPROXY: &[&str] = &["socket", "frontends", "backends", "lease_table"];
pub const REDIS: &[&str] = &["socket", "address", "username", "password_file", "cache_only", "flush_pattern"];

const LATER: [&str; 13] = [
    "nginx",
    "memcached",
    "varnish",
    "systemd",
    "cgroup",
    "pressure",
    "process",
    "jvm",
    "nftables",
    "disk",
    "app",
    "webhook",
    "unit",
];

/// The stick table that the packaged HAProxy snippet declares.
const LEASE_TABLE: &str = "ng_lease";

/// A control that the configuration names. Its target is unknown where its kind is; such a name is still a name, so that
/// one mistake does not become one more in each step.
#[derive(Debug)]
pub struct Declared {
    pub name: Arc<str>,
    pub target: Option<Target>,
}

/// All controls, in name order.
pub fn read(root: Section<'_>, findings: &mut Findings<'_>) -> Vec<Declared> {
    let mut declared = BTreeMap::new();
    let Some(entry) = root.table.get("control") else { return Vec::new() };
    let Some(kinds) = Section::named("[control]", &entry.key, &entry.node, findings) else { return Vec::new() };
    for (kind, entry) in kinds.table {
        let title = format!("[control.{}]", printable(kind));
        if !KINDS.contains(&kind.as_str()) {
            unknown_kind(kind, entry, findings);
            if !matches!(entry.node.value, Value::Table(_)) {
                continue;
            }
        }
        if let Some(names) = Section::named(&title, &entry.key, &entry.node, findings) {
            for (name, entry) in names.table {
                read_one(kind, name, entry, &mut declared, findings);
            }
        }
    }
    refuse_twins(&declared, findings);
    declared.into_iter().map(|(name, (_, target))| Declared { name: name.into(), target }).collect()
}

fn unknown_kind(kind: &str, entry: &Entry, findings: &mut Findings<'_>) {
    let shown = printable(kind);
    if LATER.contains(&kind) {
        let help = format!("this version knows {}", KINDS.join(" and "));
        return findings.error(&entry.key, format!("controls of kind `{shown}` are not in this version"), help);
    }
    let help = format!("{} (a control is written [control.KIND.NAME])", proposal(kind, KINDS));
    findings.error(&entry.key, format!("unknown kind of control `{shown}`"), help);
}

type Found = BTreeMap<String, (Place, Option<Target>)>;

fn read_one(kind: &str, name: &str, entry: &Entry, declared: &mut Found, findings: &mut Findings<'_>) {
    let title = format!("[control.{}.{}]", printable(kind), printable(name));
    if let Err(message) = check_name(name) {
        findings.error(&entry.key, message, "use letters, digits, - and _");
    }
    if let Some((other, _)) = declared.get(name) {
        let place = written(other, findings);
        let message = format!("two controls are named `{}`{place}", printable(name));
        findings.error(&entry.key, message, "steps name a control by its name alone: rename one of them");
        return;
    }
    let target = match kind {
        "haproxy" => haproxy(&title, entry, findings).map(Target::Haproxy),
        "redis" => redis(&title, entry, findings).map(Target::Redis),
        _ => None,
    };
    declared.insert(name.to_owned(), (entry.key.clone(), target));
}

/// ` (config.toml:7)`
fn written(place: &Place, findings: &Findings<'_>) -> String {
    findings.origins.get(place.origin).map_or_else(String::new, |origin| {
        format!(" ({}:{})", printable(&origin.name), origin.position(&place.span).line)
    })
}

/// What two controls turn at once, neither could put back: each would take the other's value for the operator's.
fn refuse_twins(declared: &Found, findings: &mut Findings<'_>) {
    let mut all: Vec<_> =
        declared.iter().filter_map(|(name, (key, target))| Some((name, key, target.as_ref()?))).collect();
    all.sort_by_key(|(_, key, _)| (key.origin, key.span.start));
    for (at, (name, key, target)) in all.iter().enumerate() {
        let twin = all[..at].iter().find_map(|(other, place, theirs)| Some((other, place, shared(target, theirs)?)));
        let Some((other, place, (what, help))) = twin else { continue };
        let place = written(place, findings);
        findings.error(key, format!("`{}` and `{}`{place} {what}", printable(name), printable(other)), help);
    }
}

fn shared(mine: &Target, theirs: &Target) -> Option<(String, &'static str)> {
    if !mine.is_same_place(theirs) {
        return None;
    }
    match (mine, theirs) {
        (Target::Haproxy(mine), Target::Haproxy(theirs)) => {
            if mine.socket.as_os_str().is_empty() {
                return None;
            }
            let what = match (mine.backends.is_empty(), theirs.backends.is_empty()) {
                (true, true) => "both act on all backends of one HAProxy".to_owned(),
                (true, false) | (false, true) => "overlap: one acts on all backends of the same HAProxy".to_owned(),
                (false, false) => {
                    let both = mine.backends.iter().find(|backend| theirs.backends.contains(backend))?;
                    format!("both act on backend `{both}` of one HAProxy")
                }
            };
            Some((what, "give each its own `backends`, or make one control of the two"))
        }
        (Target::Redis(mine), Target::Redis(_)) => {
            let is_missing = matches!(&mine.address, Address::Unix(path) if path.as_os_str().is_empty());
            (!is_missing).then(|| ("both act on one Redis".to_owned(), "make one control of the two"))
        }
        (Target::Haproxy(_) | Target::Redis(_), _) => None,
    }
}

/// Names appear in commands, metrics' labels and addresses of HTTP.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    Err(format!("`{}` cannot be a name", printable(name)))
}

fn haproxy(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Haproxy> {
    let section = Section::open(title, &entry.key, &entry.node, HAPROXY, findings)?;
    if !section.has("socket") {
        let help = "add socket = \"/run/haproxy/admin.sock\" (HAProxy: `stats socket … level admin`)";
        findings.absence(section.key, format!("{title} has no `socket`"), help);
    }
    let names = |key: &str, node: &Node| value::list(key, node, value::word);
    Some(Haproxy {
        socket: section.get("socket", findings, value::socket).unwrap_or_default(),
        frontends: section.get("frontends", findings, names).unwrap_or_default(),
        backends: section.get("backends", findings, names).unwrap_or_default(),
        lease_table: section.get("lease_table", findings, value::word).unwrap_or_else(|| LEASE_TABLE.to_owned()),
    })
}

fn redis(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Redis> {
    let section = Section::open(title, &entry.key, &entry.node, REDIS, findings)?;
    let socket = section.get("socket", findings, value::socket).map(Address::Unix);
    let address = section.get("address", findings, address).map(Address::Tcp);
    match (section.has("socket"), section.has("address")) {
        (true, true) => {
            let message = "a Redis is reached by `socket` or by `address`, not by both";
            findings.error(section.place("address"), message, "remove one of them");
        }
        (false, false) => {
            let help = "add socket = \"/run/redis/redis-server.sock\", or address = \"127.0.0.1:6379\"";
            findings.absence(section.key, format!("{title} has neither `socket` nor `address`"), help);
        }
        (true, false) | (false, true) => {}
    }
    let redis = Redis {
        address: socket.or(address).unwrap_or_else(|| Address::Unix(PathBuf::new())),
        username: section.get("username", findings, username),
        password_file: section.get("password_file", findings, value::path),
        cache_only: section.get("cache_only", findings, value::boolean).unwrap_or(false),
        flush_pattern: section.get("flush_pattern", findings, pattern),
    };
    if redis.username.is_some() && !section.has("password_file") {
        let message = "`username` without `password_file` logs in nowhere";
        findings.error(section.place("username"), message, "name the file that holds the password");
    }
    if let Some(file) = &redis.password_file {
        warn_open_secret(section.place("password_file"), file, findings);
    }
    Some(redis)
}

fn username(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "guardian")?;
    if written.is_empty() || written.chars().any(char::is_whitespace) {
        return refuse("a Redis user name is neither empty nor has spaces", "such as username = \"guardian\"");
    }
    Ok(written.to_owned())
}

fn address(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "127.0.0.1:6379")?;
    let parts = written.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let bracketed = |host: &str| !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    match parts {
        Some((host, port))
            if !host.is_empty() && port > 0 && bracketed(host) && !host.contains(char::is_whitespace) =>
        {
            Ok(written.to_owned())
        }
        _ => {
            let help = "write host:port, such as 127.0.0.1:6379 or [::1]:6379; a path goes into `socket`";
            refuse(format!("`{}` is not an address", printable(written)), help)
        }
    }
}

fn pattern(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "cache:*")?;
    if written.is_empty() || written.chars().all(|c| c == '*') {
        let help = "name a prefix, such as \"cache:*\"; where everything may go, declare cache_only = true";
        return refuse("this pattern matches every key", help);
    }
    Ok(written.to_owned())
}

/// Complains about a file with a secret that everybody on the node can read, or that is not there.
pub fn warn_open_secret(place: &Place, file: &Path, findings: &mut Findings<'_>) {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.mode() & 0o007 != 0 => {
            let shown = printable(&file.display().to_string());
            let message = format!("every user of this node can read the secret in {shown}");
            findings.warning(place, message, format!("chmod o= {shown}"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.warning(place, "this file does not exist", "create it before node-guardian needs it");
        }
        // Whoever checks may have fewer rights than the daemon.
        Ok(_) | Err(_) => {}
    }
}
