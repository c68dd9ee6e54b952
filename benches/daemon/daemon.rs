//! A daemon with everything of its own in a temporary folder, started as a service manager would.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::http::shape;
use tempfile::TempDir;

use super::client;
use super::process::Process;

const READY_WITHIN: Duration = Duration::from_secs(10);
const EVENT_WITHIN: Duration = Duration::from_secs(5);

pub struct Daemon {
    pub process: Process,
    pub port: u16,
    /// From before it was spawned until it said that it is ready.
    pub ready_after: Duration,
    folder: Option<TempDir>,
}

impl Daemon {
    /// With this configuration, to which it adds where its own files are, in a new folder.
    pub fn start(configuration: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let daemon = Self::start_in(folder.path(), configuration)?;
        Ok(Self { folder: Some(folder), ..daemon })
    }

    /// Where one may have run before.
    pub fn start_in(folder: &Path, configuration: &str) -> Result<Self, String> {
        let port = free_port()?;
        let path = |name: &str| folder.join(name);
        let own = format!(
            "state_directory = {:?}\n[http]\nlisten = \"127.0.0.1:{port}\"\nsocket = {:?}\n",
            path("state"),
            path("admin.sock")
        );
        let io = |error: std::io::Error| format!("cannot prepare the daemon's folder: {error}");
        fs::remove_file(path("notify.sock")).ok();
        fs::write(path("config.toml"), own + configuration).map_err(io)?;
        let manager = UnixDatagram::bind(path("notify.sock")).map_err(io)?;
        manager.set_read_timeout(Some(READY_WITHIN)).map_err(io)?;
        let log = fs::File::create(path("log")).map_err(io)?;
        let mut command = Command::new(binary()?);
        command.args(["run", "--config"]).arg(path("config.toml"));
        command.env_clear().env("NOTIFY_SOCKET", path("notify.sock")).stdout(Stdio::null()).stderr(log);
        // Else it would note in this machine's own directory where the state is.
        command.env("STATE_DIRECTORY", path("usual"));
        let spawned = Instant::now();
        let process = Process::start(&mut command)?;
        await_ready(&manager).map_err(|why| {
            let log = fs::read_to_string(path("log")).unwrap_or_default();
            format!("the daemon did not become ready ({why}):\n{log}")
        })?;
        Ok(Self { process, port, ready_after: spawned.elapsed(), folder: None })
    }

    pub fn ticks(&self) -> Result<f64, String> {
        let text = client::get(self.port, "/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix("node_guardian_ticks_total "));
        value.and_then(|value| value.parse().ok()).ok_or_else(|| "/metrics has no ticks".to_owned())
    }

    /// All that was told since the start.
    pub fn events(&self) -> Result<Vec<shape::Record>, String> {
        let text = client::get(self.port, "/events?since=0&limit=1000")?;
        let trail: shape::Events = serde_json::from_str(&text).map_err(|error| format!("/events: {error}"))?;
        Ok(trail.events)
    }

    /// The first event of this name about this rule, when it has come.
    pub fn event(&self, name: &str, rule: &str) -> Result<shape::Record, String> {
        self.event_with(name, &[("rule", rule)], EVENT_WITHIN)
    }

    /// The first event of this name whose fields say all of this, when it has come within this time.
    pub fn event_with(&self, name: &str, fields: &[(&str, &str)], patience: Duration) -> Result<shape::Record, String> {
        let until = Instant::now() + patience;
        let says =
            |event: &shape::Record, field: &str, value: &str| event.fields.get(field).is_some_and(|is| is == value);
        let wanted =
            |event: &shape::Record| event.name == name && fields.iter().all(|(field, value)| says(event, field, value));
        loop {
            let events = self.events()?;
            if let Some(found) = events.iter().find(|event| wanted(event)) {
                return Ok(found.clone());
            }
            if Instant::now() > until {
                let told: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
                let (wanted, told) = (format!("{name} with {fields:?}"), told.join("\n"));
                return Err(format!("no event {wanted} in {} s:\n{told}", patience.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Orderly: what is in force is undone first.
    pub fn stop(mut self) -> Result<(), String> {
        self.process.signal(Signal::SIGTERM);
        let ended = self.process.ends();
        drop(self.folder.take());
        if ended { Ok(()) } else { Err("the daemon did not stop within 5 s".to_owned()) }
    }
}

fn await_ready(manager: &UnixDatagram) -> Result<(), String> {
    let mut message = [0; 512];
    loop {
        let length = manager.recv(&mut message).map_err(|error| error.to_string())?;
        if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}

pub fn binary() -> Result<PathBuf, String> {
    let named = env::var_os("NODE_GUARDIAN_BINARY").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_node-guardian")).to_owned());
    binary.canonicalize().map_err(|error| {
        format!("{}: {error}; set NODE_GUARDIAN_BINARY to the daemon that is to be measured", binary.display())
    })
}

pub fn free_port() -> Result<u16, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}
