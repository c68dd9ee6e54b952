//! Node mode: normal → emergency → recovering → normal, with a hold that grows on each relapse and decays while calm.

use std::time::Duration;

use super::event::Mode;
use super::moment::Moment;
use super::rule::Emergency;

#[derive(Clone, Debug)]
pub(crate) struct NodeMode {
    mode: Mode,
    since: Moment,
    hold_until: Moment,
    hold: Duration,
    seen: Moment,
}

/// While calm the hold shrinks by half a second per second, as Meta's sideloader does it.
const DECAY: f64 = 0.5;

impl NodeMode {
    #[must_use]
    pub const fn new(now: Moment, settings: &Emergency) -> Self {
        Self { mode: Mode::Normal, since: now, hold_until: now, hold: settings.hold, seen: now }
    }

    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    #[must_use]
    pub(crate) const fn since(&self) -> Moment {
        self.since
    }

    /// The hold that the next emergency would have.
    #[must_use]
    pub(crate) const fn hold(&self) -> Duration {
        self.hold
    }

    /// While in emergency: not left before this.
    #[must_use]
    pub(crate) fn hold_until(&self) -> Option<Moment> {
        (self.mode == Mode::Emergency).then_some(self.hold_until)
    }

    /// An emergency rule fired. `again` where it had been cleared and came back.
    pub(crate) fn alarm(&mut self, now: Moment, again: Relapse, settings: &Emergency) {
        if again == Relapse::Yes || self.mode == Mode::Recovering {
            self.hold = (self.hold + settings.hold).min(settings.hold_max).max(settings.hold);
        }
        self.hold_until = self.hold_until.max(now + self.hold);
        self.enter(Mode::Emergency, now);
    }

    /// Who made it an emergency says that it is none.
    pub(crate) fn end_hold(&mut self, now: Moment) {
        self.hold_until = self.hold_until.min(now);
    }

    pub(crate) fn enter(&mut self, mode: Mode, now: Moment) {
        if self.mode != mode {
            self.mode = mode;
            self.since = now;
        }
    }

    /// Lets the hold decay while the node is in normal mode.
    pub(crate) fn pass(&mut self, now: Moment, settings: &Emergency) {
        let passed = now.since(self.seen.max(self.since));
        self.seen = now;
        if self.mode == Mode::Normal && self.hold > settings.hold {
            self.hold = self.hold.saturating_sub(passed.mul_f64(DECAY)).max(settings.hold);
        }
    }

    /// Whether what emergency rules put in force must stay.
    #[must_use]
    pub(crate) fn holds(&self, now: Moment) -> bool {
        self.mode == Mode::Emergency && now < self.hold_until
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Relapse {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn the_hold_grows_on_relapse_up_to_its_limit_and_decays_while_calm() {
        let settings = Emergency::default();
        let mut mode = NodeMode::new(at(0), &settings);
        mode.alarm(at(0), Relapse::No, &settings);
        assert_eq!((mode.hold, mode.hold_until), (Duration::from_secs(10), at(10)));
        for second in 1..10 {
            mode.enter(Mode::Recovering, at(second));
            mode.alarm(at(second), Relapse::No, &settings);
        }
        assert_eq!(mode.hold, Duration::from_secs(60));
        mode.enter(Mode::Normal, at(100));
        mode.pass(at(100), &settings);
        mode.pass(at(140), &settings);
        assert_eq!(mode.hold, Duration::from_secs(40));
        mode.pass(at(1000), &settings);
        assert_eq!(mode.hold, Duration::from_secs(10));
    }
}
