//! A node whose memory the bench decides: a copy of the suite's `/proc` and `/sys`, which a daemon reads in place of the
//! real ones. What is written there is all that this ever changes.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use node_guardian::config::settings::Settings;
use tempfile::TempDir;

pub struct MadeUp(TempDir);

/// A line of /proc/meminfo.
#[derive(Clone, Copy)]
pub enum Line {
    Available,
    SwapFree,
}

impl Line {
    const fn name(self) -> &'static str {
        match self {
            Line::Available => "MemAvailable:",
            Line::SwapFree => "SwapFree:",
        }
    }

    const fn total(self) -> &'static str {
        match self {
            Line::Available => "MemTotal:",
            Line::SwapFree => "SwapTotal:",
        }
    }
}

impl MadeUp {
    /// With all of its memory free.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-6.x");
        let copied = ["proc", "sys"].iter().try_for_each(|root| copy(&fixture.join(root), &folder.path().join(root)));
        copied.map_err(|error| format!("cannot copy {}: {error}", fixture.display()))?;
        let node = Self(folder);
        node.set(Line::Available, 90)?;
        node.set(Line::SwapFree, 90)?;
        Ok(node)
    }

    /// What makes a daemon read it, every 10 ms, and leave out the built-in rules.
    pub fn configuration(&self) -> String {
        let built_in = Settings::default().policy.rules;
        let off: String = built_in.iter().map(|rule| format!("[rule.{}]\nenabled = false\n", rule.name)).collect();
        let [proc, sys] = ["proc", "sys"].map(|root| self.0.path().join(root));
        format!(
            "[sampling]\ninterval = \"10ms\"\nfast_interval = \"10ms\"\nmounts = []\nproc_root = {proc:?}\n\
             sys_root = {sys:?}\n{off}"
        )
    }

    /// In place and the digits alone: the daemon keeps the file open, and must never read half of it.
    pub fn set(&self, line: Line, percent: u64) -> Result<(), String> {
        let path = self.0.path().join("proc/meminfo");
        let change = || {
            let text = fs::read_to_string(&path)?;
            let total = field(&text, line.total()).and_then(|(_, digits)| digits.trim().parse::<u64>().ok());
            let (Some(total), Some((at, digits))) = (total, field(&text, line.name())) else {
                return Err(std::io::Error::other(line.name()));
            };
            let digits = format!("{:>width$}", total * percent / 100, width = digits.len());
            OpenOptions::new().write(true).open(&path)?.write_all_at(digits.as_bytes(), at as u64)
        };
        change().map_err(|error| format!("cannot change {}: {error}", path.display()))
    }
}

/// Where the digits begin, and they.
fn field<'a>(text: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let at = text.find(name)? + name.len();
    let rest = &text[at..];
    Some((at, &rest[..rest.find(" kB")?]))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
