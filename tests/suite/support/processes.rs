//! Real processes to act on, each in a temporary folder with a pid file: gunicorn with its workers, a JVM, plain programs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use node_guardian::control::consent::Consent;
use node_guardian::control::target::{self, Locator, Pool, Target};
use node_guardian::policy::mitigation::{Amount, Mitigation, Outcome, Verb};
use tempfile::TempDir;

use super::{Process, eventually};

/// `/slow` takes as long as there is a file of that name; anything else is answered at once.
const APP: &str = "
import os, time
def app(environ, start):
    while environ['PATH_INFO'] == '/slow' and os.path.exists('slow'):
        time.sleep(0.01)
    start('200 OK', [('Content-Type', 'text/plain')])
    return [b'here\\n']
";

pub struct Gunicorn {
    process: Process,
    folder: TempDir,
    port: u16,
    workers: usize,
}

impl Gunicorn {
    pub fn start(workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("served.py"), APP).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = launch(folder.path(), port, workers);
        let server = Self { process, folder, port, workers };
        server.wait(workers);
        server
    }

    pub fn restart(&mut self) {
        self.process.end();
        self.process = launch(self.folder.path(), self.port, self.workers);
        self.wait(self.workers);
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn target(&self) -> target::Process {
        let locator = by_pid_file(&self.folder.path().join("pid"), "gunicorn");
        target::Process { workers: Some(Pool::Gunicorn), ..of(locator) }
    }

    pub fn workers(&self) -> Vec<i32> {
        children(&self.process.id())
    }

    /// Waits for so many workers.
    pub fn wait(&self, workers: usize) {
        eventually(&format!("{workers} workers"), || (self.workers().len() == workers).then_some(()));
        eventually("an answer", || self.ask("/"));
    }

    /// A request that is answered when `finish` is called.
    pub fn begin_slow_request(&self) -> JoinHandle<Option<String>> {
        fs::write(self.folder.path().join("slow"), "").unwrap();
        let port = self.port;
        let asked = std::thread::spawn(move || ask(port, "/slow"));
        std::thread::sleep(Duration::from_millis(200));
        asked
    }

    pub fn finish(&self) {
        fs::remove_file(self.folder.path().join("slow")).unwrap();
    }

    pub fn ask(&self, path: &str) -> Option<String> {
        ask(self.port, path)
    }

    /// Asks without a pause until it is told to stop.
    pub fn prober(&self) -> Prober {
        let (stop, failed, asked) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (port, mine) = (self.port, (Arc::clone(&stop), Arc::clone(&failed), Arc::clone(&asked)));
        let thread = std::thread::spawn(move || {
            while !mine.0.load(Ordering::SeqCst) {
                mine.2.fetch_add(1, Ordering::SeqCst);
                if ask(port, "/").is_none() {
                    mine.1.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Prober { stop, failed, asked, thread }
    }
}

pub struct Prober {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Prober {
    /// How many were asked and how many of them failed.
    pub fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        (self.asked.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst))
    }
}

fn ask(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.ends_with("here\n").then_some(answer)
}

fn launch(folder: &Path, port: u16, workers: usize) -> Process {
    let (folder, workers) = (folder.to_str().unwrap(), workers.to_string());
    let (pid, bind) = (format!("{folder}/pid"), format!("127.0.0.1:{port}"));
    let arguments =
        ["--chdir", folder, "--pid", &pid, "--bind", &bind, "--workers", &workers, "--backlog", "64", "served:app"];
    Process::start("gunicorn", "gunicorn", &arguments)
}

/// A program that runs until it is told otherwise, found by its pid file.
pub struct Plain {
    process: Process,
    folder: TempDir,
    command: &'static str,
}

impl Plain {
    pub fn start(command: &'static str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(command, command, arguments);
        let plain = Self { process, folder, command };
        plain.name(&plain.id());
        eventually("its name", || {
            let name = fs::read_to_string(format!("/proc/{}/comm", plain.id())).unwrap();
            (name.trim() == command).then_some(())
        });
        plain
    }

    /// With a child that has a thread of its own niceness.
    pub fn family() -> Self {
        let script = "
import os, signal, threading, time
def grow(*_):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
signal.signal(signal.SIGUSR1, grow)
def other():
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
    time.sleep(600)
threading.Thread(target=other, daemon=True).start()
if os.fork() == 0:
    time.sleep(600)
while True:
    time.sleep(0.05)
";
        let plain = Self::start("python3", &["-c", script]);
        eventually("a family", || (plain.nice() == "0 0 5").then_some(()));
        plain
    }

    /// It takes root to start one.
    pub fn with_a_child_of_another_user() -> Self {
        let script = "
import os, time
if os.fork() == 0:
    os.setuid(65534)
    time.sleep(600)
time.sleep(600)
";
        let plain = Self::start("python3", &["-c", script]);
        let is_anothers = || {
            let child = *children(&plain.id()).first()?;
            let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
            status.contains("Uid:\t65534\t65534").then_some(())
        };
        eventually("a child of another user", is_anothers);
        plain
    }

    /// In the middle of something that no signal interrupts, until its child ends; the child goes on when it is killed.
    pub fn uninterruptible() -> Self {
        let script = format!(
            "
import ctypes, time
if ctypes.CDLL(None).syscall({}, {}, 0, 0, 0, 0) == 0:
    time.sleep(600)
while True:
    time.sleep(600)
",
            libc::SYS_clone,
            libc::CLONE_VFORK | libc::SIGCHLD,
        );
        let plain = Self::start("python3", &["-c", &script]);
        let waits = || plain.tree().len() == 2 && field(&format!("/proc/{}/stat", plain.id()), 0) == "D";
        eventually("it waits", || waits().then_some(()));
        plain
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn id(&self) -> String {
        self.process.id()
    }

    /// What the pid file says.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn name(&self, text: &str) {
        fs::write(self.folder.path().join("pid"), text).unwrap();
    }

    pub fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    pub fn target(&self) -> target::Process {
        of(by_pid_file(&self.pid_file(), self.command))
    }

    pub fn sacrificial(&self) -> Target {
        Target::Process(target::Process { sacrificial: true, ..self.target() })
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn restart(&mut self, arguments: &[&str]) {
        self.kill();
        self.process = Process::start(self.command, self.command, arguments);
        self.name(&self.id());
    }

    /// The niceness of all its threads and its children's, sorted.
    pub fn nice(&self) -> String {
        let mut all: Vec<i32> = self.tree().iter().flat_map(|pid| nice(pid)).collect();
        all.sort_unstable();
        all.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")
    }

    pub fn renice(&self, nice: i32) {
        // SAFETY: numbers alone.
        assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, self.id().parse().unwrap(), nice) }, 0);
    }

    /// Of its disk requests, as the kernel numbers them: 3 is idle.
    pub fn io_class(&self) -> i64 {
        let id: i32 = self.id().parse().unwrap();
        // SAFETY: numbers alone.
        (unsafe { libc::syscall(libc::SYS_ioprio_get, 1, id) }) >> 13
    }

    /// `T` where it is stopped, `S` where it goes on: of it and its children.
    pub fn states(&self) -> String {
        let state = |pid: &String| if field(&format!("/proc/{pid}/stat"), 0) == "T" { 'T' } else { 'S' };
        self.tree().iter().map(state).collect()
    }

    pub fn is_alive(&self) -> bool {
        !["Z", "X"].contains(&&*field(&format!("/proc/{}/stat", self.id()), 0))
    }

    /// A release, by whoever had asked another process whether it may.
    pub async fn released_unasked(&self, target: &Target) -> Result<Outcome, Outcome> {
        let mitigation = Mitigation { control: "app".into(), verb: Verb::Release, amount: Amount::Whole };
        let done = target.place().open().pulse(&mitigation, &Consent::always()).await;
        done.map(|done| done.outcome).map_err(|failure| failure.outcome)
    }

    pub fn tree(&self) -> Vec<String> {
        let mut tree = vec![self.id()];
        tree.extend(children(&self.id()).iter().map(i32::to_string));
        tree
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        for child in children(&self.id()) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

/// A JVM whose heap holds nothing any more of what it held.
pub fn jvm(options: &[&str], mib: u32) -> Plain {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    fs::write(folder.path().join("Heap.class"), include_bytes!("jvm/Heap.class")).unwrap();
    let (classes, mib) = (folder.path().to_str().unwrap().to_owned(), mib.to_string());
    let mut arguments: Vec<&str> = options.to_vec();
    arguments.extend(["-Xms16m", "-Xmx256m", "-cp", &classes, "Heap", &mib, ready.to_str().unwrap()]);
    let process = Process::start("java", "default-jre-headless", &arguments);
    eventually("a JVM with a heap", || ready.exists().then_some(()));
    let plain = Plain { process, folder, command: "java" };
    plain.name(&plain.id());
    plain
}

/// The same with a root directory of its own, in which `/tmp` leads where this link says. Only root can have one.
pub fn jvm_with_tmp(link: &str, mib: u32) -> Plain {
    const ENTER: &str = "cd \"$1\" && for part in usr etc proc dev; do mount --rbind /$part $part; done
        shift && exec chroot . java -XX:+UseG1GC -Xms16m -Xmx256m -cp /work Heap \"$@\" /work/ready";
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for part in ["usr", "etc", "proc", "dev", "work", "hidden"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    for (name, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("tmp", link)] {
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
    }
    fs::write(root.join("work/Heap.class"), include_bytes!("jvm/Heap.class")).unwrap();
    let arguments = ["-m", "--propagation", "private", "sh", "-c", ENTER, "sh"];
    let process = Process::start(
        "unshare",
        "util-linux",
        &[&arguments[..], &[root.to_str().unwrap(), &mib.to_string()]].concat(),
    );
    eventually("a JVM in a root of its own", || root.join("work/ready").exists().then_some(()));
    let plain = Plain { process, folder, command: "java" };
    plain.name(&plain.id());
    plain
}

/// Of capabilities(7), by its number.
#[derive(Clone, Copy)]
pub enum Capability {
    Kill = 5,
    SysNice = 23,
}

/// In a thread that is without it, as are those that it starts.
pub fn without(capability: Capability, work: impl FnOnce() + Send + 'static) {
    let ended = std::thread::spawn(move || {
        // Version 3 of the call: header, then twice 32 bits of each set.
        let mut header = [0x2008_0522_u32, 0];
        let mut sets = [0_u32; 6];
        // SAFETY: both are as large as this version of the call reads and writes.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
            sets.iter_mut().take(3).for_each(|set| *set &= !(1 << capability as u32));
            assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()), 0);
        }
        work();
    });
    if let Err(panic) = ended.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn by_pid_file(file: &Path, command: &str) -> Locator {
    Locator { pid_file: Some(file.to_owned()), command: Some(command.to_owned()), cgroup: None }
}

pub fn of(locator: Locator) -> target::Process {
    target::Process { locator, workers: None, idle_io: false, sacrificial: false, kill_after_seconds: None }
}

fn nice(pid: &str) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let threads = threads.flatten().map(|thread| thread.path().join("stat"));
    threads.filter_map(|stat| field(stat.to_str().unwrap(), 16).parse().ok()).collect()
}

/// Counted behind the name; empty where it has ended meanwhile.
fn field(file: &str, at: usize) -> String {
    let Ok(stat) = fs::read_to_string(file) else { return String::new() };
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(at).unwrap().to_owned()
}

fn children(pid: &str) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let is_there = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    };
    list.split_ascii_whitespace().filter(|pid| is_there(pid)).map(|pid| pid.parse().unwrap()).collect()
}
