//! The other end of a connection, as a script of bytes: what a service says whatever it is asked, cut where the script cuts
//! it. Within a script, these bytes are its own:
//!
//! | byte | means |
//! |---|---|
//! | `0x1f` | this much comes at once; what follows comes later |
//! | `0x1e` n | this much comes 2ⁿ times (n modulo 17), each at once |
//! | `0x1d` | says nothing from here on, and does not close either |
//! | `0x1c` | closes; what follows is for the next connection |

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PIECE: u8 = 0x1f;
const MANY: u8 = 0x1e;
const SILENT: u8 = 0x1d;
const NEXT: u8 = 0x1c;

/// Four times what is kept of any answer.
const MOST_BYTES: usize = 1 << 20;

pub struct Fed {
    script: Vec<u8>,
    /// Where what follows the piece begins.
    next: usize,
    piece: Range<usize>,
    /// How often the piece comes once more.
    again: usize,
    /// Of the piece.
    given: usize,
    in_all: usize,
    is_silent: bool,
    /// Stands in for a socket.
    descriptor: io::Stdin,
}

thread_local! {
    /// Who answers next; `None` where connections are real.
    static NEXT_ONES: RefCell<Option<VecDeque<Fed>>> = const { RefCell::new(None) };
}

/// While this runs, whoever connects to a service gets the next of these scripts, and nobody after the last.
pub fn feed<T>(scripts: &[u8], conversation: impl FnOnce() -> T) -> T {
    NEXT_ONES.set(Some(scripts.split(|byte| *byte == NEXT).map(Fed::new).collect()));
    let outcome = conversation();
    NEXT_ONES.set(None);
    outcome
}

/// `None` where connections are real; else who answers, if anybody.
pub fn dial() -> Option<Option<Fed>> {
    NEXT_ONES.with_borrow_mut(|next| Some(next.as_mut()?.pop_front()))
}

impl Fed {
    pub fn new(script: &[u8]) -> Self {
        Self {
            script: script.to_vec(),
            next: 0,
            piece: 0..0,
            again: 0,
            given: 0,
            in_all: 0,
            is_silent: false,
            descriptor: io::stdin(),
        }
    }

    /// Whether there is more to come.
    fn turn(&mut self) -> bool {
        let (from, rest) = (self.next, &self.script[self.next.min(self.script.len())..]);
        if rest.is_empty() {
            return false;
        }
        let length = rest.iter().position(|byte| matches!(*byte, PIECE | MANY | SILENT)).unwrap_or(rest.len());
        let times = rest.get(length + 1).copied().unwrap_or_default();
        let (skipped, again) = match rest.get(length) {
            Some(&MANY) => (2, (1 << (times % 17)) - 1),
            Some(_) => (1, 0),
            None => (0, 0),
        };
        self.is_silent = rest.get(length) == Some(&SILENT);
        (self.piece, self.next) = (from..from + length, from + length + skipped);
        (self.given, self.again) = (0, again);
        true
    }
}

impl AsFd for Fed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsyncRead for Fed {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let rest = self.piece.start + self.given..self.piece.end;
            if !rest.is_empty() {
                let taken = rest.len().min(into.remaining());
                into.put_slice(&self.script[rest.start..rest.start + taken]);
                self.given += taken;
                self.in_all += taken;
                return Poll::Ready(Ok(()));
            }
            if self.again > 0 && self.in_all < MOST_BYTES && !self.piece.is_empty() {
                (self.again, self.given) = (self.again - 1, 0);
                continue;
            }
            let is_first = self.next == 0;
            if self.is_silent && cfg!(feature = "fuzzing") {
                return Poll::Pending;
            }
            if self.is_silent || !self.turn() {
                return Poll::Ready(Ok(()));
            }
            if !is_first {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Fed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
