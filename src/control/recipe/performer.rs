//! Performs a recipe over a line. Which values to write and which to leave alone is decided by `Control`, as for all
//! kinds; what is said to the service is the operator's, but for the values, which are never more than plain words.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::text::{EPOCH, PASSWORD, VALUE, begins, is_plain, taken};
use super::{Act, Heard, Knob, Line, Meaning, Peer, Recipe, Request, Step, Take, aim, password};
use crate::control::consent::Consent;
use crate::control::failure::Failure;
use crate::control::json::Found;
use crate::control::rights::Rights;
use crate::control::said;
use crate::control::service::{AfterRefusal, Aim, Done, Order, Probe, Service};
use crate::control::standing::Live;
use crate::control::undo::{Change, Undo};
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use crate::policy::unit::Unit;

const MEMORY_SETTLE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);
/// Less than this is what a resident set moves by anyway.
const NOISE_BYTES: i64 = 1 << 20;

pub struct Performer {
    kind: &'static str,
    recipe: Recipe,
    line: Box<dyn Line>,
}

/// What every request of one conversation may name.
#[derive(Default)]
struct Talk {
    epoch: String,
    password: String,
    peer: Option<Peer>,
}

impl Talk {
    fn words<'a>(&'a self, value: &'a str) -> [(&'a str, &'a str); 3] {
        [(VALUE, value), (EPOCH, &self.epoch), (PASSWORD, &self.password)]
    }
}

#[async_trait(?Send)]
impl Service for Performer {
    fn name(&self) -> &'static str {
        self.kind
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let talk = self.begin().await?;
        let (mut rights, mut values) = (Rights::default(), Vec::new());
        for verb in self.recipe.verbs.clone() {
            let found = self.readable(verb, &talk).await;
            rights.note(verb, found.map(|found| values.extend(found)))?;
        }
        let told = [format!("{} answers", self.line.place()), rights.told()?].into_iter().chain(values);
        Ok(Probe::usable(told.collect::<Vec<_>>().join("; ")))
    }

    /// The survey reads what is to be put back.
    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        if !self.recipe.verbs.contains(&verb) {
            return Err(self.cannot(verb));
        }
        if self.recipe.questions(verb).next().is_none() {
            return Ok(());
        }
        let talk = self.begin().await?;
        self.allowed(verb, &talk).await
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let talk = self.begin().await?;
        let mut changes = Vec::new();
        for at in 0..self.recipe.knobs.len() {
            if self.recipe.knobs[at].verb != mitigation.verb {
                continue;
            }
            let prior = self.value(at, &talk).await?;
            let knob = &self.recipe.knobs[at];
            if let Some(wanted) = aim::value(knob, &prior, mitigation.amount)? {
                changes.push(Change::new(knob.name.as_str(), prior, vec![wanted]));
            }
        }
        Ok(Undo { epoch: talk.epoch, changes, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let aim = |change: &Change| {
            let knob = &self.recipe.knobs[self.knob(&change.key)?];
            Ok(aim::value(knob, &change.prior, mitigation.amount)?.unwrap_or_else(|| change.prior.clone()))
        };
        undo.changes.iter().map(aim).collect()
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        let knows = !self.recipe.knobs.is_empty();
        Ok(if knows { Some(self.begin().await?.epoch) } else { None })
    }

    /// Services of different recipes may call their lives the same, and so each value has a name of its own.
    fn names(&self, life: &str) -> Vec<String> {
        let set = |knob: &Knob| serde_json::to_string(&knob.set).ok();
        self.recipe.knobs.iter().filter_map(set).map(|set| format!("{set} {life}")).collect()
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let talk = self.begin().await?;
        let mut values = Vec::with_capacity(undo.changes.len());
        for change in &undo.changes {
            let at = self.knob(&change.key)?;
            values.push(self.value(at, &talk).await?);
        }
        Ok(Live { epoch: talk.epoch, values })
    }

    /// The first failure, where one does not keep the others from being tried.
    async fn write(&mut self, epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        let mut first = Ok(());
        for order in orders {
            let Err(failure) = self.give(epoch, order).await else { continue };
            let was_heard = matches!(failure.outcome, Outcome::Refused | Outcome::Unsupported);
            first = first.and(Err(failure));
            if after == AfterRefusal::Stop || !was_heard {
                break;
            }
        }
        first
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        aim::strictness(self.recipe.knob(key)?, value)
    }

    /// Some write down what they are told: PostgreSQL after `ALTER SYSTEM`.
    fn outlives(&self, _key: &str) -> bool {
        true
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        let mut all = Done { outcome: Outcome::NoEffect, detail: String::new(), freed_bytes: None };
        for at in 0..self.recipe.acts.len() {
            if self.recipe.acts[at].verb != mitigation.verb {
                continue;
            }
            if !all.detail.is_empty()
                && let Err(why) = consent.goes_on().await
            {
                all.detail.push_str(&format!("; stopped before the next act: {why}"));
                break;
            }
            let done = self.act(at, consent).await?;
            if done.outcome == Outcome::Applied {
                all.outcome = Outcome::Applied;
            }
            let separator = if all.detail.is_empty() { "" } else { "; " };
            all.detail.push_str(&format!("{separator}{}", done.detail));
            all.freed_bytes = all.freed_bytes.or(done.freed_bytes);
        }
        Ok(all)
    }
}

