//! The other end of a connection, as a script of bytes: what a service says, cut where the script cuts it. Within a script,
//! these bytes are its own:
//!
//! | byte | means |
//! |---|---|
//! | `0x1f` | this much comes at once; what follows comes later |
//! | `0x1e` n | this much comes 2ⁿ times (n modulo 17), all at once |
//! | `0x1a` n | this much comes 2ⁿ times (n modulo 14), one by one: more would only take longer |
//! | `0x1d` | says nothing from here on, and does not close either |
//! | `0x1c` | closes; what follows is for the next connection, and the last is for all that come after |
//! | `0x1b` | begins what is said to a request: a part of that, `0x1f`, and the answer; asked again, what follows a `0x19` |
//!
//! Without any `0x1b`, a script is said whatever is asked, and then the connection is closed. With one, what is not provided
//! for is never answered.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

const PIECE: u8 = 0x1f;
const MANY: u8 = 0x1e;
const DRIP: u8 = 0x1a;
const SILENT: u8 = 0x1d;
const NEXT: u8 = 0x1c;
const ASKED: u8 = 0x1b;
const AGAIN: u8 = 0x19;

/// Four times what is kept of any answer.
const MOST_BYTES: usize = 1 << 20;
/// As a loaded service answers, and a sender cuts. Without it no time would pass at all.
const LATER: Duration = Duration::from_millis(5);
const BLOCK: usize = 1024;
/// Whoever connects more often is never satisfied.
const MOST_CONNECTIONS: usize = 40;

pub struct Fed {
    script: Vec<u8>,
    /// Where what follows the piece begins.
    next: usize,
    piece: Range<usize>,
    /// How often the piece comes once more.
    again: usize,
    drips: bool,
    /// Of the piece.
    given: usize,
    in_all: usize,
    most_bytes: usize,
    is_silent: bool,
    book: Vec<Answers>,
    /// They are those of all connections.
    shares: bool,
    reader: Option<Waker>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Stands in for a socket.
    descriptor: io::Stdin,
}

/// What is said to requests that have this part.
struct Answers {
    to: Vec<u8>,
    /// The last is said again and again.
    turns: VecDeque<Vec<u8>>,
}

struct Scripts {
    left: VecDeque<Vec<u8>>,
    connections: usize,
    /// Of the script that serves several connections, what is left of its turns.
    book: Vec<Answers>,
}

thread_local! {
    /// Who answers next; `None` where connections are real.
    static SCRIPTS: RefCell<Option<Scripts>> = const { RefCell::new(None) };
}

/// While this runs, whoever connects to a service gets the next of these scripts.
pub fn feed<T>(scripts: &[u8], conversation: impl FnOnce() -> T) -> T {
    let left = scripts.split(|byte| *byte == NEXT).map(<[u8]>::to_vec).collect();
    SCRIPTS.set(Some(Scripts { left, connections: 0, book: Vec::new() }));
    let outcome = conversation();
    SCRIPTS.set(None);
    outcome
}

/// `None` where connections are real; else who answers, if anybody.
pub fn dial() -> Option<Option<Fed>> {
    SCRIPTS.with_borrow_mut(|scripts| {
        let scripts = scripts.as_mut()?;
        scripts.connections += 1;
        if scripts.connections > MOST_CONNECTIONS {
            return Some(None);
        }
        if scripts.left.len() > 1 {
            return Some(scripts.left.pop_front().map(|script| Fed::new(&script)));
        }
        let script = scripts.left.front()?;
        let mut fed = Fed::new(script);
        if scripts.book.is_empty() {
            scripts.book = std::mem::take(&mut fed.book);
        }
        fed.shares = !scripts.book.is_empty();
        Some(Some(fed))
    })
}

impl Fed {
    pub fn new(script: &[u8]) -> Self {
        let mut parts = script.split(|byte| *byte == ASKED);
        let greeting = parts.next().unwrap_or_default().to_vec();
        Self {
            script: greeting,
            next: 0,
            piece: 0..0,
            again: 0,
            drips: false,
            given: 0,
            in_all: 0,
            most_bytes: MOST_BYTES,
            is_silent: false,
            book: parts.map(Answers::new).collect(),
            shares: false,
            reader: None,
            pause: None,
            descriptor: io::stdin(),
        }
    }

