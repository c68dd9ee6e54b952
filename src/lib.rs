//! node-guardian keeps one Linux node usable under runaway load.
//!
//! The modules in the order that data flows:
//! - [`config`]: what the operator wants: text to settings, with every complaint at once.
//! - [`document`]: what is written, each key and value with its place.
//! - [`host`]: the kernel's files to a sample, without ever making the loop wait.
//! - [`policy`]: what should be done, given settings, samples and outcomes; pure.
//! - [`control`]: doing it and undoing it, at services' own control sockets.
//! - [`journal`]: what is in force, written ahead.
//! - [`agent`]: the loop: wait, sample, step, send, publish.
//! - [`heartbeat`]: signs of life of the threads, and which of them hangs.
//! - [`pace`]: how long until the next tick.
//! - [`inbox`]: how other threads reach the loop.
//! - [`keeper`]: small files of the state directory, written whole.
//! - [`drill`]: trying every reversible action for a moment.
//! - [`replay`]: scenarios through the real policy, offline.
//! - [`status`]: the snapshot that everyone else reads.
//! - [`clock`]: what time it is, and being woken in time.
//! - [`signals`]: signals to messages for the loop.
//! - [`notify`]: what the service manager hears of us.
//! - [`ending`]: who was killed and cannot end yet, so that nobody waits for it.
//! - [`plain`]: text of strangers made fit to be shown.
//! - [`privilege`]: staying alive and on time when everything else is not.
//! - [`logging`]: where log lines go.
//! - [`events`]: the audit trail: one enum, one `emit` that counts, keeps and logs.
//! - [`telemetry`]: counters and histograms behind the `metrics` facade.
//! - [`http`]: the snapshot and the trail over HTTP, on a thread of its own.
//! - [`cli`]: one subcommand, one exit code.
//! - `fuzzing`: what strangers can send, as functions of bytes; in no build that is shipped.

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
pub mod heartbeat;
pub mod host;
pub mod http;
pub mod inbox;
pub mod journal;
pub mod keeper;
pub mod logging;
pub mod notify;
pub mod pace;
pub mod plain;
pub mod policy;
pub mod privilege;
pub mod replay;
pub mod signals;
pub mod status;
pub mod telemetry;
