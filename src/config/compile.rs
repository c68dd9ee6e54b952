//! The tree of all texts to settings. It always returns settings, with the default in place of a bad value, so that
//! every key is checked. The complaints decide whether the settings may be used.

use std::sync::Arc;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::controls;
use super::here::Here;
use super::settings::{Control, Http, Sampling, Scope, Settings};
use super::source::{BUILT_IN_RULES, Gathered, Source, gather};
use super::{lint, rules};
use crate::document::complaint::Complaints;
use crate::document::node::Node;
use crate::document::secret::warn_open_secret;
use crate::document::section::{Findings, Read, Section};
use crate::document::value;
use crate::policy::mitigation::{Level, Verb};
use crate::policy::ports::Ports;
use crate::policy::rule::{Cost, Emergency, Policy, Rule};
use crate::policy::spacing::Spacing;

pub const TOP: &[&str] =
    &["level", "dry_run", BUILT_IN_RULES, "state_directory", "sampling", "http", "emergency", "control", "rule"];
pub const SAMPLING: &[&str] = &[
    "interval",
    "fast_interval",
    "mounts",
    "proc_root",
    "sys_root",
    "scope",
    "cgroup_root",
    "memory_limit",
    "cpu_limit",
];
pub const HTTP: &[&str] = &["listen", "socket", "token_file"];
pub const EMERGENCY: &[&str] = &["hold", "hold_max", "undo_interval", "stand_down"];

const STATE_DIRECTORY: &str = "/var/lib/node-guardian";
const RUNTIME_DIRECTORY: &str = "/run/node-guardian";
const LISTEN: &str = "127.0.0.1:9977";
const ADMIN_SOCKET: &str = "admin.sock";

/// Pace when calm, and the fastest one: what a fill of 4 GB/s needs to be seen within 10 ms.
const INTERVAL: Duration = Duration::from_secs(1);
const FAST_INTERVAL: Duration = Duration::from_millis(5);

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Settings with everything that there is to say about them.
#[derive(Debug)]
pub struct Compiled {
    /// Not to be used where there are errors.
    pub settings: Settings,
    pub complaints: Complaints,
}

#[must_use]
pub fn compile(source: &Source) -> Compiled {
    let Gathered { origins, tree, complaints, files } = gather(source);
    let mut findings = Findings { origins: &origins, list: complaints };
    // The top of the tree is nowhere in particular; no complaint is about it.
    let nowhere = crate::document::origin::Place { origin: 0, span: 0..0 };
    let root = Section { key: &nowhere, table: &tree };
    root.refuse_unknown("the file", TOP, &mut findings);
    let directories = Directories::of(source);
    let declared = controls::read(root, &mut findings);
    let level = root.get("level", &mut findings, level).unwrap_or_default();
    let sampling = sampling(root, &mut findings);
    let around = rules::Around { controls: &declared, level, here: Here::look(source.look, &sampling) };
    let policy = Policy {
        level,
        spacing: Spacing::every(sampling.interval),
        dry_run: root.get("dry_run", &mut findings, value::boolean).unwrap_or(false),
        emergency: emergency(root, &mut findings),
        rules: patient(rules::read(root, &around, &mut findings), &declared),
        targets: declared.iter().filter_map(identity).collect(),
        ports: declared.iter().filter_map(ports).collect(),
        undeclared: declared.iter().flat_map(undeclared).collect(),
    };
    lint::rules(&policy.rules, root, &mut findings);
    let state_directory = root.get("state_directory", &mut findings, value::path);
    let settings = Settings {
        sampling,
        http: http(root, &directories, &mut findings),
        policy,
        controls: declared
            .into_iter()
            .filter_map(|declared| Some(Control { name: declared.name, target: declared.target? }))
            .collect(),
        state_directory: state_directory.unwrap_or(directories.state),
        sources: files,
    };
    let list = findings.list;
    let mut complaints = Complaints { origins, list };
    complaints.settle();
    Compiled { settings, complaints }
}

pub(super) fn level(key: &str, node: &Node) -> Read<Level> {
    value::choice(key, node, &Level::ALL, Level::name)
}

/// Where state goes unless a file says otherwise.
#[must_use]
pub(super) fn state_directory_of(source: &Source) -> PathBuf {
    Directories::of(source).state
}

/// Where state and sockets go unless a file says otherwise; systemd may have made the directories for us.
struct Directories {
    state: PathBuf,
    runtime: PathBuf,
}

impl Directories {
    fn of(source: &Source) -> Self {
        // Several directories are separated by colons (systemd.exec(5)); ours is the first.
        let first = |name: &str, usual: &str| {
            let set = source.environment.get(name).and_then(|value| value.split(':').next());
            PathBuf::from(set.filter(|path| path.starts_with('/')).unwrap_or(usual))
        };
        Self {
            state: first("STATE_DIRECTORY", STATE_DIRECTORY),
            runtime: first("RUNTIME_DIRECTORY", RUNTIME_DIRECTORY),
        }
    }
}

fn section<'n>(
    root: Section<'n>,
    name: &str,
    keys: &[&'static str],
    findings: &mut Findings<'_>,
) -> Option<Section<'n>> {
    let entry = root.table.get(name)?;
    Section::open(&format!("[{name}]"), &entry.key, &entry.node, keys, findings)
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            interval: INTERVAL,
            fast_interval: FAST_INTERVAL,
            mounts: None,
            proc_root: PathBuf::from("/proc"),
            sys_root: PathBuf::from("/sys"),
            scope: Scope::default(),
            cgroup_root: None,
            memory_limit: None,
            cpu_limit: None,
        }
    }
}

