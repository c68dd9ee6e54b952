//! Numbers of applications that rules ask for: fetched every so often by those who act, and put into each sample while
//! they are fresh. Only what some rule names is asked for; what is old is unknown.

use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Settings;
use crate::control::service;
use crate::policy::metric::{Family, Metric};
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;

/// A round trip takes an application well under a millisecond (45 us measured).
const EVERY: Duration = Duration::from_secs(2);
/// Three answers were missed, one of them by running into the deadline of a conversation.
const OLD_AFTER: Duration = Duration::from_secs(8);

#[derive(Default)]
pub struct Numbers {
    wanted: Vec<Wanted>,
    /// Of `wanted`, as the sample names them.
    instances: Vec<String>,
    controls: Vec<Asked>,
}

struct Wanted {
    metric: Metric,
    control: Arc<str>,
    number: String,
    known: Option<(f64, Moment)>,
}

struct Asked {
    control: Arc<str>,
    due: Moment,
    /// Since when an answer is waited for.
    waiting: Option<Moment>,
}

impl Numbers {
    /// What the rules of this plan ask for, of controls that there are. What is known stays known.
    pub fn expect(&mut self, plan: &Plan, settings: &Settings, now: Moment) {
        let earlier = std::mem::take(&mut self.wanted);
        self.instances.clear();
        self.controls.clear();
        for operand in plan.operands().iter().filter(|operand| operand.metric.family() == Family::App) {
            let Some(instance) = &operand.selector else { continue };
            let Some((control, number)) = instance.split_once('.') else { continue };
            let Some(control) = settings.controls.iter().find(|known| *known.name == *control) else { continue };
            if self.instances.contains(instance) {
                continue;
            }
            let control = Arc::clone(&control.name);
            if self.controls.iter().all(|asked| asked.control != control) {
                self.controls.push(Asked { control: Arc::clone(&control), due: now, waiting: None });
            }
            let known = earlier.iter().find(|known| known.control == control && known.number == number);
            let known = known.and_then(|known| known.known);
            self.wanted.push(Wanted { metric: operand.metric, control, number: number.to_owned(), known });
            self.instances.push(instance.clone());
        }
    }

    /// Whom to ask now. Whoever has not answered is not asked again, unless he never will.
    pub fn due(&mut self, now: Moment) -> impl Iterator<Item = Arc<str>> + '_ {
        let is_due = move |asked: &&mut Asked| {
            now >= asked.due && asked.waiting.is_none_or(|since| now.since(since) > 4 * OLD_AFTER)
        };
        self.controls.iter_mut().filter(is_due).map(move |asked| {
            asked.due = now + EVERY;
            asked.waiting = Some(now);
            Arc::clone(&asked.control)
        })
    }

    pub fn note(&mut self, now: Moment, control: &str, numbers: &service::Numbers) {
        for asked in self.controls.iter_mut().filter(|asked| *asked.control == *control) {
            asked.waiting = None;
        }
        for wanted in self.wanted.iter_mut().filter(|wanted| *wanted.control == *control) {
            if let Some((_, value)) = numbers.iter().find(|(name, _)| *name == wanted.number) {
                wanted.known = Some((*value, now));
            }
        }
    }

    pub fn fill(&self, now: Moment, sample: &mut Sample) {
        sample.set_instances(Family::App, &self.instances);
        for (row, wanted) in self.wanted.iter().enumerate() {
            let fresh = wanted.known.filter(|(_, at)| now.since(*at) <= OLD_AFTER);
            let age = fresh.map_or(Duration::ZERO, |(_, at)| now.since(at));
            sample.set_instance_read(wanted.metric, row, fresh.map(|(value, _)| value), age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Control;
    use crate::control::address::Address;
    use crate::control::target::{App, Target};
    use crate::policy::condition::Operand;

    fn numbers() -> Numbers {
        let target = Target::App(App {
            address: Address::Tcp("127.0.0.1:1".into()),
            uid: None,
            token_file: None,
            tiers: Vec::new(),
        });
        let mut settings = Settings::default();
        settings.controls.push(Control { name: "api".into(), target });
        let mut rule = settings.policy.rules[0].clone();
        let text =
            "app[\"api\"].inflight > 5 or avg(app[\"api\"].inflight, 5s) > 3 or app[\"gone\"].cache_bytes > 1MiB";
        rule.when = crate::policy::condition::parse(text).unwrap();
        settings.policy.rules = vec![rule];
        let plan = Plan::new(settings.policy.clone());
        assert!(plan.operands().iter().any(|operand: &Arc<Operand>| operand.metric == Metric::AppBytes));
        let mut numbers = Numbers::default();
        numbers.expect(&plan, &settings, Moment::ORIGIN);
        numbers
    }

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn only_what_is_wanted_is_asked_for_and_only_once_at_a_time() {
        let mut numbers = numbers();
        let mut ask = |second| numbers.due(at(second)).map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(ask(0), ["api"]);
        assert_eq!(ask(9), [""; 0], "it has not answered");
        assert_eq!(ask(60), ["api"], "and never will");
        numbers.note(at(61), "api", &Vec::new());
        assert_eq!(numbers.due(at(61)).count(), 0);
        assert_eq!(numbers.due(at(62)).count(), 1);
    }

    #[test]
    fn what_is_old_is_unknown() {
        let mut numbers = numbers();
        let mut sample = Sample::default();
        let mut read = |numbers: &Numbers, second| {
            numbers.fill(at(second), &mut sample);
            sample.instance(Metric::AppNumber, sample.row(Family::App, "api.inflight").unwrap())
        };
        assert_eq!(read(&numbers, 0), None);
        numbers.note(at(1), "api", &vec![("inflight".to_owned(), 7.0), ("queue".to_owned(), 2.0)]);
        assert_eq!((read(&numbers, 2), read(&numbers, 9), read(&numbers, 10)), (Some(7.0), Some(7.0), None));
    }
}
