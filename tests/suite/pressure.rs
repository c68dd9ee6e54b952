//! The pressure control against a small service that obeys systemd's protocol, and against who does not.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use node_guardian::control::target::{self, Locator, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Report, Verb};
use tempfile::TempDir;

use super::support::desk::Desk;
use super::support::processes::{Plain, by_pid_file};
use super::support::{Process, eventually};

const MIB: i64 = 1 << 20;

/// With 64 MiB to give: it opens what `MEMORY_PRESSURE_WATCH` names, writes what `MEMORY_PRESSURE_WRITE` says, and waits, as
/// docs/MEMORY_PRESSURE.md of systemd asks. SIGRTMIN+18 with 0x300 says the same.
const SERVICE: &str = "
import base64, mmap, os, select, signal, stat, sys
held = [mmap.mmap(-1, 1 << 20) for _ in range(64)]
for block in held: block.write(b'x' * (1 << 20))
def give():
    for block in held: block.close()
    held.clear()
    open(sys.argv[1] + '.gave', 'w').close()
def told(number, frame): pass
signals = {signal.SIGRTMIN + 18}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
poll = select.poll()
watch = os.environ.get('MEMORY_PRESSURE_WATCH')
if watch and watch != '/dev/null':
    fd = os.open(watch, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    write = os.environ.get('MEMORY_PRESSURE_WRITE')
    if write: os.write(fd, base64.b64decode(write))
    poll.register(fd, select.POLLIN if stat.S_ISFIFO(os.fstat(fd).st_mode) else select.POLLPRI)
    if write: os.read(fd, 4096)
open(sys.argv[1], 'w').close()
while True:
    if poll.poll(50):
        try: os.read(fd, 4096)
        except BlockingIOError: continue
        give()
    info = signal.sigtimedwait(signals, 0)
    if info:
        open(sys.argv[1] + '.signal', 'w').write(f'{info.si_code} {info.si_pid}')
        give()
";

struct Service {
    process: Process,
    folder: TempDir,
}

impl Service {
    fn start(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), Mode::from_bits_truncate(0o660)).unwrap();
        let ready = folder.path().join("ready");
        let watch = format!("MEMORY_PRESSURE_WATCH={}", folder.path().join("fifo").display());
        let mut words = vec![watch];
        words.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(["python3", "-c", SERVICE, ready.to_str().unwrap()].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let process = Process::start("env", "coreutils", &words);
        fs::write(folder.path().join("pid"), process.id()).unwrap();
        eventually("it is ready", || ready.exists().then_some(()));
        Self { process, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn locator(&self) -> Locator {
        by_pid_file(&self.path("pid"), "python3")
    }

    fn target(&self) -> target::Pressure {
        target::Pressure { fifo: Some(self.path("fifo")), signal: false, locator: self.locator() }
    }
}

fn release(target: target::Pressure) -> Report {
    let mut desk = Desk::new(&[("app", Target::Pressure(target))]);
    let report = desk.apply(1, "app", Verb::Release, Amount::Whole);
    println!("{}", report.detail);
    assert!(desk.journaled().is_empty());
    report
}

#[test]
fn a_service_that_listens_gives_back_and_it_is_measured() {
    for environment in [&[][..], &[("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=")]] {
        let service = Service::start(environment);
        let report = release(service.target());
        assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
        assert!(report.freed_bytes.unwrap() > 50 * MIB, "{}", report.detail);
    }
}

#[test]
fn nothing_lost_is_no_effect_and_what_cannot_be_told_is_not_claimed() {
    let service = Service::start(&[]);
    let unmeasured = target::Pressure { locator: Locator::default(), ..service.target() };
    let report = release(unmeasured);
    assert_eq!((report.outcome, report.freed_bytes), (Outcome::Applied, None), "{}", report.detail);
    eventually("it has given", || service.path("ready.gave").exists().then_some(()));
    let report = release(service.target());
    assert_eq!(report.outcome, Outcome::NoEffect, "nothing is left: {}", report.detail);
}

#[test]
fn the_signal_says_the_same() {
    let service = Service::start(&[]);
    let report = release(target::Pressure { fifo: None, signal: true, ..service.target() });
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 50 * MIB, "{}", report.detail);
    let signal = fs::read_to_string(service.path("ready.signal")).unwrap();
    assert_eq!(signal, format!("-1 {}", std::process::id()), "queued, by us");
}

#[test]
fn who_would_be_ended_by_the_signal_is_not_sent_it() {
    let sleeper = Plain::start("sleep", &["600"]);
    let locator = by_pid_file(&sleeper.pid_file(), "sleep");
    let report = release(target::Pressure { fifo: None, signal: true, locator });
    assert_eq!((report.outcome, sleeper.states().as_str()), (Outcome::Refused, "S"), "{}", report.detail);
}

/// Its pid file named another one when that was asked.
#[tokio::test]
async fn who_is_sent_the_signal_is_asked_itself() {
    let sleeper = Plain::start("sleep", &["600"]);
    let locator = by_pid_file(&sleeper.pid_file(), "sleep");
    let target = Target::Pressure(target::Pressure { fifo: None, signal: true, locator });
    let outcome = sleeper.released_unasked(&target).await;
    assert_eq!((outcome, sleeper.is_alive()), (Err(Outcome::Refused), true));
}

#[test]
fn nobody_is_waited_for() {
    let service = Service::start(&[]);
    service.process.signal(Signal::SIGSTOP);
    eventually("a stopped service", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", service.process.id())).unwrap();
        stat.contains(") T ").then_some(())
    });
    let report = release(service.target());
    assert_eq!(report.outcome, Outcome::TimedOut, "{}", report.detail);
    service.process.signal(Signal::SIGCONT);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!service.path("ready.gave").exists(), "what it did not take in time it is not told later");

    let alone = service.path("alone");
    nix::unistd::mkfifo(&alone, Mode::from_bits_truncate(0o600)).unwrap();
    let at = |fifo: PathBuf| release(target::Pressure { fifo: Some(fifo), ..service.target() });
    let report = at(alone.clone());
    assert_eq!(report.outcome, Outcome::Unreachable);
    assert!(report.detail.contains("nobody listens") && report.detail.contains("MEMORY_PRESSURE_WATCH="));
    let report = at(service.path("missing"));
    assert_eq!(report.outcome, Outcome::Unreachable);
    assert!(report.detail.contains("tmpfiles.d"), "{}", report.detail);
    let report = at(service.path("pid"));
    assert_eq!(
        (report.outcome, fs::read_to_string(service.path("pid")).unwrap()),
        (Outcome::Unsupported, service.process.id())
    );

    // Somebody who never reads, until it is full.
    let idle = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&alone).unwrap();
    assert_eq!(at(alone).outcome, Outcome::TimedOut);
    drop(idle);
}
