//! What the service manager hears of us: ready, reloading, stopping, one line of status, and the watchdog, which is fed
//! by the loop's own ticks so that a loop that hangs is noticed. Silent where no manager listens; never fails the caller.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::policy::moment::Moment;

#[derive(Debug)]
pub struct Notifier {
    /// Half of what the manager waits, as sd_watchdog_enabled(3) advises.
    watchdog: Option<Duration>,
    fed: Option<Moment>,
    status: String,
    complained: bool,
}

impl Notifier {
    /// Listens to `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    #[must_use]
    pub fn from_environment() -> Self {
        let watchdog = sd_notify::watchdog_enabled().filter(|whole| !whole.is_zero()).map(|whole| whole / 2);
        Self { watchdog, fed: None, status: String::new(), complained: false }
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

    /// Called by the loop after each tick.
    pub fn tick(&mut self, now: Moment) {
        let Some(interval) = self.watchdog else { return };
        if self.fed.is_none_or(|fed| now.since(fed) >= interval) {
            self.fed = Some(now);
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&mut self, states: &[NotifyState]) {
        if let Err(error) = sd_notify::notify(states) {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.complained {
            self.complained = true;
            tracing::warn!(%error, "the service manager cannot be told; look at NOTIFY_SOCKET");
        }
    }
}
