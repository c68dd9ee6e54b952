//! A listening socket that the service manager made before us (systemd's `node-guardian.socket`): nobody can be first at
//! the port then. It counts only where it is what `http.listen` asks for.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::sockopt::{AcceptConn, SockType as KindOf};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt};

/// The first of those handed over that listens at this address.
///
/// # Errors
/// What is wrong with those that were handed over, where none does.
pub fn take(wanted: SocketAddr) -> Result<Option<TcpListener>, String> {
    let mut wrong = None;
    for fd in sd_notify::listen_fds().map_err(|error| advice(&error.to_string(), wanted))? {
        match adopt(fd, wanted) {
            Ok(listener) => return Ok(Some(listener)),
            Err(why) => wrong = Some(advice(&why, wanted)),
        }
    }
    wrong.map_or(Ok(None), Err)
}

fn advice(why: &str, wanted: SocketAddr) -> String {
    format!(
        "the service manager handed over a socket that is not used: {why}; set ListenStream={wanted} in \
         node-guardian.socket"
    )
}

fn adopt(fd: RawFd, wanted: SocketAddr) -> Result<TcpListener, String> {
    let told = |error: nix::Error| format!("descriptor {fd}: {}", error.desc());
    // SAFETY: it is only looked at, and while the service manager says that it is open, as nobody else has closed it.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_GETFD).map_err(told)?;
    let name: SockaddrStorage = getsockname(fd).map_err(told)?;
    if !matches!(name.family(), Some(AddressFamily::Inet | AddressFamily::Inet6)) {
        return Err(format!("descriptor {fd} is not a TCP socket ({})", family(&name)));
    }
    if getsockopt(&borrowed, KindOf).map_err(told)? != SockType::Stream
        || !getsockopt(&borrowed, AcceptConn).map_err(told)?
    {
        return Err(format!("descriptor {fd} does not listen for connections"));
    }
    // SAFETY: the service manager gave it to this process, which takes it once.
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let ready = |listener: TcpListener| -> io::Result<(TcpListener, SocketAddr)> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) = ready(listener).map_err(|error| format!("descriptor {fd}: {error}"))?;
    if address == wanted { Ok(listener) } else { Err(format!("it listens at {address}")) }
}

fn family(name: &SockaddrStorage) -> String {
    name.family().map_or_else(|| "of no known family".to_owned(), |family| format!("{family:?}"))
}
