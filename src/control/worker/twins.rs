//! Two controls that lead to one service by two of its addresses: what an operator undoes or sets at one of them, the other
//! would do again. The first by name has the service, and the other one only says so. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::control::failure::Failure;
use crate::control::target::Target;

#[derive(Default)]
pub struct Twins {
    seen: HashMap<Arc<str>, Seen>,
    /// Who comes before this one at its service. Stays so until one of both is configured anew: a service that restarts has
    /// another name, and is seen later by one than by the other.
    elders: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

struct Seen {
    target: Target,
    names: Vec<String>,
}

impl Twins {
    /// What a look at this control has found: what the service calls itself.
    pub fn saw(&mut self, control: &Arc<str>, target: &Target, names: Vec<String>) {
        if !names.is_empty() {
            self.seen.insert(Arc::clone(control), Seen { target: target.clone(), names });
        }
        let Some(own) = self.seen.get(control) else { return };
        for (other, _) in self.seen.iter().filter(|(other, seen)| *other != control && own.is_twin(seen)) {
            let (elder, younger) = if other < control { (other, control) } else { (control, other) };
            self.elders.entry(Arc::clone(younger)).or_default().insert(Arc::clone(elder));
        }
    }

    /// It is configured anew, or not any more.
    pub fn forget(&mut self, control: &Arc<str>) {
        self.seen.remove(control);
        self.elders.remove(control);
        self.elders.values_mut().for_each(|elders| elders.retain(|elder| elder != control));
    }

    /// # Errors
    /// `Refused` where another control has the service of this one.
    pub fn is_free(&self, control: &Arc<str>) -> Result<(), Failure> {
        let Some(elder) = self.holder(control) else { return Ok(()) };
        Err(Failure::refused(format!(
            "it leads to the same service as control {elder}, by another address: only {elder} acts on it; remove one of the \
             two"
        )))
    }

    /// One that is itself kept from acting keeps nobody from it.
    fn holder(&self, control: &Arc<str>) -> Option<&Arc<str>> {
        self.elders.get(control)?.iter().find(|elder| self.holder(elder).is_none())
    }
}

impl Seen {
    /// Two of one address are complained about by the configuration, and share what an operator ordered.
    fn is_twin(&self, other: &Seen) -> bool {
        let (mine, theirs) = (&self.target, &other.target);
        mine.kind() == theirs.kind()
            && mine.place().part() == theirs.place().part()
            && mine.identity() != theirs.identity()
            && self.names.iter().any(|name| other.names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::Address;
    use crate::control::target::Redis;

    fn redis(at: &str) -> Target {
        Target::Redis(Redis {
            listener: None,
            address: Address::Tcp(at.to_owned()),
            username: None,
            password_file: None,
            cache_only: false,
            flush_pattern: None,
            client_buffers: None,
        })
    }

    #[test]
    fn the_first_by_name_has_the_service_also_in_its_next_life() {
        let (mut twins, [first, second]) = (Twins::default(), ["aa", "bb"].map(Arc::<str>::from));
        twins.saw(&second, &redis("[::1]:1"), vec!["life".to_owned()]);
        assert_eq!(twins.is_free(&second), Ok(()));
        twins.saw(&first, &redis("127.0.0.1:1"), vec!["life".to_owned()]);
        let refused = twins.is_free(&second).unwrap_err();
        assert!(refused.detail.contains("control aa") && twins.is_free(&first).is_ok(), "{}", refused.detail);
        twins.saw(&second, &redis("[::1]:1"), vec!["next".to_owned()]);
        twins.saw(&first, &redis("127.0.0.1:1"), Vec::new());
        assert!(twins.is_free(&second).is_err());
        twins.forget(&first);
        assert_eq!(twins.is_free(&second), Ok(()));
    }

    #[test]
    fn what_is_another_service_or_configured_as_one_is_no_twin() {
        let (mut twins, names) = (Twins::default(), ["aa", "bb", "cc"].map(Arc::<str>::from));
        for (name, at, life) in [(&names[0], "one:1", "1"), (&names[1], "one:1", "1"), (&names[2], "two:1", "2")] {
            twins.saw(name, &redis(at), vec![life.to_owned()]);
        }
        assert!(names.iter().all(|name| twins.is_free(name).is_ok()));
    }

    #[test]
    fn of_three_one_acts() {
        let (mut twins, names) = (Twins::default(), ["aa", "bb", "cc"].map(Arc::<str>::from));
        for (name, at) in [(&names[1], "two:1"), (&names[2], "three:1"), (&names[0], "one:1")] {
            twins.saw(name, &redis(at), vec!["1".to_owned()]);
        }
        assert_eq!(names.map(|name| twins.is_free(&name).is_ok()), [true, false, false]);
    }
}
