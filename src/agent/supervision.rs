//! Whether the threads that act and remember live: told when one hangs and when it is over. The service manager's watchdog
//! is fed, and `/livez` is well, only while they live. A disk that does not answer is told, and is no reason to be ended:
//! the next start would sit in the same call, with every lease lapsing meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::control::worker::{Heartbeats, RECORDED_WITHIN};
use crate::events::Daemon;
use crate::heartbeat::{Heartbeat, OVERDUE_AFTER, Sign};
use crate::policy::moment::Moment;
use crate::status::BlindSpot;

pub struct Supervision {
    heartbeats: Heartbeats,
    /// Where the journal is.
    directory: Arc<str>,
    /// For how long the journal's disk has kept it waiting, as long as that is worth telling.
    slow: Option<Duration>,
    /// Which thread hangs or has ended, in a sentence.
    hanging: Option<Arc<str>>,
    /// Why the journal cannot be had or written, in a sentence.
    trouble: Option<Arc<str>>,
    looked: Option<Moment>,
    /// Since when this looks without a gap: who was stopped, or suspended with the node, gave no sign either.
    watches_since: Moment,
}

/// The loop's longest pause is 1 s.
const GAP: Duration = Duration::from_secs(5);

impl Supervision {
    pub fn new(heartbeats: Heartbeats, directory: &Path) -> Self {
        let directory = directory.display().to_string().into();
        Self {
            heartbeats,
            directory,
            slow: None,
            hanging: None,
            trouble: None,
            looked: None,
            watches_since: Moment::ORIGIN,
        }
    }

    /// Whether the journal can be had and written.
    pub fn note_journal(&mut self, trouble: Option<&str>) {
        self.trouble = trouble.map(|why| format!("{why}. It is tried again, at least once a minute").into());
    }

    /// Why nothing can be recorded.
    pub fn unrecordable(&self) -> Option<Arc<str>> {
        let slow = || self.slow.map(|since| self.why_slow(since).into());
        self.trouble.clone().or_else(slow)
    }

    /// Looks at both threads; what has changed is to be told.
    pub fn look(&mut self, now: Moment) -> [Option<Daemon>; 2] {
        if self.looked.replace(now).is_some_and(|last| now.since(last) >= GAP) {
            self.watches_since = now;
        }
        if now.since(self.watches_since) < OVERDUE_AFTER {
            return [None, None];
        }
        let journal = self.heartbeats.journal.sign(now);
        let hanging = hangs("controls", "acts", &self.heartbeats.controls, now)
            .or_else(|| hangs("journal", "remembers", &self.heartbeats.journal, now));
        [self.note_disk(journal), self.note_hanging(hanging)]
    }

