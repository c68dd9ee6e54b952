//! The table of kinds, and a target of any of them: where a control is and what it may touch. That is everything needed to
//! reach it, so that the journal can undo a change even after the control has left the configuration. Secrets are named by
//! file, never held here.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::address::Overlap;
pub use super::nginx::target::Page;
use super::offer::Offer;
use super::place::{Kind, Place, Written};
pub use super::process::locate::Locator;
pub use super::process::target::Pool;
pub use super::socket::target::Protocol;
use super::undo::{Change, Undo};
pub use super::webhook::target::USUAL as USUAL_EVENTS;
use crate::document::node::Entry;
use crate::document::section::Findings;
use crate::policy::mitigation::Verb;

/// What is known of a kind without a target of it.
pub struct Description {
    /// As the configuration writes it.
    pub name: &'static str,
    /// `control.KIND`
    pub section: &'static str,
    pub keys: &'static [&'static str],
    pub offers: &'static [Offer],
}

/// Everything that is made of the table: what the configuration reads, what ladders ask, what the journal keeps.
macro_rules! kinds {
    ($(super::$folder:ident::target::$kind:ident,)*) => {
        $(pub use super::$folder::target::$kind;)*

        /// A kind with its settings.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Target {
            $($kind($kind),)*
        }

        /// All kinds, in the order in which ladders ask who costs the same.
        pub const KINDS: &[Description] = &[$(Description {
            name: stringify!($folder),
            section: concat!("control.", stringify!($folder)),
            keys: $kind::KEYS,
            offers: $kind::OFFERS,
        },)*];

        impl Target {
            /// A control of this kind as it is written, with every complaint about it. Also none where no kind is called so.
            /// One function for all kinds: it is of the start, and its code is let go of by its name (build.rs).
            pub fn read(kind: &str, title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Target> {
                match kind {
                    $(stringify!($folder) => $kind::read(title, entry, findings).map(Target::$kind),)*
                    _ => None,
                }
            }

            #[must_use]
            pub const fn place(&self) -> &dyn Place {
                match self {
                    $(Target::$kind(target) => target,)*
                }
            }

            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Target::$kind(_) => stringify!($folder),)*
                }
            }

            /// Whose code acts on it, as the build groups it.
            #[must_use]
            pub const fn runs(&self) -> &'static [&'static str] {
                match self {
                    $(Target::$kind(_) => $kind::RUNS,)*
                }
            }

            /// As `Kind` has it; never where the kinds differ.
            #[must_use]
            pub fn is_same(&self, other: &Target) -> bool {
                match (self, other) {
                    $((Target::$kind(mine), Target::$kind(theirs)) => mine.is_same(theirs),)*
                    _ => false,
                }
            }

            /// As `Kind` has it; none where the kinds differ.
            #[must_use]
            pub fn overlap(&self, other: &Target) -> Option<Overlap> {
                match (self, other) {
                    $((Target::$kind(mine), Target::$kind(theirs)) => mine.overlap(theirs),)*
                    _ => None,
                }
            }

            /// As `Kind` has it; never where the kinds differ.
            #[must_use]
            pub fn is_one_value(&self, my: &Change, other: &Target, their: &Change) -> bool {
                match (self, other) {
                    $((Target::$kind(mine), Target::$kind(theirs)) => mine.is_one_value(my, theirs, their),)*
                    _ => false,
                }
            }

            /// As `Kind` has it; never where the kinds differ.
            #[must_use]
            pub fn undoes(&self, earlier: &Target, undo: &Undo) -> bool {
                match (self, earlier) {
                    $((Target::$kind(mine), Target::$kind(earlier)) => mine.undoes(earlier, undo),)*
                    _ => false,
                }
            }

            /// As `Kind` has it; never where the kinds differ.
            #[must_use]
            pub fn meets(&self, my: &Undo, other: &Target, their: &Undo) -> bool {
                match (self, other) {
                    $((Target::$kind(mine), Target::$kind(_)) => mine.meets(my, their),)*
                    _ => false,
                }
            }

            /// As `Kind` has it; never where the kinds differ.
            #[must_use]
            pub fn shares(&self, other: &Target, their: &Change, my: &Change) -> bool {
                match (self, other) {
                    $((Target::$kind(mine), Target::$kind(theirs)) => mine.shares(theirs, their, my),)*
                    _ => false,
                }
            }
        }
    };
}

kinds! {
    super::webhook::target::Webhook,
    super::pressure::target::Pressure,
    super::nginx::target::Nginx,
    super::haproxy::target::Haproxy,
    super::memcached::target::Memcached,
    super::redis::target::Redis,
    super::varnish::target::Varnish,
    super::jvm::target::Jvm,
    super::socket::target::Socket,
    super::http::target::Http,
    super::app::target::App,
    super::process::target::Process,
    super::cgroup::target::Cgroup,
}

/// Kinds that are announced.
pub const LATER: [&str; 4] = ["systemd", "nftables", "disk", "unit"];

/// The kind of that name.
#[must_use]
pub fn described(name: &str) -> Option<&'static Description> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The names of all kinds, by the alphabet.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    names
}

/// A control as it is configured.
#[derive(Clone, PartialEq, Debug)]
pub struct Named {
    pub name: Arc<str>,
    pub target: Target,
}

impl Target {
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
    pub(crate) fn secrets(&self) -> Vec<PathBuf> {
        self.place().secret_file().map(PathBuf::from).into_iter().collect()
    }
}
