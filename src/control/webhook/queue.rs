//! What a receiver is still to hear: the newest events that it wants, bounded, with a count of those that had to make
//! room. Pure; time is an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::target::Webhook;
use crate::events::Record;

/// About 80 kB of sentences.
pub const ROOM: usize = 256;

/// An undo that fails is tried again after 1, 2, 4, … s. By the fourth try it is worth somebody's time.
const OWED_FROM: u32 = 4;
/// And again this often.
const OWED_EVERY: Duration = Duration::from_secs(600);
/// More undos than this are never owed at once; a flood of ids must not grow for ever.
const MOST_OWED: usize = 64;

#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Arc<Record>>,
    /// By action.
    owed: HashMap<String, Owed>,
    /// Not told of yet.
    lost: u64,
}

#[derive(Debug, Default)]
struct Owed {
    tries: u32,
    told: Option<Instant>,
}

impl Queue {
    /// Whether a receiver of this name wants it.
    pub fn wants(&mut self, name: &str, target: &Webhook, record: &Record, now: Instant) -> bool {
        if is_for(name, record) {
            return true;
        }
        // Its own state would be news that no delivery could keep up with.
        let is_own = record.name == "control" && record.field("control") == Some(name);
        !is_own && target.events.iter().any(|event| event == record.name) && self.is_due(record, now)
    }

    /// Takes it in; how many made room.
    pub fn push(&mut self, record: Arc<Record>) -> u64 {
        let excess = (self.waiting.len() + 1).saturating_sub(ROOM);
        self.waiting.drain(..excess);
        self.waiting.push_back(record);
        self.lose(excess as u64);
        excess as u64
    }

    /// So many went by unseen.
    pub const fn lose(&mut self, records: u64) {
        self.lost = self.lost.saturating_add(records);
    }

    /// The oldest, with how many before it were dropped and not told of.
    pub fn front(&self) -> Option<(Arc<Record>, u64)> {
        self.waiting.front().map(|record| (Arc::clone(record), self.lost))
    }

    /// This one is done with, if it has not made room meanwhile.
    pub fn drop_front(&mut self, seq: u64) {
        if self.waiting.front().is_some_and(|record| record.seq == seq) {
            self.waiting.pop_front();
        }
    }

    /// The receiver knows of so many that were dropped.
    pub const fn told(&mut self, lost: u64) {
        self.lost = self.lost.saturating_sub(lost);
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    fn is_due(&mut self, record: &Record, now: Instant) -> bool {
        let Some(action) = record.field("action_id") else { return true };
        match record.name {
            "owed" => {
                if self.owed.len() >= MOST_OWED && !self.owed.contains_key(action) {
                    self.owed.clear();
                }
                let owed = self.owed.entry(action.to_owned()).or_default();
                owed.tries += 1;
                let due = owed.told.is_none_or(|told| now.duration_since(told) >= OWED_EVERY);
                if owed.tries < OWED_FROM || !due {
                    return false;
                }
                owed.told = Some(now);
                true
            }
            "undone" => {
                self.owed.remove(action);
                true
            }
            _ => true,
        }
    }
}

/// A step of a rule is addressed to it, whatever it wants to hear of otherwise.
pub fn is_for(name: &str, record: &Record) -> bool {
    record.name == "acted" && record.field("verb") == Some("notify") && record.field("control") == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::Address;
    use crate::events::Level;

    fn record(seq: u64, name: &'static str, fields: &[(&'static str, &str)]) -> Arc<Record> {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Arc::new(Record { seq, unix_ms: 0, at_seconds: 0.0, level: Level::Info, name, text: String::new(), fields })
    }

    fn receiver(events: &[&str]) -> Webhook {
        Webhook {
            listener: None,
            address: Address::Tcp("127.0.0.1:1".into()),
            host: "127.0.0.1:1".into(),
            path: "/".into(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
            token_file: None,
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn the_oldest_make_room_and_are_counted_until_that_is_told() {
        let mut queue = Queue::default();
        let lost: u64 = (1..=ROOM as u64 + 3).map(|seq| queue.push(record(seq, "mode", &[]))).sum();
        let (front, untold) = queue.front().unwrap();
        assert_eq!((lost, front.seq, untold, queue.len()), (3, 4, 3, ROOM));
        queue.push(record(1000, "mode", &[]));
        queue.drop_front(4);
        queue.told(3);
        let (front, untold) = queue.front().unwrap();
        assert_eq!((front.seq, untold, queue.len()), (5, 1, ROOM), "what made room meanwhile is not taken twice");
    }

    #[test]
    fn a_step_comes_through_whatever_is_wanted_and_its_own_state_never() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let mut wants = |events: &[&str], record: &Record| queue.wants("ops", &receiver(events), record, now);
        let step = record(1, "acted", &[("verb", "notify"), ("control", "ops")]);
        let other = record(2, "acted", &[("verb", "notify"), ("control", "chat")]);
        assert!(wants(&[], &step) && !wants(&[], &other) && wants(&["acted"], &other));
        let own = record(3, "control", &[("control", "ops")]);
        let theirs = record(4, "control", &[("control", "edge")]);
        assert!(!wants(&["control"], &own) && wants(&["control"], &theirs));
    }

    #[test]
    fn an_undo_is_owed_for_a_while_before_it_is_told_and_not_each_time() {
        let mut queue = Queue::default();
        let (start, target) = (Instant::now(), receiver(&["owed", "undone"]));
        let mut owed = |after: u64, name: &'static str| {
            let record = record(1, name, &[("action_id", "7")]);
            queue.wants("ops", &target, &record, start + Duration::from_secs(after))
        };
        assert_eq!([0, 1, 3, 7, 15, 31].map(|after| owed(after, "owed")), [false, false, false, true, false, false]);
        assert!(owed(700, "owed") && owed(701, "undone"));
        assert!(!owed(702, "owed"), "counted anew");
    }
}