    fn note_disk(&mut self, journal: Sign) -> Option<Daemon> {
        let now = match journal {
            Sign::Waiting(since) if since >= RECORDED_WITHIN => Some(since),
            Sign::Well | Sign::Waiting(_) | Sign::Overdue(_) | Sign::Ended => None,
        };
        let before = std::mem::replace(&mut self.slow, now);
        match (before, now) {
            (None, Some(since)) => Some(Daemon::JournalSlow { why: self.why_slow(since) }),
            (Some(since), None) => Some(Daemon::JournalAnswers { after: since }),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }

    fn note_hanging(&mut self, hanging: Option<Hanging>) -> Option<Daemon> {
        match (self.hanging.is_some(), hanging) {
            (false, Some(hanging)) => {
                let why: Arc<str> = hanging.to_string().into();
                self.hanging = Some(Arc::clone(&why));
                Some(Daemon::ThreadHangs { why })
            }
            (true, None) => {
                self.hanging = None;
                Some(Daemon::ThreadsLive)
            }
            (true, Some(_)) | (false, None) => None,
        }
    }

    /// Why the guardian should be ended and started again.
    pub const fn hanging(&self) -> Option<&Arc<str>> {
        self.hanging.as_ref()
    }

    /// What cannot be done while the disk does not answer.
    pub fn blind_spot(&self) -> Option<BlindSpot> {
        let since = self.slow?;
        Some(BlindSpot { what: "journal".to_owned(), why: self.why_slow(since) })
    }

    fn why_slow(&self, since: Duration) -> String {
        let (seconds, directory) = (since.as_secs(), &self.directory);
        format!(
            "waiting for the disk of {directory} for {seconds} s; nothing new is put in force until it answers, undoing \
             goes on; look at `dmesg`, or set another state_directory"
        )
    }
}

/// A thread that hangs, and how that shows.
struct Hanging {
    thread: &'static str,
    does: &'static str,
    /// `None`: it has ended.
    silent: Option<Duration>,
}

fn hangs(thread: &'static str, does: &'static str, heartbeat: &Heartbeat, now: Moment) -> Option<Hanging> {
    let silent = match heartbeat.sign(now) {
        Sign::Well | Sign::Waiting(_) => return None,
        Sign::Overdue(since) => Some(since),
        Sign::Ended => None,
    };
    Some(Hanging { thread, does, silent })
}

impl std::fmt::Display for Hanging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { thread, does, silent } = self;
        match silent {
            Some(since) => write!(f, "the thread that {does} ({thread}) has hung for {} s", since.as_secs()),
            None => write!(f, "the thread that {does} ({thread}) has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::heartbeat::Alive;

    fn supervision() -> (Supervision, Moment) {
        let heartbeats = Heartbeats { controls: Heartbeat::new(), journal: Heartbeat::new() };
        (Supervision::new(heartbeats, Path::new("/state")), clock::now().unwrap())
    }

    /// Each second from the first to the last; what the last look told.
    fn watched(supervision: &mut Supervision, from: Moment, seconds: u64) -> [Option<Daemon>; 2] {
        let looks = (0..=seconds).map(|second| supervision.look(from + Duration::from_secs(second)));
        let told = looks.reduce(|[disk, hanging], [next, last]| [disk.or(next), hanging.or(last)]);
        told.unwrap()
    }

    #[test]
    fn who_was_stopped_gave_no_sign_and_hung_nowhere() {
        let (mut supervision, now) = supervision();
        assert!(matches!(watched(&mut supervision, now, 20), [None, None]));
        supervision.heartbeats.controls.beat();
        let woken = now + Duration::from_secs(60);
        assert!(matches!(watched(&mut supervision, woken, 5), [None, None]));
        let told = watched(&mut supervision, woken + Duration::from_secs(6), 6);
        assert!(matches!(told, [None, Some(Daemon::ThreadHangs { .. })]), "it hangs all the same: {told:?}");
    }

    #[test]
    fn a_disk_that_does_not_answer_is_told_twice_and_hangs_nobody() {
        let (mut supervision, now) = supervision();
        supervision.heartbeats.journal.wait();
        let told = watched(&mut supervision, now, 3600);
        assert!(matches!(told, [Some(Daemon::JournalSlow { .. }), None]), "{told:?}");
        assert!(supervision.hanging().is_none() && supervision.blind_spot().unwrap().why.contains("/state for 3"));
        assert!(matches!(supervision.look(now + Duration::from_secs(3601)), [None, None]));
        supervision.heartbeats.journal.idle();
        let told = supervision.look(now + Duration::from_secs(3602));
        assert!(matches!(told, [Some(Daemon::JournalAnswers { .. }), None]), "{told:?}");
        assert_eq!(supervision.blind_spot(), None);
    }

    #[test]
    fn a_thread_that_hangs_or_ended_is_named() {
        let (mut supervision, now) = supervision();
        supervision.heartbeats.controls.beat();
        let told = watched(&mut supervision, now, OVERDUE_AFTER.as_secs() + 1);
        assert!(matches!(told, [None, Some(Daemon::ThreadHangs { .. })]), "{told:?}");
        assert!(supervision.hanging().unwrap().contains("(controls) has hung for 1"));
        supervision.heartbeats.controls.beat();
        assert!(matches!(supervision.look(now), [None, Some(Daemon::ThreadsLive)]));
        drop(Alive(Arc::clone(&supervision.heartbeats.journal)));
        supervision.look(now);
        assert_eq!(supervision.hanging().map(|why| &**why), Some("the thread that remembers (journal) has ended"));
    }
}
