//! What should be done, and nothing else: pure values and functions over them. No clock, no I/O, no logging, no
//! randomness, no hash order; the same code runs live, in `replay` and in tests. It imports nothing from this crate.

pub mod condition;
pub mod event;
pub mod explain;
pub mod metric;
pub mod mitigation;
pub mod moment;
pub mod nearest;
pub mod plan;
pub mod rule;
pub mod sample;
pub mod unit;
pub mod view;
