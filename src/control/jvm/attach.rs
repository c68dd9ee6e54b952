//! The attach mechanism of HotSpot, as the JDK's own jcmd uses it: a file that says that somebody wants in, SIGQUIT so that
//! the JVM looks for it, then a socket in its /tmp. SIGQUIT ends whoever does not catch it, so that is known first: from the
//! names of its threads and its signal masks, which are read without any lock of its memory. (Its maps would say the same,
//! but reading those waits for a process that thrashes.)

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::control::DEADLINE;
use crate::control::failure::Failure;
use crate::control::process::pinned::Pinned;
use crate::control::process::table::{self, Status, has};
use crate::control::said::clip;

/// VM.flags of a JVM with every flag set takes 4 KiB.
const ANSWER_BYTES: u64 = 64 << 10;
/// Threads of every HotSpot since 9; without the second it does not look for the file (`-Xrs`).
const THREADS: [&str; 2] = ["VM Thread", "Signal Dispatch"];
/// It accepts 9 ms after the signal (research: actuators §8); one that is starved of CPU needs longer.
const OPENS: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// # Errors
/// Where it is no JVM, or would not let us in.
pub fn may_attach(process: &Pinned) -> Result<(), Failure> {
    let pid = process.pid;
    let status = status(process)?;
    let threads = table::threads(pid);
    let names: Vec<String> = threads.into_iter().filter_map(|id| Some(table::thread_stat(pid, id)?.command)).collect();
    let [machine, signals] = THREADS.map(|wanted| names.iter().any(|name| name == wanted));
    if !machine {
        return Err(Failure::refused(format!("process {pid} is no JVM: none of its threads is called `VM Thread`")));
    }
    if !signals || !has(status.caught, libc::SIGQUIT) {
        return Err(Failure::refused(format!(
            "the JVM (process {pid}) takes no SIGQUIT: it was started with -Xrs, or has just been started"
        )));
    }
    process.may_signal()?;
    let own = nix::unistd::geteuid().as_raw();
    if own != 0 && own != status.uid {
        return Err(Failure::refused(format!(
            "a JVM lets in root and its own user only: run the guardian as user {}, or as root with CAP_KILL, \
             CAP_SYS_PTRACE and CAP_DAC_OVERRIDE",
            status.uid
        )));
    }
    fs::metadata(folder(process)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::refused(format!(
            "may not look into /tmp as process {pid} sees it: give the guardian's unit CAP_SYS_PTRACE"
        )),
        _ => Failure::unreachable(format!("cannot look into /tmp as process {pid} sees it: {error}")),
    })?;
    if socket(process, &status).exists() {
        return Ok(());
    }
    faccessat(AT_FDCWD, &folder(process), AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS).map_err(|errno| {
        Failure::refused(format!(
            "may not write to /tmp as process {pid} sees it, by which a JVM is asked to listen: {}",
            errno.desc()
        ))
    })
}

/// Makes it listen, where it does not yet.
///
/// # Errors
/// Where it does not.
pub async fn open(process: &Pinned) -> Result<(), Failure> {
    let status = status(process)?;
    let socket = socket(process, &status);
    if process.stat().is_some_and(|stat| stat.is_stopped()) {
        return Err(Failure::timed_out(format!("the JVM is stopped: `kill -CONT {}` lets it go on", process.pid)));
    }
    if listens(&socket).await {
        return Ok(());
    }
    let _wish = Wish::leave(process, &status)?;
    process.signal(libc::SIGQUIT).map_err(|errno| process.unsent(errno))?;
    let until = Instant::now() + OPENS;
    while Instant::now() < until {
        if listens(&socket).await {
            return Ok(());
        }
        if process.is_over() {
            return Err(Failure::unreachable("the JVM has ended"));
        }
        sleep(POLL).await;
    }
    Err(Failure::timed_out(format!(
        "the JVM (process {}) opened no attach socket within {} s: is it stuck, or was it started with \
         -XX:+DisableAttachMechanism?",
        process.pid,
        OPENS.as_secs()
    )))
}

