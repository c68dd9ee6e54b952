//! A drill: every reversible action of every control, applied for a moment, read back, undone, read back. So an
//! operator can see by day that each undo works. Pure: gets the results, and says what is next. One thing at a time.
//! The policy and the journal hold it like any other action, so a crash, a stop or a hung target in a drill is undone
//! like any other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::settings;
use crate::policy::event::Event;
use crate::policy::mitigation::{ActionId, Amount, Mitigation, Outcome};
use crate::policy::rule::Severity;

/// Where a gentle share changes nothing, because the number it is taken of is small.
const STRONGER: Amount = Amount::Keep(50.0);

#[derive(Clone, PartialEq, Debug)]
pub struct Drill {
    /// Tells it from the drills before it; 0 where it is only planned.
    number: u64,
    trials: Vec<Trial>,
    under_way: Option<usize>,
}

#[derive(Clone, PartialEq, Debug)]
struct Trial {
    mitigation: Mitigation,
    kind: &'static str,
    stage: Stage,
    id: Option<ActionId>,
    applied: Option<Step>,
    undone: Option<Step>,
}

/// How far one action of a drill is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Waiting,
    Applying,
    Undoing,
    /// It was done, and everything is as it was: both were read back.
    Restored,
    /// There was nothing to change.
    Nothing,
    /// It could not be done, or nobody could read back that it was; nothing of it is there.
    Failed,
    /// The service restarted or reloaded meanwhile, and forgot it: that it can be undone is not shown, and the drill may
    /// have been too much for it.
    Restarted,
    /// Not undone yet: it is tried again until it is.
    Owed,
    /// Somebody else changed the value meanwhile; it was left alone.
    LeftAlone,
    /// A rule wanted it meanwhile, and holds it now.
    Taken,
    /// The drill ended before its turn.
    NotTried,
}

/// One half of a trial.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Step {
    pub outcome: String,
    pub detail: String,
    pub took_seconds: f64,
}

/// A drill, as HTTP and the command line show it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DrillView {
    /// Counts the drills since the daemon started; 0 is only a plan.
    pub number: u64,
    pub running: bool,
    /// Every action was done, or had nothing to change, and everything is as it was.
    pub ok: bool,
    #[serde(flatten)]
    pub count: Count,
    pub trials: Vec<TrialView>,
}

/// How many actions came to what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Somebody was asked to do it.
    pub tried: usize,
    /// It was done, and everything is as it was.
    pub restored: usize,
    /// There was nothing to change, a rule had it, or the drill ended before.
    pub left_out: usize,
    /// It could not be done; nothing of it is there.
    pub failed: usize,
    /// What was there before is not there now.
    pub astray: usize,
}

impl Count {
    fn add(&mut self, stage: Stage) {
        let (is_tried, one) = match stage {
            Stage::Waiting | Stage::Applying | Stage::Undoing => return,
            Stage::Restored => (1, &mut self.restored),
            Stage::Failed => (1, &mut self.failed),
            Stage::Restarted | Stage::Owed | Stage::LeftAlone => (1, &mut self.astray),
            Stage::Nothing | Stage::Taken | Stage::NotTried => (0, &mut self.left_out),
        };
        *one += 1;
        self.tried += is_tried;
    }
}

/// `7 tried, 6 restored, 2 left out; 1 did not come back`
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tried, {} restored, {} left out", self.tried, self.restored, self.left_out)?;
        for (count, what) in [(self.failed, "could not be done"), (self.astray, "did not come back")] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrialView {
    pub control: String,
    pub kind: String,
    pub verb: String,
    /// `throttle edge to 90%`
    pub text: String,
    pub stage: Stage,
    pub applied: Option<Step>,
    pub undone: Option<Step>,
}

