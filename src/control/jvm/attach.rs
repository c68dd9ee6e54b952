//! The attach mechanism of HotSpot, as the JDK's own jcmd uses it: a file that says that somebody wants in, SIGQUIT so that
//! the JVM looks for it, then a socket in its /tmp. SIGQUIT ends whoever does not catch it, so that is known first: from the
//! names of its threads and its signal masks, which are read without any lock of its memory. (Its maps would say the same,
//! but reading those waits for a process that thrashes.)

use std::io;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::folder::{Folder, Owner, Socket};
use crate::control::DEADLINE;
use crate::control::address::Address;
use crate::control::failure::Failure;
use crate::control::process::pinned::Pinned;
use crate::control::process::table::{self, Status, has};
use crate::control::said::clip;
use crate::control::stream::{Stream, text};

/// VM.flags of a JVM with every flag set takes 4 KiB.
const ANSWER_BYTES: u64 = 64 << 10;
/// Threads of every HotSpot since 9; without the second it does not look for the file (`-Xrs`).
const THREADS: [&str; 2] = ["VM Thread", "Signal Dispatch"];
/// It accepts 9 ms after the signal; one that is starved of CPU needs longer.
const OPENS: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// What came of SIGQUIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    /// It listens.
    WithASocket,
    /// It has taken the signal, which where it lets nobody in is a request for a dump of all its threads.
    WithADump,
}

