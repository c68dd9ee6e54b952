//! All that is done to one control, one thing after the other, in the order that keeps the journal true.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use super::shared::Shared;
use super::undos::Undos;
use super::wish::{Wish, in_time};
use super::{Job, NOTHING};
use crate::clock;
use crate::control::claim::Care;
use crate::control::failure::Failure;
use crate::control::service::{Done, Probe};
use crate::control::standing::Standing;
use crate::control::target::Target;
use crate::control::told;
use crate::control::undo::Undo;
use crate::control::{Checked, Control, Wish as Want};
use crate::inbox::Message;
use crate::journal::Entry;
use crate::policy::mitigation::{ActionId, Answered, Command, Lease, Outcome, Report, Verb};
use crate::status::{ControlState, ControlView};

/// A control that nobody uses is looked at this often, so that `status` knows before the emergency does.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// And this often while it cannot be reached.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub struct Task {
    pub(super) name: Arc<str>,
    pub(super) shared: Rc<Shared>,
    /// As configured now. An entry of the journal may have another.
    pub(super) configured: Option<(Target, Control)>,
    /// Those that an undo is owed at and that are not configured (any more): each knows since when nobody answers there.
    earlier: Vec<(Target, Control)>,
    told: Option<(Outcome, String)>,
    pub(super) undos: Rc<Undos>,
}

/// What another action has set over it is nobody else's.
fn left_to(heirs: &[ActionId], done: Done) -> Done {
    match heirs.first() {
        Some(heir) if done.outcome == Outcome::Overridden => {
            let detail = format!("{}; action {heir} builds on it, and restores the prior value of both", done.detail);
            Done { outcome: Outcome::Applied, detail, ..done }
        }
        Some(_) | None => done,
    }
}

/// Another way to the same service may be open.
const fn is_barred(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Refused | Outcome::Unreachable | Outcome::Unsupported)
}

/// Whether a control at this target is about what this entry changed: as well as at its own, or better, since an operator may
/// have changed a password or mended a recipe.
pub(super) fn is_about(target: &Target, entry: &Entry) -> bool {
    target.is_same(&entry.target) && target.undoes(&entry.target, &entry.undo)
}

impl Task {
    pub fn new(name: Arc<str>, shared: Rc<Shared>, undos: Rc<Undos>) -> Self {
        Self { name, shared, configured: None, earlier: Vec::new(), told: None, undos }
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
        self.shared.twins.borrow_mut().forget(&self.name);
        self.told = None;
        self.probe().await
    }

    async fn probe(&mut self) -> bool {
        let Some(probe) = self.watch(Care::Close).await else { return true };
        self.tell_state(probe.outcome, probe.detail)
    }

    /// `None` where nothing is configured.
    async fn watch(&mut self, care: Care) -> Option<Probe> {
        let (target, control) = self.configured.as_mut()?;
        let (probe, names) = control.watch(care).await;
        let mut twins = self.shared.twins.borrow_mut();
        twins.saw(&self.name, target, names);
        let is_usable = probe.outcome == Outcome::Applied;
        Some(if is_usable { twins.is_free(&self.name).map_or_else(Probe::failed, |()| probe) } else { probe })
    }

    async fn look(&mut self) -> bool {
        // What was found wrong, a glance would not find again: look as closely as before.
        let closely = !matches!(self.told, Some((Outcome::Applied, _)));
        if closely {
            return self.probe().await;
        }
        let Some(probe) = self.watch(Care::Glance).await else { return true };
        let detail = match &self.told {
            Some((outcome, known)) if *outcome == probe.outcome => known.clone(),
            Some(_) | None => probe.detail,
        };
        self.tell_state(probe.outcome, detail)
    }