/// What a diagnostic command answers.
///
/// # Errors
/// Where it does not answer in time, or refuses.
pub async fn ask(process: &Pinned, command: &str, patience: Duration) -> Result<String, Failure> {
    let path = socket(process, &status(process)?);
    let silent = |_| {
        let (pid, ms) = (process.pid, patience.as_millis());
        Failure::timed_out(format!("no answer to {command} from the JVM (process {pid}) within {ms} ms"))
    };
    let broken = |error: io::Error| Failure::unreachable(format!("the JVM closed its attach socket: {error}"));
    let mut stream = timeout(DEADLINE, UnixStream::connect(&path)).await.map_err(silent)?.map_err(broken)?;
    if stream.peer_cred().map_err(broken)?.pid() != Some(process.pid) {
        return Err(Failure::refused(format!("{} is not the JVM's own socket: remove it", path.display())));
    }
    let request = format!("1\0jcmd\0{command}\0\0\0");
    let talk = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        (&mut stream).take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(patience, talk).await.map_err(silent)?.map_err(broken)?;
    understood(&String::from_utf8_lossy(&answer), command)
}

/// A line with 0, then the answer.
fn understood(answer: &str, command: &str) -> Result<String, Failure> {
    match answer.split_once('\n') {
        Some(("0", rest)) => Ok(rest.to_owned()),
        Some((_, said)) => {
            let said = clip(said.lines().next().unwrap_or_default());
            Err(Failure::refused(format!("the JVM refuses {command}: {said}")))
        }
        None => Err(Failure::refused(format!("the JVM broke off its answer to {command}"))),
    }
}

async fn listens(socket: &Path) -> bool {
    timeout(DEADLINE, UnixStream::connect(socket)).await.is_ok_and(|connected| connected.is_ok())
}

/// The file that says that somebody wants in. Gone when this is: the JVM looks for it once.
struct Wish(PathBuf);

impl Wish {
    fn leave(process: &Pinned, status: &Status) -> Result<Self, Failure> {
        let path = folder(process).join(format!(".attach_pid{}", status.inner_pid));
        // Not through a link that somebody put there.
        let mut options = fs::File::options();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_left_over(&path) => {
                fs::remove_file(&path).and_then(|()| options.open(&path))
            }
            other => other,
        };
        let file = file.map_err(|error| {
            Failure::refused(format!("cannot create .attach_pid{} in the JVM's /tmp: {error}", status.inner_pid))
        })?;
        // Before 11, a JVM does not take root's file for its own user's. Where it cannot be given, root's it stays.
        std::os::unix::fs::fchown(&file, Some(status.uid), None).ok();
        Ok(Self(path))
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Of a guardian or a jcmd that was killed: a plain empty file.
fn is_left_over(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0 && found.nlink() == 1)
}

fn status(process: &Pinned) -> Result<Status, Failure> {
    let gone = || Failure::unreachable(format!("process {} has ended", process.pid));
    table::status(process.pid).filter(|_| !process.is_over()).ok_or_else(gone)
}

/// As the JVM sees it: a container, or a unit with PrivateTmp=, has one of its own.
fn folder(process: &Pinned) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root/tmp", process.pid))
}

fn socket(process: &Pinned, status: &Status) -> PathBuf {
    folder(process).join(format!(".java_pid{}", status.inner_pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_with_whether_it_is_one() {
        assert_eq!(understood("0\n-XX:+UseG1GC\n", "VM.flags").unwrap(), "-XX:+UseG1GC\n");
        assert!(understood("101\nno such thing\n", "VM.flags").unwrap_err().detail.ends_with("no such thing"));
        assert!(understood("", "GC.run").is_err() && understood("0", "GC.run").is_err());
    }
}
