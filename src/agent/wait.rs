//! Waiting for whatever comes first: the timer, the bell of the inbox, or the kernel's word that something stalls.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::clock::Timer;
use crate::host::trigger::{Kind, Triggers};
use crate::inbox::Inbox;
use crate::policy::moment::Moment;

const TIMER: u64 = 0;
const BELL: u64 = 1;
const FIRST_TRIGGER: u64 = 2;

/// A later one outranks an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Woken {
    Bell,
    Timer,
    /// Tasks wait for a CPU or a disk: worth a look now.
    Queue,
    /// Memory is short: worth a close watch.
    Stall,
}

pub struct Waker {
    epoll: Epoll,
    timer: Timer,
    triggers: Triggers,
}

impl Waker {
    /// # Errors
    /// When the kernel gives no descriptors.
    pub fn new(inbox: &Inbox, triggers: Triggers) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = Timer::new()?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        epoll.add(inbox.bell(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        for (index, trigger) in triggers.fds().enumerate() {
            epoll.add(trigger, EpollEvent::new(EpollFlags::EPOLLPRI, FIRST_TRIGGER + index as u64))?;
        }
        Ok(Self { epoll, timer, triggers })
    }

    /// # Errors
    /// When the kernel refuses the moment.
    pub fn arm(&mut self, due: Moment) -> nix::Result<()> {
        self.timer.arm(due)
    }

    /// # Errors
    /// When the kernel refuses to wait.
    pub fn wait(&mut self) -> nix::Result<Woken> {
        let mut events = [EpollEvent::empty(); 8];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => return Ok(Woken::Bell),
            Err(errno) => return Err(errno),
        };
        let mut woken = Woken::Bell;
        for event in &events[..count] {
            match event.data() {
                TIMER => {
                    self.timer.expired()?;
                    woken = woken.max(Woken::Timer);
                }
                BELL => {}
                trigger if event.events().contains(EpollFlags::EPOLLERR) => self.forget(trigger)?,
                trigger => woken = woken.max(self.told_by(trigger)),
            }
        }
        Ok(woken)
    }

    fn told_by(&self, trigger: u64) -> Woken {
        match self.triggers.kind(index_of(trigger)) {
            Some(Kind::Queue) => Woken::Queue,
            Some(Kind::Stall) | None => Woken::Stall,
        }
    }

    /// A trigger that is no more would wake us for ever.
    fn forget(&self, trigger: u64) -> nix::Result<()> {
        match self.triggers.fds().nth(index_of(trigger)) {
            Some(fd) => self.epoll.delete(fd.as_fd()),
            None => Ok(()),
        }
    }
}

fn index_of(trigger: u64) -> usize {
    usize::try_from(trigger - FIRST_TRIGGER).unwrap_or(usize::MAX)
}