impl Performer {
    #[must_use]
    pub fn new(kind: &'static str, recipe: Recipe, line: Box<dyn Line>) -> Self {
        Self { kind, recipe, line }
    }

    async fn begin(&mut self) -> Result<Talk, Failure> {
        let password = self.recipe.password_file.as_deref().map(password).transpose()?.unwrap_or_default();
        let mut talk = Talk { password, ..Talk::default() };
        talk.peer = self.line.begin(&talk.words("")).await.map_err(|failure| hidden(failure, &talk.password))?;
        talk.epoch = match (self.recipe.epoch.clone(), talk.peer) {
            (Some(step), _) => {
                let epoch = self.took(&step, "epoch", &talk).await?;
                if epoch.is_empty() {
                    return Err(Failure::unsupported(format!(
                        "the `epoch` of {} is empty, so a restart cannot be seen: take a value that is always present",
                        self.line.place()
                    )));
                }
                epoch
            }
            (None, Some(peer)) => peer.epoch()?,
            // What leaves nothing in force needs none.
            (None, None) if self.recipe.knobs.is_empty() => String::new(),
            (None, None) => {
                return Err(Failure::unsupported(format!(
                    "the process behind {} is unknown, so a restart cannot be seen: add `epoch`",
                    self.line.place()
                )));
            }
        };
        Ok(talk)
    }

    fn knob(&self, name: &str) -> Result<usize, Failure> {
        let at = self.recipe.knobs.iter().position(|knob| knob.name == name);
        at.ok_or_else(|| Failure::unsupported(format!("this control cannot set `{name}`")))
    }

    /// As the service itself answers to the operator's question.
    async fn allowed(&mut self, verb: Verb, talk: &Talk) -> Result<(), Failure> {
        let questions: Vec<_> = self.recipe.questions(verb).map(|(may, name)| (may.clone(), name.to_owned())).collect();
        for (may, name) in questions {
            self.said(&may, &name, talk, "").await.map_err(|failure| Failure {
                detail: format!("the service does not allow it, as `may` says: {}", failure.detail),
                ..failure
            })?;
        }
        Ok(())
    }

    /// What can be read back, in words, where that is allowed.
    async fn readable(&mut self, verb: Verb, talk: &Talk) -> Result<Vec<String>, Failure> {
        self.allowed(verb, talk).await?;
        let mut told = Vec::new();
        for at in (0..self.recipe.knobs.len()).filter(|at| self.recipe.knobs[*at].verb == verb).collect::<Vec<_>>() {
            let value = self.value(at, talk).await?;
            let value = if value.is_empty() { "not set" } else { &value };
            told.push(format!("{} is {value}", self.recipe.knobs[at].name));
        }
        Ok(told)
    }

    async fn value(&mut self, at: usize, talk: &Talk) -> Result<String, Failure> {
        let Knob { read, name, .. } = self.recipe.knobs[at].clone();
        self.took(&read, &name, talk).await
    }

    /// Each in a conversation of its own: a service may close after each.
    async fn give(&mut self, epoch: &str, order: &Order<'_>) -> Result<(), Failure> {
        let knob = self.recipe.knobs[self.knob(order.key)?].clone();
        if !is_plain(order.value) {
            return Err(Failure::unsupported(format!("`{}` cannot be written to {}", order.value, knob.name)));
        }
        let talk = self.begin().await?;
        if talk.epoch != epoch {
            return Err(Failure::epoch_changed(self.kind));
        }
        let steps = if order.value.is_empty() && !knob.unset.is_empty() { &knob.unset } else { &knob.set };
        for step in steps {
            self.said(step, &knob.name, &talk, order.value).await?;
        }
        Ok(())
    }

    async fn act(&mut self, at: usize, consent: &Consent<'_>) -> Result<Done, Failure> {
        let Act { name, steps, memory, .. } = self.recipe.acts[at].clone();
        let talk = self.begin().await?;
        let before = if memory { Some(resident(talk.peer)?) } else { None };
        let mut told = None;
        for step in &steps {
            self.line.extend();
            // Which of its requests destroys, nobody says.
            consent.begin();
            let heard = self.said(step, &name, &talk, "").await?;
            if step.take.is_some() {
                let read = self.read_from(step, &name, &heard);
                told = Some(read.map_err(|failure| hidden(failure, &talk.password))?);
            }
        }
        let number = told.as_deref().map(|told| if told.is_empty() { "0" } else { told });
        let mut done = Done {
            outcome: if number == Some("0") { Outcome::NoEffect } else { Outcome::Applied },
            detail: number.map_or_else(|| format!("{name}: done"), |number| format!("{name}: {number}")),
            freed_bytes: None,
        };
        if let Some(before) = before {
            let after = lower(talk.peer, before).await?;
            let freed = i64::try_from(before).unwrap_or(i64::MAX) - i64::try_from(after).unwrap_or(i64::MAX);
            let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
            done.detail = format!("{}; resident {} → {}", done.detail, show(before), show(after));
            done.freed_bytes = Some(freed);
            done.outcome = if freed < NOISE_BYTES { Outcome::NoEffect } else { Outcome::Applied };
        }
        Ok(done)
    }

