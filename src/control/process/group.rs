//! One value for a whole tree of threads, and one each for those that had another: so an undo stays short and puts each
//! back to exactly what it had, threads included that were started meanwhile and inherited what we set. Pure.

use std::collections::{HashMap, HashSet};

use super::knob::{Knob, Member};
use super::pinned::Pinned;
use crate::control::failure::Failure;
use crate::control::undo::{Change, Undo};

/// Some of the threads have what we set and some what they had.
pub const PARTLY: &str = "partly set";
/// Threads with a value of their own: a service has a handful.
const MOST_EXCEPTIONS: usize = 64;
/// A record of so many is 40 kB long, and one more is written for each strength.
const MOST_NAMED: usize = 256;

/// A thread in the middle of an undo: its number and when it started.
pub type Name = (i32, u64);

/// What a change is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// All that no other change names.
    Rest,
    One(Name),
}

/// What is to be changed, from what to what.
///
/// # Errors
/// Where too many have a value of their own.
pub fn survey(knob: Knob, members: &[Member], aim: impl Fn(&str) -> String) -> Result<Vec<Change>, Failure> {
    let Some(common) = commonest(members) else { return Ok(Vec::new()) };
    if members.iter().all(|member| aim(&member.value) == member.value) {
        return Ok(Vec::new());
    }
    let exceptions: Vec<&Member> = members.iter().filter(|member| member.value != common).collect();
    if exceptions.len() > MOST_EXCEPTIONS {
        let (found, name) = (exceptions.len(), knob.name());
        return Err(Failure::unsupported(format!(
            "{found} threads have a {name} of their own: too many to be put back"
        )));
    }
    let change = |who, prior: &str, partly: Option<&str>| {
        let wanted = aim(prior);
        let on_the_way = if wanted == prior { [None; 2] } else { [partly, knob.on_its_way()] };
        let ours = on_the_way.into_iter().flatten().map(str::to_owned).chain([wanted]).collect();
        Change::new(key(knob, who), prior, ours)
    };
    let mut changes = vec![change(Who::Rest, common, Some(PARTLY))];
    changes
        .extend(exceptions.into_iter().map(|member| change(Who::One((member.id, member.start)), &member.value, None)));
    Ok(changes)
}

/// Changes for the children that none names yet, as far as there is room: so they are found where whoever started them has
/// ended. Those with one of these values.
pub fn name_children(knob: Knob, undo: &Undo, members: &[Member], has: impl Fn(&Change, &str) -> bool) -> Vec<Change> {
    let key = key(knob, Who::Rest);
    let Some(rest) = undo.changes.iter().find(|change| change.key == key && change.wanted() != change.prior) else {
        return Vec::new();
    };
    let known = Rest::of(knob, undo);
    let room = MOST_NAMED.saturating_sub(known.named.len());
    let is_child = |member: &&Member| member.id == member.pid && Some(member.pid) != known.leader;
    let unnamed = members.iter().filter(is_child).filter(|member| !known.names(member) && has(rest, &member.value));
    let ours: Vec<String> = rest.ours.iter().filter(|ours| *ours != PARTLY).cloned().collect();
    let name = |member: &Member| {
        let key = self::key(knob, Who::One((member.id, member.start)));
        Change::new(key, rest.prior.as_str(), ours.clone())
    };
    unnamed.take(room).map(name).collect()
}

fn commonest(members: &[Member]) -> Option<&str> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    members.iter().for_each(|member| *counts.entry(&member.value).or_default() += 1);
    counts
        .into_iter()
        .max_by(|mine, theirs| mine.1.cmp(&theirs.1).then_with(|| theirs.0.cmp(mine.0)))
        .map(|most| most.0)
}

/// `nice`, `nice of 77.123456`
pub fn key(knob: Knob, who: Who) -> String {
    match who {
        Who::Rest => knob.name().to_owned(),
        Who::One((id, start)) => format!("{} of {id}.{start}", knob.name()),
    }
}