/// # Errors
/// Where it is no JVM, or would not let us in.
pub fn may_attach(process: &Pinned) -> Result<(), Failure> {
    let pid = process.pid;
    let status = status(process)?;
    let threads = table::threads(pid);
    let names: Vec<String> = threads.into_iter().filter_map(|id| Some(table::thread_stat(pid, id)?.command)).collect();
    let [machine, signals] = THREADS.map(|wanted| names.iter().any(|name| name == wanted));
    if !machine {
        return Err(Failure::refused(format!("process {pid} is not a JVM: none of its threads is called `VM Thread`")));
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
    let folder = folder(process)?;
    if folder.socket(&socket_name(&status)).is_some() {
        return Ok(());
    }
    folder.may_write().map_err(|errno| {
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
pub async fn open(process: &Pinned) -> Result<Answered, Failure> {
    let status = status(process)?;
    let (folder, name) = (folder(process)?, socket_name(&status));
    goes_on(process)?;
    if is_open(folder.socket(&name)).await {
        return Ok(Answered::WithASocket);
    }
    let _wish = Wish::leave(process, &folder, &status)?;
    process.signal(libc::SIGQUIT).map_err(|errno| process.unsent(errno))?;
    let until = Instant::now() + OPENS;
    while Instant::now() < until {
        if is_open(folder.socket(&name)).await {
            return Ok(Answered::WithASocket);
        }
        if process.is_over() {
            return Err(Failure::unreachable("the JVM has ended"));
        }
        sleep(POLL).await;
    }
    goes_on(process)?;
    if has(self::status(process)?.pending, libc::SIGQUIT) {
        let (pid, within) = (process.pid, OPENS.as_secs());
        return Err(Failure::timed_out(format!(
            "the JVM (process {pid}) took no SIGQUIT within {within} s: is it stuck?"
        )));
    }
    Ok(Answered::WithADump)
}

/// One that nobody is behind any more may have been left there.
///
/// # Errors
/// Where nobody can tell.
pub async fn listens(process: &Pinned) -> Result<bool, Failure> {
    let socket = folder(process)?.socket(&socket_name(&status(process)?));
    Ok(is_open(socket).await)
}

/// Each further question would stop all its threads for another dump.
pub fn deaf(process: &Pinned) -> Failure {
    Failure::refused(format!(
        "the JVM (process {0}) opened no attach socket within {1} s of SIGQUIT, so it is not asked again: restart it \
         without -XX:+DisableAttachMechanism; if it was only stuck, `jcmd {0} VM.version` makes it listen",
        process.pid,
        OPENS.as_secs()
    ))
}

fn goes_on(process: &Pinned) -> Result<(), Failure> {
    let pid = process.pid;
    match process.stat() {
        Some(stat) if stat.is_stopped() => {
            Err(Failure::timed_out(format!("the JVM is stopped: `kill -CONT {pid}` lets it go on")))
        }
        Some(stat) if stat.is_traced() => {
            Err(Failure::timed_out(format!("the JVM (process {pid}) is held by a tracer")))
        }
        Some(_) | None => Ok(()),
    }
}

/// What a diagnostic command answers.
///
/// # Errors
/// Where it does not answer in time, or refuses.
pub async fn ask(process: &Pinned, command: &str, patience: Duration) -> Result<String, Failure> {
    let gone = || Failure::unreachable("the JVM has taken its attach socket away");
    let socket = folder(process)?.socket(&socket_name(&status(process)?)).ok_or_else(gone)?;
    let address = Address::Unix(socket.path());
    let unheard = || silent(process.pid, command, DEADLINE);
    let mut stream = Stream::dial("the JVM", &address, Instant::now() + DEADLINE, unheard).await?;
    if stream.pid() != Some(process.pid) {
        let name = socket_name(&status(process)?);
        return Err(Failure::refused(format!("{name} in the JVM's /tmp is not the JVM's own socket: remove it")));
    }
    talk(&mut stream, process.pid, command, patience).await
}

/// Asks, and hears the answer out.
pub async fn talk(stream: &mut Stream, pid: i32, command: &str, patience: Duration) -> Result<String, Failure> {
    let broken = |error: io::Error| Failure::unreachable(format!("the JVM closed its attach socket: {error}"));
    let request = format!("1\0jcmd\0{command}\0\0\0");
    let talk = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answered = timeout(patience, talk).await;
    let answer = answered.map_err(|_| silent(pid, command, patience))?.map_err(broken)?;
    understood(&text(answer), command)
}

fn silent(pid: i32, command: &str, patience: Duration) -> Failure {
    let ms = patience.as_millis();
    Failure::timed_out(format!("no answer to {command} from the JVM (process {pid}) within {ms} ms"))
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

async fn is_open(socket: Option<Socket>) -> bool {
    let Some(socket) = socket else { return false };
    let address = Address::Unix(socket.path());
    timeout(DEADLINE, Stream::connect(&address)).await.is_ok_and(|connected| connected.is_ok())
}

/// The file that says that somebody wants in. Gone when this is: the JVM looks for it once.
struct Wish<'f> {
    folder: &'f Folder,
    name: String,
}

impl<'f> Wish<'f> {
    /// Of the JVM's user: before 11, it does not take root's file for its own user's.
    fn leave(process: &Pinned, folder: &'f Folder, status: &Status) -> Result<Self, Failure> {
        let name = format!(".attach_pid{}", status.inner_pid);
        let made = Owner::of(process.pid, status.uid).and_then(|owner| folder.create(&name, owner));
        made.map_err(|error| Failure::refused(format!("cannot create {name} in the JVM's /tmp: {error}")))?;
        Ok(Self { folder, name })
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.folder.remove(&self.name);
    }
}

fn status(process: &Pinned) -> Result<Status, Failure> {
    let gone = || Failure::unreachable(format!("process {} has ended", process.pid));
    table::status(process.pid).filter(|_| !process.is_over()).ok_or_else(gone)
}

/// As the JVM sees it: a container, or a unit with PrivateTmp=, has one of its own.
fn folder(process: &Pinned) -> Result<Folder, Failure> {
    let pid = process.pid;
    Folder::of(pid).map_err(|errno| match errno {
        Errno::EACCES => Failure::refused(format!(
            "may not look into /tmp as process {pid} sees it: give the guardian's unit CAP_SYS_PTRACE"
        )),
        errno => Failure::unreachable(format!("cannot look into /tmp as process {pid} sees it: {}", errno.desc())),
    })
}

fn socket_name(status: &Status) -> String {
    format!(".java_pid{}", status.inner_pid)
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