impl Drill {
    /// Everything that these controls can do and undo, and may: what a control was not declared fit for would be refused.
    #[must_use]
    pub fn of<'a>(controls: impl IntoIterator<Item = &'a settings::Control>) -> Self {
        let trials = controls.into_iter().flat_map(|control| {
            let place = control.target.place();
            place.verbs().iter().filter(|verb| !place.is_undeclared(**verb)).filter_map(move |verb| {
                let amount = place.drill(*verb)?;
                let mitigation = Mitigation { control: Arc::clone(&control.name), verb: *verb, amount };
                Some(Trial::new(mitigation, control.target.kind()))
            })
        });
        Self { number: 0, trials: trials.collect(), under_way: None }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// From now on it is more than a plan.
    pub fn begin(&mut self, number: u64) {
        self.number = number;
    }

    /// The next thing to do, where nothing is under way. Say with `began` whether it was begun.
    #[must_use]
    pub fn next(&self) -> Option<&Mitigation> {
        let next = self.trials.iter().find(|trial| trial.stage == Stage::Waiting);
        next.filter(|_| self.under_way.is_none()).map(|trial| &trial.mitigation)
    }

    /// `None`: its knob was not free.
    pub fn began(&mut self, id: Option<ActionId>) {
        let Some(at) = self.trials.iter().position(|trial| trial.stage == Stage::Waiting) else { return };
        self.trials[at].id = id;
        self.trials[at].stage = if id.is_some() { Stage::Applying } else { Stage::Taken };
        self.under_way = id.map(|_| at);
    }

    /// The rest is not tried.
    pub fn give_up(&mut self) {
        for trial in self.trials.iter_mut().filter(|trial| trial.stage == Stage::Waiting) {
            trial.stage = Stage::NotTried;
        }
    }

    /// What is owed goes on being tried, whether or not the drill is still looked at.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let pending = |trial: &Trial| matches!(trial.stage, Stage::Waiting | Stage::Applying | Stage::Undoing);
        !self.trials.iter().any(|trial| pending(trial) || trial.stage == Stage::Owed)
    }

    /// True where this was about the drill.
    pub fn note(&mut self, event: &Event) -> bool {
        let (id, stage, step, is_apply) = match event {
            // It may want what was not tried yet, and must not be kept from it.
            Event::Fired { severity, .. } | Event::Relapsed { severity, .. } if *severity > Severity::Info => {
                self.give_up();
                return true;
            }
            Event::Acted { id, outcome, detail, took, .. } => {
                (*id, after_apply(*outcome), Some(step(*outcome, detail, *took)), true)
            }
            Event::Undone { id, outcome, detail, took, .. } => {
                (*id, after_undo(*outcome), Some(step(*outcome, detail, *took)), false)
            }
            Event::Owed { id, outcome, detail, .. } => {
                (*id, Stage::Owed, Some(step(*outcome, detail, Duration::ZERO)), false)
            }
            Event::Lost { id, outcome, detail, .. } => {
                (*id, after_undo(*outcome), Some(step(*outcome, detail, Duration::ZERO)), false)
            }
            _ => return false,
        };
        let Some(at) = self.trials.iter().position(|trial| trial.id == Some(id)) else { return false };
        if self.under_way == Some(at) && !matches!(stage, Stage::Applying | Stage::Undoing) {
            self.under_way = None;
        }
        let trial = &mut self.trials[at];
        if matches!(event, Event::Acted { rule, .. } if !rule.is_drill()) {
            trial.stage = Stage::Taken;
            self.under_way = self.under_way.filter(|under_way| *under_way != at);
            return true;
        }
        let in_doubt = trial.applied.as_ref().is_some_and(|applied| applied.outcome == Outcome::TimedOut.name());
        trial.stage = if stage == Stage::Restored && in_doubt { Stage::Failed } else { stage };
        if is_apply {
            trial.applied = step;
            self.try_stronger(at);
        } else {
            trial.undone = step;
        }
        true
    }

    fn try_stronger(&mut self, at: usize) {
        let trial = &mut self.trials[at];
        if trial.stage == Stage::Nothing && STRONGER.is_stronger_than(trial.mitigation.amount) {
            trial.mitigation.amount = STRONGER;
            trial.stage = Stage::Waiting;
            trial.id = None;
        }
    }

    #[must_use]
    pub fn view(&self) -> DrillView {
        let trials: Vec<TrialView> = self.trials.iter().map(Trial::view).collect();
        let ok = trials.iter().all(|trial| trial.stage.is_well());
        let mut count = Count::default();
        trials.iter().for_each(|trial| count.add(trial.stage));
        DrillView { number: self.number, running: self.number > 0 && !self.is_over(), ok, count, trials }
    }
}

impl Stage {
    /// Everything is as it was, and nothing went wrong.
    #[must_use]
    pub const fn is_well(self) -> bool {
        matches!(self, Stage::Restored | Stage::Nothing)
    }
}

impl Trial {
    const fn new(mitigation: Mitigation, kind: &'static str) -> Self {
        Self { mitigation, kind, stage: Stage::Waiting, id: None, applied: None, undone: None }
    }

