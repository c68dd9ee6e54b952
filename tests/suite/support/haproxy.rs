//! A real HAProxy whose every socket is in a temporary folder.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use node_guardian::control::target;
use tempfile::TempDir;

use super::receiver::Receiver;
use super::{Process, eventually};

pub struct Haproxy {
    process: Process,
    folder: TempDir,
}

/// Two servers with limits, one without; a stick table for leases that the frontend obeys.
const CONFIGURATION: &str = "
global
    maxconn 200
    stats socket FOLDER/admin.sock mode 600 level admin
    stats socket FOLDER/second.sock mode 600 level admin
    stats socket FOLDER/operator.sock mode 600 level operator
    stats socket FOLDER/user.sock mode 600 level user
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    timeout queue 10s
frontend web
    bind unix@FOLDER/web.sock
    http-request set-var(txn.shed) str(web),table_gpc0(ng_lease)
    http-request return status 503 hdr Retry-After 5 if { rand(100),sub(txn.shed) -m int lt 0 }
    default_backend be
backend be
    server s1 unix@FOLDER/app.sock maxconn 8
backend other
    server o1 unix@FOLDER/app.sock maxconn 100
    server o2 unix@FOLDER/app.sock
backend unlimited
    server u1 unix@FOLDER/app.sock
backend ng_lease
    stick-table type string len 32 size 64 expire 30s store gpc0
";

impl Haproxy {
    pub fn start() -> Self {
        Self::start_with(CONFIGURATION)
    }

    /// With a stick table whose entries last as long as this.
    pub fn with_leases_of(time: &str) -> Self {
        Self::start_with(&CONFIGURATION.replace("expire 30s", &format!("expire {time}")))
    }

    /// With a stick table that forgets nothing.
    pub fn with_leases_that_stay() -> Self {
        Self::start_with(&CONFIGURATION.replace(" expire 30s", ""))
    }

    pub fn without_lease_table() -> Self {
        let kept = CONFIGURATION.lines().filter(|line| !line.contains("ng_lease") && !line.contains("txn.shed"));
        let kept: Vec<_> = kept.filter(|line| !line.contains("stick-table")).collect();
        Self::start_with(&(kept.join("\n") + "\n"))
    }

    /// The frontend obeys a map, whose file says 0, and there is no stick table.
    pub fn with_map() -> Self {
        let kept = CONFIGURATION.lines().filter(|line| !line.contains("backend ng_lease"));
        let kept: Vec<_> = kept.filter(|line| !line.contains("stick-table")).collect();
        let text = kept.join("\n") + "\n";
        Self::start_with(&text.replace("table_gpc0(ng_lease)", "map_str_int(FOLDER/ng.map,0)"))
    }

    pub fn with_words_in_its_map() -> Self {
        let text = CONFIGURATION.replace("str(web),table_gpc0(ng_lease)", "str(web),map(FOLDER/ng.map,0)");
        let text: Vec<_> =
            text.lines().filter(|line| !line.contains("ng_lease") && !line.contains("stick-t")).collect();
        let server = Self::start_with(&(text.join("\n") + "\n"));
        server.ask(&format!("set map {} web a;b", server.map().unwrap()).replace(';', "\\;"));
        server
    }

    /// The frontend obeys a map, which it also uses in another way.
    pub fn with_map_used_in_two_ways() -> Self {
        let kept = CONFIGURATION.lines().filter(|line| !line.contains("backend ng_lease"));
        let text = kept.filter(|line| !line.contains("stick-table")).collect::<Vec<_>>().join("\n") + "\n";
        let text = text.replace("table_gpc0(ng_lease)", "map_str_int(FOLDER/ng.map,0)");
        let log = "    http-request set-header X-Shed %[str(web),map_str(FOLDER/ng.map,0)]\n    default_backend be";
        Self::start_with(&text.replace("    default_backend be", log))
    }

    /// `web` and `api`.
    pub fn with_two_frontends() -> Self {
        let api = "frontend api\n    bind unix@FOLDER/api.sock\n    default_backend be\n";
        Self::start_with(&(CONFIGURATION.to_owned() + api))
    }

