//! Where a control is and what it may touch: everything needed to reach it, so that the journal can undo a change even
//! after the control has left the configuration. Secrets are named by file, never held here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
use super::undo::Change;
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

    /// Whether a change that is in force at another target, under the same name and in a life of the same name, is of the
    /// same value as the one that is about to be made here.
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

/// Where a service is, as far as that tells it from every other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// A socket, a fifo, a pid file or a folder, by its path.
    File(PathBuf),
    /// `host:port`
    Tcp(String),
    /// A control group, by its path.
    Group(String),
}

/// A complaint about two controls, and what to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlap {
    pub what: String,
    pub help: &'static str,
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
}

/// Where a service listens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    Unix(PathBuf),
    /// `host:port`, resolved when connecting.
    Tcp(String),
}

impl Address {
    /// Nothing was written, which was complained about.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Address::Unix(path) if path.as_os_str().is_empty())
    }

    #[must_use]
    pub fn is_same(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Unix(mine), Address::Unix(theirs)) => is_same_file(mine, theirs),
            (Address::Tcp(mine), Address::Tcp(theirs)) => mine.eq_ignore_ascii_case(theirs),
            (Address::Unix(_) | Address::Tcp(_), _) => false,
        }
    }
}

impl From<&Address> for Identity {
    fn from(address: &Address) -> Self {
        match address {
            Address::Unix(path) => Self::File(path.clone()),
            Address::Tcp(at) => Self::Tcp(at.clone()),
        }
    }
}

impl From<&Locator> for Identity {
    fn from(locator: &Locator) -> Self {
        match &locator.pid_file {
            Some(file) => Self::File(file.clone()),
            None => Self::Group(locator.cgroup.clone().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", real(path).display()),
            Self::Tcp(at) => f.write_str(&at.to_ascii_lowercase()),
            Self::Group(path) => write!(f, "cgroup {}", path.trim_matches('/')),
        }
    }
}

#[must_use]
pub fn is_same_file(mine: &Path, theirs: &Path) -> bool {
    mine == theirs || real(mine) == real(theirs)
}

/// The folder counts where the file is not there now, so that it has one name before and after.
fn real(path: &Path) -> PathBuf {
    let in_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}
