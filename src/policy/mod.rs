//! What should be done, and nothing else: pure values and functions over them. No clock, no I/O, no logging, no
//! randomness, no hash order; the same code runs live, in `replay` and in tests. It imports nothing from this crate.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
pub mod condition;
pub(crate) mod demand;
pub mod effect;
pub mod event;
pub mod explain;
pub(crate) mod family;
pub mod gives;
pub mod guardian;
pub(crate) mod in_force;
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
pub(crate) mod program;
pub(crate) mod proportion;
pub mod quiet;
pub mod range;
pub mod reading;
pub mod requester;
pub(crate) mod resource;
pub(crate) mod retries;
pub mod rule;
pub(crate) mod run_up;
pub mod sample;
pub(crate) mod services;
pub(crate) mod severity;
pub mod slots;
pub mod spacing;
pub mod stood_down;
pub(crate) mod trend;
pub(crate) mod troubles;
pub(crate) mod unit;
pub(crate) mod urgency;
pub mod verdict;
pub mod view;
pub(crate) mod window;
