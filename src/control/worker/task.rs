//! All that is done to one control, one thing after the other, in the order that keeps the journal true.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use super::shared::Shared;
use super::{Job, NOTHING, clash};
use crate::clock;
use crate::control::failure::Failure;
use crate::control::said;
use crate::control::service::{Done, Probe};
use crate::control::standing::Standing;
use crate::control::target::Target;
use crate::control::undo::Undo;
use crate::control::{Checked, Control, Wish as Want};
use crate::inbox::Message;
use crate::journal::Entry;
use crate::policy::mitigation::{
    ActionId, Answered, Class, Command, Lasting, Lease, Mitigation, Outcome, Report, Verb,
};
use crate::policy::moment::Moment;
use crate::status::{ControlView, state_of};

/// A control that nobody uses is looked at this often, so that `status` knows before the emergency does.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// And this often while it cannot be reached.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub struct Task {
    pub(super) name: Arc<str>,
    pub(super) shared: Rc<Shared>,
    /// As configured now. An entry of the journal may have another.
    pub(super) configured: Option<(Target, Control)>,
    /// The one that an undo is owed at which is not configured (any more): it knows since when nobody answers there.
    earlier: Option<(Target, Control)>,
    told: Option<(Outcome, String)>,
}

/// What is wanted, by whom.
struct Wish {
    id: ActionId,
    mitigation: Mitigation,
    rule: Arc<str>,
    class: Class,
    valid_until: Moment,
}

/// What was in force before an apply.
enum Held {
    Nothing,
    Before(Box<Entry>),
}

impl Task {
    pub fn new(name: Arc<str>, shared: Rc<Shared>) -> Self {
        Self { name, shared, configured: None, earlier: None, told: None }
    }

    pub async fn work(mut self, mut jobs: UnboundedReceiver<Job>) {
        let mut heard = true;
        while heard {
            heard = match timeout(self.patience(), jobs.recv()).await {
                Ok(Some(Job::Run(command))) => self.run(command).await,
                Ok(Some(Job::Configure(target))) => self.configure(target.map(|boxed| *boxed)).await,
                Ok(Some(Job::Probe)) => self.probe().await,
                Ok(Some(Job::Numbers)) => self.numbers().await,
                Ok(Some(Job::Gives)) => self.gives().await,
                Ok(None) => false,
                Err(_) => self.look().await,
            };
        }
    }

    fn patience(&self) -> Duration {
        match &self.told {
            Some((Outcome::Unreachable | Outcome::TimedOut, _)) => LOOK_AGAIN,
            Some(_) | None => LOOK_EVERY,
        }
    }

    async fn configure(&mut self, target: Option<Target>) -> bool {
        if self.configured.as_ref().map(|(known, _)| known) == target.as_ref() {
            return true;
        }
        self.configured = target.map(|target| (target.clone(), self.shared.open(&target)));
        self.told = None;
        self.probe().await
    }

    async fn probe(&mut self) -> bool {
        let Some((_, control)) = &mut self.configured else { return true };
        let probe = match control.is_free() {
            Ok(()) => control.probe().await,
            Err(held) => Probe::failed(held),
        };
        self.tell_state(probe.outcome, probe.detail)
    }

    async fn look(&mut self) -> bool {
        // What was found wrong, a glance would not find again: look as closely as before.
        let closely = !matches!(self.told, Some((Outcome::Applied, _)));
        let Some((_, control)) = &mut self.configured else { return true };
        if closely {
            return self.probe().await;
        }
        let probe = match control.is_free() {
            Ok(()) => control.look().await,
            Err(held) => Probe::failed(held),
        };
        let detail = match &self.told {
            Some((outcome, known)) if *outcome == probe.outcome => known.clone(),
            Some(_) | None => probe.detail,
        };
        self.tell_state(probe.outcome, detail)
    }

    fn tell_state(&mut self, outcome: Outcome, detail: String) -> bool {
        let Some((target, _)) = &self.configured else { return true };
        let (judged, told) = self.shared.judged(&self.name, outcome, &detail);
        let told = said::told(&told, &said::secrets(target));
        let view = ControlView {
            name: Arc::clone(&self.name),
            kind: target.kind(),
            state: state_of(judged),
            detail: told.into(),
            checked_unix_ms: clock::unix_ms(),
        };
        self.told = Some((outcome, detail));
        self.shared.door.tell(Message::Probed(view))
    }

