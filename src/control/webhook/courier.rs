//! Brings one receiver what it wants to hear, in order, each until it is taken or refused. It goes on listening to the trail
//! while it waits for an answer or for the next try, so that nothing is lost but what has no room.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::delivery::Delivery;
use super::queue::{Queue, is_for};
use super::wire::{self, Again, Letter, Undelivered};
use crate::clock;
use crate::control::failure::Failure;
use crate::events::{Log, Record};
use crate::policy::mitigation::Outcome;
use crate::telemetry::name;

/// Between tries: doubling, and a random part of it, so that many nodes do not come back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A receiver that has had an event this often will not take it: with the pauses, in about a minute.
const TRIES: u32 = 8;

pub struct Courier {
    delivery: Rc<Delivery>,
    trail: Trail,
    /// In a row, of whatever event.
    failures: u32,
    /// The event that was tried last, and how often the receiver has had it.
    tried: (u64, u32),
    tally: Tally,
}

/// What is read of the trail, and what of it is still to be told.
struct Trail {
    log: Arc<Log>,
    bell: watch::Receiver<u64>,
    seen: u64,
    queue: Queue,
}

struct Tally {
    delivered: Counter,
    failed: Counter,
    dropped: Counter,
    queued: Gauge,
}

impl Courier {
    pub fn new(delivery: Rc<Delivery>, log: Arc<Log>, since: u64) -> Self {
        let tally = Tally::register(&delivery.name);
        let trail = Trail { bell: log.bell(), log, seen: since, queue: Queue::default() };
        Self { delivery, trail, failures: 0, tried: (0, 0), tally }
    }

    /// Until it is asked to hurry: then what can be told at once is, and nothing is tried twice.
    pub async fn work(mut self) {
        loop {
            self.collect();
            let Some((record, dropped)) = self.trail.queue.front() else {
                if self.delivery.is_hurried() {
                    break;
                }
                let hurried = Rc::clone(&self.delivery);
                tokio::select! {
                    biased;
                    () = self.trail.grows() => {}
                    () = hurried.hurry() => {}
                }
                continue;
            };
            let target = self.delivery.target();
            let letter = letter(&self.delivery, &record, dropped);
            let told = self.meanwhile(async move { wire::post(&target, letter).await }).await;
            let again = self.settle(record.seq, dropped, told);
            if again && self.delivery.is_hurried() {
                break;
            }
            if again {
                let (hurried, pause) = (Rc::clone(&self.delivery), pause(self.failures, jitter()));
                self.meanwhile(async move {
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = hurried.hurry() => {}
                    }
                })
                .await;
            }
        }
        self.delivery.finish();
    }

    /// Goes on listening to the trail.
    async fn meanwhile<T>(&mut self, task: impl Future<Output = T>) -> T {
        let mut task = pin!(task);
        loop {
            tokio::select! {
                biased;
                done = &mut task => return done,
                () = self.trail.grows() => self.collect(),
            }
        }
    }

    fn collect(&mut self) {
        let dropped = self.trail.collect(&self.delivery);
        self.tally.dropped.increment(dropped);
        self.delivery.count(|counts| counts.dropped += dropped);
        self.note_length();
    }

    /// Whether the same is to be tried again.
    fn settle(&mut self, seq: u64, dropped: u64, told: Result<(), Undelivered>) -> bool {
        let undelivered = match told {
            Ok(()) => {
                self.failures = 0;
                self.trail.queue.told(dropped);
                self.tally.delivered.increment(1);
                self.delivery.count(|counts| counts.delivered += 1);
                self.end(seq, Outcome::Applied, "the last event was taken".to_owned());
                return false;
            }
            Err(undelivered) => undelivered,
        };
        self.failures += 1;
        if self.tried.0 != seq {
            self.tried = (seq, 0);
        }
        self.tried.1 += u32::from(undelivered.again != Again::Always);
        let Undelivered { failure: Failure { outcome, detail }, again } = undelivered;
        let goes_on = match again {
            Again::Always => true,
            Again::Sometimes => self.tried.1 < TRIES,
            Again::Never => false,
        };
        if goes_on {
            self.delivery.tell(outcome, detail);
            return true;
        }
        self.tally.failed.increment(1);
        self.delivery.count(|counts| counts.failed += 1);
        self.end(seq, outcome, detail);
        false
    }

    fn end(&mut self, seq: u64, outcome: Outcome, detail: String) {
        self.trail.queue.drop_front(seq);
        self.note_length();
        self.delivery.tell(outcome, detail);
    }

    fn note_length(&self) {
        let length = self.trail.queue.len();
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        self.tally.queued.set(length as f64);
        self.delivery.count(|counts| counts.queued = length);
    }
}

