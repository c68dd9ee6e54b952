//! A connection to a unix socket or over TCP, one type for both.

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Peer;
use crate::control::failure::{Failure, connecting};
use crate::control::target::Address;

pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

impl Stream {
    pub async fn dial(address: &Address) -> Result<Self, Failure> {
        match address {
            Address::Unix(path) => {
                let connected = UnixStream::connect(path).await;
                connected.map(Stream::Unix).map_err(|error| connecting("the service", path, &error))
            }
            Address::Tcp(host) => {
                let stream = TcpStream::connect(host).await.map_err(|error| {
                    Failure::unreachable(format!("cannot connect to {host}: {error}; is the service running there?"))
                })?;
                // An answer waits for nothing: only a matter of speed where it is refused.
                stream.set_nodelay(true).ok();
                Ok(Stream::Tcp(stream))
            }
        }
    }

    pub fn io(&mut self) -> &mut dyn Io {
        match self {
            Stream::Unix(stream) => stream,
            Stream::Tcp(stream) => stream,
        }
    }

    pub fn boxed(self) -> Box<dyn Io> {
        match self {
            Stream::Unix(stream) => Box::new(stream),
            Stream::Tcp(stream) => Box::new(stream),
        }
    }

    pub fn peer(&self) -> Option<Peer> {
        match self {
            Stream::Unix(stream) => Peer::of(stream),
            Stream::Tcp(_) => None,
        }
    }

    /// Nothing came that was not asked for, the end neither.
    pub fn is_quiet(&self) -> bool {
        let descriptor: RawFd = match self {
            Stream::Unix(stream) => stream.as_raw_fd(),
            Stream::Tcp(stream) => stream.as_raw_fd(),
        };
        recv(descriptor, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN)
    }
}

pub fn shown(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(host) => host.clone(),
    }
}