    async fn run(&mut self, command: Command) -> bool {
        let began = Instant::now();
        let id = command.id();
        let secrets = self.secrets(id);
        // What is queued to be told says nothing about who is to hear it.
        let is_letter = matches!(&command, Command::Apply { mitigation, .. } if mitigation.verb == Verb::Notify);
        let (answered, answer) = match command {
            Command::Apply { id, mitigation, rule, class, valid_until } => {
                (Answered::Apply, self.apply(Wish { id, mitigation, rule, class, valid_until }).await)
            }
            Command::Verify { id, lease } => (Answered::Verify, self.verify(id, lease).await),
            Command::Undo { id } => (Answered::Undo, self.undo(id).await),
            Command::Forget { id } => (Answered::Undo, self.closed(id, Answer::already("given up"))),
        };
        self.shared.forget_route(id);
        let reached = is_letter || self.note_reach(&answer);
        let report = Report {
            id,
            answered,
            outcome: answer.outcome,
            detail: said::told(&answer.detail, &secrets).into(),
            took: began.elapsed(),
            freed_bytes: answer.freed_bytes,
            theirs: answer.theirs.map(|theirs| said::told(&theirs, &secrets).into()),
        };
        self.shared.door.tell(Message::Report(report)) && reached
    }

    /// Of every target that a command may speak to.
    fn secrets(&self, id: ActionId) -> Vec<PathBuf> {
        let recorded = self.shared.records.entry(id).map(|entry| entry.target);
        let known = [&self.configured, &self.earlier].into_iter().flatten().map(|(target, _)| target);
        known.chain(&recorded).flat_map(said::secrets).collect()
    }

    /// A command tells as much about the control as a probe does, where it failed for a reason of the control's.
    fn note_reach(&mut self, answer: &Answer) -> bool {
        let state = match answer.outcome {
            Outcome::Applied | Outcome::Already | Outcome::NoEffect | Outcome::EpochChanged | Outcome::Overridden => {
                Outcome::Applied
            }
            failed @ (Outcome::Unreachable | Outcome::TimedOut) => failed,
            // The wish was wrong, not the control; one that refuses everything is found out by its probe.
            Outcome::Refused | Outcome::Unsupported | Outcome::Expired => return true,
        };
        // A probe calls a silent target by another name than a command that it did not let begin.
        let is_silence = |outcome| matches!(outcome, Outcome::TimedOut | Outcome::Unreachable);
        let is_known = |told: Outcome| told == state || is_silence(told) && is_silence(state);
        if self.told.as_ref().is_some_and(|(told, _)| is_known(*told)) {
            return true;
        }
        self.tell_state(state, answer.detail.clone())
    }

