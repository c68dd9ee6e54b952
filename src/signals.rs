//! Signals to messages. A handler sets a bit and rings the loop's bell, no more: no thread waits for signals, and none
//! is lost between two ticks. Never acts on a signal itself, except that a second request to stop ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

use crate::inbox::{Door, Urgent};

/// What a shell reports of a process that a signal ended is 128 and the signal's number.
const ENDED_BY_SIGNAL: i32 = 128;

/// `SIGTERM`, `SIGINT` stop; once the loop has set the answer, which it does half a second into a stop, a further one exits
/// at once. `SIGHUP` reloads, `SIGUSR1` describes.
/// `SIGPIPE` is ignored by Rust's runtime already.
///
/// # Errors
/// When the kernel refuses a handler.
pub fn install(door: &Door) -> io::Result<Arc<AtomicBool>> {
    let impatience = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, ENDED_BY_SIGNAL + signal, Arc::clone(&impatience))?;
        raise_on(signal, door, Urgent::Stop)?;
    }
    raise_on(SIGHUP, door, Urgent::Reload)?;
    raise_on(SIGUSR1, door, Urgent::Describe)?;
    Ok(impatience)
}

fn raise_on(signal: i32, door: &Door, urgent: Urgent) -> io::Result<()> {
    let door = door.clone();
    // SAFETY: `raise` is an atomic operation and a write(2), both allowed in a signal handler.
    unsafe { low_level::register(signal, move || door.raise(urgent)) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::ptr;

    use super::*;
    use crate::inbox::{self, Message};

    #[test]
    fn signals_come_through_the_door() {
        let (door, inbox) = inbox::open().unwrap();
        install(&door).unwrap();
        for signal in [SIGHUP, SIGUSR1, SIGTERM] {
            low_level::raise(signal).unwrap();
        }
        assert!(matches!(inbox.take(), Some(Message::Stop)));
        assert!(matches!(inbox.take(), Some(Message::Reload)));
        assert!(matches!(inbox.take(), Some(Message::Describe)));
        assert!(inbox.take().is_none());
    }

    #[test]
    fn a_reader_who_hangs_up_does_not_end_us() {
        let mut now = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: asks for the disposition alone, into memory of the right type.
        let disposition = unsafe {
            assert_eq!(libc::sigaction(libc::SIGPIPE, ptr::null(), now.as_mut_ptr()), 0);
            now.assume_init().sa_sigaction
        };
        assert_eq!(disposition, libc::SIG_IGN);
    }
}
