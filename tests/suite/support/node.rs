//! A made-up node and the real executable that guards it: `/proc` is a copy whose memory the test decides, everything
//! else that the daemon touches is in the same temporary folder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::config::settings::Settings;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::house::{Reply, exchange};

pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_node-guardian");

/// Longer than any honest wait here, also while every core is busy with compilers.
const PATIENCE: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Quick enough to watch, slow enough to tell one thing from the next. No built-in rule is in the way.
const HEAD: &str = r#"
state_directory = "FOLDER/state"
[sampling]
interval = "50ms"
fast_interval = "10ms"
mounts = []
proc_root = "FOLDER/proc"
sys_root = "FOLDER/sys"
[http]
listen = "LISTEN"
socket = "FOLDER/admin.sock"
[emergency]
hold = "200ms"
hold_max = "200ms"
undo_interval = "300ms"
"#;

/// A rule that fires below 10 % of available memory and clears above 20 %, with these steps.
pub fn short_of_memory(steps: &str) -> String {
    format!(
        "[rule.short]\nwhen = \"memory.available_percent < 10%\"\nclear = \"memory.available_percent > 20%\"\n\
         clear_for = \"200ms\"\nseverity = \"emergency\"\ncooldown = \"300ms\"\nsteps = [{steps}]\n"
    )
}

pub struct Node {
    folder: TempDir,
    listen: String,
    pub environment: Vec<(&'static str, String)>,
}

impl Node {
    /// With this appended to what every configuration here has; half of its memory is available.
    pub fn new(configuration: &str) -> Self {
        Self::listening(configuration, "")
    }

    pub fn listening(configuration: &str, listen: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-6.x");
        for root in ["proc", "sys"] {
            copy(&fixture.join(root), &folder.path().join(root));
        }
        let node = Self { folder, listen: listen.to_owned(), environment: Vec::new() };
        node.configure(configuration);
        node.set_available(50);
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, configuration: &str) {
        let built_in = Settings::default().policy.rules;
        let off: String = built_in.iter().map(|rule| format!("[rule.{}]\nenabled = false\n", rule.name)).collect();
        let text = format!("{HEAD}{configuration}{off}").replace("LISTEN", &self.listen);
        let text = text.replace("FOLDER", self.folder.path().to_str().unwrap());
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    /// Something else instead of what is in the configuration now.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("config.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.path("config.toml"), text.replace(from, to)).unwrap();
    }

    /// In place, because the daemon keeps the file open as it keeps the kernel's; the digits alone, so that no reading
    /// ever sees half a file.
    pub fn set_available(&self, percent: u64) {
        const LINE: &str = "MemAvailable:";
        let meminfo = self.path("proc/meminfo");
        let text = std::fs::read_to_string(&meminfo).unwrap();
        let at = text.find(LINE).unwrap() + LINE.len();
        let width = text[at..].find(" kB").unwrap();
        let digits = format!("{:>width$}", percent * 80_000);
        OpenOptions::new().write(true).open(&meminfo).unwrap().write_all_at(digits.as_bytes(), at as u64).unwrap();
    }

    pub fn start(&self) -> Daemon {
        let mut daemon = self.launch(Command::new(EXECUTABLE));
        daemon
            .until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
        daemon
    }

    /// The executable, or what ends up as it; does not wait.
    pub fn launch(&self, mut command: Command) -> Daemon {
        let config = self.path("config.toml");
        command.args(["run", "--config", config.to_str().unwrap()]);
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Else it would note in this machine's own directory where the state is.
        command.env("STATE_DIRECTORY", self.path("usual"));
        command.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap();
        Daemon { child, socket: self.path("admin.sock"), log: self.path("log") }
    }

