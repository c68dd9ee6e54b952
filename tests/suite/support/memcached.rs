//! A real memcached in a temporary folder, on a unix socket and a port, and somebody who uses it all the time.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use node_guardian::control::address::Address;

use node_guardian::control::target;
use tempfile::TempDir;

use super::{Process, eventually};

/// What the documentation sets, so that freed pages leave the process.
pub const GIVES_BACK: &[(&str, &str)] = &[("MALLOC_MMAP_THRESHOLD_", "131072")];

pub struct Memcached {
    process: Process,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    environment: &'static [(&'static str, &'static str)],
}

pub struct Connection(BufReader<UnixStream>);

/// Stores and reads, until it is asked what went wrong.
pub struct Prober {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Memcached {
    pub fn start() -> Self {
        Self::start_with(GIVES_BACK, &["-m", "256"])
    }

    pub fn start_with(environment: &'static [(&'static str, &'static str)], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = launch(&folder, environment, &options);
        let server = Self { process, folder, port, options, environment };
        server.wait();
        server
    }

    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.folder, self.environment, &self.options);
        self.wait();
    }

    /// Listens on its port instead of the socket.
    pub fn over_tcp() -> Self {
        let mut server = Self::start();
        let port = server.port.to_string();
        server.process.kill();
        let options = ["-u", "root", "-m", "256", "-l", "127.0.0.1", "-p", &port];
        server.process = Process::start_with(GIVES_BACK, "memcached", "memcached", &options);
        eventually("memcached listens", || std::net::TcpStream::connect(("127.0.0.1", server.port)).ok());
        server
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn target(&self) -> target::Memcached {
        target::Memcached { address: Address::Unix(self.path("memcached.sock")), cache_only: false }
    }

    pub fn tcp(&self) -> Address {
        Address::Tcp(format!("127.0.0.1:{}", self.port))
    }

    pub fn connect(&self) -> Connection {
        Connection(BufReader::new(UnixStream::connect(self.path("memcached.sock")).unwrap()))
    }

    pub fn ask(&self, command: &str) -> String {
        self.connect().ask(command)
    }

    pub fn stat(&self, name: &str) -> u64 {
        let mut connection = self.connect();
        connection.send(b"stats\r\n");
        let mut found = None;
        loop {
            let line = connection.line();
            match line.strip_prefix("STAT ").and_then(|line| line.split_once(' ')) {
                Some((known, value)) if known == name => found = value.parse().ok(),
                Some(_) => {}
                None => return found.unwrap(),
            }
        }
    }

    pub fn limit(&self) -> u64 {
        self.stat("limit_maxbytes")
    }

    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// About this many mebibytes of items of 1.2 kB.
    pub fn fill(&self, mebibytes: usize) {
        const ITEM: usize = 1200;
        let mut connection = self.connect();
        let value = "x".repeat(ITEM);
        for key in 0..mebibytes * (1 << 20) / 1440 {
            connection.send(format!("set key{key} 0 0 {ITEM} noreply\r\n{value}\r\n").as_bytes());
        }
        assert!(connection.ask("version").starts_with("VERSION"));
    }

    fn wait(&self) {
        eventually("memcached listens", || UnixStream::connect(self.path("memcached.sock")).ok());
    }

    pub fn probe(&self) -> Prober {
        let (over, mut connection) = (Arc::new(AtomicBool::new(false)), self.connect());
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (mut rounds, mut errors) = (0, Vec::new());
            while !told.load(Ordering::SeqCst) {
                rounds += 1;
                connection.send(b"set probe 0 0 5\r\nhello\r\n");
                let stored = connection.line();
                if stored != "STORED" {
                    errors.push(stored);
                }
                // Whether it is still there is the cache's affair.
                connection.send(b"get probe\r\n");
                loop {
                    let line = connection.line();
                    match line.as_str() {
                        "END" => break,
                        "hello" => {}
                        _ if line.starts_with("VALUE probe") => {}
                        _ => errors.push(line),
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            (rounds, errors)
        });
        Prober { over, thread }
    }
}

impl Prober {
    /// Asserts that all that was asked was answered.
    pub fn served_all_along(self) {
        self.over.store(true, Ordering::SeqCst);
        let (rounds, errors) = self.thread.join().unwrap();
        assert!(rounds > 10 && errors.is_empty(), "{rounds} rounds: {errors:?}");
    }
}

impl Connection {
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.line()
    }
}

fn launch(folder: &TempDir, environment: &[(&str, &str)], options: &[String]) -> Process {
    let socket = folder.path().join("memcached.sock");
    std::fs::remove_file(&socket).ok();
    let mut arguments = vec!["-u", "root", "-a", "0660", "-s", socket.to_str().unwrap()];
    arguments.extend(options.iter().map(String::as_str));
    Process::start_with(environment, "memcached", "memcached", &arguments)
}
