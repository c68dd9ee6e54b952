//! Files that a program serves (FUSE) are opened and read by a thread of their own, so that only that one hangs with it. The
//! sampler waits for it within a bound, and not at all before it answered again. Where no such file is, there is no thread.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::read::{BUFFER_BYTES, Shape, fill};
use crate::policy::moment::Moment;
use crate::privilege::{Urgency, schedule_in_real_time};

/// What one sample waits at most, for all such files together. lxcfs takes some 0.1 ms for each; on a busy node it has to
/// wait for its turn.
pub const PATIENCE: Duration = Duration::from_millis(250);

const STACK_BYTES: usize = 64 * 1024;

/// The sampler's end.
#[derive(Debug, Default)]
pub struct Apart {
    desk: Option<Desk>,
    /// Of this sample so much is left to wait.
    at: Option<Moment>,
    left: Duration,
}

#[derive(Debug)]
struct Desk {
    orders: SyncSender<Job>,
    answers: Receiver<(Job, io::Result<usize>)>,
    /// Nobody knows when it will be.
    is_waited_for: bool,
}

#[derive(Debug)]
struct Job {
    path: Arc<Path>,
    shape: Shape,
    buffer: Vec<u8>,
}

impl Apart {
    /// Reads all of the file into the buffer, which may come back as another one. `TimedOut` where whoever serves it does not
    /// answer.
    pub fn read(&mut self, path: &Arc<Path>, shape: Shape, now: Moment, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if self.at.replace(now) != Some(now) {
            self.left = PATIENCE;
        }
        let desk = match &mut self.desk {
            Some(desk) => desk,
            none => none.insert(Desk::open()?),
        };
        let began = Instant::now();
        let read = desk.read(path, shape, self.left, buffer);
        self.left = self.left.saturating_sub(began.elapsed());
        // What it was to be read into may still be away.
        buffer.resize(buffer.len().max(BUFFER_BYTES), 0);
        read
    }
}

impl Desk {
    fn open() -> io::Result<Self> {
        let (orders, jobs) = sync_channel::<Job>(1);
        let (tell, answers) = sync_channel(1);
        let work = move || {
            // It is waited for. Where refused, the loop tells it of itself.
            let _refused = schedule_in_real_time(Urgency::Acting);
            let mut files: Vec<(Arc<Path>, Option<File>)> = Vec::new();
            for mut job in jobs {
                let at = files.iter().position(|(path, _)| *path == job.path).unwrap_or_else(|| {
                    files.push((Arc::clone(&job.path), None));
                    files.len() - 1
                });
                let read = fill(&job.path, &mut files[at].1, job.shape, &mut job.buffer);
                if tell.send((job, read)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("apart".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { orders, answers, is_waited_for: false })
    }

    fn read(&mut self, path: &Arc<Path>, shape: Shape, within: Duration, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_waited_for {
            match self.answers.try_recv() {
                // From whenever it was: the file is read anew.
                Ok(_late) => self.is_waited_for = false,
                Err(TryRecvError::Empty) => return Err(silent()),
                Err(TryRecvError::Disconnected) => return Err(gone()),
            }
        }
        let job = Job { path: Arc::clone(path), shape, buffer: std::mem::take(buffer) };
        self.orders.send(job).map_err(|_| gone())?;
        match self.answers.recv_timeout(within) {
            Ok((job, read)) => {
                *buffer = job.buffer;
                read
            }
            Err(_) => {
                self.is_waited_for = true;
                Err(silent())
            }
        }
    }
}

fn silent() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn gone() -> io::Error {
    io::Error::other("the thread that reads it has ended")
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn who_does_not_answer_is_waited_for_once_and_not_before_it_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Arc::<Path>::from(folder.path().join(name));
        let (plain, silent) = (path("plain"), path("silent"));
        std::fs::write(&plain, "12345").unwrap();
        mkfifo(&*silent, Mode::S_IRWXU).unwrap();
        let (mut apart, mut buffer) = (Apart::default(), vec![0; 16]);
        let at = |second| Moment::at(Duration::from_secs(second));
        let mut read = |path: &Arc<Path>, second| {
            let began = Instant::now();
            let read = apart.read(path, Shape::Whole, at(second), &mut buffer);
            (read.map(|length| buffer[..length].to_vec()).map_err(|error| error.kind()), began.elapsed())
        };
        assert_eq!(read(&plain, 1).0.unwrap(), b"12345");
        let (outcome, took) = read(&silent, 1);
        assert_eq!(outcome, Err(io::ErrorKind::TimedOut));
        assert!(took < PATIENCE * 4, "{took:?}");
        for second in 1..50 {
            let (outcome, took) = read(&plain, second);
            assert_eq!(outcome, Err(io::ErrorKind::TimedOut));
            assert!(took < PATIENCE / 2, "{took:?}");
        }
        // It is opened by both now, and cannot be read from a place.
        drop(File::options().write(true).open(&silent).unwrap());
        let answered = (51..1000).find_map(|second| {
            thread::sleep(Duration::from_millis(5));
            read(&plain, second).0.ok()
        });
        assert_eq!(answered.unwrap(), b"12345");
    }
}