    fn view(&self) -> TrialView {
        TrialView {
            control: self.mitigation.control.to_string(),
            kind: self.kind.to_owned(),
            verb: self.mitigation.verb.name().to_owned(),
            text: self.mitigation.to_string(),
            stage: self.stage,
            applied: self.applied.clone(),
            undone: self.undone.clone(),
        }
    }
}

const fn after_apply(outcome: Outcome) -> Stage {
    match outcome {
        Outcome::Applied | Outcome::NoEffect | Outcome::TimedOut => Stage::Undoing,
        Outcome::Already => Stage::Nothing,
        Outcome::Overridden => Stage::LeftAlone,
        Outcome::EpochChanged => Stage::Restarted,
        Outcome::Refused | Outcome::Unreachable | Outcome::Unsupported | Outcome::Expired => Stage::Failed,
    }
}

const fn after_undo(outcome: Outcome) -> Stage {
    match outcome {
        Outcome::Overridden => Stage::LeftAlone,
        Outcome::EpochChanged => Stage::Restarted,
        Outcome::Applied
        | Outcome::Already
        | Outcome::NoEffect
        | Outcome::Refused
        | Outcome::Unreachable
        | Outcome::TimedOut
        | Outcome::Unsupported
        | Outcome::Expired => Stage::Restored,
    }
}

