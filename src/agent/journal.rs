//! A journal that goes, and one that comes: while there is none nothing new stays in force, and that is told first of all;
//! once it is there, what it says is undone first. Never forgets what an operator ordered meanwhile.

use std::path::Path;

use super::{Agent, Input};
use crate::clock;
use crate::events::{Daemon, Event};
use crate::journal::{self, Before};
use crate::keeper::orders;
use crate::policy::mitigation::Command;
use crate::policy::moment::Moment;

/// What comes of it, for the trail.
#[must_use]
pub fn without_a_journal(why: &str) -> String {
    format!("{why}. Until it can, nothing that stays in force is done; it is tried again, at least once a minute")
}

/// Somebody should order it again.
#[must_use]
pub fn unread_orders(directory: &Path, why: &str) -> Daemon {
    let what = directory.join(orders::NAME).display().to_string();
    let why = format!(
        "it cannot be read, so earlier orders are unknown. Lossy and destructive steps wait for them, or for `pause` \
         or `resume`: {why}"
    );
    Daemon::Degraded { what, why }
}

impl Agent {
    pub(super) fn journal_fails(&mut self, now: Moment, why: String) {
        self.supervision.note_journal(Some(&why));
        self.tell_of_journal(now, Daemon::JournalFailed { why: without_a_journal(&why) });
    }

    pub(super) fn journal_is_found(&mut self, now: Moment, before: Before) {
        let Before { entries, next_id, orders, damage, unread_orders } = before;
        let damage = damage.map(|what| Daemon::JournalDamage { what });
        let lost = unread_orders.as_ref().map(|why| super::unread_orders(&self.parts.settings.state_directory, why));
        for told in [damage, lost].into_iter().flatten() {
            self.parts.events.emit(clock::unix_ms(), Event::Daemon(told));
        }
        // A journal that was not told in time has what was given up still.
        let (given_up, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| orders.forgotten().contains(&entry.id));
        self.parts.keeper.knows_the_place();
        self.take_orders(now, orders, unread_orders);
        if self.tick > 0 {
            self.keep_configuration();
        }
        self.fall_back_again(now);
        let (inherited, found) = (entries.iter().map(journal::inherited).collect(), entries.len());
        self.out.commands.extend(given_up.iter().map(|entry| Command::Forget { id: entry.id }));
        self.parts.guardian.step(now, Input::Found { inherited, next_id }, &mut self.out);
        self.journal_works(now, found);
    }

    pub(super) fn journal_works(&mut self, now: Moment, found: usize) {
        self.supervision.note_journal(None);
        self.tell_of_journal(now, Daemon::JournalWorks { found });
        let names: Vec<_> = self.parts.settings.controls.iter().map(|control| control.name.clone()).collect();
        for name in names {
            self.parts.guardian.step(now, Input::Usable(&name), &mut self.out);
        }
    }

    fn tell_of_journal(&mut self, now: Moment, told: Daemon) {
        self.parts.events.emit(clock::unix_ms(), Event::Daemon(told));
        self.told = None;
        self.tell_manager(now);
    }
}
