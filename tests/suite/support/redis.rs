//! A real Redis in a temporary folder, with the ACL that the documentation shows, and a small client of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node_guardian::control::address::Address;

use node_guardian::control::target;
use tempfile::TempDir;

use super::{Process, eventually};

const USERS: &str = "user default off
user guardian on >s3cret resetkeys resetchannels -@all +ping +info +memory|purge +config|get +config|set +client|pause \
                     +client|unpause +multi +discard +scan +unlink ~cache:*
user pauser on >s3cret resetkeys resetchannels -@all +ping +info +client|pause +client|unpause +multi +discard
user stuck on >s3cret resetkeys resetchannels -@all +ping +info +memory|purge +config|get +client|pause +multi +discard
user blind on >s3cret resetkeys resetchannels -@all +ping +info +config|get +config|set +client|pause +client|unpause
user flusher on >s3cret resetkeys resetchannels -@all +ping +info +memory|purge +config|get +multi +discard +flushall
user reader on >s3cret -@all +ping +info +config|get
user admin on >root ~* &* +@all
";

const CONFIGURATION: &str = "redis.conf";

pub struct Redis {
    process: Process,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
}

pub struct Connection(BufReader<UnixStream>);

impl Redis {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A cluster of one.
    pub fn cluster() -> Self {
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let server = Self::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        assert_eq!(server.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
        eventually("the cluster is whole", || {
            server.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(())
        });
        server
    }

    /// With a command that nobody has any more.
    pub fn without(command: &str) -> Self {
        Self::start_with(&["--rename-command", command, ""])
    }

    /// With a file in which CONFIG REWRITE saves what was set.
    pub fn with_configuration() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONFIGURATION), "").unwrap();
        Self::start_in(folder, &[])
    }

    fn start_with(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options)
    }

    fn start_in(folder: TempDir, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        std::fs::write(folder.path().join("users.acl"), USERS).unwrap();
        std::fs::write(folder.path().join("password"), "s3cret\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = launch(&folder, port, &options);
        let server = Self { process, folder, port, options };
        server.wait();
        server
    }

    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.folder, self.port, &self.options);
        self.wait();
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn target(&self) -> target::Redis {
        target::Redis {
            listener: None,
            address: Address::Unix(self.path("redis.sock")),
            username: Some("guardian".into()),
            password_file: Some(self.path("password")),
            cache_only: false,
            flush_pattern: None,
            client_buffers: None,
        }
    }

    /// A pure cache as configuration, through this of its sockets.
    pub fn section(&self, name: &str, socket: &str) -> String {
        let (socket, password) = (self.path(socket), self.path("password"));
        let (socket, password) = (socket.display(), password.display());
        format!(
            "[control.redis.{name}]\nsocket = \"{socket}\"\nusername = \"guardian\"\npassword_file = \"{password}\"\n\
             cache_only = true\n"
        )
    }

    /// Everything that the guardian may ever have touched.
    pub fn face(&self) -> String {
        let face = format!("{} {}", self.setting("maxmemory"), self.setting("maxmemory-policy"));
        match &*self.setting("maxmemory-clients") {
            "0" => face,
            clients => format!("{face} {clients}"),
        }
    }

    pub fn tcp(&self) -> Address {
        Address::Tcp(format!("127.0.0.1:{}", self.port))
    }

    pub fn connect(&self) -> Connection {
        let stream = UnixStream::connect(self.path("redis.sock")).unwrap();
        let mut connection = Connection(BufReader::new(stream));
        assert_eq!(connection.ask(&["AUTH", "admin", "root"]), "+OK");
        connection
    }

    pub fn ask(&self, words: &[&str]) -> String {
        self.connect().ask(words)
    }

    /// What a new client is told first, be it that it may not come in.
    pub fn try_ask(&self, words: &[&str]) -> String {
        let mut connection = Connection(BufReader::new(UnixStream::connect(self.path("redis.sock")).unwrap()));
        // Redis may have hung up already, with its reason on the line.
        connection.try_send(words);
        connection.answer()
    }

    pub fn setting(&self, name: &str) -> String {
        let answer = self.ask(&["CONFIG", "GET", name]);
        answer.lines().nth(1).unwrap().to_owned()
    }

    pub fn info(&self, field: &str) -> u64 {
        let info = self.ask(&["INFO", "everything"]);
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        value.trim().parse().unwrap()
    }

    /// Values of so many bytes, under `cache:0`, `cache:1`, …; returns when Redis itself has noticed their weight.
    pub fn fill(&self, prefix: &str, keys: usize, bytes: usize) {
        let mut connection = self.connect();
        let value = "x".repeat(bytes);
        for key in 0..keys {
            connection.send(&["SET", &format!("{prefix}{key}"), &value]);
            if key % 100 == 99 {
                (0..100).for_each(|_| assert_eq!(connection.answer(), "+OK"));
            }
        }
        (0..keys % 100).for_each(|_| assert_eq!(connection.answer(), "+OK"));
        eventually("the weight shows", || (self.info("used_memory_rss") > (keys * bytes) as u64).then_some(()));
    }

    /// Deletes them one by one, so that their memory stays with the allocator.
    pub fn empty(&self, prefix: &str, keys: usize) {
        let mut connection = self.connect();
        for key in 0..keys {
            assert_eq!(connection.ask(&["DEL", &format!("{prefix}{key}")]), ":1");
        }
    }

    fn wait(&self) {
        eventually("Redis listens", || UnixStream::connect(self.path("redis.sock")).ok());
    }
}

impl Connection {
    pub fn send(&mut self, words: &[&str]) {
        assert!(self.try_send(words));
    }

    fn try_send(&mut self, words: &[&str]) -> bool {
        let mut line = format!("*{}\r\n", words.len());
        for word in words {
            line.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(line.as_bytes()).is_ok()
    }

    pub fn ask(&mut self, words: &[&str]) -> String {
        self.send(words);
        self.answer()
    }

    /// Simple answers with their sign; the items of a list one a line.
    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let line = line.trim_end();
        match line.split_at(1) {
            ("$", "-1") => "nil".to_owned(),
            ("$", length) => {
                let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
            }
            ("*", items) => {
                let items: usize = items.parse().unwrap();
                (0..items).map(|_| self.answer()).collect::<Vec<_>>().join("\n")
            }
            _ => line.to_owned(),
        }
    }

    /// Whether an answer comes within this time.
    pub fn answers_within(&mut self, patience: Duration) -> bool {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
        let answered = self.0.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.0.get_ref().set_read_timeout(None).unwrap();
        answered
    }
}

fn launch(folder: &TempDir, port: u16, options: &[String]) -> Process {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (socket, users, port) = (path("redis.sock"), path("users.acl"), port.to_string());
    let folder = folder.path().to_str().unwrap();
    let arguments = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--unixsocket",
        &socket,
        "--aclfile",
        &users,
        "--save",
        "",
        "--dir",
        folder,
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let configuration = path(CONFIGURATION);
    let file: &[&str] = if Path::new(&configuration).exists() { &[&configuration] } else { &[] };
    Process::start("redis-server", "redis-server", &[file, &arguments, &*options].concat())
}
