//! Copying out what others may see. Called after every tick, so it reuses what the view already holds.

use super::super::action::Action;
use super::super::condition::Function;
use super::super::metric::Metric;
use super::super::mitigation::{ActionId, Lasting, Mitigation};
use super::super::resource::Resource;
use super::super::view::View;
use super::Guardian;

impl Guardian {
    /// What an action is about, while the ledger holds it.
    #[must_use]
    pub fn mitigation_of(&self, id: ActionId) -> Option<&Mitigation> {
        self.in_force.all().iter().find(|action| action.id() == id).map(|action| action.mitigation())
    }

    /// Everything lasting that is not known to be undone.
    pub fn owed(&self) -> impl Iterator<Item = &Action> {
        self.in_force.all().iter().filter(|action| action.mitigation().verb.lasting() == Lasting::InForce)
    }

    pub fn show(&self, view: &mut View) {
        view.mode = self.mode.mode();
        view.mode_since = self.mode.since();
        view.hold = self.mode.hold();
        view.hold_until = self.mode.hold_until();
        view.rules.clear();
        view.rules.extend(self.lives.iter().zip(self.plan.rules()).map(|(life, rule)| life.view(rule)));
        for (shown, stand) in view.rules.iter_mut().zip(&self.stands) {
            (shown.stood_down, shown.retries_at) = (stand.down_since(), stand.retries_at());
            shown.unjudged = stand.unjudged_since();
        }
        view.turns_away = self.turns_away();
        view.orders.clone_from(&self.orders);
        view.services.clone_from(&self.services);
        self.troubles.all().clone_into(&mut view.troubled);
        view.steps.clear();
        view.steps.extend(self.steps.iter().map(|memory| memory.view));
        view.slots.clear();
        view.slots.extend(self.slots.readings().iter().map(|reading| reading.known()));
        self.show_exhaustion(view);
        view.actions.clear();
        let effect = |action: &Action| action.step().and_then(|flat| self.steps[flat].view.effect);
        view.actions.extend(self.in_force.all().iter().map(|action| action.view(effect(action))));
    }

    /// The soonest believable forecast of each resource, from the rules that ask for one.
    fn show_exhaustion(&self, view: &mut View) {
        view.exhaustion.clear();
        // Once and for all, so that the first forecast of a calm node allocates nothing.
        view.exhaustion.reserve(Resource::ALL.len());
        for (operand, reading) in self.plan.operands().iter().zip(self.slots.readings()) {
            let forecast = matches!(operand.function, Some(Function::TimeTo(_)));
            let seconds = reading.known().filter(|seconds| forecast && seconds.is_finite());
            let (Some(resource), Some(seconds)) = (resource(operand.metric), seconds) else { continue };
            match view.exhaustion.iter_mut().find(|(known, _)| *known == resource) {
                Some((_, soonest)) => *soonest = soonest.min(seconds),
                None => view.exhaustion.push((resource, seconds)),
            }
        }
    }
}

fn resource(metric: Metric) -> Option<Resource> {
    let prefix = metric.name().split('.').next()?;
    Resource::ALL.into_iter().find(|resource| resource.name() == prefix)
}
