//! A guest with the package, and the town around it: HAProxy and Redis as Debian ships them, and memory to fill.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use node_guardian_vm::{Guest, Machine, Output};
use serde_json::Value;

pub const PACKAGE: &str = "/root/node-guardian.deb";
const CONFIGURATION: &str = "/etc/node-guardian/config.toml";

/// What a first user would write, with the pauses cut to what a test wants to wait.
pub const RULES: &str = r#"
[emergency]
hold = "1s"
undo_interval = "1s"

[control.haproxy.edge]
socket = "/run/haproxy/admin.sock"

[control.redis.cache]
socket = "/run/redis/redis-server.sock"

[rule.short-of-memory]
when = "memory.available_percent < 45%"
clear = "memory.available_percent > 50%"
clear_for = "1s"
severity = "emergency"
priority = 100
cooldown = "1s"
steps = [
  { release = "cache", settle = "500ms" },
  { shrink = "cache", to = "32MiB", settle = "500ms" },
  { throttle = "edge", to = "25%", settle = "500ms" },
]
"#;

/// As the servers themselves say: `slim` of the one server, and Redis's limit.
const CONNECTIONS: &str =
    "echo 'show stat' | socat - /run/haproxy/admin.sock | awk -F, '$1 == \"app\" && $2 == \"one\" { print $7 }'";
const REDIS_BYTES: &str = "redis-cli config get maxmemory | tail -n 1";

/// How often the node was looked at since the start.
const TICKS: &str = "curl -s localhost:9977/metrics | awk '/^node_guardian_sample_seconds_count/ { print int($2) }'";

const HAPROXY: &str = "
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
    user haproxy
    group haproxy
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend web
    bind 127.0.0.1:8080
    default_backend app
backend app
    server one 127.0.0.1:8081 maxconn 40
";

pub struct Node {
    /// Always there, until it is handed on.
    guest: Option<Guest>,
}

impl Node {
    /// The package lies there, not installed.
    pub fn bare() -> Self {
        Self::prepared("bare", "", |_| ())
    }

    pub fn installed() -> Self {
        Self::prepared("installed", "", |node| node.install(PACKAGE))
    }

    /// With HAProxy and Redis running, and used by the rules above.
    pub fn guarding() -> Self {
        Self::prepared("guarding", "", |node| {
            node.install(PACKAGE);
            node.start_servers();
            node.configure(RULES);
            node.must("usermod -aG haproxy,redis node-guardian && systemctl restart node-guardian");
            node.until_ready(&["edge (haproxy)", "cache (redis)"]);
        })
    }

    /// Done once for all tests that need it, and again where the inputs are others.
    pub fn prepared(kind: &str, inputs: &str, prepare: impl FnOnce(&mut Self)) -> Self {
        let package = package();
        let mut hash = DefaultHasher::new();
        (RULES, HAPROXY, include_str!("support.rs"), inputs).hash(&mut hash);
        fs::read(&package).expect("the package").hash(&mut hash);
        let name = format!("{:016x}", hash.finish());
        let guest = Machine::default().start_prepared(kind, &name, |mut guest| {
            guest.put(&package, PACKAGE)?;
            let mut node = Self { guest: Some(guest) };
            prepare(&mut node);
            Ok(node.guest.take().expect("nobody has taken it"))
        });
        Self { guest: Some(guest.expect("a guest")) }
    }

    fn start_servers(&mut self) {
        self.write("/etc/haproxy/haproxy.cfg", HAPROXY);
        self.start_haproxy_and_redis();
    }

    /// Redis with a socket and a limit; HAProxy as it is configured.
    pub fn start_haproxy_and_redis(&mut self) {
        self.must("printf 'unixsocket /run/redis/redis-server.sock\\nunixsocketperm 770\\nmaxmemory 64mb\\nmaxmemory-policy allkeys-lru\\n' >>/etc/redis/redis.conf");
        self.must("systemctl start haproxy redis-server");
        self.until("redis-cli ping | grep -q PONG");
    }

    pub fn install(&mut self, package: &str) {
        self.must(&format!("apt-get install -y {package}"));
    }

    /// Takes effect at the next start or reload.
    pub fn configure(&mut self, text: &str) {
        self.write(CONFIGURATION, text);
    }

    pub fn write(&mut self, path: &str, text: &str) {
        self.guest().write(path, text.as_bytes()).expect("a file in the guest");
        self.must(&format!("chmod 644 {path}"));
    }

