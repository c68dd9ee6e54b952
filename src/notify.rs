//! What the service manager hears of us: ready, reloading, stopping, one line of status, and the watchdog, which is fed
//! by the loop's own ticks, while the other threads live, so that one that hangs is noticed. Silent where no manager listens; never
//! fails the caller, and never waits for a manager that reads nothing.

use std::collections::VecDeque;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::policy::moment::Moment;

/// A manager that reads nothing gets this many messages when it reads again: the newest.
const MOST_UNSENT: usize = 8;

#[derive(Debug)]
pub struct Notifier {
    manager: Option<Manager>,
    /// Half of what the manager waits, as sd_watchdog_enabled(3) advises.
    watchdog: Option<Duration>,
    fed: Option<Moment>,
    status: String,
    /// What the manager had no room for.
    unsent: VecDeque<String>,
    complained: bool,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Listens to `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    #[must_use]
    pub fn from_environment() -> Self {
        let watchdog = sd_notify::watchdog_enabled().filter(|whole| !whole.is_zero()).map(|whole| whole / 2);
        let mut notifier = Self {
            manager: None,
            watchdog,
            fed: None,
            status: String::new(),
            unsent: VecDeque::new(),
            complained: false,
        };
        match Manager::from_environment().transpose() {
            Ok(manager) => notifier.manager = manager,
            Err(error) => notifier.complain(&error),
        }
        notifier
    }

    /// The loop must call [`Notifier::tick`] at least this often.
    #[must_use]
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Also ends a reload.
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Sent only when it differs from the last one.
    pub fn status(&mut self, status: &str) {
        if status != self.status {
            status.clone_into(&mut self.status);
            self.tell(&[NotifyState::Status(status)]);
        }
    }

    /// Must be followed by [`Notifier::ready`], whether the new configuration was taken or not.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => self.complain(&error),
        }
    }

    pub fn stopping(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Called by the loop after each tick, unless another thread hangs.
    pub fn tick(&mut self, now: Moment) {
        self.send_again();
        let Some(interval) = self.watchdog else { return };
        if self.fed.is_none_or(|fed| now.since(fed) >= interval) {
            self.fed = Some(now);
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&mut self, states: &[NotifyState]) {
        if self.manager.is_none() {
            return;
        }
        self.send_again();
        if self.unsent.len() == MOST_UNSENT {
            self.unsent.pop_front();
        }
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        self.unsent.push_back(lines);
        self.send_again();
    }

    /// In their order, as far as the manager has room.
    fn send_again(&mut self) {
        while let (Some(manager), Some(lines)) = (&self.manager, self.unsent.front()) {
            match manager.send(lines) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.complain(&error),
                Ok(()) => {}
            }
            self.unsent.pop_front();
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.complained {
            self.complained = true;
            tracing::warn!(%error, "the service manager cannot be told; look at NOTIFY_SOCKET");
        }
    }
}

impl Manager {
    fn from_environment() -> Option<io::Result<Self>> {
        let name = env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        Some(address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(Self { socket, address })
        }))
    }

    fn send(&self, lines: &str) -> io::Result<()> {
        self.socket.send_to_addr(lines.as_bytes(), &self.address).map(drop)
    }
}
