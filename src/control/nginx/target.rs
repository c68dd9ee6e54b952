//! Where an nginx is and what of it may be touched.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap, is_same_file};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place, Undeclared};
use crate::control::service::Service;
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// nginx through flag files and the files of its caches.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Nginx {
    /// Directory of the flag files that its configuration looks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<PathBuf>,
    /// Directories of `proxy_cache_path` and its like, which may be trimmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<PathBuf>,
    /// Where it tells that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stub_status: Option<Page>,
}

/// One address of HTTP.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Page {
    pub address: Address,
    pub path: String,
}

impl Place for Nginx {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Shed, Verb::Prune]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Nginx::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        Identity::File(self.flags.as_ref().or(self.caches.first()).cloned().unwrap_or_default())
    }

    fn patience(&self, verb: Verb) -> Duration {
        if verb == Verb::Prune { super::prune::LONGEST } else { PATIENCE }
    }

    fn undeclared(&self, verb: Verb) -> Option<Undeclared> {
        match verb {
            Verb::Shed => self.flags.is_none().then_some(Undeclared {
                what: "this nginx has no flags to shed by",
                help: "declare flags = \"/run/node-guardian/nginx\" at the control",
            }),
            Verb::Prune => self.caches.is_empty().then_some(Undeclared {
                what: "no cache of this nginx is declared",
                help: "declare caches = [\"/var/cache/nginx/app\"] at the control",
            }),
            Verb::Notify
            | Verb::Release
            | Verb::Throttle
            | Verb::Shrink
            | Verb::Freeze
            | Verb::Drain
            | Verb::Flush
            | Verb::Terminate => None,
        }
    }
}

impl Kind for Nginx {
    const OFFERS: &'static [Offer] = &[
        Offer::new(Verb::Shed, Ask::Keep(90.0), Rung::RefuseTenth),
        Offer::new(Verb::Shed, Ask::Keep(75.0), Rung::RefuseQuarter),
        Offer::new(Verb::Shed, Ask::Keep(50.0), Rung::RefuseHalf),
    ];

    fn is_same(&self, other: &Self) -> bool {
        matches!((&self.flags, &other.flags), (Some(mine), Some(theirs)) if is_same_file(mine, theirs))
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        self.is_same(other).then(|| Overlap {
            what: "both set the flags of one directory".to_owned(),
            help: "give each nginx a directory of its own, or make one control of the two",
        })
    }
}
