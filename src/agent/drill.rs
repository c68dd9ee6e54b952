//! Drills on the loop: begun when the node is calm, given up as soon as it no longer is.

use std::sync::Arc;

use super::{Agent, Input};
use crate::clock;
use crate::drill::{Drill, DrillView};
use crate::events::{Daemon, Event};
use crate::inbox::Drilling;
use crate::policy::event::Mode;
use crate::policy::mitigation::{Class, Command, Level};
use crate::policy::moment::Moment;

impl Agent {
    pub(super) fn drill(&mut self, now: Moment, wanted: Drilling) {
        let begun = self.begin_drill(&wanted.controls, wanted.only_plan);
        // Whoever asked may have gone; the drill goes on, and `GET /drill` tells it.
        drop(wanted.reply.send(begun));
        self.go_on_drilling(now);
    }

    fn begin_drill(&mut self, names: &[String], only_plan: bool) -> Result<DrillView, String> {
        let controls = &self.parts.settings.controls;
        if let Some(unknown) = names.iter().find(|name| controls.iter().all(|control| *control.name != ***name)) {
            let known: Vec<&str> = controls.iter().map(|control| &*control.name).collect();
            let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
            return Err(format!("no control is named {unknown}: {known}"));
        }
        let chosen = |control: &&_| names.is_empty() || names.iter().any(|name| is_named(control, name));
        let mut drill = Drill::of(controls.iter().filter(chosen));
        if only_plan {
            return Ok(drill.view());
        }
        self.may_drill()?;
        if drill.is_empty() {
            return Ok(drill.view());
        }
        let what: Vec<&str> = controls.iter().filter(chosen).map(|control| &*control.name).collect();
        let what = if names.is_empty() { "every control".to_owned() } else { what.join(", ") };
        self.drills += 1;
        drill.begin(self.drills);
        self.tell(Daemon::DrillBegan { what });
        let view = drill.view();
        self.drill_view = Arc::new(Some(view.clone()));
        self.drill = Some(drill);
        Ok(view)
    }

    fn may_drill(&self) -> Result<(), String> {
        let guardian = &self.parts.guardian;
        let policy = &self.parts.settings.policy;
        if self.drill.is_some() {
            return Err("a drill is under way: see GET /drill".to_owned());
        }
        if self.stop_by.is_some() {
            return Err("the guardian is stopping".to_owned());
        }
        if policy.dry_run || !policy.level.allows(Class::Reversible) {
            let needed = Level::needed_for(Class::Reversible);
            return Err(format!(
                "this configuration allows no changes (level {}, dry_run = {}): a drill needs level {needed}",
                policy.level, policy.dry_run
            ));
        }
        if guardian.orders().is_paused() {
            return Err("paused: nothing is done before the pause ends, or `node-guardian resume`".to_owned());
        }
        if guardian.mode() != Mode::Normal || !guardian.owes_nothing() {
            return Err(format!(
                "the node is {} with {} in force: drill when the mode is normal and nothing is in force",
                guardian.mode(),
                guardian.in_force()
            ));
        }
        Ok(())
    }

    /// Cheap where no drill is under way: it is looked at with every message.
    pub(super) fn go_on_drilling(&mut self, now: Moment) {
        let Some(mut drill) = self.drill.take() else { return };
        // Also where one is still under way: it must not go on when the node is calm again, hours later.
        let guardian = &self.parts.guardian;
        if self.stop_by.is_some() || guardian.orders().is_paused() || guardian.mode() != Mode::Normal {
            drill.give_up();
        }
        while let Some(next) = drill.next() {
            self.parts.guardian.step(now, Input::Drill(next), &mut self.out);
            drill.began(self.out.commands.iter().find_map(|command| match command {
                Command::Apply { id, rule, .. } if rule.is_drill() => Some(*id),
                Command::Apply { .. } | Command::Verify { .. } | Command::Undo { .. } | Command::Forget { .. } => None,
            }));
            self.perform(now);
        }
        let view = drill.view();
        if drill.is_over() {
            self.tell(Daemon::DrillEnded { count: view.count });
        } else {
            self.drill = Some(drill);
        }
        if self.drill_view.as_ref().as_ref() != Some(&view) {
            self.drill_view = Arc::new(Some(view));
        }
    }

    fn tell(&mut self, event: Daemon) {
        self.parts.events.emit(clock::unix_ms(), Event::Daemon(event));
    }
}

fn is_named(control: &crate::config::settings::Control, name: &str) -> bool {
    *control.name == *name
}
