//! Code that this node has no use for is not kept in memory: what only runs at start, and each kind of control that is
//! not configured. The build puts each of them on pages of its own (`build.rs`); locked are the rest and the kinds that are
//! configured. What is let go of all the same runs when it is called: the kernel reads it from the file again, which is
//! slow only where memory is short, and nothing that acts in an emergency is among it.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

/// One group of functions, by addresses.
#[derive(Clone, Debug)]
pub struct Group {
    /// A kind of control, or `at_start`.
    pub name: &'static str,
    pub start: usize,
    pub end: usize,
}

static GROUPS: OnceLock<Vec<Group>> = OnceLock::new();

/// Told once by the executable, where its build laid it out.
pub fn declare(groups: Vec<Group>) {
    // A second telling would say the same.
    drop(GROUPS.set(groups));
}

/// Processes are found and signalled by the code of one kind.
fn needs(kind: &str, group: &str) -> bool {
    kind == group || group == "process" && matches!(kind, "jvm" | "pressure")
}

/// Locks the code of these kinds, and lets go of that of all others. Does nothing where nothing was declared, or nothing
/// could be locked before.
pub fn keep(kinds: &[&str]) {
    for group in GROUPS.get().into_iter().flatten().filter(|group| group.end > group.start) {
        let (start, length) = (ptr::without_provenance_mut::<c_void>(group.start), group.end - group.start);
        // SAFETY: whole pages of code, a read-only mapping of a file: locking or letting go of them loses nothing.
        unsafe {
            if kinds.iter().any(|kind| needs(kind, group.name)) {
                libc::mlock(start, length);
            } else if libc::munlock(start, length) == 0 {
                libc::madvise(start, length, libc::MADV_DONTNEED);
            }
        }
    }
}
