//! Waiting for whatever comes first: the timer, the bell of the inbox, or the kernel's word that something stalls.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::clock::Timer;
use crate::host::trigger::{Mended, Stall, Triggers};
use crate::inbox::Inbox;
use crate::policy::moment::Moment;

const TIMER: u64 = 0;
const BELL: u64 = 1;
const FIRST_TRIGGER: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    Timer,
    Bell,
    Stalled(Stall),
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
        let waker = Self { epoll, timer, triggers };
        for (place, trigger) in waker.triggers.fds() {
            waker.watch(place, trigger)?;
        }
        Ok(waker)
    }

    fn watch(&self, place: usize, trigger: BorrowedFd<'_>) -> nix::Result<()> {
        self.epoll.add(trigger, EpollEvent::new(EpollFlags::EPOLLPRI, FIRST_TRIGGER + place as u64))
    }

    /// Arms triggers anew that are no more: what is to be told of them, by name, and why where they are not armed.
    pub fn mend(&mut self, now: Moment) -> Vec<(String, Option<String>)> {
        let mut told = Vec::new();
        for Mended { place, what, why } in self.triggers.mend(now) {
            let watched = self.triggers.fd(place).map_or(Ok(()), |trigger| self.watch(place, trigger));
            if watched.is_err() {
                self.triggers.lose(place);
            }
            told.push((what, why.or_else(|| watched.err().map(|errno| errno.to_string()))));
        }
        told
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
            woken = match event.data() {
                TIMER => {
                    self.timer.expired()?;
                    woken.or(Woken::Timer)
                }
                BELL => woken,
                trigger => self.stalled(trigger, event.events())?.map_or(woken, |stall| woken.or(stall)),
            };
        }
        Ok(woken)
    }

    /// A trigger that is no more would wake us for ever.
    fn stalled(&mut self, trigger: u64, events: EpollFlags) -> nix::Result<Option<Woken>> {
        let place = usize::try_from(trigger - FIRST_TRIGGER).unwrap_or(usize::MAX);
        if !events.contains(EpollFlags::EPOLLERR) {
            return Ok(self.triggers.stall(place).map(Woken::Stalled));
        }
        self.triggers.fd(place).map_or(Ok(()), |fd| self.epoll.delete(fd))?;
        self.triggers.lose(place);
        Ok(None)
    }
}

impl Woken {
    /// The more urgent of two reasons: memory, any other stall, the timer, the bell.
    fn or(self, other: Woken) -> Woken {
        if other.urgency() > self.urgency() { other } else { self }
    }

    const fn urgency(self) -> u8 {
        match self {
            Woken::Bell => 0,
            Woken::Timer => 1,
            Woken::Stalled(Stall::Io | Stall::Cpu) => 2,
            Woken::Stalled(Stall::Memory) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::inbox;

    /// The kernel says of both that nothing will ever come of it: a trigger that it ended, and a pipe that nobody reads.
    fn ended() -> File {
        let (_, writer) = io::pipe().unwrap();
        OwnedFd::from(writer).into()
    }

    #[test]
    fn a_trigger_that_is_no_more_wakes_nobody_and_is_armed_anew() {
        let proc = Path::new("/proc/pressure/memory");
        let (_door, inbox) = inbox::open().unwrap();
        let is_granted = Triggers::arm(Path::new("/proc")).fds().count() == 3;
        let mut waker = Waker::new(&inbox, Triggers::holding(Stall::Memory, proc, ended())).unwrap();
        let now = clock::now().unwrap();
        assert_eq!(waker.mend(now), [], "it seems well");
        assert_eq!(waker.wait(), Ok(Woken::Bell));
        waker.arm(now + Duration::from_millis(20)).unwrap();
        assert_eq!(waker.wait(), Ok(Woken::Timer), "and no other time");
        let told = waker.mend(now);
        assert!(matches!(&told[..], [(what, Some(_))] if what == "trigger on /proc/pressure/memory"), "{told:?}");
        assert_eq!(waker.mend(now + Duration::from_millis(900)), [], "told once, and not tried yet");
        let told = waker.mend(now + Duration::from_secs(1));
        let wanted = is_granted.then(|| ("trigger on /proc/pressure/memory".to_owned(), None));
        assert_eq!(told, wanted.into_iter().collect::<Vec<_>>());
        waker.arm(now + Duration::from_millis(40)).unwrap();
        assert!(waker.wait().is_ok_and(|woken| woken != Woken::Bell), "what was armed anew is a trigger");
        assert_eq!(waker.mend(now + Duration::from_secs(2)), []);
    }

    #[test]
    fn one_that_never_lasts_is_tried_with_growing_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let mut triggers = Triggers::holding(Stall::Memory, &path, ended());
        triggers.lose(0);
        let now = clock::now().unwrap();
        assert_eq!(triggers.mend(now).len(), 1);
        for second in 1..600 {
            assert_eq!(triggers.mend(now + Duration::from_secs(second)), [], "it is told once");
        }
        assert!(triggers.fd(0).is_none() && triggers.stall(0) == Some(Stall::Memory));
    }
}
