//! Doing what is wanted, in the order that nothing may break: capture, write the undo durably, ask whether it is wanted
//! still, look once more, apply, read back. What stands is never overwritten unless it is what was captured.
use std::time::Instant;

use super::answer::Answer;
use super::clash;
use super::records::{RECORDED_WITHIN, undone};
use super::task::{Task, is_about};
use super::wish::{Wish, in_time};
use crate::clock;
use crate::control::consent::{ASK_EVERY, Consent};
use crate::control::failure::Failure;
use crate::control::standing::Standing;
use crate::control::target::Target;
use crate::control::undo::Undo;
use crate::control::{Control, Wish as Want};
use crate::journal::Entry;
use crate::policy::mitigation::{ActionId, Lasting, Outcome};
use crate::policy::moment::Moment;

/// What changes again between a look and the next is changed by somebody who is at work.
const LOOKS: usize = 3;

/// Who is told nothing starts others for as long as that takes; those who were told start no more.
const NEWCOMERS: usize = 8;

/// What was in force before an apply.
enum Held {
    Nothing,
    Before(Box<Entry>),
}

impl Task {
    pub(super) async fn apply(&mut self, wish: Wish) -> Answer {
        if let Err(late) = in_time(wish.valid_until) {
            return Answer::failed(late);
        }
        if self.undos.has(wish.id) {
            return Answer::failed(undone());
        }
        let Some((target, mut control)) = self.configured.take() else {
            return Answer::failed(Failure::unsupported(format!("no control {} is configured", self.name)));
        };
        let answer = match (wish.mitigation.verb.lasting(), self.shared.records.entry(wish.id)) {
            (Lasting::Once, _) => self.pulse(&target, &mut control, &wish).await,
            (Lasting::InForce, None) => self.impose(&target, &mut control, &wish).await,
            (Lasting::InForce, Some(entry)) if entry.target == target => self.adjust(&mut control, entry, &wish).await,
            // A password was changed, or a recipe rewritten: what is wanted is meant by what says so now.
            (Lasting::InForce, Some(entry)) if is_about(&target, &entry) => {
                let entry = Entry { target: target.clone(), ..entry };
                self.adjust(&mut control, entry, &wish).await
            }
            // Reconfigured since: what is in force is at the earlier target.
            (Lasting::InForce, Some(entry)) => {
                let mut earlier = self.shared.open(&entry.target);
                self.adjust(&mut earlier, entry, &wish).await
            }
        };
        self.configured = Some((target, control));
        answer
    }

    async fn pulse(&self, target: &Target, control: &mut Control, wish: &Wish) -> Answer {
        if let Err(twin) = self.shared.twins.borrow().is_free(&self.name) {
            return Answer::failed(twin);
        }
        if let Some(refused) = self.excluded(target, control, wish) {
            return refused;
        }
        if let Err(unwanted) = self.still_wanted(wish).await {
            return Answer::failed(unwanted);
        }
        let consent = self.consent(wish.id);
        let done = control.pulse(&wish.mitigation, &consent).await;
        Answer::of(done.map_err(|failure| if wish.destroys() { told_apart(failure, &consent) } else { failure }))
    }

