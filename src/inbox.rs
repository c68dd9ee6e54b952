//! The one way into the loop for other threads: a queue with a descriptor that wakes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::policy::mitigation::{ActionId, Report};
use crate::status::ControlView;

#[derive(Debug)]
pub enum Message {
    /// The answer to a command.
    Report(Report),
    /// What a probe found out about a control.
    Probed(ControlView),
    /// An operator wants these reverted now; all of them where none is named.
    Release(Vec<ActionId>),
    Reload,
    Stop,
    /// Print the status to the log.
    Describe,
}

/// Cloned by whoever has something to tell the loop.
#[derive(Clone, Debug)]
pub struct Door {
    queue: mpsc::Sender<Message>,
    bell: Arc<EventFd>,
}

#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Message>,
    bell: Arc<EventFd>,
}

/// # Errors
/// When the kernel gives no descriptor.
pub fn open() -> nix::Result<(Door, Inbox)> {
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let (sender, receiver) = mpsc::channel();
    Ok((Door { queue: sender, bell: Arc::clone(&bell) }, Inbox { queue: receiver, bell }))
}

impl Door {
    /// False when the loop has ended.
    #[must_use]
    pub fn tell(&self, message: Message) -> bool {
        self.queue.send(message).is_ok() && self.bell.write(1).is_ok()
    }
}

impl Inbox {
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell; call it before taking the messages.
    pub fn hush(&self) {
        // An empty counter answers EAGAIN, which is just as silent.
        self.bell.read().ok();
    }

    #[must_use]
    pub fn take(&self) -> Option<Message> {
        self.queue.try_recv().ok()
    }
}
