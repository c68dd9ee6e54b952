//! The one thread for what must not delay a tick: asking file systems how full they are, following mounts, listing
//! processes, dumping sockets, the inventory. It hands numbers over through `Shared` and never makes the sampler wait.
//!
//! A file system that hangs takes this thread with it. The sampler notices (`Slow::attend`), leaves the thread where it
//! is, and starts another one, which passes that mount over until the first comes back: one stuck thread per hung mount
//! at most. The threads inherit the scheduling of the thread that starts them: a real-time loop must set
//! SCHED_RESET_ON_FORK.

use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use super::place::Place;
use super::post::{Post, Probe, Seat};
use super::round::Worker;
use super::shared::Shared;
use crate::config::settings::Sampling;

/// 16 KiB were seen to suffice for all that it does, in a build without optimisation. Small, since a locked process
/// pays for all of it.
const STACK_BYTES: usize = 64 * 1024;

/// The sampler's end.
pub struct Slow {
    post: Arc<Post>,
    thread: Option<Thread>,
}

impl Slow {
    #[must_use]
    pub fn start(sampling: &Sampling, place: Arc<Place>, probe: Probe) -> Self {
        let post = Arc::new(Post::new(sampling, place, probe));
        let thread = spawn(&post, 0);
        Self { post, thread }
    }

    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.post.shared
    }

    /// Milliseconds of the clock by which this thread dates what it finds out.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.post.now_ms()
    }

    /// False where the thread could not be started; it is tried again by [`Slow::attend`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.is_some()
    }

    /// How often space and ports are looked at, where something is amiss with them. Wakes the thread where it may be late.
    pub fn hasten(&self, space: Option<Duration>, ports: Option<Duration>) {
        let Shared { space_every, ports_every, .. } = &self.post.shared;
        let sooner = [space_every.set(space), ports_every.set(ports)];
        if sooner.contains(&true)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
    }

    /// Replaces the thread if it is stuck. An atomic load and a look at the clock where it is not.
    pub fn attend(&mut self) {
        let seat = if self.thread.is_some() { Seat::Taken } else { Seat::Vacant };
        if let Some(office) = self.post.relieve(seat) {
            self.thread = spawn(&self.post, office);
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.post.end();
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

fn spawn(post: &Arc<Post>, office: u64) -> Option<Thread> {
    let mut worker = Worker::new(Arc::clone(post), office);
    let body = move || {
        while worker.post.in_office(office) {
            thread::park_timeout(worker.round());
        }
    };
    let spawned = thread::Builder::new().name("slow".to_owned()).stack_size(STACK_BYTES).spawn(body);
    spawned.ok().map(|handle| handle.thread().clone())
}
