//! A FIFO that a service has open because its `MEMORY_PRESSURE_WATCH` names it: a byte in it says that memory is short. One
//! that nobody reads, or that still holds the last byte, says so; nothing here ever waits for a reader.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep};

use crate::control::DEADLINE;
use crate::control::failure::Failure;

const POLL: Duration = Duration::from_millis(10);
/// As much as a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// Opens it where somebody listens.
///
/// # Errors
/// Where nobody does, or it is no FIFO.
pub fn open(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    let line =
        || format!("`p {shown} 0660 USER node-guardian -` in a file below /etc/tmpfiles.d makes it at each boot");
    // A plain file would be opened, and written to.
    let found = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::unreachable(format!("{shown} does not exist: {}", line())),
        _ => Failure::unreachable(format!("cannot look at {shown}: {error}")),
    })?;
    if !found.file_type().is_fifo() {
        return Err(Failure::unsupported(format!("{shown} is not a FIFO: {}", line())));
    }
    let opened = File::options().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => Failure::unreachable(format!(
            "nobody listens at {shown}: set Environment=MEMORY_PRESSURE_WATCH={shown} and MemoryPressureWatch=skip in \
             the \
             service's unit, and restart it"
        )),
        Some(libc::EACCES) => Failure::refused(format!("may not write to {shown}: {}", line())),
        _ => Failure::unreachable(format!("cannot open {shown}: {error}")),
    })?;
    match file.metadata() {
        Ok(opened) if opened.file_type().is_fifo() => Ok(file),
        Ok(_) | Err(_) => Err(Failure::unsupported(format!("{shown} is not a FIFO any more"))),
    }
}

/// Returns when the service has taken the byte.
///
/// # Errors
/// Where it does not within the deadline.
pub async fn tell(path: &Path) -> Result<(), Failure> {
    let mut file = open(path)?;
    // What the service itself has written there when it opened it (MEMORY_PRESSURE_WRITE), or an earlier byte.
    drain(path);
    let shown = path.display();
    file.write_all(b"1").map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::unreachable(format!("nobody listens at {shown} any more")),
        io::ErrorKind::WouldBlock => Failure::timed_out(format!("{shown} is full, and may not be read to be emptied")),
        _ => Failure::unreachable(format!("cannot write to {shown}: {error}")),
    })?;
    let until = Instant::now() + DEADLINE;
    while waiting(&file).is_some_and(|bytes| bytes > 0) {
        if Instant::now() > until {
            // Whoever takes it an hour later would give back memory for nothing.
            drain(path);
            return Err(Failure::timed_out(format!(
                "the listener at {shown} took no notice within {} ms: is it stopped?",
                DEADLINE.as_millis()
            )));
        }
        sleep(POLL).await;
    }
    Ok(())
}

fn waiting(file: &File) -> Option<i32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    Errno::result(answer).ok().map(|_| bytes)
}

/// Where it may not be read, it stays as it is.
fn drain(path: &Path) {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path);
    let Ok(mut file) = opened else { return };
    let mut bytes = [0_u8; 4096];
    for _ in 0..PIPE_BYTES / bytes.len() {
        if !file.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {
            return;
        }
    }
}
