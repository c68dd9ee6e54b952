//! What should be done, and nothing else: pure values and functions over them. No clock, no I/O, no logging, no
//! randomness, no hash order; the same code runs live, in `replay` and in tests. It imports nothing from this crate.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
pub mod condition;
pub mod demand;
pub mod effect;
pub mod event;
pub mod explain;
pub mod gives;
pub mod guardian;
pub mod in_force;
pub mod life;
pub mod losses;
pub mod metric;
pub mod mitigation;
pub mod mode;
pub mod moment;
pub mod nearest;
pub mod orders;
pub mod past;
pub mod plan;
pub mod ports;
pub mod program;
pub mod proportion;
pub mod quiet;
pub mod range;
pub mod reading;
pub mod requester;
pub mod resource;
pub mod retries;
pub mod rule;
pub mod run_up;
pub mod sample;
pub mod services;
pub mod severity;
pub mod slots;
pub mod spacing;
pub mod trend;
pub mod troubles;
pub mod unit;
pub mod urgency;
pub mod verdict;
pub mod view;
pub mod window;
