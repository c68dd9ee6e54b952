//! What a control does that the operator has written down: which request reads a value, which one sets it, what an answer
//! must say. Shared by the kinds that speak to anything, `socket` and `http`; how a request gets there is theirs.

mod aim;
mod peer;
mod performer;
pub(super) mod settings;
pub mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use aim::{BYTES, KEPT, SHARE, SHED};
pub use peer::Peer;
pub use performer::Performer;

use super::DEADLINE;
use super::address::Overlap;
use super::digest;
use super::failure::Failure;
use super::json::Found;
use super::offer::{Ask, Offer, Rung};
use super::secret;
use super::undo::Change;
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;
use text::Words;

/// Of whatever an operator has written down, what ladders ask unasked.
pub const OFFERS: &[Offer] = &[
    Offer::new(Verb::Release, Ask::Plain, Rung::Heap),
    Offer::new(Verb::Throttle, Ask::Keep(75.0), Rung::QueueSome),
    Offer::new(Verb::Throttle, Ask::Keep(50.0), Rung::QueueHalf),
    Offer::new(Verb::Shed, Ask::Keep(90.0), Rung::RefuseTenth),
    Offer::new(Verb::Shed, Ask::Keep(75.0), Rung::RefuseQuarter),
    Offer::new(Verb::Shed, Ask::Keep(50.0), Rung::RefuseHalf),
    Offer::new(Verb::Throttle, Ask::Keep(25.0), Rung::QueueMost),
    Offer::new(Verb::Throttle, Ask::Whole, Rung::PauseWhole),
    Offer::new(Verb::Shrink, Ask::Keep(75.0), Rung::ShrinkSome),
    Offer::new(Verb::Shrink, Ask::Keep(50.0), Rung::ShrinkHalf),
    Offer::new(Verb::Shrink, Ask::Whole, Rung::ShrinkWhole),
    Offer::new(Verb::Flush, Ask::Plain, Rung::EmptyCache),
];

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// Identifies the running instance of the service. `None`: the process at the other end of the unix socket.
    pub epoch: Option<Step>,
    pub password_file: Option<PathBuf>,
    /// Those of the knobs and of the acts, each once.
    pub verbs: Vec<Verb>,
    pub knobs: Vec<Knob>,
    pub acts: Vec<Act>,
}

/// A value that can be read and set, for one lasting verb.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Knob {
    pub verb: Verb,
    /// As the journal and sentences call it: `connection limit of app`.
    pub name: String,
    pub read: Step,
    /// Whether it may be set and set back, where the service can be asked that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may: Option<Step>,
    pub set: Vec<Step>,
    /// In place of `set` where nothing was set before. Empty: `set` with an empty value.
    pub unset: Vec<Step>,
    /// `{share}`, `{kept}`, `{shed}`, `{bytes}`, or always the same.
    pub to: String,
    /// `{share}` never goes below.
    pub least: u32,
    /// What a share is taken of where there is no limit yet.
    pub unlimited_is: Option<u32>,
}

/// What leaves nothing in force.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Act {
    pub verb: Verb,
    pub name: String,
    /// Whether it may be done, where the service can be asked that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may: Option<Step>,
    pub steps: Vec<Step>,
    /// It is about memory of the process at the other end, and is judged by what that loses.
    pub memory: bool,
}

/// One request and what its answer must be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Step {
    pub request: Request,
    /// How the answer begins.
    pub expect: Option<String>,
    pub take: Option<Take>,
    /// What the text that was taken means; the first that fits. Empty: itself.
    pub means: Vec<Meaning>,
    /// Nothing, or no such thing in JSON, means that nothing is set. Else it is a failure.
    pub may_be_empty: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How its answer ends, where that is not how all do.
    Send {
        text: String,
        ends_with: Option<String>,
    },
    Bytes {
        bytes: Vec<u8>,
        ends_with: Option<String>,
    },
    Http {
        method: String,
        path: String,
        headers: Vec<(String, String)>,
        body: String,
        status: Option<u16>,
    },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// A pattern with `{value}`.
    Pattern(String),
    /// A pointer into JSON (RFC 6901).
    Json(String),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Meaning {
    /// Empty: whatever it is.
    pub has: String,
    pub value: String,
}

/// What came for a request.
pub struct Heard {
    /// No more than what is kept of an answer.
    pub text: String,
    /// What the pointer leads to in all that came; `None` where that is no JSON, or the text is all.
    pub found: Option<Found>,
}

/// How requests get to the service: a conversation under one deadline. A line that failed is never used again, so that a
/// late answer cannot be taken for another's.
#[async_trait(?Send)]
pub trait Line {
    /// As sentences call it: where the service is.
    fn place(&self) -> String;