    /// For what goes on for seconds once it has begun.
    fn consent(&self, id: ActionId) -> Consent<'_> {
        let shared = &self.shared;
        Consent::new(move || shared.ask(id))
    }

    async fn impose(&mut self, target: &Target, control: &mut Control, wish: &Wish) -> Answer {
        if let Some(refused) = self.excluded(target, control, wish) {
            return refused;
        }
        for _ in 0..LOOKS {
            let entry = match self.drawn_up(target, control, wish).await {
                Ok(entry) => entry,
                Err(answer) => return self.not_begun(wish.id, answer),
            };
            if let Err(why) = self.recorded(wish, &entry).await {
                return self.not_begun(wish.id, Answer::failed(why));
            }
            match control.is_as_captured(&entry.undo).await {
                Ok(true) => return self.send(control, entry, Held::Nothing).await,
                // Whoever set it, that is what will be put back.
                Ok(false) => {}
                Err(failure) => return self.closed(wish.id, Answer::unsent(failure)),
            }
        }
        let why = "nothing was sent: somebody else changed the value before each write";
        self.closed(wish.id, Answer::failed(Failure::refused(why)))
    }

    /// What of it was recorded at an earlier look is over.
    fn not_begun(&self, id: ActionId, answer: Answer) -> Answer {
        if self.shared.records.entry(id).is_some() { self.closed(id, answer) } else { answer }
    }

    /// With what is there now, as it will be put back.
    async fn drawn_up(&self, target: &Target, control: &mut Control, wish: &Wish) -> Result<Entry, Answer> {
        // What is undone while this looks may still have been in force then.
        let mut others = self.shared.records.all();
        let undo = match control.capture(&wish.mitigation).await {
            Ok(undo) if undo.changes.is_empty() => {
                return Err(Answer::already("it has this value, or a stricter one, already"));
            }
            Ok(undo) => undo,
            Err(failure) => return Err(Answer::unsent(failure)),
        };
        others.extend(self.shared.records.all());
        others.retain(|entry| entry.id != wish.id);
        if let Some((entry, change)) = clash::holder(&others, target, &undo) {
            return Err(Answer::failed(Failure::refused(format!(
                "action {} ({}) already holds `{}`; undo that first, or make one control of the two",
                entry.id, entry.mitigation, change.key
            ))));
        }
        self.shared.twins.borrow().is_free(&self.name).map_err(Answer::failed)?;
        Ok(Entry {
            id: wish.id,
            mitigation: wish.mitigation.clone(),
            rule: wish.rule.clone(),
            target: target.clone(),
            undo,
            since_unix_ms: clock::unix_ms(),
        })
    }

    async fn adjust(&mut self, control: &mut Control, entry: Entry, wish: &Wish) -> Answer {
        if let Some(answer) = self.succeeded(control, &entry).await {
            return answer;
        }
        let undo = match control.capture_again(&wish.mitigation, &entry.undo).await {
            Ok(undo) => undo,
            // The entry is over with it: whoever still wants this applies it anew, under an id of its own.
            Err(failure) if is_over(&failure) => return self.closed(entry.id, Answer::failed(failure)),
            Err(failure) => return Answer::unsent(failure),
        };
        let (mitigation, rule) = (wish.mitigation.clone(), wish.rule.clone());
        let theirs = entry.undo.changes.iter().filter(|change| undo.changes.iter().all(|kept| kept.key != change.key));
        let theirs: Vec<&str> = theirs.map(|change| change.key.as_str()).collect();
        let left = if theirs.is_empty() {
            String::new()
        } else {
            self.shared.records.hand_down(entry.id);
            format!("; left alone, because somebody else set it: {}", theirs.join(", "))
        };
        let mut adjusted = Entry { mitigation, rule, undo, ..entry.clone() };
        if let Err(why) = self.recorded(wish, &adjusted).await {
            return self.unbegun(&adjusted, entry, Answer::failed(why));
        }
        match control.leave_theirs(&mut adjusted.undo, &entry.undo).await {
            Ok(()) => {}
            Err(failure) if is_over(&failure) => return self.closed(entry.id, Answer::failed(failure)),
            Err(failure) => return self.unbegun(&adjusted, entry, Answer::unsent(failure)),
        }
        let mut answer = self.send(control, adjusted, Held::Before(Box::new(entry))).await;
        answer.detail.push_str(&left);
        answer
    }

    /// The undo is durable before the first byte that changes anything, and what waited for that is wanted still.
    async fn recorded(&self, wish: &Wish, entry: &Entry) -> Result<(), Failure> {
        let began = Instant::now();
        self.shared.records.write(entry, wish.valid_until, &self.undos).await?;
        if began.elapsed() >= ASK_EVERY {
            self.shared.ask(wish.id).await.map_err(Failure::expired)?;
        }
        self.still_wanted(wish).await
    }

    async fn send(&mut self, control: &mut Control, mut entry: Entry, held: Held) -> Answer {
        let intended = entry.undo.clone();
        let applied = control.apply(&mut entry.undo, &self.consent(entry.id)).await;
        self.note(&entry, &intended);
        let applied = match applied {
            Ok(done) => self.reach_all(control, &mut entry).await.map(|()| done),
            failed => failed,
        };
        match applied {
            Ok(done) => Answer::done(done),
            Err(failure) => self.clear_up(control, &entry, held, failure).await,
        }
    }

    /// What came to the target while the rest was being changed is recorded, and only then changed too. Where the disk does
    /// not take that in time, it stays as it is: less is done, and nothing is owed that nobody knows of.
    async fn reach_all(&self, control: &mut Control, entry: &mut Entry) -> Result<(), Failure> {
        for _ in 0..NEWCOMERS {
            let changes = control.unreached(&entry.undo).await;
            if changes.is_empty() || self.undos.has(entry.id) {
                break;
            }
            let mut more = Undo { changes, ..entry.undo.clone() };
            let all = entry.undo.changes.iter().chain(&more.changes).cloned().collect();
            let grown = Entry { undo: Undo { changes: all, ..entry.undo.clone() }, ..entry.clone() };
            let valid_until = clock::now().map_or(Moment::ORIGIN, |now| now + RECORDED_WITHIN);
            if self.shared.records.write(&grown, valid_until, &self.undos).await.is_err() {
                break;
            }
            *entry = grown;
            let applied = control.apply(&mut more, &self.consent(entry.id)).await;
            entry.undo.changes.splice(entry.undo.changes.len() - more.changes.len().., more.changes);
            applied?;
        }
        let recorded = entry.undo.clone();
        entry.undo = control.with_inherited(recorded.clone()).await;
        self.note(entry, &recorded);
        Ok(())
    }

    /// Recorded, perhaps, but not begun: the record goes back to what it was.
    fn unbegun(&self, adjusted: &Entry, before: Entry, answer: Answer) -> Answer {
        let is_recorded = self.shared.records.entry(before.id).is_some_and(|entry| entry == *adjusted);
        if is_recorded { self.fallen_back(adjusted, before, answer) } else { answer }
    }

    /// Asked immediately before anything is sent: is it in time, and where it loses something, is it wanted still?
    async fn still_wanted(&self, wish: &Wish) -> Result<(), Failure> {
        in_time(wish.valid_until)?;
        if self.undos.has(wish.id) {
            return Err(undone());
        }
        if !wish.destroys() {
            return Ok(());
        }
        self.shared.ask(wish.id).await.map_err(Failure::expired)?;
        in_time(wish.valid_until)
    }

    /// After an apply that failed: is anything of it there?
    async fn clear_up(&mut self, control: &mut Control, entry: &Entry, held: Held, why: Failure) -> Answer {
        let standing = if why.outcome == Outcome::TimedOut {
            // Asking a silent target again would only take as long again.
            Err(why.clone())
        } else {
            control.check(&entry.undo, Want::Over).await.map(|checked| checked.standing)
        };
        match (standing, held) {
            // The one thing that was asked was refused.
            (Ok(Standing::Pending(_)), Held::Nothing)
                if entry.undo.changes.len() == 1 && matches!(why.outcome, Outcome::Refused | Outcome::Unsupported) =>
            {
                self.closed(entry.id, Answer::failed(why))
            }
            (Ok(Standing::Prior), Held::Nothing) => self.closed(entry.id, Answer::failed(why)),
            (Ok(Standing::Prior), Held::Before(_)) => self.closed(entry.id, Answer::ended(why)),
            (Ok(Standing::EpochChanged), _) => self.closed(entry.id, Answer::restarted(control)),
            (Ok(Standing::Foreign(found)), _) => {
                self.closed(entry.id, Answer::failed(Failure::overridden(format!("left alone: {found}"))))
            }
            (Ok(Standing::Ours { .. } | Standing::Pending(_)), Held::Before(before)) => {
                self.fallen_back(entry, *before, Answer::failed(why))
            }
            (Ok(Standing::Ours { .. } | Standing::Pending(_)), Held::Nothing) => {
                match self.put_back(control, entry).await {
                    Ok(_) => self.closed(entry.id, Answer::failed(why)),
                    Err(failure) => Answer::doubtful(failure),
                }
            }
            (Err(failure), _) => Answer::doubtful(failure),
        }
    }

    /// The adjustment failed, so what it adjusted is what is wanted again, and is verified from now on.
    fn fallen_back(&self, adjusted: &Entry, before: Entry, answer: Answer) -> Answer {
        let entry = Entry { undo: adjusted.undo.falling_back_to(&before.undo), ..before };
        self.shared.records.note(&entry);
        answer
    }

    fn excluded(&self, target: &Target, control: &Control, wish: &Wish) -> Option<Answer> {
        let here = |entry: &Entry| target.is_same(&entry.target);
        let in_force = self.shared.records.all().into_iter().filter(here).map(|entry| entry.mitigation);
        let harmful = { in_force }.find(|in_force| control.excludes(wish.mitigation.verb, in_force.verb))?;
        let detail = format!("{} would do harm while `{harmful}` is in force: undo that first", wish.mitigation);
        Some(Answer::failed(Failure::refused(detail)))
    }
}

/// Of what destroys: whether it may have been done, which forbids to do it again, or nothing was sent yet.
fn told_apart(failure: Failure, consent: &Consent<'_>) -> Failure {
    match (failure.outcome, consent.has_begun()) {
        (Outcome::TimedOut | Outcome::Unreachable | Outcome::EpochChanged, true) => {
            Failure::timed_out(format!("{}; it may have been done, so it is not repeated", failure.detail))
        }
        (Outcome::TimedOut, false) => Failure::unreachable(failure.detail),
        _ => failure,
    }
}

/// None of it is ours any more.
fn is_over(failure: &Failure) -> bool {
    matches!(failure.outcome, Outcome::EpochChanged | Outcome::Overridden)
}
