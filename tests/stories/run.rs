//! One story, told to a guardian in a world: time goes on, commands are performed in their turn, answers come when they
//! come. After each step the laws are asked.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use node_guardian::policy::event::Mode;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::Metric;
use node_guardian::policy::mitigation::{
    ActionId, Amount, Answered, Class, Command, Mitigation, Outcome, Report, Verb,
};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::sample::Sample;
use node_guardian::policy::view::View;

use crate::laws::{Broken, Laws};
use crate::rules::{CALM, FIRST, Node, Setup, plan};
use crate::story::Happening;
use crate::world::{World, report};

/// What the guardian was told and what it said, where somebody wants to read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    Nothing,
    All,
}

pub struct Run {
    guardian: Guardian,
    world: World,
    laws: Laws,
    setup: Setup,
    node: Node,
    now: Moment,
    out: Decisions,
    view: View,
    next_id: u64,
    tell: Tell,
    pub text: String,
}

impl Run {
    pub fn new(tell: Tell) -> Self {
        let now = Moment::at(Duration::from_secs(1000));
        let mut out = Decisions::default();
        let guardian = Guardian::new(now, plan(FIRST), Vec::new(), ActionId(1), &mut out);
        Self {
            guardian,
            world: World::new(),
            laws: Laws::default(),
            setup: FIRST,
            node: CALM,
            now,
            out,
            view: View::default(),
            next_id: 1,
            tell,
            text: String::new(),
        }
    }

