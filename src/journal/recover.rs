//! Two slots' bytes to what is in force, whatever happened to them. Pure, so that every kind of damage can be tried.
//!
//! The sealed slot of the highest generation is the whole truth up to its end. Whole frames of a higher generation
//! elsewhere are an interrupted rewrite of that truth, or belong to a slot that lost both its seals: replayed on top,
//! both come out right.

use super::record::{Frame, Scan};
use super::slot::{BODY, SLOT_BYTES};
use super::state::State;
use crate::policy::mitigation::ActionId;

#[derive(PartialEq, Debug)]
pub struct Recovered {
    pub state: State,
    /// The highest that was ever begun.
    pub generation: u32,
    /// Where to write on; `None`: only after a rewrite.
    pub tail: Option<Tail>,
    /// The slot to rewrite if there is no tail: never the one that holds the truth.
    pub spare: usize,
    pub damage: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    pub slot: usize,
    /// Offset of the next frame.
    pub end: usize,
    pub next_sequence: u32,
}

#[must_use]
pub fn recover(slots: [&[u8]; 2]) -> Recovered {
    let scans = slots.map(Scan::of);
    let base = base(&scans);
    let mut frames: Vec<&Frame> = scans.iter().flat_map(|scan| &scan.frames).collect();
    let generation = frames.iter().map(|frame| frame.generation).max().unwrap_or(0);
    frames.retain(|frame| frame.generation >= base.map_or(0, |(_, generation)| generation));
    frames.sort_by_key(|frame| (frame.generation, frame.sequence));

    let mut state = State::default();
    let mut complaints = Vec::new();
    replay(&mut state, &frames, &mut complaints);
    let tail = match base {
        Some((slot, sealed)) => {
            complain_of_length(slots, &mut complaints);
            complain_of_slot(&scans[slot], sealed, &mut complaints);
            tail(&scans[slot], slot, sealed).filter(|_| generation == sealed && complaints.is_empty())
        }
        None => {
            complain_of_no_seal(&scans, frames.len(), &mut complaints);
            None
        }
    };
    complain_of_foreign(&state, &mut complaints);
    let damage = (!complaints.is_empty()).then(|| complaints.join("; "));
    Recovered { state, generation, tail, spare: base.map_or(0, |(slot, _)| 1 - slot), damage }
}

/// The slot to believe, and the generation of its seal.
fn base(scans: &[Scan; 2]) -> Option<(usize, u32)> {
    let sealed = |scan: &Scan| scan.frames.iter().filter(|frame| frame.sequence == 0).map(|f| f.generation).max();
    let each = scans.iter().enumerate().filter_map(|(slot, scan)| Some((slot, sealed(scan)?)));
    each.max_by_key(|(_, generation)| *generation)
}

fn replay(state: &mut State, frames: &[&Frame], complaints: &mut Vec<String>) {
    let mut senseless = 0;
    for frame in frames {
        if frame.sequence == 0 {
            state.next_id = state.next_id.max(frame.next_id);
        } else if !state.replay(frame) {
            senseless += 1;
        }
    }
    if senseless > 0 {
        complaints.push(format!("{senseless} records are unknown to this version and were skipped"));
    }
}

fn of_life<'a>(scan: &'a Scan, generation: u32) -> impl Iterator<Item = &'a Frame<'a>> {
    scan.frames.iter().filter(move |frame| frame.generation == generation)
}

fn tail(scan: &Scan, slot: usize, generation: u32) -> Option<Tail> {
    let last = of_life(scan, generation).map(|frame| frame.sequence).max()?;
    Some(Tail { slot, end: scan.end.max(BODY), next_sequence: last.checked_add(1)? })
}

/// Both files have their full size before the first seal.
fn complain_of_length(slots: [&[u8]; 2], complaints: &mut Vec<String>) {
    for slot in slots.iter().filter(|slot| slot.len() < SLOT_BYTES) {
        complaints.push(format!("a file was missing or cut to {} bytes: the rest is lost", slot.len()));
    }
}

fn complain_of_slot(scan: &Scan, generation: u32, complaints: &mut Vec<String>) {
    let sequences = || of_life(scan, generation).map(|frame| frame.sequence);
    let last = sequences().max().unwrap_or(0) as usize;
    let records = sequences().filter(|sequence| *sequence > 0).count();
    let seals = sequences().filter(|sequence| *sequence == 0).count();
    if last > records {
        complaints.push(format!("{} damaged records were skipped, the {records} others were read", last - records));
    }
    if scan.debris > 0 && last == records && seals == 2 {
        complaints.push(format!("the last record is incomplete ({} bytes) and was ignored", scan.debris));
    }
    if seals < 2 {
        complaints.push("one of two seals is damaged, the other one was used".to_owned());
    }
}

fn complain_of_no_seal(scans: &[Scan; 2], salvaged: usize, complaints: &mut Vec<String>) {
    if salvaged > 0 || scans.iter().any(|scan| scan.debris > 0) {
        complaints.push(format!("no file has a whole seal; {salvaged} records were salvaged"));
    }
}

fn complain_of_foreign(state: &State, complaints: &mut Vec<String>) {
    if !state.foreign.is_empty() {
        let ids: Vec<String> = state.foreign.iter().map(|(ActionId(id), _)| id.to_string()).collect();
        complaints.push(format!(
            "actions {} were written by another version and are kept for it to undo: start that version once",
            ids.join(", ")
        ));
    }
}