    /// One frontend, `api`, listens on a port, which is easily full; and a server of `be` is on this one, and is not used.
    pub fn on_ports(behind: u16) -> Self {
        let own = Receiver::free_port();
        let server = format!("app.sock maxconn 8\n    server s2 127.0.0.1:{behind} backup maxconn 8");
        let text = CONFIGURATION.replace("app.sock maxconn 8", &server);
        let api = format!("    bind 127.0.0.1:{own}\n    maxconn 1\n    backlog 1\n    default_backend be\n");
        Self::start_with(&(text + "frontend api\n" + &api))
    }

    /// The first one that it listens on.
    pub fn own_port(&self) -> u16 {
        let text = std::fs::read_to_string(self.path("haproxy.cfg")).unwrap();
        let bound = text.lines().find_map(|line| line.trim().strip_prefix("bind 127.0.0.1:")).unwrap();
        bound.parse().unwrap()
    }

    /// `other/o1` goes into maintenance with `be/s1`.
    pub fn with_a_server_that_follows_another() -> Self {
        let text = CONFIGURATION.replace("app.sock maxconn 100", "app.sock track be/s1 maxconn 100");
        Self::start_with(&text.replace("app.sock maxconn 8", "app.sock check inter 1h maxconn 8"))
    }

    /// `many/s1`, `many/s2`, …
    pub fn with_servers(servers: usize) -> Self {
        let many = format!("backend many\n    server-template s {servers} unix@FOLDER/app.sock maxconn 100\n");
        Self::start_with(&(CONFIGURATION.to_owned() + &many))
    }

    /// Both, of which the frontend obeys the one that sheds more.
    pub fn with_map_and_table() -> Self {
        let map = "http-request set-var(txn.shed) str(web),map_str_int(FOLDER/ng.map,0) if { str(web),table_gpc0(ng_lease) eq 0 }";
        let both = CONFIGURATION.replace("    http-request return", &format!("    {map}\n    http-request return"));
        Self::start_with(&both)
    }

    /// No server has a limit, so that there is only the one of the process.
    pub fn without_server_limits() -> Self {
        Self::start_with(&CONFIGURATION.replace(" maxconn 8", "").replace(" maxconn 100", ""))
    }