fn sampling(root: Section<'_>, findings: &mut Findings<'_>) -> Sampling {
    let usual = Sampling::default();
    let Some(section) = section(root, "sampling", SAMPLING, findings) else { return usual };
    let pace = |key: &str, node: &Node| value::duration(key, node, 10 * MILLISECOND..=MINUTE);
    let fast = |key: &str, node: &Node| value::duration(key, node, MILLISECOND..=MINUTE);
    let mounts = |key: &str, node: &Node| value::list(key, node, value::path);
    let scope = |key: &str, node: &Node| value::choice(key, node, &Scope::ALL, Scope::name);
    let sampling = Sampling {
        interval: section.get("interval", findings, pace).unwrap_or(usual.interval),
        fast_interval: section.get("fast_interval", findings, fast).unwrap_or(usual.fast_interval),
        mounts: section.get("mounts", findings, mounts),
        proc_root: section.get("proc_root", findings, value::path).unwrap_or(usual.proc_root),
        sys_root: section.get("sys_root", findings, value::path).unwrap_or(usual.sys_root),
        scope: section.get("scope", findings, scope).unwrap_or_default(),
        cgroup_root: section.get("cgroup_root", findings, value::path),
        memory_limit: section.get("memory_limit", findings, value::size),
        cpu_limit: section.get("cpu_limit", findings, value::cpus),
    };
    if sampling.fast_interval > sampling.interval {
        let message = "`fast_interval` is longer than `interval`";
        findings.error(section.place("fast_interval"), message, "set it to at most `interval`");
    }
    sampling
}

fn http(root: Section<'_>, directories: &Directories, findings: &mut Findings<'_>) -> Http {
    let usual = Http { listen: LISTEN.parse().ok(), socket: directories.runtime.join(ADMIN_SOCKET), token_file: None };
    let Some(section) = section(root, "http", HTTP, findings) else { return usual };
    let http = Http {
        listen: section.get("listen", findings, value::listen).unwrap_or(usual.listen),
        socket: section.get("socket", findings, value::socket).unwrap_or(usual.socket),
        token_file: section.get("token_file", findings, value::path),
    };
    if let Some(file) = &http.token_file {
        warn_open_secret(section.place("token_file"), file, findings);
    }
    if section.has("socket") && !is_runtime(&http.socket, &directories.runtime) {
        let message = "the admin socket is not below /run: it would stay behind after a crash or a reboot";
        findings.warning(section.place("socket"), message, "use /run/node-guardian/admin.sock");
    }
    if http.listen.is_some_and(|address| !address.ip().is_loopback()) && !section.has("token_file") {
        let message = "other machines can reach this address, and without a token only /livez and /readyz answer them";
        findings.warning(section.place("listen"), message, "set token_file, or listen on 127.0.0.1");
    }
    http
}

fn is_runtime(socket: &Path, runtime: &Path) -> bool {
    socket.starts_with("/run") || socket.starts_with("/var/run") || socket.starts_with(runtime)
}

/// Each step waits as long as its control may take.
fn patient(mut rules: Vec<Rule>, declared: &[controls::Declared]) -> Vec<Rule> {
    for step in rules.iter_mut().flat_map(|rule| &mut rule.steps) {
        let control = declared.iter().find(|control| control.name == step.mitigation.control);
        if let Some(target) = control.and_then(|control| control.target.as_ref()) {
            step.patience = target.place().patience(step.mitigation.verb);
            step.cost = if target.place().is_sacrificial() { Cost::Nobody } else { Cost::Users };
        }
    }
    rules
}

fn identity(declared: &controls::Declared) -> Option<(Arc<str>, Arc<str>)> {
    Some((Arc::clone(&declared.name), declared.target.as_ref()?.identity().into()))
}

fn ports(declared: &controls::Declared) -> Option<(Arc<str>, Ports)> {
    Some((Arc::clone(&declared.name), Ports::all_of(declared.ports.clone()?)))
}

fn undeclared(declared: &controls::Declared) -> Vec<(Arc<str>, Verb)> {
    let Some(target) = &declared.target else { return Vec::new() };
    let verbs = target.place().verbs().iter().filter(|verb| target.place().is_undeclared(**verb));
    verbs.map(|verb| (Arc::clone(&declared.name), *verb)).collect()
}

fn emergency(root: Section<'_>, findings: &mut Findings<'_>) -> Emergency {
    let usual = Emergency::default();
    let Some(section) = section(root, "emergency", EMERGENCY, findings) else { return usual };
    let time = |key: &str, node: &Node| value::duration(key, node, 10 * MILLISECOND..=HOUR);
    let hold = section.get("hold", findings, time).unwrap_or(usual.hold);
    let emergency = Emergency {
        hold,
        hold_max: section.get("hold_max", findings, time).unwrap_or(usual.hold_max.max(hold)),
        undo_interval: section.get("undo_interval", findings, time).unwrap_or(usual.undo_interval),
        stand_down: section.get("stand_down", findings, time).unwrap_or(usual.stand_down),
    };
    if emergency.hold_max < emergency.hold {
        findings.error(section.place("hold_max"), "`hold_max` is less than `hold`", "set it to at least `hold`");
    }
    emergency
}
