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

use crate::policy::action::pause_after;
use crate::policy::moment::Moment;

/// A manager that reads nothing gets this many messages when it reads again: the newest.
const MOST_UNSENT: usize = 8;
/// A manager that is started anew has its socket again within seconds, and waits for the watchdog.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Notifier {
    manager: Option<Manager>,
    /// Half of what the manager waits, as sd_watchdog_enabled(3) advises.
    watchdog: Option<Duration>,
    fed: Option<Moment>,
    status: String,
    /// What the manager had no room for.
    unsent: VecDeque<String>,
    /// It cannot be told; how often that was tried again, and when next.
    fails: Option<Fails>,
    complained: bool,
}

#[derive(Debug, Default)]
struct Fails {
    tries: u32,
    due: Option<Moment>,
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
            fails: None,
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
        self.try_again(now);
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
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        // What it will hear anyway: the watchdog's food must not push out that we are ready.
        if !self.unsent.contains(&lines) {
            if self.unsent.len() == MOST_UNSENT {
                self.unsent.pop_front();
            }
            self.unsent.push_back(lines);
        }
        self.send_again();
    }

    /// A socket that was replaced is found by its name again: nothing is lost but time.
    fn try_again(&mut self, now: Moment) {
        if self.fails.as_ref().is_some_and(|fails| fails.due.is_some_and(|due| now < due)) {
            return;
        }
        self.send_again();
        if let Some(fails) = &mut self.fails {
            fails.due = Some(now + pause_after(fails.tries).min(LONGEST_PAUSE));
            fails.tries += 1;
        }
    }

    /// In their order, as far as the manager has room.
    fn send_again(&mut self) {
        while let (Some(manager), Some(lines)) = (&self.manager, self.unsent.front()) {
            match manager.send(lines) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.complain(&error),
                Err(error) => {
                    self.fails.get_or_insert_default();
                    return self.complain(&error);
                }
                Ok(()) => self.hears(),
            }
            self.unsent.pop_front();
        }
    }

    fn hears(&mut self) {
        if self.fails.take().is_some() {
            self.complained = false;
            tracing::info!("the service manager can be notified again");
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.complained {
            self.complained = true;
            tracing::warn!(%error, "the service manager cannot be notified, which is tried again; look at \
                                    NOTIFY_SOCKET");
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
