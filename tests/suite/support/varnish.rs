//! A real varnishd in a temporary folder with a backend behind it, somebody who asks it all the time, and a go-between on
//! its command line. What Varnish says is asked through its own `varnishadm`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use node_guardian::control::address::Address;

use node_guardian::control::target;
use tempfile::TempDir;

use super::{Process, eventually};

/// What the documentation sets, so that freed memory leaves the process.
pub const GIVES_BACK: &[(&str, &str)] = &[("MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0")];
const BODY_BYTES: usize = 100_000;
const SECRET: &str = "0f1e2d3c-of-a-test\n";

pub struct Varnish {
    process: Process,
    folder: TempDir,
    environment: &'static [(&'static str, &'static str)],
    backend: u16,
    clients: u16,
    command_line: u16,
    protected: Option<&'static str>,
}

/// Asks one page after the other, until it is asked what went wrong.
pub struct Prober {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Varnish {
    pub fn start() -> Self {
        Self::start_with(GIVES_BACK)
    }

    /// With a parameter that nobody may set.
    pub fn protecting(parameter: &'static str) -> Self {
        let mut server = Self::start();
        server.protected = Some(parameter);
        server.restart();
        server
    }

    pub fn start_with(environment: &'static [(&'static str, &'static str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Its child runs as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        let backend = serve();
        let (clients, command_line) = (free_port(), free_port());
        let ports = [backend, clients, command_line];
        let process = launch(&folder, environment, ports, None);
        let server = Self { process, folder, environment, backend, clients, command_line, protected: None };
        server.wait();
        server
    }

    /// Manager and child.
    pub fn restart(&mut self) {
        self.process.end();
        let ports = [self.backend, self.clients, self.command_line];
        self.process = launch(&self.folder, self.environment, ports, self.protected);
        self.wait();
    }

    /// Where clients come in, and where the backend is.
    pub const fn ports(&self) -> [u16; 2] {
        [self.clients, self.backend]
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn target(&self) -> target::Varnish {
        target::Varnish {
            listener: None,
            address: Address::Tcp(format!("127.0.0.1:{}", self.command_line)),
            secret_file: Some(self.path("secret")),
            restart_to_free: false,
        }
    }

    /// What `varnishadm` prints.
    pub fn ask(&self, command: &[&str]) -> String {
        let asked = Command::new("varnishadm").arg("-n").arg(self.path("work")).args(command).output();
        let output = asked.unwrap_or_else(|error| panic!("cannot start varnishadm ({error}): apt-get install varnish"));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn parameter(&self, name: &str) -> String {
        let all = self.ask(&["param.show"]);
        let mut words = all.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace();
        words.nth(1).unwrap().to_owned()
    }

    /// Everything that the guardian may ever have touched.
    pub fn face(&self) -> (String, String) {
        (self.parameter("thread_pool_max"), self.parameter("ban_lurker_age"))
    }

    pub fn child(&self) -> Option<u32> {
        let pids = self.ask(&["pid"]);
        pids.lines().find_map(|line| line.strip_prefix("Worker:")).map(|pid| pid.trim().parse().unwrap())
    }

    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child().unwrap())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// So many objects of 100 kB.
    pub fn fill(&self, objects: usize) {
        let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", self.clients)).unwrap());
        for object in 0..objects {
            assert_eq!(fetch(&mut connection, object).unwrap(), BODY_BYTES);
        }
    }

    pub fn probe(&self) -> Prober {
        let over = Arc::new(AtomicBool::new(false));
        let (told, port) = (Arc::clone(&over), self.clients);
        let thread = std::thread::spawn(move || {
            let (mut rounds, mut errors) = (0, Vec::new());
            while !told.load(Ordering::SeqCst) {
                let answered = TcpStream::connect(("127.0.0.1", port))
                    .and_then(|stream| fetch(&mut BufReader::new(stream), 100_000 + rounds % 3));
                if !matches!(answered, Ok(BODY_BYTES)) {
                    errors.push(format!("{answered:?}"));
                }
                rounds += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            (rounds, errors)
        });
        Prober { over, thread }
    }

    /// A go-between that hangs up on both sides instead of passing on this piece of the conversations, and all later ones
    /// of the same connection. Counts what it passed on.
    pub fn cut_at(&self, nth: usize) -> (Address, Arc<AtomicUsize>) {
        self.cut_where(move |count, _| count == nth)
    }

    /// The same, once, where this is said.
    pub fn cut_at_first(&self, said: &'static str) -> Address {
        let done = AtomicBool::new(false);
        let says = move |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(said);
        self.cut_where(move |_, bytes| says(bytes) && !done.swap(true, Ordering::SeqCst)).0
    }

    fn cut_where(&self, cuts: impl Fn(usize, &[u8]) -> bool + Send + Sync + 'static) -> (Address, Arc<AtomicUsize>) {
        let cuts = Arc::new(cuts);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let (count, back) = (Arc::new(AtomicUsize::new(0)), self.command_line);
        let passed = Arc::clone(&count);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", back)) else { return };
                for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    let (passed, cuts) = (Arc::clone(&passed), Arc::clone(&cuts));
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16384];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            let count = passed.fetch_add(1, Ordering::SeqCst);
                            if cuts(count, &bytes[..read]) || to.write_all(&bytes[..read]).is_err() {
                                break;
                            }
                        }
                        from.shutdown(std::net::Shutdown::Both).ok();
                        to.shutdown(std::net::Shutdown::Both).ok();
                    });
                }
            }
        });
        (address, count)
    }

    fn wait(&self) {
        eventually("Varnish serves", || {
            let stream = TcpStream::connect(("127.0.0.1", self.clients)).ok()?;
            fetch(&mut BufReader::new(stream), 0).ok().filter(|bytes| *bytes == BODY_BYTES)
        });
    }
}

