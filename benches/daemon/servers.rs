//! The services that the daemon guards and the programs that it is held against, each in a folder of its own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client;
use super::daemon::free_port;
use super::process::Process;

const HAPROXY: &str = "
global
    maxconn 200
    stats socket FOLDER/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend web
    bind unix@FOLDER/web.sock
    default_backend be
backend be
    server s1 unix@FOLDER/app.sock maxconn 8
";

/// What it is where a table of leases says who is refused.
const LEASES: &str = "
backend ng_lease
    stick-table type string len 32 size 64 expire 10s store gpc0
";
const OBEYS_LEASES: &str = "
    http-request set-var(txn.shed) str(web),table_gpc0(ng_lease)
    http-request return status 503 if { rand(100),sub(txn.shed) -m int lt 0 }
    default_backend be";

/// Listens for memory pressure as systemd's protocol has it, with 64 MiB to give.
const LISTENER: &str = "
import os, select, sys
held = [bytearray(b'x' * (1 << 20)) for _ in range(64)]
fd = os.open(os.environ['MEMORY_PRESSURE_WATCH'], os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
poll = select.poll()
poll.register(fd, select.POLLIN)
open(sys.argv[1], 'w').write(str(os.getpid()))
while True:
    poll.poll()
    try: os.read(fd, 4096)
    except BlockingIOError: continue
    held.clear()
";

/// `keepalive_requests`, since nginx otherwise closes each connection after a thousand requests and pays for new ones.
const NGINX: &str = "
daemon off;
worker_processes 1;
error_log FOLDER/error.log;
pid FOLDER/nginx.pid;
events { worker_connections 256; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    server { listen 127.0.0.1:PORT; location / { return 200 'ok'; } }
}
";

pub struct Server {
    pub process: Process,
    pub port: u16,
    folder: TempDir,
}

impl Server {
    fn start(command: impl FnOnce(&Path, u16) -> std::io::Result<Command>) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let port = free_port()?;
        let mut command = command(folder.path(), port).map_err(|error| format!("cannot prepare a server: {error}"))?;
        Ok(Self { process: Process::quietly(&mut command)?, port, folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn haproxy() -> Result<Server, String> {
    haproxy_of(HAPROXY)
}

/// With leases of 10 s, which its frontend obeys.
pub fn haproxy_with_leases() -> Result<Server, String> {
    haproxy_of(&(HAPROXY.replace("\n    default_backend be", OBEYS_LEASES) + LEASES.trim_start()))
}

fn haproxy_of(configuration: &str) -> Result<Server, String> {
    let server = Server::start(|folder, _| {
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration.replace("FOLDER", &folder.to_string_lossy()))?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        Ok(command)
    })?;
    until("HAProxy listens", || UnixStream::connect(server.path("admin.sock")).is_ok())?;
    Ok(server)
}

fn ask_haproxy(server: &Server, command: &str) -> Result<String, String> {
    let ask = || {
        let mut stream = UnixStream::connect(server.path("admin.sock"))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().map_err(|error: std::io::Error| format!("HAProxy does not answer: {error}"))
}

/// Whether it refuses a share of the requests now.
pub fn has_lease(server: &Server) -> Result<bool, String> {
    ask_haproxy(server, "show table ng_lease").map(|table| table.contains("key=web"))
}

/// The limit of the one server behind it.
pub fn haproxy_limit(server: &Server) -> Result<String, String> {
    let answer = ask_haproxy(server, "show stat -1 4 -1")?;
    let row = answer.lines().find(|line| line.starts_with("be,s1,"));
    row.and_then(|row| row.split(',').nth(6)).map(str::to_owned).ok_or_else(|| "HAProxy has no be/s1".to_owned())
}

pub fn redis() -> Result<Server, String> {
    let server = Server::start(|folder, _| {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--dir"]).arg(folder);
        command.arg("--unixsocket").arg(folder.join("redis.sock"));
        Ok(command)
    })?;
    until("Redis listens", || UnixStream::connect(server.path("redis.sock")).is_ok())?;
    Ok(server)
}

/// Gives it about 80 MB of values and takes every other one away again, so that there is something to give back.
pub fn churn(redis: &Server) -> Result<(), String> {
    let script = "for i=1,20000 do redis.call('set', i, string.rep('x', 4096)) end \
                  for i=1,20000,2 do redis.call('del', i) end return 'done'";
    let ask = || {
        let mut stream = UnixStream::connect(redis.path("redis.sock"))?;
        write!(stream, "EVAL \"{script}\" 0\r\n")?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let answer: String = ask().map_err(|error: std::io::Error| format!("Redis does not answer: {error}"))?;
    if answer.contains("done") { Ok(()) } else { Err(format!("Redis answered {answer}")) }
}

/// A service that gives memory back when its FIFO says so.
pub fn listener() -> Result<Server, String> {
    let server = Server::start(|folder, _| {
        nix::unistd::mkfifo(&folder.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        let mut command = Command::new("python3");
        command.args(["-c", LISTENER]).arg(folder.join("pid")).env("MEMORY_PRESSURE_WATCH", folder.join("fifo"));
        Ok(command)
    })?;
    until("who listens for pressure is ready", || {
        fs::read_to_string(server.path("pid")).is_ok_and(|text| !text.is_empty())
    })?;
    Ok(server)
}

/// The application of tests/apps, with 50 MiB of idle buffers.
pub fn app() -> Result<Server, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/pages.py");
    let server = Server::start(|folder, port| {
        let mut command = Command::new("python3");
        command
            .arg(source)
            .args(["--fill", "50", "--port", &port.to_string(), "--socket"])
            .arg(folder.join("app.sock"));
        Ok(command)
    })?;
    until("the application listens", || UnixStream::connect(server.path("app.sock")).is_ok())?;
    Ok(server)
}

pub fn nginx() -> Result<Server, String> {
    let server = Server::start(|folder, port| {
        let file = folder.join("nginx.conf");
        let text = NGINX.replace("FOLDER", &folder.to_string_lossy()).replace("PORT", &port.to_string());
        fs::write(&file, text)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).arg("-p").arg(folder);
        Ok(command)
    })?;
    until("nginx listens", || client::get(server.port, "/").is_ok())?;
    Ok(server)
}

pub fn exporter() -> Result<Server, String> {
    let server = Server::start(|_, port| {
        let mut command = Command::new("prometheus-node-exporter");
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        Ok(command)
    })?;
    until("node_exporter listens", || client::Connection::open(server.port).is_ok())?;
    Ok(server)
}

/// It never ends a process here, whatever else this machine does meanwhile.
pub fn earlyoom() -> Result<Server, String> {
    Server::start(|_, _| {
        let mut command = Command::new("earlyoom");
        command.args(["--dryrun", "-r", "3600"]);
        Ok(command)
    })
}

/// Both controls, as a configuration names them.
pub fn controls(haproxy: &Server, redis: &Server) -> String {
    format!(
        "[control.haproxy.edge]\nsocket = {:?}\n[control.redis.cache]\nsocket = {:?}\n",
        haproxy.path("admin.sock"),
        redis.path("redis.sock")
    )
}

/// With limits of servers to throttle, and no lease.
pub fn haproxy_control(name: &str, server: &Server) -> String {
    format!("[control.haproxy.{name}]\nsocket = {:?}\nbackends = [\"be\"]\n", server.path("admin.sock"))
}

fn until(what: &str, mut reached: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if reached() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("in vain for 10 s: {what}"))
}
