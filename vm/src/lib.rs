//! A Debian guest with systemd, cgroup v2, PSI and journald, for what no container shows: `make vm-test`, `make vm-bench`.
//! It touches nothing of the machine it runs on but its own cache folder and its own qemu processes.
//!
//! [`Machine`] says what to start, [`Guest`] is what runs. `build-image` makes the disk, `guest/` is what is put into it.

mod cache;
mod channel;
mod guest;
mod machine;
mod monitor;
mod qemu;

pub use guest::{Guest, Output};
pub use machine::Machine;

/// What went wrong, as a sentence for whoever runs the tests.
#[derive(Debug)]
pub struct Error(String);

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// For `map_err`: what was being done, and what the system says.
    pub(crate) fn while_doing<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> Self + '_ {
        move |error| Self(format!("{doing}: {error}"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