    /// What comes again and again comes to this much.
    pub fn at_most(self, most_bytes: usize) -> Self {
        Self { most_bytes, ..self }
    }

    fn waits_to_be_asked(&self) -> bool {
        self.shares || !self.book.is_empty()
    }

    fn asked(&mut self, request: &[u8]) {
        let answer = if self.shares {
            SCRIPTS.with_borrow_mut(|scripts| said(&mut scripts.as_mut()?.book, request))
        } else {
            said(&mut self.book, request)
        };
        let Some(answer) = answer else { return };
        self.script.drain(..self.next.min(self.script.len()));
        (self.next, self.piece, self.given, self.again) = (0, 0..0, 0, 0);
        self.script.extend(answer);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// As much of the piece as there is room for, or of all the times that it comes at once. False where nothing is left.
    fn give(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let before = into.filled().len();
        loop {
            let from = self.piece.start + self.given;
            let taken = (self.piece.end - from).min(into.remaining());
            into.put_slice(&self.script[from..from + taken]);
            self.given += taken;
            if into.remaining() == 0 || self.drips || !self.goes_on() {
                break;
            }
        }
        self.in_all += into.filled().len() - before;
        into.filled().len() > before
    }

    /// The same once more.
    fn goes_on(&mut self) -> bool {
        let is_over = self.given == self.piece.len() && self.again > 0 && !self.piece.is_empty();
        if is_over && self.in_all < self.most_bytes {
            (self.again, self.given) = (self.again - 1, 0);
            return true;
        }
        false
    }

    /// A small piece that comes often is copied a block at a time.
    fn gather(&mut self) {
        let at_once = (BLOCK / self.piece.len().max(1)).min(self.again + 1);
        if at_once > 1 {
            let block = self.script[self.piece.clone()].repeat(at_once);
            self.again = (self.again + 1) / at_once - 1;
            self.script.splice(self.piece.clone(), block);
            let grown = self.piece.len() * (at_once - 1);
            (self.piece.end, self.next) = (self.piece.end + grown, self.next + grown);
        }
    }

    /// Whether there is more to come.
    fn turn(&mut self) -> bool {
        let (from, rest) = (self.next, &self.script[self.next.min(self.script.len())..]);
        if rest.is_empty() {
            return false;
        }
        let length = rest.iter().position(|byte| matches!(*byte, PIECE | MANY | DRIP | SILENT)).unwrap_or(rest.len());
        let times = rest.get(length + 1).copied().unwrap_or_default();
        let (skipped, again) = match rest.get(length) {
            Some(&MANY) => (2, (1 << (times % 17)) - 1),
            Some(&DRIP) => (2, (1 << (times % 14)) - 1),
            Some(_) => (1, 0),
            None => (0, 0),
        };
        self.is_silent = rest.get(length) == Some(&SILENT);
        (self.piece, self.next) = (from..from + length, from + length + skipped);
        (self.given, self.again, self.drips) = (0, again, rest.get(length) == Some(&DRIP));
        if !self.drips {
            self.gather();
        }
        true
    }
}

impl Answers {
    fn new(part: &[u8]) -> Self {
        let cut = part.iter().position(|byte| *byte == PIECE).unwrap_or(part.len());
        let turns = part.get(cut + 1..).unwrap_or_default().split(|byte| *byte == AGAIN).map(<[u8]>::to_vec).collect();
        Self { to: part[..cut].to_vec(), turns }
    }
}

fn said(book: &mut [Answers], request: &[u8]) -> Option<Vec<u8>> {
    let has = |to: &[u8]| to.is_empty() || request.windows(to.len()).any(|part| part == to);
    let answers = book.iter_mut().find(|answers| has(&answers.to))?;
    if answers.turns.len() > 1 { answers.turns.pop_front() } else { answers.turns.front().cloned() }
}

impl AsFd for Fed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsyncRead for Fed {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            if self.give(into) {
                return Poll::Ready(Ok(()));
            }
            if self.goes_on() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let is_first = self.next == 0;
            if self.is_silent || !self.turn() {
                if !self.is_silent && !self.waits_to_be_asked() {
                    return Poll::Ready(Ok(()));
                }
                self.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            if !is_first || self.waits_to_be_asked() {
                self.pause = Some(Box::pin(sleep(LATER)));
            }
        }
    }
}

impl AsyncWrite for Fed {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