impl Trail {
    async fn grows(&mut self) {
        if self.bell.changed().await.is_err() {
            // The log has ended, and with it the process.
            std::future::pending().await
        }
    }

    /// How many were dropped for want of room.
    fn collect(&mut self, delivery: &Delivery) -> u64 {
        let (now, target) = (Instant::now(), delivery.target());
        let mut dropped = 0;
        self.bell.mark_unchanged();
        for record in self.log.since(self.seen, usize::MAX) {
            // The trail itself had no room: nobody knows what of it was wanted.
            let unseen = record.seq - self.seen - 1;
            self.queue.lose(unseen);
            dropped += unseen;
            self.seen = record.seq;
            if self.queue.wants(&delivery.name, &target, &record, now) {
                let why = self.reason(&delivery.name, &target.events, &record);
                dropped += why.map_or(0, |why| self.queue.push(why));
                dropped += self.queue.push(record);
            }
        }
        dropped
    }

    /// Why the rule fired whose step this is, where the receiver has not heard of it.
    fn reason(&self, name: &str, events: &[String], step: &Record) -> Option<Arc<Record>> {
        if !is_for(name, step) {
            return None;
        }
        let fires = |record: &Record| matches!(record.name, "rule_fired" | "rule_relapsed");
        let is_why = |record: &Record| fires(record) && record.field("rule") == step.field("rule");
        let why = self.log.newest(1, is_why).pop()?;
        let is_told = events.iter().any(|event| event == why.name);
        (!is_told).then_some(why)
    }
}

impl Tally {
    /// Visible at zero, so that the first failure shows in a rate.
    fn register(control: &Arc<str>) -> Self {
        let tally = Self {
            delivered: counter!(name::WEBHOOK_DELIVERED, "control" => Arc::clone(control)),
            failed: counter!(name::WEBHOOK_FAILED, "control" => Arc::clone(control)),
            dropped: counter!(name::WEBHOOK_DROPPED, "control" => Arc::clone(control)),
            queued: gauge!(name::WEBHOOK_QUEUED, "control" => Arc::clone(control)),
        };
        for counter in [&tally.delivered, &tally.failed, &tally.dropped] {
            counter.increment(0);
        }
        tally
    }
}

impl Drop for Tally {
    /// With a receiver that is gone, its queue is.
    fn drop(&mut self) {
        self.queued.set(0.0);
    }
}

/// The record as `/events` has it, with where it comes from and what went missing before it.
fn letter(delivery: &Delivery, record: &Record, dropped: u64) -> Letter {
    let id = format!("{}-{}", delivery.life, record.seq);
    let head = serde_json::json!({ "id": id, "node": &*delivery.node, "dropped": dropped }).to_string();
    let record = serde_json::to_string(record).unwrap_or_default();
    let body = match record.strip_prefix('{') {
        Some(rest) => format!("{},{rest}", head.trim_end_matches('}')),
        None => head,
    };
    Letter { id, body }
}

/// Half of it is sure, half of it is chance; `chance` is from 0 to 1.
fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// Good enough to keep nodes apart that were started by one hand.
fn jitter() -> f64 {
    let nanoseconds = clock::now().map_or(0, |now| now.since(crate::policy::moment::Moment::ORIGIN).subsec_nanos());
    f64::from(nanoseconds % 1_000_003) / 1_000_003.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(pause(1, 1.0), FIRST_PAUSE);
        assert_eq!(pause(1, 0.0), FIRST_PAUSE / 2);
        assert_eq!(pause(3, 1.0), FIRST_PAUSE * 4);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE);
        assert!((0.0..1.0).contains(&jitter()));
    }
}