    /// The answer, which is as expected.
    async fn said(&mut self, step: &Step, what: &str, talk: &Talk, value: &str) -> Result<Heard, Failure> {
        let pointer = if let Some(Take::Json(pointer)) = &step.take { Some(pointer.as_str()) } else { None };
        let asked = self.line.ask(&step.request, &talk.words(value), pointer).await;
        let heard = asked.map_err(|failure| hidden(failure, &talk.password))?;
        match &step.expect {
            Some(expected) if !begins(expected, &heard.text) => {
                let (place, answer, expected) = (self.line.place(), clip(&heard.text), clip(expected));
                let failure = Failure::refused(format!("{what}: {place} answered `{answer}`, not `{expected}`"));
                Err(hidden(failure, &talk.password))
            }
            Some(_) | None => Ok(heard),
        }
    }

    async fn took(&mut self, step: &Step, what: &str, talk: &Talk) -> Result<String, Failure> {
        let heard = self.said(step, what, talk, "").await?;
        self.read_from(step, what, &heard).map_err(|failure| hidden(failure, &talk.password))
    }

    fn read_from(&self, step: &Step, what: &str, heard: &Heard) -> Result<String, Failure> {
        let answer = heard.text.as_str();
        let found = match &step.take {
            Some(Take::Pattern(pattern)) => taken(pattern, answer).map(str::to_owned),
            Some(Take::Json(_)) => match &heard.found {
                Some(Found::Value(value)) => Some(value.clone()),
                Some(Found::Nothing) => step.may_be_empty.then(String::new),
                // Not JSON is not nothing, and neither is a part of it.
                Some(Found::Part) | None => None,
            },
            None => Some(answer.trim_end().to_owned()),
        };
        let place = self.line.place();
        let Some(found) = found else {
            return Err(Failure::unsupported(format!(
                "{what}: not found in what {place} answers, `{}`: correct its `{}`",
                clip(answer),
                if matches!(step.take, Some(Take::Json(_))) { "json" } else { "take" }
            )));
        };
        let found = meant(&step.means, found.trim()).ok_or_else(|| {
            Failure::unsupported(format!("{what}: `{}` has no meaning in `means`: add one", clip(&found)))
        })?;
        if found.is_empty() && !step.may_be_empty {
            let help = "if that means that nothing is set, write may_be_empty = true";
            return Err(Failure::unsupported(format!("{what}: {place} answers with an empty value; {help}")));
        }
        if !is_plain(&found) {
            return Err(Failure::unsupported(format!(
                "{what}: `{}` is more than a plain value, so it could not be put back safely: narrow its `take`",
                clip(&found)
            )));
        }
        Ok(found)
    }
}

/// Some services answer with the command that they did not understand, and so with the password in it.
fn hidden(failure: Failure, password: &str) -> Failure {
    if password.is_empty() {
        return failure;
    }
    Failure { detail: failure.detail.replace(password, PASSWORD), ..failure }
}

fn meant(means: &[Meaning], found: &str) -> Option<String> {
    if means.is_empty() {
        return Some(found.to_owned());
    }
    means.iter().find(|meaning| found.contains(&meaning.has)).map(|meaning| meaning.value.clone())
}

fn resident(peer: Option<Peer>) -> Result<u64, Failure> {
    peer.and_then(Peer::resident).ok_or_else(|| {
        Failure::unsupported("the service's memory cannot be seen: leave out `memory`, or speak to it by a unix socket")
    })
}

/// What is resident once it falls no more.
async fn lower(peer: Option<Peer>, before: u64) -> Result<u64, Failure> {
    let until = Instant::now() + MEMORY_SETTLE;
    let mut last = before;
    loop {
        sleep(POLL * 2).await;
        let now = resident(peer)?;
        if Instant::now() > until || (now >= last && now < before.saturating_sub(NOISE_BYTES.unsigned_abs())) {
            return Ok(now);
        }
        last = now;
    }
}

fn clip(text: &str) -> String {
    let line = said::clip(text);
    if line.is_empty() { "nothing".to_owned() } else { line }
}

impl Request {
    /// Enough to name it in a sentence.
    pub fn shown(&self) -> String {
        match self {
            Request::Send { text, .. } => clip(text),
            Request::Bytes { bytes, .. } => format!("{} bytes", bytes.len()),
            Request::Http { method, path, .. } => format!("{method} {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_meaning_that_fits_counts() {
        let means = |has: &str, value: &str| Meaning { has: has.into(), value: value.into() };
        let both = [means("Drn", "1"), means("Ok", "0")];
        assert_eq!(meant(&both, "Init Drn Ok").as_deref(), Some("1"));
        assert_eq!(meant(&both, "Init Ok").as_deref(), Some("0"));
        assert_eq!(meant(&both, "Init Stop"), None);
    }
}
