//! What is wanted of a control, by whom and until when.

use crate::clock;
use crate::control::failure::Failure;
use crate::policy::mitigation::{ActionId, Class, Mitigation};
use crate::policy::moment::Moment;
use crate::policy::requester::Requester;

/// What is wanted, by whom.
pub(super) struct Wish {
    pub id: ActionId,
    pub mitigation: Mitigation,
    pub rule: Requester,
    pub class: Class,
    pub valid_until: Moment,
}

impl Wish {
    /// What it takes away does not come back by an undo.
    pub(super) fn destroys(&self) -> bool {
        self.class.max(self.mitigation.verb.class()) >= Class::Lossy
    }
}

pub(super) fn in_time(valid_until: Moment) -> Result<(), Failure> {
    match clock::now() {
        Ok(now) if now <= valid_until => Ok(()),
        Ok(now) => {
            let late = now.since(valid_until).as_secs_f64();
            Err(Failure::expired(&format!("its turn came {late:.1} s after it expired")))
        }
        Err(errno) => Err(Failure::expired(&format!("its age is unknown: {errno}"))),
    }
}
