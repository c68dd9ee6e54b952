//! What the loop tells of itself: the snapshot for everyone who reads, the line for the service manager, the log. Never
//! waits for a reader.

use std::sync::Arc;

use super::Agent;
use crate::clock;
use crate::config::Footing;
use crate::events::{Daemon, Event};
use crate::policy::moment::Moment;
use crate::status::BlindSpot;

impl Agent {
    /// What a stop could not undo in its time is undone by the next start, and somebody should know.
    pub(super) fn tell_owed(&self) {
        if self.parts.guardian.owes_nothing() {
            tracing::info!("stopped; nothing is left in force");
        }
        for action in self.parts.guardian.owed() {
            let (id, mitigation, detail) = (action.id(), action.mitigation(), action.detail());
            tracing::error!(action = %id, %mitigation, detail, "still owed: the next start of node-guardian undoes it");
        }
    }

    /// One line for each thing that is in force, on request.
    pub(super) fn describe(&self) {
        self.parts.board.read(|snapshot| {
            let view = &snapshot.view;
            tracing::info!(mode = view.mode.name(), in_force = view.actions.len(), tick = snapshot.tick, "status");
            for action in &view.actions {
                let (phase, rule) = (action.phase.name(), &*action.rule);
                tracing::info!(action = %action.id, mitigation = %action.mitigation, phase, rule, "in force");
            }
        });
    }

    pub(super) fn tell_manager(&mut self, now: Moment) {
        let in_force = self.parts.guardian.in_force();
        let mode = self.parts.guardian.mode();
        if self.told == Some((mode, in_force)) || self.stop_by.is_some() && now > Moment::ORIGIN {
            return;
        }
        self.told = Some((mode, in_force));
        let fallback = if self.configuration.footing == Footing::Asked { "" } else { "on a fallback configuration; " };
        let lost = if self.supervision.unrecordable().is_none() { "" } else { "the journal cannot be written; " };
        self.parts.notifier.status(&format!("{fallback}{lost}{mode}; {in_force} in force"));
    }

    pub(super) fn publish(&mut self) {
        self.gather_blind_spots();
        self.keep_orders(self.ticked_at);
        let pace = self.until_next(self.ticked_at);
        let (guardian, sampler) = (&self.parts.guardian, &self.parts.sampler);
        let (tick, at, sample) = (self.tick, self.ticked_at, &self.sample);
        let (controls, drill) = (&self.controls, &self.drill_view);
        let configuration = &self.configuration;
        let (blind_spots, hanging) = (self.shown_blind_spots(), self.supervision.hanging().cloned());
        let unrecordable = self.supervision.unrecordable();
        let unread_orders = self.unread_orders();
        self.parts.board.publish(|snapshot| {
            snapshot.tick = tick;
            snapshot.at = at;
            snapshot.unix_ms = clock::unix_ms();
            snapshot.pace = pace;
            snapshot.sample.copy_from(sample);
            guardian.show(&mut snapshot.view);
            share(&mut snapshot.facts, &sampler.facts());
            share(&mut snapshot.controls, controls);
            share(&mut snapshot.drill, drill);
            share(&mut snapshot.configuration, configuration);
            share(&mut snapshot.blind_spots, &blind_spots);
            snapshot.hanging.clone_from(&hanging);
            snapshot.unrecordable = unrecordable;
            snapshot.unread_orders = unread_orders;
        });
    }

    pub(super) fn note_lacking(&mut self, what: String, why: Option<String>) {
        self.parts.blind_spots.retain(|known| known.what != what);
        self.parts.blind_spots.extend(why.map(|why| BlindSpot { what, why }));
        self.seen_blind_spots = None;
    }

    fn gather_blind_spots(&mut self) {
        let found = self.parts.sampler.blind_spots();
        if self.seen_blind_spots.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, found)) {
            return;
        }
        let known = Arc::clone(&self.blind_spots);
        let all: Vec<BlindSpot> = self.parts.blind_spots.iter().chain(found.iter()).cloned().collect();
        self.seen_blind_spots = Some(Arc::clone(found));
        let unix_ms = clock::unix_ms();
        for spot in all.iter().filter(|spot| !known.contains(spot)) {
            let lost = Daemon::SourceLost { what: spot.what.clone(), why: spot.why.clone() };
            self.parts.events.emit(unix_ms, Event::Daemon(lost));
        }
        for spot in known.iter().filter(|spot| !all.iter().any(|now| now.what == spot.what)) {
            self.parts.events.emit(unix_ms, Event::Daemon(Daemon::SourceFound { what: spot.what.clone() }));
        }
        self.blind_spots = Arc::new(all);
    }

    /// With what is only so while a disk does not answer.
    fn shown_blind_spots(&self) -> Arc<Vec<BlindSpot>> {
        match self.supervision.blind_spot() {
            None => Arc::clone(&self.blind_spots),
            Some(spot) => Arc::new(self.blind_spots.iter().cloned().chain([spot]).collect()),
        }
    }
}

fn share<T>(theirs: &mut Arc<T>, ours: &Arc<T>) {
    if !Arc::ptr_eq(theirs, ours) {
        *theirs = Arc::clone(ours);
    }
}