    fn tell_state(&mut self, outcome: Outcome, detail: String) -> bool {
        let Some((target, _)) = &self.configured else { return true };
        let (judged, told) = self.shared.judged(&self.name, outcome, &detail);
        let told = told::told(&told, &target.secrets());
        let view = ControlView {
            name: Arc::clone(&self.name),
            kind: target.kind(),
            state: ControlState::after(judged),
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
        let is_elsewhere = self.shared.records.entry(id).is_some_and(|entry| !self.is_configured(&entry));
        let (answered, answer) = match command {
            Command::Apply { id, mitigation, rule, class, valid_until } => {
                (Answered::Apply, self.apply(Wish { id, mitigation, rule, class, valid_until }).await)
            }
            Command::Verify { id, lease } => (Answered::Verify, self.verify(id, lease).await),
            Command::Undo { id } => {
                self.undos.take(id);
                (Answered::Undo, self.undo(id).await)
            }
            Command::Forget { id } => (Answered::Undo, self.closed(id, Answer::already("given up"))),
        };
        self.shared.forget_route(id);
        let reached = is_letter || is_elsewhere || self.note_reach(&answer);
        let report = Report {
            id,
            answered,
            outcome: answer.outcome,
            detail: told::told(&answer.detail, &secrets).into(),
            took: began.elapsed(),
            freed_bytes: answer.freed_bytes,
            theirs: answer.theirs.map(|theirs| told::told(&theirs, &secrets).into()),
        };
        self.shared.door.tell(Message::Report(report)) && reached
    }

    /// Of every target that a command may speak to.
    fn secrets(&self, id: ActionId) -> Vec<PathBuf> {
        let recorded = self.shared.records.entry(id).map(|entry| entry.target);
        let known = self.configured.iter().chain(&self.earlier).map(|(target, _)| target);
        known.chain(&recorded).flat_map(Target::secrets).collect()
    }

    /// What is in force is at the service that the control leads to now.
    fn is_configured(&self, entry: &Entry) -> bool {
        let leads_to = |(target, _): &(Target, Control)| target.is_same(&entry.target);
        self.configured.as_ref().is_some_and(leads_to)
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

    async fn verify(&mut self, id: ActionId, lease: Lease) -> Answer {
        let Some(entry) = self.shared.records.entry(id) else { return Answer::already(NOTHING) };
        let mut answer = Answer::already(NOTHING);
        for way in self.ways(&entry).await {
            answer = self.verify_by(&way, &entry, lease).await;
            if !is_barred(answer.outcome) {
                break;
            }
        }
        answer
    }

    async fn verify_by(&mut self, way: &Target, entry: &Entry, lease: Lease) -> Answer {
        let id = entry.id;
        let mut control = self.take(way);
        if let Some(answer) = self.succeeded(&mut control, entry).await {
            self.give_back(way, control);
            return answer;
        }
        let answer = match self.checked(&mut control, entry, lease).await {
            Ok(Standing::Ours { theirs }) => {
                if theirs.is_some() {
                    self.shared.records.hand_down(id);
                }
                Answer::in_force(theirs)
            }
            Ok(Standing::Pending(still)) => self.not_seen_yet(&mut control, entry, lease, &still).await,
            // As after a restart: nobody took it away, so it may be given again.
            Ok(Standing::Prior) if control.lapses(&entry.undo) => self.closed(id, Answer::lapsed()),
            Ok(Standing::Prior) => self.closed(id, Answer::already("the prior values are back; nothing is in force")),
            Ok(Standing::Foreign(found)) => self.closed(id, Answer::failed(Failure::overridden(found))),
            Ok(Standing::EpochChanged) => self.closed(id, Answer::restarted(&control)),
            Err(failure) => self.ended(id, failure),
        };
        self.give_back(way, control);
        answer
    }

    /// Where whom this is about has ended, and was started again: that one is to be acted on anew, so what is left of the
    /// earlier one is put back. `None` where nobody has come in its place.
    pub(super) async fn succeeded(&self, control: &mut Control, entry: &Entry) -> Option<Answer> {
        if !control.is_succeeded(&entry.undo).await {
            return None;
        }
        self.shared.records.hand_down(entry.id);
        Some(match self.put_back(control, entry).await {
            Ok((done, _)) => self.closed(entry.id, Answer::succeeded(control, &done)),
            Err(failure) => self.ended(entry.id, failure),
        })
    }

    /// It was told and has not obeyed. Nothing is over before that is settled: it may still do.
    async fn not_seen_yet(&self, control: &mut Control, entry: &Entry, lease: Lease, still: &str) -> Answer {
        let service = control.service();
        match lease {
            Lease::LetLapse => Answer::applied(&format!("{service} may still obey: {still}")),
            Lease::Renew { .. } | Lease::Keep { .. } if control.is_overdue(&entry.undo) => {
                match self.put_back(control, entry).await {
                    Ok(_) => {
                        let why =
                            format!("{service} accepted the command but never obeyed, so it was taken back: {still}");
                        self.closed(entry.id, Answer::already(&why))
                    }
                    Err(failure) => self.ended(entry.id, failure),
                }
            }
            Lease::Renew { .. } | Lease::Keep { .. } => {
                Answer::failed(Failure::timed_out(format!("{service} has not obeyed yet: {still}")))
            }
        }
    }

    /// A failure that says that the target has forgotten everything ends the matter.
    fn ended(&self, id: ActionId, failure: Failure) -> Answer {
        let is_over = failure.outcome == Outcome::EpochChanged;
        let answer = Answer::failed(failure);
        if is_over { self.closed(id, answer) } else { answer }
    }

    /// How long it may now last is recorded when the disk takes it: what lapses by itself must not lapse because a disk
    /// does not answer. Should we end before that, the next start thinks it lapsed a little early, and so it does.
    async fn checked(&self, control: &mut Control, entry: &Entry, lease: Lease) -> Result<Standing, Failure> {
        let (want, valid_until) = match lease {
            Lease::Renew { valid_until } | Lease::Keep { valid_until } => (Want::Wanted, Some(valid_until)),
            Lease::LetLapse => (Want::Over, None),
        };
        let Checked { standing, mut due, undo } = control.check(&entry.undo, want).await?;
        if matches!(lease, Lease::Keep { .. }) {
            due.retain(|due| !due.has_lapsed());
        }
        let is_over = matches!(standing, Standing::Prior | Standing::Foreign(_) | Standing::EpochChanged);
        let mut known = Entry { undo, ..entry.clone() };
        let is_late = valid_until.is_some_and(|until| in_time(until).is_err());
        if due.is_empty() || is_late {
            if !is_over {
                known.undo = control.with_inherited(known.undo).await;
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

    /// What is known now of what the journal has already. Nothing waits for it: where it is lost, the change is in doubt
    /// again, and a value that is ours is still known to be.
    pub(super) fn note(&self, entry: &Entry, recorded: &Undo) {
        if entry.undo == *recorded {
            return;
        }
        self.shared.records.note(entry);
    }

    async fn undo(&mut self, id: ActionId) -> Answer {
        let Some(entry) = self.shared.records.entry(id) else { return Answer::already(NOTHING) };
        let heirs = self.shared.records.hand_down(id);
        let mut answer = Answer::already(NOTHING);
        for way in self.ways(&entry).await {
            answer = self.undo_by(&way, &entry, &heirs).await;
            if !is_barred(answer.outcome) {
                break;
            }
        }
        answer
    }

    async fn undo_by(&mut self, way: &Target, entry: &Entry, heirs: &[ActionId]) -> Answer {
        let mut control = self.take(way);
        let answer = match self.put_back(&mut control, entry).await {
            Ok((done, theirs)) => self.closed(entry.id, Answer { theirs, ..Answer::done(left_to(heirs, done)) }),
            Err(failure) => self.ended(entry.id, failure),
        };
        self.give_back(way, control);
        answer
    }

    /// Where the control leads now, if the very same life of the service is there: its socket was renamed, say.
    async fn moved(&mut self, entry: &Entry) -> Option<Target> {
        let (now, _) = self.configured.as_ref()?;
        let is_elsewhere = now.kind() == entry.target.kind() && !now.is_same(&entry.target);
        if !is_elsewhere || !now.undoes(&entry.target, &entry.undo) {
            return None;
        }
        let now = now.clone();
        let mut control = self.take(&now);
        let is_there = control.holds(&entry.undo).await;
        self.give_back(&now, control);
        is_there.then_some(now)
    }

    /// How its target is spoken to: as it is configured now where that is about the same, and as it was when it was acted on.
    /// First where it has moved to: by its old address it only seems to be gone.
    async fn ways(&mut self, entry: &Entry) -> Vec<Target> {
        let target = &entry.target;
        let moved = self.moved(entry).await;
        let now = self.configured.iter().map(|(configured, _)| configured);
        let changed = now.filter(|now| *now != target && is_about(now, entry));
        moved.into_iter().chain(changed.chain([target]).cloned()).collect()
    }

    /// That it begins is noted, and nothing waits for that: should we end meanwhile, the next start must not take what we
    /// have put back for somebody else's deed.
    pub(super) async fn put_back(
        &self,
        control: &mut Control,
        entry: &Entry,
    ) -> Result<(Done, Option<String>), Failure> {
        self.note(&Entry { undo: control.returning(&entry.undo), ..entry.clone() }, &entry.undo);
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
                let earlier = self.earlier.iter().position(|(known, _)| known == target);
                earlier.map_or_else(|| self.shared.open(target), |at| self.earlier.swap_remove(at).1)
            }
        }
    }

    fn give_back(&mut self, target: &Target, control: Control) {
        if let Some((configured, place)) = &mut self.configured
            && configured == target
        {
            *place = control;
            return;
        }
        self.earlier.push((target.clone(), control));
        let records = self.shared.records.all();
        self.earlier.retain(|(target, _)| records.iter().any(|entry| entry.target == *target));
    }

    /// What is verified gone is gone, also where the journal does not take it yet.
    pub(super) fn closed(&self, id: ActionId, answer: Answer) -> Answer {
        self.shared.records.hand_down(id);
        if answer.outcome == Outcome::Overridden || answer.theirs.is_some() {
            self.shared.records.part(id);
        } else {
            self.shared.records.close(id);
        }
        answer
    }
}