    /// What the command printed. A failure ends the test with all of it.
    pub fn must(&mut self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.succeeded(), "`{command}` ended with {}:\n{}", output.status, output.text);
        output.text.trim().to_owned()
    }

    pub fn run(&mut self, command: &str) -> Output {
        self.guest().run(command, Duration::from_secs(300)).expect("a guest that answers")
    }

    pub fn until_ready(&mut self, controls: &[&str]) {
        for control in controls {
            self.until(&format!(
                "node-guardian status | grep -qF '{control}: ready' || {{ node-guardian status; false; }}"
            ));
        }
    }

    /// Waits until the command succeeds.
    pub fn until(&mut self, command: &str) {
        self.until_within(Duration::from_secs(60), command);
    }

    pub fn until_within(&mut self, patience: Duration, command: &str) {
        let began = Instant::now();
        let mut last = self.run(command);
        while !last.succeeded() {
            assert!(began.elapsed() < patience, "never came true: `{command}`\n{}", last.text);
            std::thread::sleep(Duration::from_millis(200));
            last = self.run(command);
        }
    }

    pub fn guest(&mut self) -> &mut Guest {
        self.guest.as_mut().expect("nobody has taken it")
    }

    /// A file in memory that takes half of it: the rule fires until it is gone.
    pub fn fill_memory(&mut self) {
        self.must("fallocate -l 420M /dev/shm/filler");
    }

    pub fn empty_memory(&mut self) {
        self.must("rm -f /dev/shm/filler");
    }

    pub fn limits(&mut self) -> Limits {
        Limits { connections: number(&self.must(CONNECTIONS)), redis_bytes: number(&self.must(REDIS_BYTES)) }
    }

    /// All steps of the rule taken.
    pub fn until_throttled(&mut self) {
        self.until_limits(THROTTLED);
    }

    pub fn until_as_before(&mut self) {
        self.until_limits(CALM);
    }

    fn until_limits(&mut self, wanted: Limits) {
        let Limits { connections, redis_bytes } = wanted;
        self.until(&format!(
            "c=$({CONNECTIONS}); r=$({REDIS_BYTES}); echo $c $r; [ \"$c $r\" = '{connections} {redis_bytes}' ]"
        ));
    }

    pub fn status(&mut self) -> Value {
        let text = self.run("node-guardian status --json").text;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("status --json: {error}: {text}"))
    }

    pub fn ticks(&mut self) -> u64 {
        number(&self.must(TICKS))
    }

    pub fn until_more_ticks(&mut self, more: u64) {
        let wanted = self.ticks() + more;
        self.until(&format!("[ $({TICKS}) -ge {wanted} ]"));
    }

    pub fn main_pid(&mut self) -> String {
        self.must("systemctl show --value -p MainPID node-guardian")
    }

    /// The median of a few, as the guest's clock sees it.
    pub fn check_takes(&mut self) -> Duration {
        let one = "s=$(date +%s%N); node-guardian check >/dev/null; e=$(date +%s%N); echo $((e - s))";
        let mut taken: Vec<u64> = (0..9).map(|_| number(&self.must(one))).collect();
        taken.sort_unstable();
        Duration::from_nanos(taken[taken.len() / 2])
    }

    /// Journal lines of the unit in this boot.
    pub fn told(&mut self) -> String {
        self.must("journalctl -b -u node-guardian -o cat --no-pager")
    }
}

impl Drop for Node {
    /// What is needed to understand a failure goes with it: the guest is gone afterwards.
    fn drop(&mut self) {
        if std::thread::panicking() && self.guest.is_some() {
            let asked = "systemctl status node-guardian --no-pager; journalctl -b -u node-guardian --no-pager | tail -n 60; dmesg | tail -n 5";
            match self.guest().run(asked, Duration::from_secs(30)) {
                Ok(output) => eprintln!("--- the guest's last words\n{}", output.text),
                Err(error) => eprintln!("--- the guest's console ({error})\n{}", self.guest().console()),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: u64,
    pub redis_bytes: u64,
}

pub const CALM: Limits = Limits { connections: 40, redis_bytes: 64 << 20 };
pub const THROTTLED: Limits = Limits { connections: 10, redis_bytes: 32 << 20 };

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// The one that `make deb` built last, or the one that is named.
fn package() -> PathBuf {
    if let Some(path) = env::var_os("NODE_GUARDIAN_DEB") {
        return path.into();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/deb");
    let found = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    // The guest is always of the one kind, whatever else was built beside.
    let packages = found.filter(|path| path.to_string_lossy().ends_with("_amd64.deb"));
    let newest = packages.max_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
    newest.expect("no package in target/deb: run `make deb`, or `make vm-test`, which does")
}

/// The same binary, on the machine that runs the guest.
pub fn check_takes_here() -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = Command::new("dpkg-deb").arg("-x").args([package().as_path(), folder.path()]).status();
    assert!(unpacked.expect("dpkg-deb").success());
    let configuration = folder.path().join("etc/node-guardian/config.toml");
    let mut taken: Vec<Duration> = (0..9)
        .map(|_| {
            let began = Instant::now();
            let check =
                Command::new(folder.path().join("usr/bin/node-guardian")).arg("check").arg(&configuration).output();
            assert!(check.expect("node-guardian").status.success());
            began.elapsed()
        })
        .collect();
    taken.sort_unstable();
    taken[taken.len() / 2]
}
