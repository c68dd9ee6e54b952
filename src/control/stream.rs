//! One connection to a service, over a unix socket or TCP, for every kind of control. It bounds what the other end can
//! cost: how many bytes answer one request, and how long the thread that all controls share computes without once waiting.
//! Never decides what an answer means.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::address::Address;
use super::failure::{Failure, connecting};

/// What may come for one request: `show stat` of HAProxy with 20,000 servers. What is kept of it is the reader's.
pub(crate) const MOST_BYTES: usize = 8 << 20;
/// The thread computes twice this long at most before it waits, whatever comes: a tick of the loop takes a fifth of it.
const LONGEST_BREATH: Duration = Duration::from_millis(1);
/// Long enough that the kernel counts it as a wait (`RLIMIT_RTTIME`).
const PAUSE: Duration = Duration::from_millis(1);

/// More came for one request than any answer has.
#[derive(Debug)]
pub(crate) struct TooMuch;

pub(crate) struct Stream {
    io: Either,
    pause: Option<Pin<Box<Sleep>>>,
    /// How much may still come until the next request.
    left: usize,
}

enum Either {
    Unix(UnixStream),
    Tcp(TcpStream),
    #[cfg(any(test, feature = "fuzzing"))]
    Fed(crate::fuzzing::fed::Fed),
}

impl Stream {
    /// `service` is what sentences call it.
    ///
    /// # Errors
    /// Why not, and what to try; `silent` where nothing came of it until then.
    pub(crate) async fn dial(
        service: &str,
        address: &Address,
        until: Instant,
        silent: impl FnOnce() -> Failure,
    ) -> Result<Self, Failure> {
        match timeout_at(until, Self::connect(address)).await {
            Ok(connected) => connected.map_err(|error| connecting(service, address, &error)),
            Err(_) => Err(silent()),
        }
    }

    /// # Errors
    /// As the kernel says.
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(fed) = crate::fuzzing::fed::dial() {
            let io = Either::Fed(fed.ok_or_else(|| io::Error::other("nobody is left in the script"))?);
            return Ok(Self { io, pause: None, left: MOST_BYTES });
        }
        let io = match address {
            Address::Unix(path) => Either::Unix(UnixStream::connect(path).await?),
            Address::Tcp(host) => {
                let stream = TcpStream::connect(host).await?;
                // An answer waits for nothing: only a matter of speed where it is refused.
                stream.set_nodelay(true).ok();
                Either::Tcp(stream)
            }
        };
        Ok(Self { io, pause: None, left: MOST_BYTES })
    }

    /// The process that listens on the unix socket, as it was when it began to. `None` where it is in a namespace out of
    /// sight, or this is TCP.
    pub(crate) fn pid(&self) -> Option<i32> {
        match &self.io {
            Either::Unix(stream) => stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0),
            Either::Tcp(_) => None,
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(_) => None,
        }
    }

    /// Whose the process is that listens on the unix socket.
    pub(crate) fn uid(&self) -> Option<u32> {
        match &self.io {
            Either::Unix(stream) => Some(stream.peer_cred().ok()?.uid()),
            Either::Tcp(_) => None,
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(_) => Some(0),
        }
    }

    pub(crate) const fn tcp(&self) -> Option<&TcpStream> {
        match &self.io {
            Either::Unix(_) => None,
            Either::Tcp(stream) => Some(stream),
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(_) => None,
        }
    }

    /// It runs under this kernel: only a connection of the node with itself has one address at both ends.
    pub(crate) fn is_here(&self) -> bool {
        match &self.io {
            Either::Unix(_) => true,
            Either::Tcp(stream) => {
                let ends = stream.local_addr().ok().zip(stream.peer_addr().ok());
                ends.is_some_and(|(mine, theirs)| mine.ip() == theirs.ip())
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(_) => false,
        }
    }

    /// Nothing came that was not asked for, the end neither.
    pub(crate) fn is_quiet(&self) -> bool {
        recv(self.as_fd().as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN)
    }

    fn breathe(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pause.is_none() && !breath::is_long() {
            return Poll::Ready(());
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
        ready!(pause.as_mut().poll(context));
        self.pause = None;
        Poll::Ready(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.io {
            Either::Unix(stream) => stream.as_fd(),
            Either::Tcp(stream) => stream.as_fd(),
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(fed) => fed.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.breathe(context));
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        }
        let before = into.filled().len();
        let read = match &mut self.io {
            Either::Unix(stream) => Pin::new(stream).poll_read(context, into),
            Either::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(fed) => Pin::new(fed).poll_read(context, into),
        };
        self.left = self.left.saturating_sub(into.filled().len() - before);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.left = MOST_BYTES;
        match &mut self.io {
            Either::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Either::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(fed) => Pin::new(fed).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Either::Unix(stream) => Pin::new(stream).poll_flush(context),
            Either::Tcp(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(fed) => Pin::new(fed).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Either::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Either::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(any(test, feature = "fuzzing"))]
            Either::Fed(fed) => Pin::new(fed).poll_shutdown(context),
        }
    }
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "over {MOST_BYTES} bytes")
    }
}

impl std::error::Error for TooMuch {}

/// Between two pieces of work that may be many: waits where this thread has computed for its share.
pub(crate) async fn breathe() {
    if breath::is_long() {
        sleep(PAUSE).await;
    }
}

/// As text, in the room that the bytes take: what is no UTF-8 would take three times that.
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let plain = |byte: u8| if byte.is_ascii() { byte } else { b'?' };
        let bytes = error.into_bytes().into_iter().map(plain).collect();
        String::from_utf8(bytes).unwrap_or_default()
    })
}

/// The same of what is kept elsewhere.
pub(crate) fn shown(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(text(bytes.to_vec())), Cow::Borrowed)
}

pub fn place(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(host) => host.clone(),
    }
}

/// How long the calling thread has computed since it last waited, as the kernel counts it.
mod breath {
    use std::cell::Cell;
    use std::mem::MaybeUninit;

    use nix::time::{ClockId, clock_gettime};

    use super::{Duration, LONGEST_BREATH};

    thread_local! {
        /// How often it had waited, and how long it had computed.
        static LAST: Cell<(libc::c_long, Duration)> = const { Cell::new((-1, Duration::ZERO)) };
    }

    /// A wait is only looked for once this may be long, so that the usual case is one question: then it is counted from
    /// there, and no breath is longer than twice the bound.
    pub(crate) fn is_long() -> bool {
        let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) else { return false };
        let computed = Duration::from(time);
        LAST.with(|last| {
            let (known, since) = last.get();
            if computed.saturating_sub(since) < LONGEST_BREATH {
                return false;
            }
            let waits = waits();
            last.set((waits, computed));
            waits == known
        })
    }

    fn waits() -> libc::c_long {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: fills a structure of its type; where it cannot, zeroes are a value too.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        usage.ru_nvcsw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_takes_no_more_room_than_it_came_in() {
        let bytes = [&b"STAT "[..], &[0xff; 1000]].concat();
        assert_eq!((shown(&bytes).len(), text(bytes.clone()).len()), (bytes.len(), bytes.len()));
        assert!(matches!(shown("Größe".as_bytes()), Cow::Borrowed("Größe")));
    }
}