    /// Another subcommand, with this node's admin socket.
    pub fn ask(&self, arguments: &[&str]) -> Said {
        let socket = self.path("admin.sock");
        let socket = ["--socket", socket.to_str().unwrap()];
        let usual = if arguments[0] == "check" || arguments[0] == "run" { &[][..] } else { &socket[..] };
        let mut command = Command::new(EXECUTABLE);
        command.args(arguments).args(usual).env_clear().env("STATE_DIRECTORY", self.path("usual"));
        Said::from(command.output().unwrap())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// What a subcommand left behind.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Ends with the test that started it.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The exit code, or minus the signal that ended it.
    pub fn ended(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)))
    }

    pub fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.tail());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Orderly: the exit code.
    pub fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub fn try_get(&self, path: &str) -> Option<Reply> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Some(exchange(stream, request.as_bytes())).filter(|reply| reply.status != 0 && !reply.body.is_empty())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.try_get(path).unwrap_or_else(|| panic!("no answer to {path}:\n{}", self.tail()))
    }

    /// Whoever orders waits for the answer by itself.
    pub fn order(&self, path: &str, body: &str) -> JoinHandle<Reply> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length:");
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::spawn(move || exchange(stream, b""))
    }

    /// With these lines in its head.
    pub fn sent(&self, path: &str, lines: &str) -> Reply {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n");
        exchange(UnixStream::connect(&self.socket).unwrap(), format!("{head}{lines}\r\n").as_bytes())
    }

    pub fn status(&self) -> Value {
        self.get("/status").json()
    }

    pub fn ticks(&self) -> u64 {
        self.status()["tick"].as_u64().unwrap()
    }

    pub fn mode(&self) -> String {
        self.status()["mode"].as_str().unwrap().to_owned()
    }

    /// What is in force, each with its phase where that is anything but in force.
    pub fn in_force(&self) -> Vec<String> {
        listed(&self.status())
    }

    pub fn events(&self) -> Vec<Event> {
        let page = self.get("/events?since=0&limit=1000").json();
        page["events"].as_array().unwrap().iter().map(|record| Event(record.clone())).collect()
    }

    /// The sentences of one kind of event.
    pub fn told(&self, name: &str) -> Vec<String> {
        self.events().iter().filter(|event| event.name() == name).map(|event| event.text().to_owned()).collect()
    }

    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            if let Some(code) = self.ended() {
                panic!("ended with {code} before {what}:\n{}", self.tail());
            }
            assert!(Instant::now() < until, "in vain: {what}\n{}", self.tail());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub fn until_told(&mut self, name: &str, part: &str) -> Event {
        self.until(&format!("{name}: {part}"), |daemon| {
            daemon.events().into_iter().find(|event| event.name() == name && event.text().contains(part))
        })
    }

    pub fn until_in_force(&mut self, wanted: &[&str]) {
        self.until(&format!("{wanted:?} in force"), |daemon| (daemon.in_force() == wanted).then_some(()));
    }

    /// An action of this verb, done.
    pub fn until_in_force_of(&mut self, verb: &str) {
        self.until(&format!("{verb} in force"), |daemon| {
            let status = daemon.status();
            let mut actions = status["in_force"].as_array()?.iter();
            actions.any(|action| action["verb"] == verb && action["phase"] == "in_force").then_some(())
        });
    }

    /// Normal, with nothing in force and a sample taken.
    pub fn until_calm(&mut self) {
        self.until("calm", |daemon| is_calm(&daemon.status()).then_some(()));
    }

    pub fn until_control(&mut self, name: &str, state: &str) -> String {
        self.until(&format!("control {name} {state}"), |daemon| {
            let status = daemon.status();
            let control = status["controls"].as_array()?.iter().find(|control| control["name"] == name)?.clone();
            (control["state"] == state).then(|| control["detail"].as_str().unwrap().to_owned())
        })
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("the daemon's log ends with\n{}", self.tail());
        }
    }
}

pub fn is_calm(status: &Value) -> bool {
    status["tick"] != 0 && status["mode"] == "normal" && status["in_force"].as_array().is_some_and(Vec::is_empty)
}

pub fn listed(status: &Value) -> Vec<String> {
    let actions = status["in_force"].as_array().unwrap().iter();
    let text = |action: &Value| match action["phase"].as_str().unwrap() {
        "in_force" => action["text"].as_str().unwrap().to_owned(),
        phase => format!("{} ({phase})", action["text"].as_str().unwrap()),
    };
    actions.map(text).collect()
}

/// A record of the trail.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Event {
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    pub fn text(&self) -> &str {
        self.0["text"].as_str().unwrap()
    }

    pub fn unix_ms(&self) -> u64 {
        self.0["unix_ms"].as_u64().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.0["fields"][name].as_str()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            let mut bytes = Vec::new();
            File::open(entry.path()).unwrap().read_to_end(&mut bytes).unwrap();
            std::fs::write(target, bytes).unwrap();
        }
    }
}
