//! Whether what was written has arrived. A service may obey late, go there step by step, or keep a number near the one that
//! it was told: all that is ours, and only what stays when all of that is over is somebody else's. Waits without keeping
//! any other control from its work, and never longer than the kind of service says (`Service::grace`).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Control;
use super::failure::Failure;
use super::near::{is_between, is_near, is_number};
use super::standing::{self, Live};
use super::undo::{Change, Keeps, Owner, State, Undo};

/// What stays for this part of the grace, 0.6 s of it, is no longer on its way.
const STEADY: u32 = 4;
/// Grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// What became of the changes of a write.
pub struct Landing {
    /// `limit is 100`
    pub waiting: Option<String>,
    pub theirs: Option<String>,
    /// At least one is there.
    pub is_there: bool,
}

/// How long a reading waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For a value that is moving to stay.
    Moving,
    /// Also for one that has not begun to.
    Arriving,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Landed,
    Waiting,
    Theirs,
}

/// Values, for how long they have been the same, and how much longer to look.
pub struct Watch {
    grace: Duration,
    until: Instant,
    pause: Duration,
    first: Vec<String>,
    last: Vec<String>,
    since: Instant,
}

impl Watch {
    pub fn new(grace: Duration) -> Self {
        let now = Instant::now();
        Self { grace, until: now + grace, pause: FIRST_PAUSE, first: Vec::new(), last: Vec::new(), since: now }
    }

    pub fn saw(&mut self, values: &[String]) {
        if self.last.is_empty() {
            self.first = values.to_vec();
        }
        if self.last != values {
            self.last = values.to_vec();
            self.since = Instant::now();
        }
    }

    pub fn is_steady(&self) -> bool {
        self.since.elapsed() >= self.grace / STEADY
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    pub async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause += self.pause / 2;
    }
}

impl Control {
    /// Reads until all of it has arrived, or will not; and notes what is known now.
    pub(super) async fn land(&mut self, undo: &mut Undo) -> Result<Landing, Failure> {
        let mut watch = Watch::new(self.service.grace());
        loop {
            let live = self.service.read(undo).await?;
            if live.epoch != undo.epoch {
                return Err(Failure::epoch_changed(self.service.name()));
            }
            watch.saw(&live.values);
            let arrivals: Vec<_> =
                (0..undo.changes.len()).map(|at| self.arrival(&undo.changes[at], at, &watch)).collect();
            if watch.is_over() || !arrivals.contains(&Arrival::Waiting) {
                return Ok(note(undo, &live, &arrivals));
            }
            watch.pause().await;
        }
    }

    fn arrival(&self, change: &Change, at: usize, watch: &Watch) -> Arrival {
        let (Some(live), Some(first)) = (watch.last.get(at), watch.first.get(at)) else { return Arrival::Waiting };
        let exact = !self.service.rounds(&change.key);
        if change.state == State::Overridden {
            return Arrival::Theirs;
        }
        if live == change.shown() {
            return Arrival::Landed;
        }
        if *live == change.prior || change.is_known(live) {
            let is_all = watch.is_over() && !exact && is_near(change.wanted(), live);
            return if is_all { Arrival::Landed } else { Arrival::Waiting };
        }
        match (exact, watch.is_steady()) {
            (true, _) => Arrival::Theirs,
            (false, false) => Arrival::Waiting,
            (false, true) if is_made_of(change, live, first) => Arrival::Landed,
            (false, true) => Arrival::Theirs,
        }
    }

    /// The values, once they stay as far as this waits for it.
    pub(super) async fn read_settled(&mut self, undo: &Undo, patience: Patience) -> Result<Live, Failure> {
        let mut watch = Watch::new(self.service.grace());
        loop {
            let live = self.service.read(undo).await?;
            if live.epoch != undo.epoch || self.service.grace().is_zero() {
                return Ok(live);
            }
            watch.saw(&live.values);
            let pairs: Vec<_> = undo.changes.iter().zip(&live.values).collect();
            let moves =
                !watch.is_steady() && pairs.iter().any(|(change, value)| self.may_move(change, value, patience));
            let waits = patience == Patience::Arriving
                && pairs.iter().any(|(change, value)| self.owner(change, value) == Owner::Pending);
            if !moves && !waits {
                return Ok(live);
            }
            if watch.is_over() {
                return if moves && patience == Patience::Arriving {
                    Err(self.on_its_way(undo, &live))
                } else {
                    Ok(live)
                };
            }
            watch.pause().await;
        }
    }