    /// Tells all of it, and then calm, in which everything has to be as it was.
    pub fn through(&mut self, story: &[Happening]) -> Result<(), Broken> {
        for happening in story {
            self.say(|| format!("== {happening:?}"));
            self.happen(*happening)?;
        }
        self.calm()
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Reads(node) => {
                self.node = node;
                self.pass(Duration::from_millis(100))?;
                self.look()
            }
            Happening::Looks(times, apart) => (0..times).try_for_each(|_| {
                self.pass(apart)?;
                self.look()
            }),
            Happening::Gap(lasts) => self.pass(lasts),
            Happening::Mood(target, mood) => {
                self.world.change_mood(self.now, target, mood);
                Ok(())
            }
            Happening::Sets(target, verb, value) => {
                self.world.is_set(target, verb, value);
                Ok(())
            }
            Happening::Restarts(target) => {
                self.world.restarts(target);
                Ok(())
            }
            Happening::Undo(which) => {
                let ids = self.named(which);
                self.laws.undone(&self.guardian, &ids, self.now);
                self.step(Input::Undo { ids: &ids, by: "a story".into() })
            }
            Happening::Forget(which) => {
                let ids = self.named(which);
                self.step(Input::Forget { ids: &ids, by: "a story".into() })
            }
            Happening::Pause(lasts, hold) => {
                let until = self.now + lasts;
                self.laws.paused(until);
                self.step(Input::Pause { until, hold, by: "a story".into() })
            }
            Happening::Resume(which) => {
                let ids = self.named_undone(which);
                self.laws.resumed(&ids);
                self.step(Input::Resume { ids: &ids, by: "a story".into() })
            }
            Happening::Usable(target) => self.step(Input::Usable(target)),
            Happening::Drill => self.drill(),
            Happening::Reload(setup) => self.reload(setup),
            Happening::Stops => {
                self.step(Input::Stopping)?;
                self.pass(Duration::from_secs(5))?;
                self.begin_again()
            }
            Happening::Dies => self.begin_again(),
        }
    }

    fn reload(&mut self, setup: Setup) -> Result<(), Broken> {
        self.setup = setup;
        self.laws.reloaded();
        self.guardian.reload(self.now, plan(setup));
        self.look()
    }

    fn drill(&mut self) -> Result<(), Broken> {
        let wish = Mitigation { control: "shop".into(), verb: Verb::Drain, amount: Amount::Whole };
        self.step(Input::Drill(&wish))
    }

    fn begin_again(&mut self) -> Result<(), Broken> {
        self.world.forget_commands();
        self.laws.ends(&self.guardian);
        let orders = self.guardian.orders().clone();
        let inherited = self.world.inherited();
        self.guardian = Guardian::new(self.now, plan(self.setup), inherited, ActionId(self.next_id), &mut self.out);
        self.guardian.restore_orders(self.now, orders, &mut self.out);
        self.laws.began_again(&self.world);
        self.look()
    }

    /// The ids of what there is, or an empty list for all.
    fn named(&mut self, which: Option<u8>) -> Vec<ActionId> {
        let Some(place) = which else { return Vec::new() };
        self.guardian.show(&mut self.view);
        let known = self.view.actions.get(usize::from(place)).map(|action| action.id);
        vec![known.unwrap_or(ActionId(u64::MAX))]
    }

    fn named_undone(&self, which: Option<u8>) -> Vec<ActionId> {
        let Some(place) = which else { return Vec::new() };
        let known = self.guardian.orders().undone().get(usize::from(place)).map(|undone| undone.id);
        vec![known.unwrap_or(ActionId(u64::MAX))]
    }

    /// Time goes on; what is due meanwhile is done and answered.
    fn pass(&mut self, lasts: Duration) -> Result<(), Broken> {
        let until = self.now + lasts;
        while let Some((ready, target, command)) = self.world.next_due(until) {
            self.now = self.now.max(ready);
            let report = self.perform(target, &command)?;
            self.say(|| format!("   {command}: {}", report.outcome));
            self.laws.answered(&self.guardian, &self.world, &report);
            self.step(Input::Reported(report))?;
        }
        self.now = until;
        Ok(())
    }

    /// As the workers do: what is too old is not done, and what loses something asks before.
    fn perform(&mut self, target: usize, command: &Command) -> Result<Report, Broken> {
        if let Command::Apply { id, mitigation, class, valid_until, .. } = command {
            let expired = report(*id, Answered::Apply, Outcome::Expired);
            if self.now > *valid_until {
                return Ok(expired);
            }
            if *class >= Class::Lossy {
                self.look()?;
                if !self.guardian.still_wants(*id) {
                    return Ok(expired);
                }
                self.laws.may_lose(&self.guardian, mitigation, self.node)?;
            }
        }
        self.laws.performs(&self.world, target, command)?;
        Ok(self.world.perform(target, command))
    }

    fn look(&mut self) -> Result<(), Broken> {
        let mut sample = Sample::new(self.now);
        sample.set(Metric::MemoryAvailablePercent, self.node.memory);
        sample.set(Metric::CpuUsedPercent, self.node.cpu);
        self.laws.looked(self.node);
        self.step(Input::Sampled(&sample))
    }

    fn step(&mut self, input: Input<'_>) -> Result<(), Broken> {
        self.guardian.step(self.now, input, &mut self.out);
        if self.tell == Tell::All {
            let told: Vec<String> = self.out.events.iter().map(|event| format!("{} {event}", self.now)).collect();
            self.text.push_str(&told.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
        self.out.events.clear();
        if !self.out.commands.is_empty() {
            self.guardian.show(&mut self.view);
            self.laws.one_action_per_knob(&self.view)?;
        }
        for command in std::mem::take(&mut self.out.commands) {
            self.say(|| format!("-> {command}"));
            self.next_id = self.next_id.max(command.id().0 + 1);
            self.laws.given(self.now, &self.guardian, &self.view, &self.world, &command)?;
            if let Command::Forget { .. } = command {
                self.world.perform(0, &command);
            } else {
                self.world.give(self.now, self.setup, command);
            }
        }
        Ok(())
    }

    /// Everything answers, nothing is wrong any more, no operator wants anything: in the end nothing of us is left.
    fn calm(&mut self) -> Result<(), Broken> {
        self.say(|| "== calm".to_owned());
        self.node = CALM;
        self.world.works_again(self.now);
        self.laws.resumed(&[]);
        self.step(Input::Resume { ids: &[], by: "calm".into() })?;
        if self.setup.level < FIRST.level || self.setup.dry_run {
            self.reload(Setup { level: FIRST.level, dry_run: false, ..self.setup })?;
        }
        for _ in 0..400 {
            self.pass(Duration::from_secs(1))?;
            self.look()?;
            if self.is_calm() {
                break;
            }
        }
        self.guardian.show(&mut self.view);
        match self.world.left_behind() {
            _ if self.guardian.mode() != Mode::Normal => {
                Err(Broken("the end is calm", format!("the mode is {}", self.guardian.mode())))
            }
            _ if !self.guardian.owes_nothing() => {
                Err(Broken("nothing is left", format!("actions are left: {:?}", self.view.actions)))
            }
            _ if !self.world.entries.is_empty() => {
                Err(Broken("nothing is left", format!("the journal has {:?}", self.world.entries)))
            }
            Some(left) => Err(Broken("nothing is left", left)),
            None if !self.laws.is_quiet(&self.view) => {
                Err(Broken("the end is calm", "a rule never came to rest".to_owned()))
            }
            None => Ok(()),
        }
    }

    fn is_calm(&mut self) -> bool {
        if self.guardian.mode() != Mode::Normal || !self.guardian.owes_nothing() {
            return false;
        }
        self.guardian.show(&mut self.view);
        self.laws.is_quiet(&self.view)
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        if self.tell == Tell::All {
            let now = self.now;
            self.text.push_str(&format!("{now} {}\n", words()));
        }
    }
}

/// The text of a run, for whoever has to understand it.
pub fn told(story: &[Happening]) -> String {
    let mut run = Run::new(Tell::All);
    let end = panic::catch_unwind(AssertUnwindSafe(|| run.through(story)));
    let why = end.map_or_else(
        |_| "it panicked".to_owned(),
        |end| end.err().map_or_else(String::new, |Broken(law, why)| format!("{law}: {why}")),
    );
    format!("{}\n{why}", run.text)
}
