//! The one way into the loop for other threads: a queue with a descriptor that wakes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use tokio::sync::oneshot;

use crate::control::service::Numbers;
use crate::drill::DrillView;
use crate::events::Daemon;
use crate::journal::Before;
use crate::keeper::Heard;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{ActionId, Report};
use crate::policy::orders::Hold;
use crate::status::ControlView;

#[derive(Debug)]
pub enum Message {
    /// The answer to a command.
    Report(Report),
    /// What a probe found out about a control.
    Probed(ControlView),
    /// What a service reports of itself, as asked; empty where it could not be.
    Numbers {
        control: Arc<str>,
        numbers: Numbers,
    },
    /// Something that cannot be taken back is about to be done: is it wanted still, by a fresh look at the node?
    Ask {
        id: ActionId,
        reply: oneshot::Sender<bool>,
    },
    /// What a service has to give, as asked; all of it unknown where it could not be.
    Gives {
        control: Arc<str>,
        gives: Gives,
    },
    /// The journal cannot be written: what it does not know, and why.
    JournalFailed(String),
    /// Nothing can be recorded, and why; told again where the reason changes.
    JournalTrouble(String),
    /// There was no journal, now there is; with what it holds that was not known.
    JournalFound(Box<Before>),
    /// It can be written again.
    JournalWorks,
    /// Something of the guardian's own that cannot be had, a port or a file, and why; no reason: it can be had again.
    Lacking {
        what: String,
        why: Option<String>,
    },
    /// Something for the trail that another thread saw.
    Record(Daemon),
    /// An operator's word, and whose it is: `uid 0 (root)`, `token`.
    Order {
        order: Order,
        by: Arc<str>,
        /// Who waits until it is durable.
        heard: Heard,
    },
    /// An operator wants to see that everything can be undone.
    Drill(Drilling),
    Reload,
    Stop,
    /// Print the status to the log.
    Describe,
}

/// What an operator asks for. Where no action is named, all are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Take these back now, and let no rule do them again for a while.
    Undo(Vec<ActionId>),
    /// Give up what is owed: it stays as it is.
    Forget(Vec<ActionId>),
    /// No new actions for so long.
    Pause { lasts: Duration, hold: Hold },
    /// End a pause, and give back what was undone.
    Resume(Vec<ActionId>),
}

/// Which controls to drill, or only to say what that would be; and who waits for the answer.
#[derive(Debug)]
pub struct Drilling {
    /// All of them where none is named.
    pub controls: Vec<String>,
    pub only_plan: bool,
    /// The plan, or why not now.
    pub reply: oneshot::Sender<Result<DrillView, String>>,
}

/// What may come from a signal handler: bits, since a handler may neither allocate nor lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgent {
    Stop,
    Reload,
    Describe,
}

impl Urgent {
    /// In the order in which they are taken.
    const ALL: [Urgent; 3] = [Urgent::Stop, Urgent::Reload, Urgent::Describe];

    const fn bit(self) -> u8 {
        match self {
            Urgent::Stop => 1,
            Urgent::Reload => 2,
            Urgent::Describe => 4,
        }
    }

    const fn message(self) -> Message {
        match self {
            Urgent::Stop => Message::Stop,
            Urgent::Reload => Message::Reload,
            Urgent::Describe => Message::Describe,
        }
    }
}

#[derive(Debug)]
struct Bell {
    wake: EventFd,
    urgent: AtomicU8,
}

/// Cloned by whoever has something to tell the loop.
#[derive(Clone, Debug)]
pub struct Door {
    queue: mpsc::Sender<Message>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Message>,
    bell: Arc<Bell>,
}

/// # Errors
/// When the kernel gives no descriptor.
pub fn open() -> nix::Result<(Door, Inbox)> {
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
    let bell = Arc::new(Bell { wake, urgent: AtomicU8::new(0) });
    let (sender, receiver) = mpsc::channel();
    Ok((Door { queue: sender, bell: Arc::clone(&bell) }, Inbox { queue: receiver, bell }))
}

impl Door {
    /// False when the loop has ended.
    #[must_use]
    pub(crate) fn tell(&self, message: Message) -> bool {
        self.queue.send(message).is_ok() && self.bell.wake.write(1).is_ok()
    }

    /// For signal handlers: one atomic operation and one system call. Said twice before it is heard, it counts once.
    pub(crate) fn raise(&self, urgent: Urgent) {
        self.bell.urgent.fetch_or(urgent.bit(), Ordering::SeqCst);
        // A counter that is full has been rung.
        self.bell.wake.write(1).ok();
    }
}

impl Inbox {
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.wake.as_fd()
    }

    /// Wakes the loop again, for messages that it has left.
    pub(crate) fn ring(&self) {
        // A counter that is full has been rung.
        self.bell.wake.write(1).ok();
    }

    /// Silences the bell; call it before taking the messages.
    pub fn hush(&self) {
        // An empty counter answers EAGAIN, which is just as silent.
        self.bell.wake.read().ok();
    }

    /// What is urgent comes first.
    #[must_use]
    pub fn take(&self) -> Option<Message> {
        self.urgent().map(Urgent::message).or_else(|| self.queue.try_recv().ok())
    }

    fn urgent(&self) -> Option<Urgent> {
        let raised = self.bell.urgent.load(Ordering::SeqCst);
        let first = Urgent::ALL.into_iter().find(|urgent| raised & urgent.bit() != 0)?;
        self.bell.urgent.fetch_and(!first.bit(), Ordering::SeqCst);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn rings(inbox: &Inbox) -> bool {
        poll(&mut [PollFd::new(inbox.bell(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn what_is_urgent_comes_first_and_once() {
        let (door, inbox) = open().unwrap();
        assert!(!rings(&inbox));
        let (heard, _hears) = oneshot::channel();
        assert!(door.tell(Message::Order { order: Order::Undo(Vec::new()), by: "token".into(), heard }));
        door.raise(Urgent::Describe);
        door.raise(Urgent::Stop);
        door.raise(Urgent::Stop);
        assert!(rings(&inbox));
        inbox.hush();
        assert!(!rings(&inbox));
        assert!(matches!(inbox.take(), Some(Message::Stop)));
        assert!(matches!(inbox.take(), Some(Message::Describe)));
        assert!(matches!(inbox.take(), Some(Message::Order { .. })));
        assert!(inbox.take().is_none());
    }

    #[test]
    fn a_door_to_nobody_says_so() {
        let (door, inbox) = open().unwrap();
        drop(inbox);
        assert!(!door.tell(Message::Stop));
    }
}
