//! A test that needs a process of its own runs itself again: the child takes another way through the same function.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Uid;

const ROLE: &str = "NODE_GUARDIAN_TEST_DIRECTORY";

/// The directory that the parent gave; `None` in the parent. A child ends with its parent.
pub fn as_child() -> Option<PathBuf> {
    let directory = env::var_os(ROLE).map(PathBuf::from)?;
    set_pdeathsig(Signal::SIGKILL).unwrap();
    Some(directory)
}

/// This very test, as a child with this directory.
pub fn again(test: &str, directory: &Path) -> Command {
    told(Command::new(env::current_exe().unwrap()), test, directory)
}

/// The same from a copy in that directory, for a user who cannot reach where this lies.
pub fn again_from_a_copy(test: &str, directory: &Path) -> Command {
    let copy = directory.join("again");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    told(Command::new(copy), test, directory)
}

fn told(mut command: Command, test: &str, directory: &Path) -> Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, directory).env("RUST_BACKTRACE", "0");
    command
}

/// Runs the child to its end, and fails with what it said if it fails.
pub fn succeeds(mut child: Command) -> Output {
    let output = child.output().unwrap();
    let said = || [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).join("\n");
    assert!(output.status.success(), "{}: {}", output.status, said());
    output
}

/// A small file system of the child's own, gone with the child.
pub fn mount_tmpfs(at: &Path, options: &str) {
    let mut flags = CloneFlags::CLONE_NEWNS;
    if !Uid::effective().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("needs root, or user namespaces: `sysctl kernel.unprivileged_userns_clone=1`");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}
