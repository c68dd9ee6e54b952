//! When to ask services what they have to give: all of them once they are known, and again while some rule is pending or
//! firing, so that a step that nobody asked by name is not taken in vain. Whoever does not answer is not asked again, and
//! delays nobody.

use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Settings;
use crate::policy::moment::Moment;

/// A round trip takes a service well under a millisecond, and a rate needs some time to be one.
const EVERY: Duration = Duration::from_secs(2);
/// Then it never will answer: four times the deadline of a conversation.
const LOST_AFTER: Duration = Duration::from_secs(6);

#[derive(Default)]
pub struct Relevance {
    controls: Vec<Asked>,
}

struct Asked {
    control: Arc<str>,
    asked_at: Option<Moment>,
    /// A rate is known from the second answer on.
    answers: u32,
    is_waiting: bool,
}

/// Whether some rule may want a step soon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Some,
    None,
}

impl Relevance {
    /// These controls, from now on. Who is known already is not asked anew.
    pub fn expect(&mut self, settings: &Settings) {
        let mut known = std::mem::take(&mut self.controls);
        let asked = |control: &Arc<str>| {
            let at = known.iter().position(|asked| asked.control == *control);
            let new = || Asked { control: Arc::clone(control), asked_at: None, answers: 0, is_waiting: false };
            at.map_or_else(new, |at| known.swap_remove(at))
        };
        self.controls = settings.controls.iter().map(|control| &control.name).map(asked).collect();
    }

    /// Whom to ask now.
    pub fn due(&mut self, now: Moment, need: Need) -> impl Iterator<Item = Arc<str>> + '_ {
        let is_due = move |asked: &&mut Asked| {
            let Some(at) = asked.asked_at else { return true };
            let waited = now.since(at);
            let is_free = !asked.is_waiting || waited > LOST_AFTER;
            is_free && waited >= EVERY && (need == Need::Some || asked.answers < 2)
        };
        self.controls.iter_mut().filter(is_due).map(move |asked| {
            (asked.asked_at, asked.is_waiting) = (Some(now), true);
            Arc::clone(&asked.control)
        })
    }

    pub fn note(&mut self, control: &str) {
        for asked in self.controls.iter_mut().filter(|asked| *asked.control == *control) {
            (asked.is_waiting, asked.answers) = (false, asked.answers.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Control;
    use crate::control::target::{Haproxy, Target};

    fn relevance(names: &[&str]) -> Relevance {
        let mut settings = Settings::default();
        let control = |name: &&str| Control { name: (*name).into(), target: Target::Haproxy(Haproxy::default()) };
        settings.controls = names.iter().map(control).collect();
        let mut relevance = Relevance::default();
        relevance.expect(&settings);
        relevance
    }

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    fn ask(relevance: &mut Relevance, seconds: u64, need: Need) -> Vec<String> {
        relevance.due(at(seconds), need).map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_calm_node_asks_twice_and_then_nobody() {
        let mut relevance = relevance(&["a"]);
        for seconds in [0, 2] {
            assert_eq!(ask(&mut relevance, seconds, Need::None), ["a"]);
            relevance.note("a");
        }
        assert_eq!(ask(&mut relevance, 60, Need::None), [""; 0]);
        assert_eq!(ask(&mut relevance, 61, Need::Some), ["a"]);
    }

    #[test]
    fn who_hangs_is_not_asked_again_and_keeps_nobody_from_being_asked() {
        let mut relevance = relevance(&["hangs", "well"]);
        assert_eq!(ask(&mut relevance, 0, Need::Some), ["hangs", "well"]);
        relevance.note("well");
        assert_eq!(ask(&mut relevance, 1, Need::Some), [""; 0], "too soon");
        assert_eq!(ask(&mut relevance, 2, Need::Some), ["well"]);
        relevance.note("well");
        assert_eq!(ask(&mut relevance, 7, Need::Some), ["hangs", "well"], "its answer is lost");
    }

    #[test]
    fn a_reload_asks_only_those_that_are_new() {
        let mut relevance = relevance(&["a"]);
        assert_eq!(ask(&mut relevance, 0, Need::None), ["a"]);
        let mut settings = Settings::default();
        let control = |name: &str| Control { name: name.into(), target: Target::Haproxy(Haproxy::default()) };
        settings.controls = vec![control("a"), control("b")];
        relevance.expect(&settings);
        assert_eq!(ask(&mut relevance, 1, Need::None), ["b"]);
    }
}