pub fn parse(key: &str) -> Option<(Knob, Who)> {
    let find = |name: &str| Knob::ALL.into_iter().find(|knob| knob.name() == name);
    let Some((name, one)) = key.split_once(" of ") else { return Some((find(key)?, Who::Rest)) };
    let (id, start) = one.split_once('.')?;
    Some((find(name)?, Who::One((id.parse().ok()?, start.parse().ok()?))))
}

/// Whether both are of one thing that each thread has: whose it is, its family says.
pub fn is_one_value(mine: &str, theirs: &str) -> bool {
    let knob = |key: &str| parse(key).map(|(knob, _)| knob);
    mine == theirs || knob(mine).is_some_and(|mine| Some(mine) == knob(theirs))
}

/// Whom the one change stands for that names nobody.
pub struct Rest {
    leader: Option<i32>,
    /// Those that have a change of their own.
    named: HashSet<Name>,
    /// Those that are found again by a change of theirs, whatever it is of.
    ids: HashSet<i32>,
    /// There is no room to name another one.
    is_full: bool,
}

impl Rest {
    pub fn of(knob: Knob, undo: &Undo) -> Self {
        let named: HashSet<_> = named(undo, |of| of == knob).collect();
        let ids = all_named(undo).map(|(id, _)| id).collect();
        let is_full = named.len() >= MOST_NAMED;
        Self { leader: Pinned::pid_of(&undo.epoch), named, ids, is_full }
    }

    fn names(&self, member: &Member) -> bool {
        self.named.contains(&(member.id, member.start))
    }

    /// A child that is not named yet is none of them before it has what we set, which it inherits: nobody would find it
    /// again once whoever started it has ended.
    fn has(&self, change: &Change, member: &Member) -> bool {
        let has_name = Some(member.pid) == self.leader || self.ids.contains(&member.pid);
        let is_ours = || has_name || member.value != change.prior;
        !self.names(member) && (self.is_full || is_ours())
    }

    /// The one value of all of them: somebody else's values count only where there is no other.
    pub fn value(&self, change: &Change, members: &[Member]) -> Option<String> {
        let rest = || members.iter().filter(|member| self.has(change, member));
        let is_known = |value: &str| change.prior == value || change.ours.iter().any(|ours| ours == value);
        let mut known = rest().map(|member| member.value.as_str()).filter(|value| is_known(value));
        match known.next() {
            Some(first) if known.all(|value| value == first) => Some(first.to_owned()),
            Some(_) => Some(PARTLY.to_owned()),
            None => rest().next().map(|member| member.value.clone()),
        }
    }

    /// Those of them that are to get this value: what somebody else has set stays.
    pub fn to_set<'m>(&self, change: &Change, members: &'m [Member], value: &str) -> Vec<&'m Member> {
        let is_due = |member: &&Member| {
            let live = member.value.as_str();
            let known = change.prior == live || change.ours.iter().any(|ours| ours == live);
            known && live != value && self.has(change, member)
        };
        members.iter().filter(is_due).collect()
    }
}

/// Everybody who has a change of its own.
pub fn all_named(undo: &Undo) -> impl Iterator<Item = Name> {
    named(undo, |_| true)
}

