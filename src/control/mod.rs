//! Acting on services and undoing it: one file per kind of control, each with probe, capture, apply, verify, revert.
//! A control never decides; it does what it is told, reads it back, and says what came of it.

pub mod target;
pub mod undo;
