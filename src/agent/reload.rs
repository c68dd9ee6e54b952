//! A new configuration on the loop: taken whole, or refused whole and told until it is mended; and kept once it is taken.

use std::sync::Arc;

use super::Agent;
use crate::clock;
use crate::config::settings::{Control, Settings};
use crate::config::{Footing, Loaded};
use crate::events::{Daemon, Event};
use crate::host::sampler::Sampler;
use crate::pace::Pace;
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::status::Configuration;

impl Agent {
    pub(super) fn reload(&mut self, now: Moment) {
        if self.stop_by.is_some() {
            return;
        }
        self.parts.notifier.reloading();
        let unix_ms = clock::unix_ms();
        let told = match (self.parts.reload)() {
            Err(complaints) => {
                let refused = Some(complaints.brief());
                self.configuration = Arc::new(Configuration { refused, ..Configuration::clone(&self.configuration) });
                Daemon::ReloadRefused { why: complaints.to_string() }
            }
            Ok(loaded) => {
                let sources = loaded.settings.sources.iter().map(|path| path.display().to_string());
                let sources = sources.collect::<Vec<_>>().join(", ");
                let directory = loaded.settings.state_directory.clone();
                self.take(now, loaded.settings);
                let next_directory = Some(directory).filter(|next| *next != self.parts.settings.state_directory);
                self.configuration = Arc::new(Configuration { next_directory, ..Configuration::default() });
                self.parts.last_good = loaded.last_good;
                self.keep_configuration();
                Daemon::Reloaded { sources }
            }
        };
        self.parts.events.emit(unix_ms, Event::Daemon(told));
        self.parts.notifier.ready("guarding");
        self.told = None;
        self.tell_manager(now);
    }

    /// The last good one could not be read until now.
    pub(super) fn fall_back_again(&mut self, now: Moment) {
        if self.configuration.footing != Footing::BuiltIn || self.stop_by.is_some() {
            return;
        }
        let Loaded { settings, complaints, footing, last_good: _ } = (self.parts.settle)();
        if footing != Footing::LastGood {
            return;
        }
        self.take(now, settings);
        let refused = Some(complaints.brief());
        self.configuration = Arc::new(Configuration { footing, refused, next_directory: None });
        let told = Daemon::Fallback { footing, why: complaints.to_string() };
        self.parts.events.emit(clock::unix_ms(), Event::Daemon(told));
    }

    fn take(&mut self, now: Moment, settings: Settings) {
        if settings.http != self.parts.settings.http || settings.state_directory != self.parts.settings.state_directory
        {
            let what = "[http] and state_directory".to_owned();
            let why = "they are read only at start; restart node-guardian to change them".to_owned();
            self.parts.events.emit(clock::unix_ms(), Event::Daemon(Daemon::Degraded { what, why }));
        }
        if settings.sampling != self.parts.settings.sampling {
            self.parts.sampler = Sampler::open(&settings.sampling);
            tracing::info!("memory, CPU, pressure and tasks: using {}", self.parts.sampler.place());
            self.pace = Pace::new(&settings.sampling);
            self.seen_blind_spots = None;
        }
        if let Some(drill) = &mut self.drill {
            // It was planned with other controls, and perhaps with leave to change something.
            drill.give_up();
        }
        let names = &settings.controls;
        Arc::make_mut(&mut self.controls).retain(|known| names.iter().any(|control| control.name == known.name));
        if !self.parts.workers.reconfigure(settings.controls.clone(), self.parts.events.last()) {
            tracing::error!("the thread that acts has ended; restart node-guardian");
        }
        let (before, after) = (&self.parts.settings.controls, &settings.controls);
        let named = |controls: &[Control], name: &str| controls.iter().find(|control| *control.name == *name).cloned();
        self.parts.guardian.outdate(|name| named(before, name) != named(after, name));
        self.parts.events.expect(&settings.policy);
        let plan = Arc::new(Plan::new(settings.policy.clone()));
        self.parts.guardian.reload(now, Arc::clone(&plan));
        // The views of rules and their plan must change together, and this must not be missed.
        self.parts.board.replace_plan(Arc::clone(&plan));
        // What was taken at start goes on to be what a later reload is compared with.
        let (http, state_directory) = (self.parts.settings.http.clone(), self.parts.settings.state_directory.clone());
        self.parts.settings = Settings { http, state_directory, ..settings };
        self.parts.sampler.expect(&plan);
        self.numbers.expect(&plan, &self.parts.settings, now);
        self.relevance.expect(&self.parts.settings);
    }

    /// What was guarded by for a tick, at least, is what a later mistake falls back to, also where the journal is now.
    pub(super) fn keep_configuration(&mut self) {
        let Some(good) = &self.parts.last_good else { return };
        match good.bytes() {
            Some(bytes) => self.parts.keeper.keep(&good.file_name(), bytes),
            None => {
                self.parts.last_good = None;
                let what = "the configuration".to_owned();
                let why = "it is too large to be kept, so there is no last good one to fall back to".to_owned();
                self.parts.events.emit(clock::unix_ms(), Event::Daemon(Daemon::Degraded { what, why }));
            }
        }
    }
}