fn named(undo: &Undo, is_meant: impl Fn(Knob) -> bool) -> impl Iterator<Item = Name> {
    let one = move |change: &Change| match parse(&change.key)? {
        (of, Who::One(name)) if is_meant(of) => Some(name),
        (_, Who::One(_) | Who::Rest) => None,
    };
    undo.changes.iter().filter_map(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(values: &[&str]) -> Vec<Member> {
        let member = |(at, value): (usize, &&str)| {
            let id = 100 + i32::try_from(at).unwrap();
            Member { pid: 100, id, start: 7, value: (*value).to_owned() }
        };
        values.iter().enumerate().map(member).collect()
    }

    fn up(value: &str) -> String {
        (value.parse::<i32>().unwrap() + 3).min(19).to_string()
    }

    #[test]
    fn who_had_another_value_is_named() {
        let changes = survey(Knob::Nice, &members(&["0", "5", "0", "19"]), up).unwrap();
        let shown: Vec<_> = changes.iter().map(|it| (it.key.as_str(), it.prior.as_str(), it.wanted())).collect();
        assert_eq!(shown, [("nice", "0", "3"), ("nice of 101.7", "5", "8"), ("nice of 103.7", "19", "19")]);
        assert_eq!(parse("nice of 101.7"), Some((Knob::Nice, Who::One((101, 7)))));
        assert_eq!((parse("io class"), parse("nice of x")), (Some((Knob::Io, Who::Rest)), None));
        assert_eq!(survey(Knob::Nice, &members(&["19", "19"]), up).unwrap(), []);
        let varied: Vec<String> = (0..200).map(|at| (at % 20).to_string()).collect();
        let varied: Vec<&str> = varied.iter().map(String::as_str).collect();
        assert!(survey(Knob::Nice, &members(&varied), up).unwrap_err().detail.contains("too many"));
    }

    fn undo(changes: Vec<Change>) -> Undo {
        Undo { epoch: "boot:100:7".to_owned(), changes, lapses_unix_ms: None }
    }

    #[test]
    fn threads_that_came_later_count_and_what_somebody_else_set_does_not() {
        let changes = survey(Knob::Nice, &members(&["0", "0", "5"]), up).unwrap();
        let rest = Rest::of(Knob::Nice, &undo(changes.clone()));
        let live = |values: &[&str]| rest.value(&changes[0], &members(values));
        assert_eq!(live(&["3", "3", "8", "3"]).as_deref(), Some("3"));
        assert_eq!(live(&["0", "0", "0"]).as_deref(), Some("0"), "the third is not asked");
        assert_eq!(live(&["0", "3", "8"]).as_deref(), Some(PARTLY));
        assert_eq!(live(&["15", "3", "8"]).as_deref(), Some("3"));
        assert_eq!(live(&["15", "15", "8"]).as_deref(), Some("15"));
        assert_eq!(rest.value(&changes[0], &[]), None);
        let back = members(&["15", "3", "8", "3", "0"]);
        let back: Vec<i32> = rest.to_set(&changes[0], &back, "0").iter().map(|member| member.id).collect();
        assert_eq!(back, [101, 103]);
    }

    /// It would stay as it is for ever, should whoever started it end.
    #[test]
    fn a_child_is_named_before_anything_is_set_at_it() {
        let child = |id: i32, value: &str| Member { pid: id, id, start: 9, value: value.to_owned() };
        let mut family = members(&["0"]);
        let changes = survey(Knob::Nice, &family, up).unwrap();
        let mut undo = undo(changes);
        family.extend([child(200, "0"), child(201, "3"), child(202, "7")]);
        let due = |undo: &Undo, value: &str| {
            let rest = Rest::of(Knob::Nice, undo);
            rest.to_set(&undo.changes[0], &family, value).iter().map(|member| member.id).collect::<Vec<_>>()
        };
        assert_eq!((due(&undo, "3"), due(&undo, "0")), (vec![100], vec![201]), "what is inherited goes back");
        let is_prior = |change: &Change, value: &str| change.prior == value;
        let named = name_children(Knob::Nice, &undo, &family, is_prior);
        assert_eq!(named.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["nice of 200.9"]);
        undo.changes.extend(named);
        assert!(name_children(Knob::Nice, &undo, &family, is_prior).is_empty(), "once");
        assert_eq!(all_named(&undo).collect::<Vec<_>>(), [(200, 9)]);
        let crowd: Vec<Member> = (300..900).map(|id| child(id, "0")).collect();
        let named = name_children(Knob::Nice, &undo, &crowd, is_prior);
        assert_eq!(named.len(), MOST_NAMED - 1);
        undo.changes.extend(named);
        let rest = Rest::of(Knob::Nice, &undo);
        assert_eq!(rest.to_set(&undo.changes[0], &crowd, "3").len(), 600 - (MOST_NAMED - 1), "there is no more room");
    }
}
