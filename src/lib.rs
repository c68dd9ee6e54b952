//! node-guardian keeps one Linux node usable under runaway load.
//!
//! The modules in the order that data flows:
//! - [`config`]: the operator's settings: text to settings, with every complaint at once.
//! - [`document`]: the written text as a tree, each key and value with its position.
//! - [`host`]: the kernel's files to a sample, without ever making the loop wait.
//! - [`policy`]: decides by settings, samples and outcomes; pure.
//! - [`control`]: applies and undoes changes, at services' own control sockets.
//! - [`journal`]: the changes in force and their undo, written ahead.
//! - [`agent`]: the loop: wait, sample, step, send, publish.
//! - [`heartbeat`]: heartbeats of the threads, and which one hangs.
//! - [`pace`]: the time to the next tick.
//! - [`inbox`]: the way into the loop for other threads.
//! - [`keeper`]: small files of the state directory, each written as a whole.
//! - [`drill`]: applies and undoes every reversible action for a moment.
//! - [`replay`]: scenarios through the real policy, offline.
//! - [`status`]: the snapshot that everyone else reads.
//! - [`clock`]: the time, and timers.
//! - [`signals`]: signals to messages for the loop.
//! - [`notify`]: reports to the service manager.
//! - [`ending`]: killed processes that cannot end yet, so that nothing waits for them.
//! - [`plain`]: foreign text made safe to show.
//! - [`privilege`]: scheduling, memory and rights, to run on time under load.
//! - [`logging`]: where log lines go.
//! - [`events`]: the audit trail: one enum, one `emit` that counts, keeps and logs.
//! - [`telemetry`]: counters and histograms behind the `metrics` facade.
//! - [`http`]: the snapshot and the trail over HTTP, on a thread of its own.
//! - [`cli`]: one subcommand, one exit code.
//! - `fuzzing`: foreign input as functions of bytes; in no shipped build.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod document;
pub mod drill;
pub mod ending;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod heartbeat;
pub mod host;
pub mod http;
pub mod inbox;
pub mod journal;
pub(crate) mod keeper;
pub mod logging;
pub mod notify;
pub(crate) mod pace;
pub mod plain;
pub mod policy;
pub mod privilege;
pub mod replay;
pub mod signals;
pub mod status;
pub mod telemetry;