    async fn apply(&mut self, wish: Wish) -> Answer {
        if let Err(late) = in_time(wish.valid_until) {
            return Answer::failed(late);
        }
        let Some((target, mut control)) = self.configured.take() else {
            return Answer::failed(Failure::unsupported(format!("no control {} is configured", self.name)));
        };
        let answer = match (wish.mitigation.verb.lasting(), self.shared.records.entry(wish.id)) {
            (Lasting::Once, _) => self.pulse(&target, &mut control, &wish).await,
            (Lasting::InForce, None) => self.impose(&target, &mut control, &wish).await,
            (Lasting::InForce, Some(entry)) if entry.target == target => self.adjust(&mut control, entry, &wish).await,
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
        if let Some(refused) = self.excluded(target, control, wish) {
            return refused;
        }
        if let Err(unwanted) = self.still_wanted(wish).await {
            return Answer::failed(unwanted);
        }
        Answer::of(control.pulse(&wish.mitigation).await)
    }

    async fn impose(&mut self, target: &Target, control: &mut Control, wish: &Wish) -> Answer {
        if let Some(refused) = self.excluded(target, control, wish) {
            return refused;
        }
        // What is undone while this looks may still have been in force then.
        let mut others = self.shared.records.all();
        let undo = match control.capture(&wish.mitigation).await {
            Ok(undo) if undo.changes.is_empty() => return Answer::already("it is so already"),
            Ok(undo) => undo,
            Err(failure) => return Answer::unsent(failure),
        };
        others.extend(self.shared.records.all());
        if let Some((entry, change)) = clash::holder(&others, target, &undo) {
            return Answer::failed(Failure::refused(format!(
                "action {} ({}) already holds `{}`; undo that first, or make one control of the two",
                entry.id, entry.mitigation, change.key
            )));
        }
        let entry = Entry {
            id: wish.id,
            mitigation: wish.mitigation.clone(),
            rule: Arc::clone(&wish.rule),
            target: target.clone(),
            undo,
            since_unix_ms: clock::unix_ms(),
        };
        self.carry_out(control, wish, entry, Held::Nothing).await
    }

    async fn adjust(&mut self, control: &mut Control, entry: Entry, wish: &Wish) -> Answer {
        let undo = match control.capture_again(&wish.mitigation, &entry.undo).await {
            Ok(undo) => undo,
            // The entry is over with it: whoever still wants this applies it anew, under an id of its own.
            Err(failure) if matches!(failure.outcome, Outcome::EpochChanged | Outcome::Overridden) => {
                return self.closed(entry.id, Answer::failed(failure));
            }
            Err(failure) => return Answer::unsent(failure),
        };
        let (mitigation, rule) = (wish.mitigation.clone(), Arc::clone(&wish.rule));
        let theirs = entry.undo.changes.iter().filter(|change| undo.changes.iter().all(|kept| kept.key != change.key));
        let theirs: Vec<&str> = theirs.map(|change| change.key.as_str()).collect();
        let left = if theirs.is_empty() {
            String::new()
        } else {
            format!("; left alone, because somebody else set it: {}", theirs.join(", "))
        };
        let adjusted = Entry { mitigation, rule, undo, ..entry.clone() };
        let mut answer = self.carry_out(control, wish, adjusted, Held::Before(Box::new(entry))).await;
        answer.detail.push_str(&left);
        answer
    }

    /// The undo is durable before the first byte that changes anything.
    async fn carry_out(&mut self, control: &mut Control, wish: &Wish, mut entry: Entry, held: Held) -> Answer {
        if let Err(why) = self.shared.records.write(&entry).await {
            return Answer::failed(why);
        }
        if let Err(unwanted) = self.still_wanted(wish).await {
            return self.unbegun(&entry, held, unwanted);
        }
        let intended = entry.undo.clone();
        let applied = control.apply(&mut entry.undo).await;
        self.note(&entry, &intended);
        match applied {
            Ok(done) => Answer::done(done),
            Err(failure) => self.clear_up(control, &entry, held, failure).await,
        }
    }

    /// Recorded, but not begun: the record goes back to what it was.
    fn unbegun(&self, entry: &Entry, held: Held, why: Failure) -> Answer {
        match held {
            Held::Nothing => self.closed(entry.id, Answer::failed(why)),
            Held::Before(before) => self.fall_back(entry, *before, why),
        }
    }

    /// Asked immediately before anything is sent: is it in time, and where it loses something, is it wanted still?
    async fn still_wanted(&self, wish: &Wish) -> Result<(), Failure> {
        in_time(wish.valid_until)?;
        if wish.class.max(wish.mitigation.verb.class()) < Class::Lossy {
            return Ok(());
        }
        self.shared.ask(wish.id).await?;
        in_time(wish.valid_until)
    }

    /// What is known now of what the journal has already. Nothing waits for it: where it is lost, the change is in doubt
    /// again, and a value that is ours is still known to be.
    fn note(&self, entry: &Entry, recorded: &Undo) {
        if entry.undo == *recorded {
            return;
        }
        self.shared.records.note(entry);
    }

    /// After an apply that failed: is anything of it there?
    async fn clear_up(&mut self, control: &mut Control, entry: &Entry, held: Held, why: Failure) -> Answer {
        let standing = match why.outcome {
            // Asking a silent target again would only take as long again.
            Outcome::TimedOut => Err(why.clone()),
            _ => control.check(&entry.undo, Want::Over).await.map(|checked| checked.standing),
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
                self.fall_back(entry, *before, why)
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
    fn fall_back(&self, adjusted: &Entry, before: Entry, why: Failure) -> Answer {
        let entry = Entry { undo: adjusted.undo.falling_back_to(&before.undo), ..before };
        self.shared.records.note(&entry);
        Answer::failed(why)
    }

    async fn verify(&mut self, id: ActionId, lease: Lease) -> Answer {
        let Some(entry) = self.shared.records.entry(id) else { return Answer::already(NOTHING) };
        let mut control = self.take(&entry.target);
        let answer = match self.checked(&mut control, &entry, lease).await {
            Ok(Standing::Ours { theirs }) => Answer::in_force(theirs),
            Ok(Standing::Pending(still)) => self.not_seen_yet(&mut control, &entry, lease, &still).await,
            // As after a restart: nobody took it away, so it may be given again.
            Ok(Standing::Prior) if control.lapses(&entry.undo) => self.closed(id, Answer::lapsed()),
            Ok(Standing::Prior) => self.closed(id, Answer::already("the prior values are back; nothing is in force")),
            Ok(Standing::Foreign(found)) => self.closed(id, Answer::failed(Failure::overridden(found))),
            Ok(Standing::EpochChanged) => self.closed(id, Answer::restarted(&control)),
            Err(failure) => self.ended(id, failure),
        };
        self.give_back(&entry.target, control);
        answer
    }

    /// It was told and has not obeyed. Nothing is over before that is settled: it may still do.
    async fn not_seen_yet(&self, control: &mut Control, entry: &Entry, lease: Lease, still: &str) -> Answer {
        let service = control.service();
        match lease {
            Lease::LetLapse => Answer::applied(&format!("{service} was told and may still obey: {still}")),
            Lease::Renew { .. } if control.is_overdue(&entry.undo) => match self.put_back(control, entry).await {
                Ok(_) => {
                    let why = format!("{service} took the command and never did it, so it was taken back: {still}");
                    self.closed(entry.id, Answer::already(&why))
                }
                Err(failure) => self.ended(entry.id, failure),
            },
            Lease::Renew { .. } => {
                Answer::failed(Failure::timed_out(format!("{service} was told and has not obeyed yet: {still}")))
            }
        }
    }

    /// A failure that says that the target has forgotten everything ends the matter.
    fn ended(&self, id: ActionId, failure: Failure) -> Answer {
        match failure.outcome {
            Outcome::EpochChanged => self.closed(id, Answer::failed(failure)),
            _ => Answer::failed(failure),
        }
    }

    /// How long it may now last is recorded when the disk takes it: what lapses by itself must not lapse because a disk
    /// does not answer. Should we end before that, the next start thinks it lapsed a little early, and so it does.
    async fn checked(&self, control: &mut Control, entry: &Entry, lease: Lease) -> Result<Standing, Failure> {
        let want = match lease {
            Lease::Renew { .. } => Want::Wanted,
            Lease::LetLapse => Want::Over,
        };
        let Checked { standing, due, undo } = control.check(&entry.undo, want).await?;
        let is_over = matches!(standing, Standing::Prior | Standing::Foreign(_) | Standing::EpochChanged);
        let mut known = Entry { undo, ..entry.clone() };
        let is_late = matches!(lease, Lease::Renew { valid_until } if in_time(valid_until).is_err());
        if due.is_empty() || is_late {
            if !is_over {
                self.note(&known, &entry.undo);
            }
            return Ok(standing);
        }
        known.undo = known.undo.renewed();
        self.note(&known, &entry.undo);
        control.renew(&known.undo, &due).await?;
        let theirs = if let Standing::Ours { theirs } = standing { theirs } else { None };
        Ok(Standing::Ours { theirs })
    }

    async fn undo(&mut self, id: ActionId) -> Answer {
        let Some(entry) = self.shared.records.entry(id) else { return Answer::already(NOTHING) };
        let mut control = self.take(&entry.target);
        let answer = match self.put_back(&mut control, &entry).await {
            Ok((done, theirs)) => self.closed(id, Answer { theirs, ..Answer::done(done) }),
            Err(failure) => self.ended(id, failure),
        };
        self.give_back(&entry.target, control);
        answer
    }

    /// That it begins is noted, and nothing waits for that: should we end meanwhile, the next start must not take what we
    /// have put back for somebody else's deed.
    async fn put_back(&self, control: &mut Control, entry: &Entry) -> Result<(Done, Option<String>), Failure> {
        self.note(&Entry { undo: entry.undo.returning(), ..entry.clone() }, &entry.undo);
        control.undo(&entry.undo).await
    }

    /// The configured control with its open connection, or where the entry is for another target that one's.
    fn take(&mut self, target: &Target) -> Control {
        match self.configured.take() {
            Some((configured, control)) if configured == *target => {
                self.configured = Some((configured, self.shared.open(target)));
                control
            }
            other => {
                self.configured = other;
                let earlier = self.earlier.take().filter(|(known, _)| known == target);
                earlier.map_or_else(|| self.shared.open(target), |(_, control)| control)
            }
        }
    }

    fn give_back(&mut self, target: &Target, control: Control) {
        if let Some((configured, place)) = &mut self.configured
            && configured == target
        {
            *place = control;
        } else if self.shared.records.all().iter().any(|entry| entry.target == *target) {
            self.earlier = Some((target.clone(), control));
        }
    }

    fn excluded(&self, target: &Target, control: &Control, wish: &Wish) -> Option<Answer> {
        let here = |entry: &Entry| target.place().is_same(&entry.target);
        let in_force = self.shared.records.all().into_iter().filter(here).map(|entry| entry.mitigation);
        let harmful = { in_force }.find(|in_force| control.excludes(wish.mitigation.verb, in_force.verb))?;
        let detail = format!("{} would do harm while `{harmful}` is in force: undo that first", wish.mitigation);
        Some(Answer::failed(Failure::refused(detail)))
    }

    /// What is verified gone is gone, also where the journal does not take it yet.
    fn closed(&self, id: ActionId, answer: Answer) -> Answer {
        self.shared.records.close(id);
        answer
    }
}

fn in_time(valid_until: Moment) -> Result<(), Failure> {
    match clock::now() {
        Ok(now) if now <= valid_until => Ok(()),
        Ok(now) => {
            let late = now.since(valid_until).as_secs_f64();
            Err(Failure::expired(&format!("its turn came {late:.1} s after the time until which it was of use")))
        }
        Err(errno) => Err(Failure::expired(&format!("nobody knows how old it is: {errno}"))),
    }
}
