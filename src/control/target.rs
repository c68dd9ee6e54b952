//! Where a control is and what it may touch: everything needed to reach it, so that the journal can undo a change even
//! after the control has left the configuration. Secrets are named by file, never held here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{Identity, Overlap};
pub use super::app::target::App;
pub use super::haproxy::target::Haproxy;
pub use super::http::target::Http;
pub use super::jvm::target::Jvm;
pub use super::memcached::target::Memcached;
pub use super::nginx::target::{Nginx, Page};
pub use super::pressure::target::Pressure;
pub use super::process::locate::Locator;
pub use super::process::target::{Pool, Process};
pub use super::redis::target::Redis;
use super::service::Service;
pub use super::socket::target::{Protocol, Socket};
use super::undo::{Change, Undo};
pub use super::varnish::target::Varnish;
pub use super::webhook::target::{USUAL as USUAL_EVENTS, Webhook};
use crate::policy::mitigation::{Amount, Verb};
use crate::policy::rule::PATIENCE;

/// Of each kind, `[control.KIND.NAME]`. A new kind is one folder beside `haproxy/`, one reader in `config/controls/`, and
/// its lines here and there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    App(App),
    Haproxy(Haproxy),
    Memcached(Memcached),
    Http(Http),
    Jvm(Jvm),
    Pressure(Pressure),
    Process(Process),
    Nginx(Nginx),
    Redis(Redis),
    Socket(Socket),
    Webhook(Webhook),
    Varnish(Varnish),
}

/// A control as it is configured.
#[derive(Clone, PartialEq, Debug)]
pub struct Named {
    pub name: Arc<str>,
    pub target: Target,
}

/// What must be known of a target without speaking to it.
pub trait Place {
    /// As the configuration writes it.
    fn kind(&self) -> &'static str;

    /// What this control can be asked to do at all.
    fn verbs(&self) -> &[Verb];

    /// What speaks to it.
    fn open(&self) -> Box<dyn Service>;

    /// Which service this is, whatever the control is called and however it is to be treated.
    fn identity(&self) -> Identity;

    /// The file of the secret that it is sent, where it is sent one.
    fn secret_file(&self) -> Option<&Path> {
        None
    }

    /// Which part of the service, where two controls of one may each have their own: in words that differ then.
    fn part(&self) -> String {
        String::new()
    }

    /// Whether both lead to one service, as far as can be told from how they are written.
    fn is_same(&self, other: &Target) -> bool;

    /// Why two controls must not both be configured: what two turn at once, neither could put back.
    fn overlap(&self, other: &Target) -> Option<Overlap>;

    /// Whether two changes, both at one service, turn one value, whatever each is called.
    fn is_one_value(&self, mine: &Change, other: &Target, theirs: &Change) -> bool {
        let _place = other;
        mine.key == theirs.key
    }

    /// Whether this undo, made at an earlier target of the same service, is about what is read here in the same way: then an
    /// operator who changed a password or mended a recipe has said how it is undone.
    fn undoes(&self, earlier: &Target, undo: &Undo) -> bool {
        let _alike = (earlier, undo);
        true
    }

    /// Whether two undos are about parts of one thing, although each names another life: a process, and who started it.
    fn meets(&self, mine: &Undo, other: &Target, theirs: &Undo) -> bool {
        let _apart = (mine, other, theirs);
        false
    }

    /// Whether a change that is in force at another target, of what is one value there and here and in a life of the same
    /// name, is of the same service as the one that is about to be made here.
    fn shares(&self, other: &Target, theirs: &Change, mine: &Change) -> bool {
        let _values = (theirs, mine);
        self.is_same(other)
    }

    /// Whether this verb knows no share here.
    fn is_all_or_nothing(&self, verb: Verb) -> bool {
        let _none = verb;
        false
    }

    /// How strongly a drill tries what can be undone: as little as shows, for the moment that it lasts. A shrink gives up
    /// a hundredth of what a cache holds.
    fn drill(&self, verb: Verb) -> Option<Amount> {
        match verb {
            Verb::Throttle | Verb::Shed if self.is_all_or_nothing(verb) => Some(Amount::Whole),
            Verb::Throttle | Verb::Shed => Some(Amount::Keep(90.0)),
            Verb::Shrink => Some(Amount::Keep(99.0)),
            Verb::Freeze | Verb::Drain => Some(Amount::Whole),
            Verb::Notify | Verb::Release | Verb::Flush | Verb::Prune | Verb::Terminate => None,
        }
    }

    /// How long doing this may take at most, until it is answered: a ladder that counted from the command alone would take
    /// the next step while this one is still being done.
    fn patience(&self, verb: Verb) -> Duration {
        let _every = verb;
        PATIENCE
    }

    /// Whether this verb would be refused as the control is declared.
    fn is_undeclared(&self, verb: Verb) -> bool {
        let _none = verb;
        false
    }

    /// Whether a throttle has fewer processes do the work, and so gives memory back.
    fn has_workers(&self) -> bool {
        false
    }

    /// Whether the operator declares it to be batch work that may stand still first. Nothing is frozen unasked otherwise.
    fn is_sacrificial(&self) -> bool {
        false
    }
}

impl Target {
    #[must_use]
    pub const fn place(&self) -> &dyn Place {
        match self {
            Target::App(target) => target,
            Target::Haproxy(target) => target,
            Target::Memcached(target) => target,
            Target::Http(target) => target,
            Target::Jvm(target) => target,
            Target::Pressure(target) => target,
            Target::Process(target) => target,
            Target::Nginx(target) => target,
            Target::Redis(target) => target,
            Target::Socket(target) => target,
            Target::Webhook(target) => target,
            Target::Varnish(target) => target,
        }
    }

    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.place().kind()
    }

    /// The same text for the same part of the same service, under whatever name or kind of control. With a verb it is a
    /// knob. A link and what it leads to are one, as long as it is there.
    #[must_use]
    pub fn identity(&self) -> String {
        let (whole, part) = (self.place().identity(), self.place().part());
        if part.is_empty() { whole.to_string() } else { format!("{whole} ({part})") }
    }

    #[must_use]
    pub fn verbs(&self) -> &[Verb] {
        self.place().verbs()
    }

    /// The files of the secrets that a control at this target is given.
    pub fn secrets(&self) -> Vec<PathBuf> {
        self.place().secret_file().map(PathBuf::from).into_iter().collect()
    }
}