    /// Starts a conversation. Who is at the other end, where that can be told.
    async fn begin(&mut self, words: &Words<'_>) -> Result<Option<Peer>, Failure>;

    /// Gives the rest of a long conversation a whole deadline again.
    fn extend(&mut self);

    /// `pointer` is into JSON, where that is wanted of the answer.
    async fn ask(&mut self, request: &Request, words: &Words<'_>, pointer: Option<&str>) -> Result<Heard, Failure>;
}

impl Recipe {
    pub fn knobs_of(&self, verb: Verb) -> impl Iterator<Item = &Knob> {
        self.knobs.iter().filter(move |knob| knob.verb == verb)
    }

    /// Each request of it may take a conversation's whole time, and each value is read before and after it is set.
    pub fn patience(&self, verb: Verb) -> Duration {
        let of_knobs = self.knobs_of(verb).map(|knob| knob.set.len().max(knob.unset.len()) + 4);
        let of_acts = self.acts.iter().filter(|act| act.verb == verb).map(|act| act.steps.len() + 3);
        let requests = u32::try_from(of_knobs.chain(of_acts).sum::<usize>()).unwrap_or(u32::MAX);
        DEADLINE.saturating_mul(requests).max(PATIENCE)
    }

    /// What asks whether a verb is allowed, and about what.
    pub fn questions(&self, verb: Verb) -> impl Iterator<Item = (&Step, &str)> {
        let of_knobs = self.knobs_of(verb).map(|knob| (&knob.may, knob.name.as_str()));
        let of_acts = self.acts.iter().filter(move |act| act.verb == verb).map(|act| (&act.may, act.name.as_str()));
        of_knobs.chain(of_acts).filter_map(|(may, name)| Some((may.as_ref()?, name)))
    }

    pub fn knob(&self, name: &str) -> Option<&Knob> {
        self.knobs.iter().find(|knob| knob.name == name)
    }

    pub fn is_all_or_nothing(&self, verb: Verb) -> bool {
        self.knobs_of(verb).next().is_some() && self.knobs_of(verb).all(|knob| !aim::knows_shares(&knob.to))
    }

    /// Which values of the service are turned here: as they are called, and how each is read.
    pub fn part(&self) -> String {
        self.knobs.iter().map(|knob| format!("{} {:08x}", knob.name, knob.reading())).collect::<Vec<_>>().join(", ")
    }

    /// Whether what these changes are about, each made by the earlier recipe, is read here as it was there: only then does
    /// this one tell whose a value is.
    pub fn reads_as(&self, earlier: &Recipe, changes: &[Change]) -> bool {
        let is_alike = |change: &Change| {
            let knobs = self.knob(&change.key).zip(earlier.knob(&change.key));
            knobs.is_some_and(|(mine, earlier)| mine.is_read_alike(earlier))
        };
        changes.iter().all(is_alike)
    }

    /// For two controls of one service.
    pub fn overlap(&self, other: &Recipe) -> Option<Overlap> {
        let both = self.knobs.iter().find(|mine| other.knobs.iter().any(|theirs| mine.is_one_setting(theirs)))?;
        Some(Overlap { what: format!("both set {} of one service", both.name), help: "let one of them set it" })
    }

    /// Whether two changes, each of one of these recipes, are of one setting.
    pub fn is_one_value(&self, mine: &Change, other: &Recipe, theirs: &Change) -> bool {
        let knobs = self.knob(&mine.key).zip(other.knob(&theirs.key));
        knobs.is_some_and(|(mine, theirs)| mine.is_one_setting(theirs))
    }

    /// The first two that turn one setting.
    pub fn twins(&self) -> Option<(&Knob, &Knob)> {
        let earlier = |at: usize| self.knobs[..at].iter().find(|other| other.is_one_setting(&self.knobs[at]));
        (0..self.knobs.len()).find_map(|at| Some((earlier(at)?, &self.knobs[at])))
    }
}

impl Knob {
    /// Whether both are written or read by the same requests: the verb and the name are the operator's, and so is what an
    /// answer is expected to say.
    fn is_one_setting(&self, other: &Knob) -> bool {
        let is_set_alike = || {
            let requests = self.set.iter().map(|step| &step.request);
            !self.set.is_empty() && requests.eq(other.set.iter().map(|step| &step.request))
        };
        self.is_read_alike(other) || is_set_alike()
    }

    fn is_read_alike(&self, other: &Knob) -> bool {
        let (mine, theirs) = (&self.read, &other.read);
        mine.request == theirs.request && mine.take == theirs.take && mine.means == theirs.means
    }

    /// The same for two that are read alike.
    fn reading(&self) -> u32 {
        let read = (&self.read.request, &self.read.take, &self.read.means);
        // The lower half is as good.
        digest::of(&format!("{read:?}")) as u32
    }
}

/// The secret is read at each conversation and not kept.
fn password(file: &Path) -> Result<String, Failure> {
    let read = secret::read("password file", file)?;
    let password = read.trim_end_matches(['\r', '\n']);
    if password.chars().any(char::is_control) {
        return Err(Failure::refused(format!("the password file {} has more than one line", file.display())));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        let request = Request::Send { text: text.to_owned(), ends_with: None };
        let take = Some(Take::Pattern("{value}".to_owned()));
        Step { request, expect: None, take, means: Vec::new(), may_be_empty: false }
    }

    fn knob(read: &str, set: &str) -> Knob {
        Knob {
            verb: Verb::Throttle,
            name: String::new(),
            read: step(read),
            may: None,
            set: vec![step(set)],
            unset: Vec::new(),
            to: SHARE.to_owned(),
            least: 1,
            unlimited_is: None,
        }
    }

    #[test]
    fn a_setting_is_what_is_read_or_written_and_not_what_it_is_called() {
        let limit = knob("show limit", "limit {value}");
        let called = Knob { verb: Verb::Drain, name: "gate".into(), to: "1".into(), ..limit.clone() };
        assert!(limit.is_one_setting(&called));
        assert!(
            limit.is_one_setting(&knob("show all", "limit {value}"))
                && limit.is_one_setting(&knob("show limit", "LIMIT"))
        );
        assert!(!limit.is_one_setting(&knob("show rate", "rate {value}")));
        // One word of the same answer may be another setting.
        let mut other = knob("show limit", "state {value}");
        other.read.means = vec![Meaning { has: "up".into(), value: "1".into() }];
        assert!(!limit.is_one_setting(&other));
    }
}