impl Drop for Varnish {
    /// The child ends with its manager, but not before this folder would.
    fn drop(&mut self) {
        self.process.end();
    }
}

impl Prober {
    /// Asserts that all that was asked was answered.
    pub fn served_all_along(self) {
        self.over.store(true, Ordering::SeqCst);
        let (rounds, errors) = self.thread.join().unwrap();
        assert!(rounds > 3 && errors.is_empty(), "{rounds} rounds: {errors:?}");
    }
}

fn launch(
    folder: &TempDir,
    environment: &[(&str, &str)],
    [backend, clients, command_line]: [u16; 3],
    protected: Option<&str>,
) -> Process {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let local = |port: u16| format!("127.0.0.1:{port}");
    let (work, secret) = (path("work"), path("secret"));
    let (backend, clients, command_line) = (local(backend), local(clients), local(command_line));
    let arguments = [
        "-F",
        "-n",
        &work,
        "-S",
        &secret,
        "-b",
        &backend,
        "-a",
        &clients,
        "-T",
        &command_line,
        "-s",
        "malloc,200m",
        "-p",
        "thread_pool_min=20",
        "-p",
        "thread_pool_max=1000",
    ];
    let protected: Vec<&str> = protected.into_iter().flat_map(|parameter| ["-r", parameter]).collect();
    Process::start_with(environment, "varnishd", "varnish", &[&arguments, protected.as_slice()].concat())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Bytes of the body, where it was answered well.
fn fetch(connection: &mut BufReader<TcpStream>, object: usize) -> std::io::Result<usize> {
    let request = format!("GET /{object} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let (mut line, mut length, mut is_good) = (String::new(), 0, false);
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        is_good |= line.starts_with("HTTP/1.1 200");
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    if is_good { Ok(length) } else { Err(std::io::Error::other("an error page")) }
}

/// Pages of 100 kB that may be kept for an hour; the second of their date is their number's. Ends with the test's process.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    port
}

fn answer_all(stream: TcpStream) {
    let mut connection = BufReader::new(stream);
    let body = vec![b'x'; BODY_BYTES];
    loop {
        let mut path = String::new();
        if connection.read_line(&mut path).is_err() || path.is_empty() {
            return;
        }
        let mut header = String::new();
        while connection.read_line(&mut header).is_ok_and(|read| read > 2) {
            header.clear();
        }
        let number: usize = path.split(['/', ' ']).nth(2).and_then(|number| number.parse().ok()).unwrap_or(0);
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 10:00:{:02} GMT\r\n\
             Cache-Control: max-age=3600\r\nContent-Length: {BODY_BYTES}\r\n\r\n",
            number % 60
        );
        let stream = connection.get_mut();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}