fn step(outcome: Outcome, detail: &str, took: Duration) -> Step {
    Step { outcome: outcome.name().to_owned(), detail: detail.to_owned(), took_seconds: took.as_secs_f64() }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Waiting => "waiting",
            Stage::Applying => "applying",
            Stage::Undoing => "undoing",
            Stage::Restored => "restored",
            Stage::Nothing => "nothing to change",
            Stage::Failed => "FAILED",
            Stage::Restarted => "RESTARTED",
            Stage::Owed => "NOT UNDONE YET",
            Stage::LeftAlone => "LEFT ALONE",
            Stage::Taken => "taken by a rule",
            Stage::NotTried => "not tried",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::control::target::{Haproxy, Locator, Process, Target};
    use crate::policy::mitigation::Verb;
    use crate::policy::requester::Requester;

    fn drill() -> Drill {
        let target = Haproxy {
            socket: PathBuf::from("/run/haproxy/admin.sock"),
            frontends: Vec::new(),
            backends: Vec::new(),
            lease_table: "ng_lease".into(),
            ..Haproxy::default()
        };
        Drill::of(&[settings::Control { name: "edge".into(), target: Target::Haproxy(target) }])
    }

    #[test]
    fn what_a_control_was_not_declared_fit_for_is_left_out() {
        let verbs = |sacrificial| {
            let locator = Locator { cgroup: Some("system.slice/app.service".into()), ..Locator::default() };
            let target = Process { locator, workers: None, idle_io: false, sacrificial, kill_after_seconds: None };
            let drill = Drill::of(&[settings::Control { name: "app".into(), target: Target::Process(target) }]);
            drill.trials.iter().map(|trial| trial.mitigation.verb).collect::<Vec<_>>()
        };
        assert_eq!(verbs(false), [Verb::Throttle]);
        assert_eq!(verbs(true), [Verb::Throttle, Verb::Freeze]);
    }

    fn acted(id: u64, rule: impl Into<Requester>, outcome: Outcome) -> Event {
        Event::Acted {
            rule: rule.into(),
            id: ActionId(id),
            mitigation: drill().trials[0].mitigation.clone(),
            before: None,
            outcome,
            detail: "".into(),
            took: Duration::ZERO,
            freed_bytes: None,
        }
    }

    fn undone(id: u64, outcome: Outcome) -> Event {
        let mitigation = drill().trials[0].mitigation.clone();
        Event::Undone { id: ActionId(id), mitigation, outcome, detail: "".into(), took: Duration::ZERO }
    }

    fn stages(drill: &Drill) -> Vec<Stage> {
        drill.trials.iter().map(|trial| trial.stage).collect()
    }

    #[test]
    fn one_thing_after_the_other_and_each_comes_back() {
        let mut drill = drill();
        for id in 1..=3 {
            assert!(drill.next().is_some());
            drill.began(Some(ActionId(id)));
            assert_eq!(drill.next(), None, "one at a time");
            assert!(drill.note(&acted(id, Requester::drill(), Outcome::Applied)));
            assert_eq!(drill.next(), None);
            assert!(drill.note(&undone(id, Outcome::Applied)));
        }
        assert!(drill.is_over() && drill.view().ok, "{:?}", drill.view());
        assert!(!drill.note(&undone(9, Outcome::Applied)), "none of this drill's");
    }

    #[test]
    fn what_is_owed_keeps_a_drill_open_and_never_calls_it_well() {
        let mut drill = drill();
        drill.began(Some(ActionId(1)));
        drill.note(&acted(1, Requester::drill(), Outcome::TimedOut));
        let mitigation = drill.trials[0].mitigation.clone();
        let retry_in = Duration::from_secs(1);
        drill.note(&Event::Owed {
            id: ActionId(1),
            mitigation,
            outcome: Outcome::TimedOut,
            detail: "".into(),
            retry_in,
        });
        assert!(drill.next().is_some(), "the others need not wait for it");
        drill.give_up();
        assert_eq!(stages(&drill), [Stage::Owed, Stage::NotTried, Stage::NotTried]);
        assert!(!drill.is_over());
        drill.note(&undone(1, Outcome::Applied));
        assert!(drill.is_over() && !drill.view().ok, "the others were not tried");
    }

    #[test]
    fn only_what_was_read_back_twice_is_called_restored() {
        let mut drill = drill();
        drill.begin(1);
        drill.began(Some(ActionId(1)));
        drill.note(&acted(1, Requester::drill(), Outcome::TimedOut));
        drill.note(&undone(1, Outcome::Already));
        drill.began(Some(ActionId(2)));
        drill.note(&acted(2, Requester::drill(), Outcome::Applied));
        drill.note(&undone(2, Outcome::EpochChanged));
        drill.began(Some(ActionId(3)));
        drill.note(&acted(3, Requester::drill(), Outcome::EpochChanged));
        assert_eq!(stages(&drill), [Stage::Failed, Stage::Restarted, Stage::Restarted]);
        assert!(drill.is_over() && !drill.view().ok);
    }

    #[test]
    fn a_rule_that_fires_ends_a_drill_and_a_hint_does_not() {
        let mut drill = drill();
        drill.begin(1);
        drill.began(Some(ActionId(1)));
        let fired = |severity| Event::Fired { rule: "cpu".into(), severity, because: String::new() };
        drill.note(&fired(Severity::Info));
        assert_eq!(stages(&drill), [Stage::Applying, Stage::Waiting, Stage::Waiting]);
        drill.note(&fired(Severity::Warning));
        assert_eq!(stages(&drill), [Stage::Applying, Stage::NotTried, Stage::NotTried]);
        drill.note(&acted(1, Requester::drill(), Outcome::Applied));
        drill.note(&undone(1, Outcome::Applied));
        assert!(drill.is_over() && !drill.view().ok);
    }

    #[test]
    fn a_plan_does_not_run() {
        let mut drill = drill();
        assert!(!drill.view().running);
        drill.begin(7);
        assert_eq!((drill.view().number, drill.view().running), (7, true));
    }

    #[test]
    fn what_came_of_it_is_counted() {
        let mut count = Count::default();
        for stage in [Stage::Restored, Stage::Nothing, Stage::Failed, Stage::Taken, Stage::NotTried] {
            count.add(stage);
        }
        assert_eq!(count.to_string(), "2 tried, 1 restored, 3 left out; 1 could not be done");
        count.add(Stage::Restarted);
        assert_eq!(count.to_string(), "3 tried, 1 restored, 3 left out; 1 could not be done; 1 did not come back");
    }

    #[test]
    fn a_share_that_changes_nothing_is_tried_once_more_and_stronger() {
        let mut drill = drill();
        drill.began(Some(ActionId(1)));
        drill.note(&acted(1, Requester::drill(), Outcome::Already));
        assert_eq!(drill.next().map(|next| next.amount), Some(STRONGER));
        drill.began(Some(ActionId(2)));
        drill.note(&acted(2, Requester::drill(), Outcome::Already));
        assert_eq!(drill.trials[0].stage, Stage::Nothing);
    }

    #[test]
    fn what_a_rule_wants_meanwhile_is_the_rules() {
        let mut drill = drill();
        drill.began(Some(ActionId(1)));
        drill.note(&acted(1, Requester::drill(), Outcome::Applied));
        drill.note(&acted(1, "memory-high", Outcome::Applied));
        assert_eq!(drill.trials[0].stage, Stage::Taken);
        assert!(drill.next().is_some());
        drill.began(None);
        assert_eq!(stages(&drill)[..2], [Stage::Taken, Stage::Taken]);
        drill.give_up();
        assert!(drill.is_over() && !drill.view().ok);
    }
}
