//! A guest that runs: commands as root, files in and out, a reboot, and the plug pulled.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::channel::{Channel, Request};
use crate::machine::wait_for_boot;
use crate::monitor::Monitor;
use crate::qemu::Qemu;
use crate::{Error, Result};

/// What a command left: its exit status (124 when it ran out of time), and what it printed, both streams together.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: i32,
    pub text: String,
}

impl Output {
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status == 0
    }
}

/// Ends, with all its changes, when it is dropped.
#[derive(Debug)]
pub struct Guest {
    channel: Channel,
    monitor: Monitor,
    qemu: Qemu,
}

/// For what is not expected to take long, in a guest ten times slower than its host.
const USUAL: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(240);

impl Guest {
    pub(crate) fn new(qemu: Qemu, channel: Channel, monitor: Monitor) -> Self {
        Self { channel, monitor, qemu }
    }

    pub(crate) fn monitor(&mut self) -> &mut Monitor {
        &mut self.monitor
    }

    /// The first word, which also sets the clock.
    pub(crate) fn greet(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.channel.ask(&Request::Hello { time: now }, &[], BOOT).map(drop)
    }

    /// Runs a line of bash as root; what it leaves running goes on.
    pub fn run(&mut self, command: &str, patience: Duration) -> Result<Output> {
        let request = Request::Run { command, seconds: patience.as_secs_f64() };
        let (head, text) = self.channel.ask(&request, &[], patience + USUAL)?;
        Ok(Output { status: head.status, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// What the command printed; an error with all of it where it failed.
    pub fn must(&mut self, command: &str) -> Result<String> {
        let output = self.run(command, USUAL)?;
        if output.succeeded() {
            return Ok(output.text);
        }
        Err(Error::new(format!("in the guest, `{command}` ended with {}: {}", output.status, output.text.trim())))
    }

    /// Made executable.
    pub fn put(&mut self, here: &Path, there: &str) -> Result<()> {
        let bytes = fs::read(here).map_err(|error| Error::new(format!("{}: {error}", here.display())))?;
        self.write(there, &bytes)
    }

    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.channel.ask(&Request::Put { path, size: bytes.len() }, bytes, USUAL).map(drop)
    }

    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.channel.ask(&Request::Get { path }, &[], USUAL).map(|(_, bytes)| bytes)
    }

    /// Ends it, for others to be resumed from here.
    pub(crate) fn save(mut self, state: &Path) -> Result<()> {
        let unfinished = state.with_extension("unfinished");
        self.monitor.save(&unfinished)?;
        drop(self);
        fs::rename(unfinished, state).map_err(Error::while_doing("keeping the saved guest"))
    }

    /// An orderly one, with all that units do when they stop.
    pub fn reboot(&mut self) -> Result<()> {
        self.must("systemctl reboot")?;
        wait_for_boot(&mut self.channel, BOOT)?;
        self.greet()
    }

    /// The plug pulled and put back: what was not written to the disk is gone.
    pub fn pull_the_plug(&mut self) -> Result<()> {
        self.monitor.ask("system_reset", &json!({}))?;
        wait_for_boot(&mut self.channel, BOOT)?;
        self.greet()
    }

    /// The kernel's serial console since the guest was resumed.
    #[must_use]
    pub fn console(&self) -> String {
        self.qemu.console()
    }
}
