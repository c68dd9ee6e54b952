//! The process as its surroundings see it: the service manager, the journal daemon, a terminal's signals, the kernel.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use node_guardian::notify::Notifier;
use node_guardian::policy::moment::Moment;
use node_guardian::{inbox, logging, privilege, signals};
use tempfile::TempDir;
use tracing::{debug, info, warn};

use crate::again::{again, as_child, mount_tmpfs, succeeds};

#[test]
fn the_service_manager_hears_what_happens() {
    if as_child().is_some() {
        return tell_the_service_manager();
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut child = again("edges::the_service_manager_hears_what_happens", directory.path());
    child.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000").env_remove("WATCHDOG_PID");
    succeeds(child);
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    assert!(heard[2].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
    let since_boot: u64 = heard.remove(2).trim().rsplit('=').next().unwrap().parse().unwrap();
    assert!(since_boot > 0);
    let wanted = [
        "READY=1\nSTATUS=normal\n",
        "STATUS=emergency\n",
        "READY=1\nSTATUS=emergency\n",
        "WATCHDOG=1\n",
        "WATCHDOG=1\n",
        "WATCHDOG=1\n",
        "STOPPING=1\nSTATUS=undoing 2 actions\n",
    ];
    assert_eq!(heard, wanted);
}

fn tell_the_service_manager() {
    let mut notifier = Notifier::from_environment();
    assert_eq!(notifier.watchdog(), Some(Duration::from_secs(1)));
    notifier.ready("normal");
    notifier.status("normal");
    notifier.status("emergency");
    notifier.status("emergency");
    notifier.reloading();
    notifier.ready("emergency");
    for milliseconds in [0, 500, 1000, 1900, 2000] {
        notifier.tick(Moment::at(Duration::from_millis(milliseconds)));
    }
    notifier.stopping("undoing 2 actions");
}

#[test]
fn nobody_to_tell_is_no_trouble() {
    if as_child().is_some() {
        assert_eq!(Notifier::from_environment().watchdog(), None);
        return tell_in_vain();
    }
    let directory = TempDir::new().unwrap();
    let child = || {
        let mut child = again("edges::nobody_to_tell_is_no_trouble", directory.path());
        child.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        child
    };
    succeeds(child());
    let mut deaf = child();
    deaf.env("NOTIFY_SOCKET", directory.path().join("nobody"));
    succeeds(deaf);
}

fn tell_in_vain() {
    let mut notifier = Notifier::from_environment();
    notifier.ready("normal");
    notifier.tick(Moment::ORIGIN);
    notifier.reloading();
    notifier.stopping("bye");
}

#[test]
fn a_second_request_to_stop_ends_the_process_at_once() {
    if as_child().is_some() {
        let (door, inbox) = inbox::open().unwrap();
        let impatience = signals::install(&door).unwrap();
        raise(Signal::SIGTERM).unwrap();
        assert!(matches!(inbox.take(), Some(inbox::Message::Stop)));
        raise(Signal::SIGTERM).unwrap();
        assert!(matches!(inbox.take(), Some(inbox::Message::Stop)), "a shell's echo of the first is no second one");
        impatience.store(true, Ordering::Relaxed);
        raise(Signal::SIGINT).unwrap();
        unreachable!("the second one did nothing");
    }
    let directory = TempDir::new().unwrap();
    let mut child = again("edges::a_second_request_to_stop_ends_the_process_at_once", directory.path());
    let output = child.output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn memory_is_locked_or_it_is_said_why_not() {
    if as_child().is_some() {
        let spot = privilege::lock_memory(Path::new("/proc"));
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim().to_owned();
        match spot {
            None => assert!(!locked.starts_with("0 "), "{locked}"),
            Some(spot) => assert!(spot.why.contains("CAP_IPC_LOCK") && locked.starts_with("0 "), "{spot:?} {locked}"),
        }
        return;
    }
    let directory = TempDir::new().unwrap();
    succeeds(again("edges::memory_is_locked_or_it_is_said_why_not", directory.path()));
}

#[test]
fn lines_that_nobody_collects_are_plain() {
    if as_child().is_some() {
        logging::install(Some("info")).unwrap();
        assert!(logging::install(None).is_err());
        return log_some();
    }
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("log");
    let mut child = again("edges::lines_that_nobody_collects_are_plain", directory.path());
    child.stderr(File::create(&log).unwrap()).stdout(Stdio::null());
    succeeds(child);
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said, "INFO  it begins rule=\"memory-high\" used_percent=93.5\nWARN  it goes on\n");
}

fn log_some() {
    info!(rule = "memory-high", used_percent = 93.5, "it begins");
    debug!("nobody needs this");
    warn!("it goes on");
}

#[test]
fn the_journal_daemon_gets_fields_and_never_holds_us_up() {
    if let Some(directory) = as_child() {
        return log_to_a_journal_daemon(&directory);
    }
    let directory = TempDir::new().unwrap();
    let log = File::create(directory.path().join("stderr")).unwrap();
    let file = log.metadata().unwrap();
    let mut child = again("edges::the_journal_daemon_gets_fields_and_never_holds_us_up", directory.path());
    child.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino())).stderr(log);
    let output = child.output().unwrap();
    let said = fs::read_to_string(directory.path().join("stderr")).unwrap();
    assert!(output.status.success(), "{said}");
}

fn log_to_a_journal_daemon(directory: &Path) {
    // Only this process sees its own /run.
    mount_tmpfs(Path::new("/run"), "size=1m");
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let daemon = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    logging::install(Some("info")).unwrap();
    log_some();
    let mut buffer = [0; 4096];
    let mut heard = String::new();
    while !heard.contains("it begins") {
        let length = daemon.recv(&mut buffer).unwrap();
        heard = String::from_utf8_lossy(&buffer[..length]).into_owned();
    }
    for field in ["PRIORITY\n\x01\0\0\0\0\0\0\x006\n", "node-guardian\n", "RULE\n", "memory-high\n"] {
        assert!(heard.contains(field), "no {field} in {heard}");
    }
    let begun = Instant::now();
    for _ in 0..5000 {
        info!("the daemon reads no more");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "a stalled journal daemon held us up");
    // As where it is started anew: its socket is found by its name at each line.
    drop(daemon);
    info!("nobody is there");
    fs::remove_file("/run/systemd/journal/socket").unwrap();
    info!("nor is the socket");
    let daemon = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    info!("it is back");
    let length = daemon.recv(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("it is back"));
    File::create(directory.join("done")).unwrap().write_all(b"done").unwrap();
}
