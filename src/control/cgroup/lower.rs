//! Lowering `memory.high` without blocking other controls: a write of it waits until the kernel has reclaimed what is above
//! the new limit. So a thread of its own first reclaims in pieces (`memory.reclaim`, Linux 5.19), and then writes the limit.
//! Raising the limit meanwhile calls that off: a late write would revert the undo.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::folder::Folder;
use super::{CURRENT, HIGH};
use crate::control::failure::Failure;

/// For taking back; what is above the limit then is the kernel's.
const BUDGET: Duration = Duration::from_secs(3);
/// That, and the write itself where a kernel before 6.16 goes on taking back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Native kernels take this back within 30 ms.
const PIECE: u64 = 32 << 20;
const RECLAIM: &str = "memory.reclaim";
const STACK_BYTES: usize = 128 << 10;

/// Of one cgroup: at most one thread lowers it.
#[derive(Default)]
pub struct Lowering {
    /// Whether the newest lowering is not wanted any more. Locked while the limit is being written.
    called_off: Option<Arc<Mutex<bool>>>,
}

impl Lowering {
    /// # Errors
    /// `TimedOut` where the kernel is at it still: the limit may be there or not.
    pub async fn lower(&mut self, folder: Folder, bytes: u64) -> Result<(), Failure> {
        self.call_off()?;
        let called_off = Arc::new(Mutex::new(false));
        self.called_off = Some(Arc::clone(&called_off));
        let (answer, answered) = oneshot::channel();
        let started = thread::Builder::new().name("cgroup".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            // Nobody waits for it any more: then it took too long.
            answer.send(reclaim_and_write(&folder, bytes, &called_off)).ok();
        });
        if let Err(error) = started {
            return Err(Failure::refused(format!("no thread to lower the limit: {error}")));
        }
        match timeout(PATIENCE, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(Failure::timed_out(format!(
                "the kernel has been reclaiming memory of this cgroup for {} s and is not done",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// What is being lowered is not lowered any further.
    ///
    /// # Errors
    /// Where the limit is being written this very moment.
    pub fn call_off(&mut self) -> Result<(), Failure> {
        let Some(called_off) = self.called_off.take() else { return Ok(()) };
        match called_off.try_lock() {
            Ok(mut called_off) => *called_off = true,
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = true,
            Err(TryLockError::WouldBlock) => {
                self.called_off = Some(Arc::clone(&called_off));
                return Err(Failure::timed_out(
                    "the kernel is still lowering the limit of this cgroup; this is tried again",
                ));
            }
        }
        Ok(())
    }
}

impl Drop for Lowering {
    fn drop(&mut self) {
        // Being written, it is in the journal.
        self.call_off().ok();
    }
}

/// Under its own name, by which the build groups code: not the thread's.
#[inline(never)]
fn reclaim_and_write(folder: &Folder, bytes: u64, called_off: &Mutex<bool>) -> Result<(), Failure> {
    let until = Instant::now() + BUDGET;
    let is_off = || *called_off.lock().unwrap_or_else(PoisonError::into_inner);
    while !is_off() && Instant::now() < until {
        let above = current(folder)?.saturating_sub(bytes);
        // It gave what it could (EAGAIN), or there is no such file.
        if above == 0 || !takes_back(folder, above.min(PIECE)) {
            break;
        }
    }
    let called_off = called_off.lock().unwrap_or_else(PoisonError::into_inner);
    if *called_off {
        return Err(Failure::timed_out("called off while memory was being reclaimed"));
    }
    folder.write(HIGH, &bytes.to_string())
}

fn takes_back(folder: &Folder, bytes: u64) -> bool {
    match folder.put(RECLAIM, &bytes.to_string()) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::Interrupted,
    }
}

/// What the cgroup uses.
pub fn current(folder: &Folder) -> Result<u64, Failure> {
    let text = folder.read(CURRENT)?;
    text.trim().parse().map_err(|_| Failure::unsupported(format!("{CURRENT} is no number: {}", text.trim())))
}
