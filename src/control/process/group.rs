//! One value for a whole tree of threads, and one each for those that had another: so an undo stays short and puts each
//! back to exactly what it had, threads included that were started meanwhile and inherited what we set. Pure.

use std::collections::{HashMap, HashSet};

use super::knob::{Knob, Member};
use crate::control::failure::Failure;
use crate::control::undo::Change;

/// Some of the threads have what we set and some what they had.
pub const PARTLY: &str = "partly set";
/// Threads with a value of their own: a service has a handful.
const MOST_EXCEPTIONS: usize = 64;

/// A thread in the middle of an undo: its number and when it started.
type Name = (i32, u64);

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

/// Names those that the rest stands for, as far as there is room: so they are found where whoever started them has ended.
pub fn name_children(knob: Knob, changes: &mut Vec<Change>, members: &[Member]) {
    let Some(rest) = changes.first().filter(|rest| rest.wanted() != rest.prior).cloned() else { return };
    let room = (MOST_EXCEPTIONS + 1).saturating_sub(changes.len());
    let children = members.iter().skip(1).filter(|member| member.value == rest.prior).take(room);
    let ours: Vec<String> = rest.ours.iter().filter(|ours| *ours != PARTLY).cloned().collect();
    changes.extend(
        children.map(|member| {
            Change::new(key(knob, Who::One((member.id, member.start))), rest.prior.as_str(), ours.clone())
        }),
    );
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

/// Those that have a change of their own.
pub fn named(knob: Knob, changes: &[Change]) -> HashSet<Name> {
    let one = |change: &Change| match parse(&change.key)? {
        (of, Who::One(name)) if of == knob => Some(name),
        (_, Who::One(_) | Who::Rest) => None,
    };
    changes.iter().filter_map(one).collect()
}

/// The one value of all the rest: somebody else's values count only where there is no other.
pub fn value_of_rest(change: &Change, members: &[Member], named: &HashSet<Name>) -> Option<String> {
    let rest = || members.iter().filter(|member| !named.contains(&(member.id, member.start)));
    let is_known = |value: &str| change.prior == value || change.ours.iter().any(|ours| ours == value);
    let mut known = rest().map(|member| member.value.as_str()).filter(|value| is_known(value));
    match known.next() {
        Some(first) if known.all(|value| value == first) => Some(first.to_owned()),
        Some(_) => Some(PARTLY.to_owned()),
        None => rest().next().map(|member| member.value.clone()),
    }
}

/// Those of the rest that are to get this value: what somebody else has set stays.
pub fn to_set<'m>(change: &Change, members: &'m [Member], named: &HashSet<Name>, value: &str) -> Vec<&'m Member> {
    let is_due = |member: &&Member| {
        let live = member.value.as_str();
        let known = change.prior == live || change.ours.iter().any(|ours| ours == live);
        known && live != value && !named.contains(&(member.id, member.start))
    };
    members.iter().filter(is_due).collect()
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

    #[test]
    fn threads_that_came_later_count_and_what_somebody_else_set_does_not() {
        let changes = survey(Knob::Nice, &members(&["0", "0", "5"]), up).unwrap();
        let named = named(Knob::Nice, &changes);
        let live = |values: &[&str]| value_of_rest(&changes[0], &members(values), &named);
        assert_eq!(live(&["3", "3", "8", "3"]).as_deref(), Some("3"));
        assert_eq!(live(&["0", "0", "0"]).as_deref(), Some("0"), "the third is not asked");
        assert_eq!(live(&["0", "3", "8"]).as_deref(), Some(PARTLY));
        assert_eq!(live(&["15", "3", "8"]).as_deref(), Some("3"));
        assert_eq!(live(&["15", "15", "8"]).as_deref(), Some("15"));
        assert_eq!(value_of_rest(&changes[0], &[], &named), None);
        let back = members(&["15", "3", "8", "3", "0"]);
        let back: Vec<i32> = to_set(&changes[0], &back, &named, "0").iter().map(|member| member.id).collect();
        assert_eq!(back, [101, 103]);
    }
}