    /// Neither here nor there: between what we know, and so perhaps on its way.
    fn may_move(&self, change: &Change, live: &str, patience: Patience) -> bool {
        let may = change.state.is_in_doubt() || (patience == Patience::Arriving && change.state == State::Landed);
        let known = || change.ours.iter().chain([&change.prior]);
        may && *live != change.prior
            && !change.is_known(live)
            && self.service.rounds(&change.key)
            && known().any(|from| is_between(from, live, change.wanted()) || is_between(from, live, &change.prior))
    }

    /// A value that has not arrived where that is certain is as it was; and a lease is given again.
    pub(super) fn owner(&self, change: &Change, live: &str) -> Owner {
        let owner = change.owner(live, self.keeps(&change.key));
        let is_certain = self.service.grace().is_zero() || self.service.is_lease(&change.key);
        match owner {
            Owner::Pending if is_certain => Owner::Back,
            Owner::Ours if self.is_set_anew(change, live) => Owner::Theirs,
            owner => owner,
        }
    }

    pub(super) fn keeps(&self, key: &str) -> Keeps {
        if self.service.rounds(key) { Keeps::Near } else { Keeps::Exact }
    }

    /// What we had set before stands again, although the newest was seen: an operator who knows how it was a minute ago
    /// sets that. Somebody slow may show it only shortly after the newest was written.
    fn is_set_anew(&self, change: &Change, live: &str) -> bool {
        let is_older = change.state == State::Landed && live != change.shown() && !self.service.is_ours_alone(live);
        is_older && !self.may_be_late(change)
    }

    pub(super) fn may_be_late(&self, change: &Change) -> bool {
        self.written.get(&change.key).is_some_and(|at| at.elapsed() < self.service.grace())
    }

    fn on_its_way(&self, undo: &Undo, live: &Live) -> Failure {
        let pairs: Vec<_> = undo.changes.iter().zip(live.values.iter().map(String::as_str)).collect();
        Failure::timed_out(format!("{} is still on its way: {}", self.service.name(), standing::remains(&pairs)))
    }
}

fn note(undo: &mut Undo, live: &Live, arrivals: &[Arrival]) -> Landing {
    let pairs = || undo.changes.iter().zip(live.values.iter().map(String::as_str));
    let which = |wanted: Arrival| {
        let found: Vec<_> =
            pairs().zip(arrivals).filter(|(_, arrival)| **arrival == wanted).map(|(pair, _)| pair).collect();
        (!found.is_empty()).then(|| standing::remains(&found))
    };
    let (waiting, theirs) = (which(Arrival::Waiting), which(Arrival::Theirs));
    for ((change, value), arrival) in undo.changes.iter_mut().zip(&live.values).zip(arrivals) {
        match arrival {
            Arrival::Landed => *change = change.landed(value),
            Arrival::Theirs => change.state = State::Overridden,
            Arrival::Waiting => {}
        }
    }
    Landing { waiting, theirs, is_there: arrivals.contains(&Arrival::Landed) }
}

/// Whether a service can have made this of what it was told: a number near it, one on the way where it stopped, one beyond
/// where that showed at once; or, where it does not speak in numbers, other words.
fn is_made_of(change: &Change, live: &str, first: &str) -> bool {
    let (wanted, prior) = (change.wanted(), change.prior.as_str());
    let mut known = change.ours.iter().map(String::as_str).chain([prior]);
    is_near(wanted, live)
        || known.any(|from| is_between(from, live, wanted))
        || (live == first && is_between(prior, wanted, live))
        || !is_number(wanted)
        || !is_number(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_makes_of_a_number_what_is_near_or_on_the_way() {
        let change = Change::new("limit", "200", vec!["100".into()]);
        let made = |live, first| is_made_of(&change, live, first);
        assert!(made("104", "200") && made("150", "200") && made("96", "200"));
        assert!(made("64", "64") && !made("64", "200"), "a power of two at once, or an operator later");
        assert!(!made("300", "300"), "nobody loosens what is to be limited");
        assert!(made("draining", "200"));
    }
}
