//! What must never happen, whatever a story tells. The laws keep their own books: of what they need to know they ask the
//! policy only what its rules are doing.

use node_guardian::policy::guardian::Guardian;
use node_guardian::policy::mitigation::{
    ActionId, Answered, Class, Command, Knob, Lasting, Mitigation, Outcome, Report,
};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::orders::QUIET_FOR;
use node_guardian::policy::view::{State, View};

use crate::rules::{Node, holds};
use crate::world::World;

/// Which law, and by what.
#[derive(Debug)]
pub struct Broken(pub &'static str, pub String);

/// Since when a rule wants a knob without a break.
#[derive(Clone, Copy, PartialEq)]
enum Since {
    /// The how manieth firing it is.
    Firing(u64),
    /// A guardian that has ended: it has held at each look of those that came after it.
    Before,
}

#[derive(Default)]
pub struct Laws {
    /// Knobs that somebody else has set, with the rules that wanted them then.
    theirs: Vec<(Knob, Vec<(String, Since)>)>,
    undone: Vec<(Knob, ActionId, Moment)>,
    paused_until: Option<Moment>,
    /// As last given and answered, of what is in force.
    known: Vec<(ActionId, Mitigation)>,
    /// The same where an answer was lost: as the policy has to believe.
    believed: Vec<(ActionId, Mitigation)>,
    view: View,
}

impl Laws {
    /// One action per target and verb.
    pub fn one_action_per_knob(&self, view: &View) -> Result<(), Broken> {
        let lasting = |at: usize| view.actions[at].mitigation.verb.lasting() == Lasting::InForce;
        for at in (0..view.actions.len()).filter(|at| lasting(*at)) {
            for other in (at + 1..view.actions.len()).filter(|other| lasting(*other)) {
                let (one, two) = (&view.actions[at], &view.actions[other]);
                if one.target == two.target && one.mitigation.verb == two.mitigation.verb {
                    return Err(Broken("one action per knob", format!("{} and {} are on one knob", one.id, two.id)));
                }
            }
        }
        Ok(())
    }

    /// A command was given.
    pub fn given(
        &mut self,
        now: Moment,
        guardian: &Guardian,
        view: &View,
        world: &World,
        command: &Command,
    ) -> Result<(), Broken> {
        let id = command.id();
        // An undo need not wait until what it undoes is answered: who performs it does one after the other.
        let is_behind = matches!(command, Command::Undo { .. }) && world.is_asked_to_apply_alone(id);
        if world.is_asked(id) && !is_behind && !matches!(command, Command::Forget { .. }) {
            return Err(Broken(
                "one command at a time per action",
                format!("{command} while another command on {id} is under way"),
            ));
        }
        let Command::Apply { mitigation, rule, class, .. } = command else { return Ok(()) };
        if *class >= Class::Lossy && world.losing() > 0 {
            return Err(Broken(
                "one loss at a time",
                format!("{command} while something else that loses is under way"),
            ));
        }
        let before = self.known.iter().find(|(known, _)| *known == id).map(|(_, mitigation)| mitigation);
        if let Some(before) = before {
            gives_back_by_halves(before, mitigation)?;
        }
        let there = self.believed.iter().find(|(known, _)| *known == id).map(|(_, mitigation)| mitigation);
        let eases = before.or(there).is_some_and(|before| !mitigation.amount.is_stronger_than(before.amount));
        if rule.is_drill() || eases {
            return Ok(());
        }
        let plan = guardian.plan();
        if plan.policy.dry_run || !plan.policy.level.allows(*class) {
            return Err(Broken("level and dry run", format!("{command}, which the level or the dry run forbids")));
        }
        if self.paused_until.is_some_and(|until| now < until) {
            return Err(Broken("pause", format!("{command} in a pause")));
        }
        // What is in force stays with its target, wherever its control leads now.
        let there = view.actions.iter().find(|action| action.id == id);
        let knob = there.map_or_else(
            || plan.knob(mitigation),
            |action| Knob { target: action.target.clone(), verb: mitigation.verb },
        );
        if self.undone.iter().any(|(undone, _, since)| *undone == knob && now.since(*since) < QUIET_FOR) {
            return Err(Broken("what an operator undid", format!("{command}, which an operator has undone")));
        }
        self.respects_theirs(view, guardian, &knob, command)
    }

    /// What somebody else set is theirs for as long as the rules that wanted it then fire without a break.
    fn respects_theirs(&self, view: &View, guardian: &Guardian, knob: &Knob, command: &Command) -> Result<(), Broken> {
        let Some((_, rules)) = self.theirs.iter().find(|(theirs, _)| theirs == knob) else { return Ok(()) };
        if rules.iter().any(|(name, since)| is_wanted_still(view, guardian, name, *since)) {
            Err(Broken("what is somebody else's", format!("{command}, which somebody else has set")))
        } else {
            Ok(())
        }
    }

    pub fn answered(&mut self, guardian: &Guardian, world: &World, report: &Report) {
        let Some(mitigation) = guardian.mitigation_of(report.id).cloned() else { return };
        self.believed.retain(|(id, _)| *id != report.id);
        self.believed.push((report.id, mitigation.clone()));
        match (report.answered, report.outcome) {
            (Answered::Apply, Outcome::Applied) => {
                self.known.retain(|(id, _)| *id != report.id);
                self.known.push((report.id, mitigation));
            }
            (Answered::Verify, Outcome::Applied) if self.known.iter().all(|(id, _)| *id != report.id) => {
                let read_back =
                    world.entries.iter().find(|entry| entry.id == report.id && entry.mitigation == mitigation);
                self.known.extend(read_back.map(|entry| (report.id, entry.mitigation.clone())));
            }
            // Nobody knows what is there.
            (Answered::Apply | Answered::Undo, Outcome::TimedOut) => self.known.retain(|(id, _)| *id != report.id),
            (Answered::Apply | Answered::Verify | Answered::Undo, Outcome::Overridden) => {
                self.is_theirs(guardian, report.id);
            }
            _ => {}
        }
    }

    fn is_theirs(&mut self, guardian: &Guardian, id: ActionId) {
        guardian.show(&mut self.view);
        let Some(action) = self.view.actions.iter().find(|action| action.id == id) else { return };
        let knob = Knob { target: action.target.clone(), verb: action.mitigation.verb };
        // That is an order of its own.
        if self.undone.iter().any(|(undone, ..)| *undone == knob) {
            return;
        }
        let plan = guardian.plan();
        let wants = |index: &usize| {
            let (rule, life) = (&plan.rules()[*index], &self.view.rules[*index]);
            let taken = rule.steps.iter().take(life.taken);
            life.state == State::Firing && taken.into_iter().any(|step| plan.knob(&step.mitigation) == knob)
        };
        let rules = (0..plan.rules().len()).filter(wants);
        let since = |index: usize| Since::Firing(self.view.rules[index].fired);
        let rules = rules.map(|index| (plan.rules()[index].name.to_string(), since(index))).collect();
        self.theirs.retain(|(known, _)| *known != knob);
        self.theirs.push((knob, rules));
    }

    /// What loses something is done only while its rule fires, and what it fires for is so.
    pub fn may_lose(&mut self, guardian: &Guardian, wish: &Mitigation, node: Node) -> Result<(), Broken> {
        guardian.show(&mut self.view);
        let plan = guardian.plan();
        let allowed = plan.rules().iter().zip(&self.view.rules).any(|(rule, life)| {
            let step = rule.steps.iter().find(|step| step.mitigation == *wish);
            life.state == State::Firing
                && holds(&rule.name, node) == Some(true)
                && step.is_some_and(|step| plan.policy.level.allows(step.class))
        });
        if allowed {
            Ok(())
        } else {
            Err(Broken("a loss needs its rule", format!("{wish}, while no rule that wants it holds in {node:?}")))
        }
    }

    /// A new change is never made on a knob where the journal has another.
    pub fn performs(&self, world: &World, target: usize, command: &Command) -> Result<(), Broken> {
        let Command::Apply { id, mitigation, .. } = command else { return Ok(()) };
        if mitigation.verb.lasting() == Lasting::Once || world.entries.iter().any(|entry| entry.id == *id) {
            return Ok(());
        }
        let other =
            world.entries.iter().find(|entry| entry.target == target && entry.mitigation.verb == mitigation.verb);
        other.map_or(Ok(()), |other| {
            Err(Broken("one change per knob", format!("{command}, where {} is in force", other.id)))
        })
    }

    pub fn undone(&mut self, guardian: &Guardian, ids: &[ActionId], now: Moment) {
        guardian.show(&mut self.view);
        for action in self.view.actions.iter().filter(|action| ids.is_empty() || ids.contains(&action.id)) {
            let knob = Knob { target: action.target.clone(), verb: action.mitigation.verb };
            self.theirs.retain(|(theirs, _)| *theirs != knob);
            self.undone.retain(|(undone, ..)| *undone != knob);
            self.undone.push((knob, action.id, now));
        }
    }

    pub fn resumed(&mut self, ids: &[ActionId]) {
        self.undone.retain(|(_, id, _)| !ids.is_empty() && !ids.contains(id));
        if ids.is_empty() {
            self.paused_until = None;
        }
    }

    pub const fn paused(&mut self, until: Moment) {
        self.paused_until = Some(until);
    }

    /// What the rules want may be something else now.
    pub fn reloaded(&mut self) {
        self.theirs.clear();
    }

    /// This guardian is over: what was somebody else's under it is so under the next.
    pub fn ends(&mut self, guardian: &Guardian) {
        guardian.show(&mut self.view);
        for (_, rules) in &mut self.theirs {
            rules.retain(|(name, since)| is_wanted_still(&self.view, guardian, name, *since));
            rules.iter_mut().for_each(|(_, since)| *since = Since::Before);
        }
    }

    /// The node was looked at: a rule that does not hold then wants nothing any more.
    pub fn looked(&mut self, node: Node) {
        for (_, rules) in &mut self.theirs {
            rules.retain(|(name, since)| *since != Since::Before || holds(name, node) != Some(false));
        }
    }

    /// What is in force is what the journal says.
    pub fn began_again(&mut self, world: &World) {
        self.known = world.entries.iter().map(|entry| (entry.id, entry.mitigation.clone())).collect();
        self.believed.clone_from(&self.known);
    }

    pub fn is_quiet(&self, view: &View) -> bool {
        view.rules.iter().all(|life| matches!(life.state, State::Quiet | State::Cooling))
    }
}

fn is_wanted_still(view: &View, guardian: &Guardian, name: &str, since: Since) -> bool {
    let Some(index) = guardian.plan().rule_named(name) else { return false };
    match since {
        Since::Firing(fired) => view.rules[index].state == State::Firing && view.rules[index].fired == fired,
        Since::Before => true,
    }
}

/// However it comes about, an adjustment lets in at most twice as much, and at most half of what was withheld.
fn gives_back_by_halves(before: &Mitigation, after: &Mitigation) -> Result<(), Broken> {
    let (Some(was), Some(kept)) = (before.amount.kept_percent(), after.amount.kept_percent()) else { return Ok(()) };
    let half = f64::midpoint(was, 100.0);
    let twice = (2.0 * was).max(5.0).max(was) + 0.5;
    // What half the way back leaves 10 points of may go at once.
    if kept <= twice && (kept <= half + 0.5 || half >= 89.5) {
        return Ok(());
    }
    Err(Broken("by halves", format!("{before} is let go to {after} at once")))
}