    fn start_with(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = configuration.replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("haproxy.cfg"), text).unwrap();
        std::fs::write(folder.path().join("ng.map"), "web 0\n").unwrap();
        let process = launch(&folder, &[]);
        let server = Self { process, folder };
        server.wait();
        server
    }

    /// It takes over from a file who was drained, as Debian's own configuration may be told to.
    pub fn with_state_file() -> Self {
        let kept = "global\n    server-state-file FOLDER/state";
        let text = CONFIGURATION.replacen("global", kept, 1);
        Self::start_with(&text.replacen("defaults", "defaults\n    load-server-state-from-file global", 1))
    }

    /// As a unit does it whose reload saves the state first.
    pub fn restart_with_its_state(&mut self) {
        std::fs::write(self.path("state"), self.ask("show servers state")).unwrap();
        self.restart();
    }

    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.folder, &[]);
        self.wait();
    }

    /// With a process that manages the one which serves, as its systemd unit runs it. End it before the test does.
    pub fn managed() -> Self {
        let mut server = Self::start();
        server.process.kill();
        let manager = server.path("manager.sock");
        server.process = launch(&server.folder, &["-W", "-S", manager.to_str().unwrap()]);
        // Only then it takes signals: it starts itself anew when the other one serves.
        eventually("the manager answers", || ask(&manager, "show proc").filter(|answer| answer.contains("worker")));
        server
    }

    /// As `systemctl reload` does it where one process manages the other.
    pub fn reload_managed(&self) {
        let serving = self.pid();
        self.process.signal(Signal::SIGUSR2);
        eventually("another process serves", || self.try_pid().filter(|pid| *pid != serving));
    }

    /// A new process takes over from the old one, which finishes what it has and ends.
    pub fn hand_over(&mut self) {
        let serving = self.pid();
        let successor = launch(&self.folder, &["-sf", &self.process.id()]);
        let mut old = std::mem::replace(&mut self.process, successor);
        eventually("another process serves", || self.try_pid().filter(|pid| *pid != serving));
        old.ended();
    }

    pub fn end(&mut self) {
        self.process.end();
    }

    fn pid(&self) -> String {
        eventually("HAProxy tells its process", || self.try_pid())
    }

    fn try_pid(&self) -> Option<String> {
        let info = ask(&self.path("admin.sock"), "show info")?;
        info.lines().find_map(|line| line.strip_prefix("Pid: ")).map(str::to_owned)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The admin socket, and the backend whose server has `maxconn 8`.
    pub fn target(&self) -> target::Haproxy {
        target::Haproxy {
            socket: self.path("admin.sock"),
            frontends: vec!["web".into()],
            backends: vec!["be".into()],
            lease_table: "ng_lease".into(),
            ..Default::default()
        }
    }

    /// The same as configuration, through this of its sockets.
    pub fn section(&self, name: &str, socket: &str) -> String {
        let socket = self.path(socket);
        let socket = socket.display();
        format!("[control.haproxy.{name}]\nsocket = \"{socket}\"\nfrontends = [\"web\"]\nbackends = [\"be\"]\n")
    }

    /// As `map` of a control.
    pub fn map(&self) -> Option<String> {
        Some(self.path("ng.map").to_str().unwrap().to_owned())
    }

    /// What the map holds, one `KEY VALUE` a line.
    pub fn mapped(&self) -> Vec<String> {
        let shown = self.ask(&format!("show map {}", self.map().unwrap()));
        shown
            .lines()
            .filter_map(|line| line.strip_prefix("0x")?.split_once(' '))
            .map(|(_, pair)| pair.to_owned())
            .collect()
    }

    pub fn connection_rate(&self) -> String {
        let info = self.ask("show info");
        info.lines().find_map(|line| line.strip_prefix("ConnRateLimit: ")).unwrap().to_owned()
    }

    pub fn frontend_limit(&self) -> String {
        let stat = self.ask("show stat -1 1 -1");
        let row = stat.lines().find(|line| line.starts_with("web,")).unwrap();
        row.split(',').nth(6).unwrap().to_owned()
    }

    pub fn ask(&self, command: &str) -> String {
        ask(&self.path("admin.sock"), command).unwrap()
    }

    /// The limit of a server, `be/s1`; empty when unlimited.
    pub fn limit(&self, name: &str) -> String {
        let wanted = name.replace('/', ",");
        let stat = self.ask("show stat -1 4 -1");
        let row = stat.lines().find(|line| line.starts_with(&format!("{wanted},"))).unwrap();
        row.split(',').nth(6).unwrap().to_owned()
    }

    pub fn global_limit(&self) -> String {
        let info = self.ask("show info");
        info.lines().find_map(|line| line.strip_prefix("Maxconn: ")).unwrap().to_owned()
    }

    /// `srv_admin_state` of a server.
    pub fn admin_state(&self, backend: &str, server: &str) -> String {
        let states = self.ask(&format!("show servers state {backend}"));
        let row = states.lines().find(|line| line.split(' ').nth(3) == Some(server)).unwrap();
        row.split(' ').nth(6).unwrap().to_owned()
    }

    /// Everything that the guardian may ever have touched.
    pub fn face(&self) -> String {
        let limits: Vec<_> = ["be/s1", "other/o1", "other/o2", "unlimited/u1"].map(|name| self.limit(name)).into();
        let states = self.ask("show servers state");
        let states: Vec<_> = states.lines().filter_map(|line| line.split(' ').nth(6)).collect();
        let leases = self.ask("show table ng_lease");
        let leases: Vec<_> = leases.lines().filter(|line| line.contains("key=")).collect();
        let process = (self.global_limit(), self.connection_rate(), self.frontend_limit());
        format!("{limits:?} {process:?} {states:?} {} {:?}", leases.len(), self.mapped())
    }

    fn wait(&self) {
        eventually("HAProxy listens", || UnixStream::connect(self.path("admin.sock")).ok());
    }
}

fn ask(socket: &Path, command: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    writeln!(stream, "{command}").ok()?;
    // Else a manager keeps the line open.
    stream.shutdown(Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn launch(folder: &TempDir, how: &[&str]) -> Process {
    let configuration = folder.path().join("haproxy.cfg");
    let usual = ["-db", "-f", configuration.to_str().unwrap()];
    Process::start("haproxy", "haproxy", &[&usual, how].concat())
}
