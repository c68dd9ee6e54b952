//! Services that obey late, step by step or only nearly, killed over; and moved to another place.

use std::time::Duration;

use node_guardian::control::target::Target;

use super::super::support::fickle::{EXACT, Fickle, Manner, PRIOR};
use super::Meanwhile;
use super::subjects::Subject;

const MOMENT: Duration = Duration::from_millis(60);
/// 50 becomes 52.
const STEP: u64 = 4;

struct Limited(Fickle);

impl Subject for Limited {
    fn target(&self) -> Target {
        self.0.target()
    }

    fn face(&self) -> String {
        self.0.settled().to_string()
    }

    fn interfere(&self) {
        self.0.set(77);
    }

    fn tidy(&self) {
        self.0.set(PRIOR);
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn knows(&self, _meanwhile: Meanwhile) -> bool {
        true
    }

    fn restart_with_what_was_saved(&mut self) {
        self.0.restart_with_what_was_saved();
    }

    fn moves(&mut self) -> String {
        self.0.move_to("elsewhere.sock");
        self.face()
    }

    fn moves_back(&mut self) {
        self.0.move_to("limit.sock");
    }
}

fn limited(manner: Manner) -> Box<dyn Subject> {
    Box::new(Limited(Fickle::start(manner)))
}

pub fn exact() -> Box<dyn Subject> {
    limited(EXACT)
}

pub fn rounding() -> Box<dyn Subject> {
    limited(Manner { step: STEP, ..EXACT })
}

pub fn late() -> Box<dyn Subject> {
    limited(Manner { late: MOMENT, ..EXACT })
}

pub fn late_and_rounding() -> Box<dyn Subject> {
    limited(Manner { late: MOMENT, step: STEP, ..EXACT })
}

pub fn gradual() -> Box<dyn Subject> {
    limited(Manner { ramp: MOMENT, ..EXACT })
}

pub fn late_and_gradual() -> Box<dyn Subject> {
    limited(Manner { late: MOMENT, ramp: MOMENT, ..EXACT })
}
