//! Drops code that this node does not use: start-up code, kinds of control that are not configured, and stable sorts
//! for slow threads. The build puts each of them on pages of its own (`build.rs`). The rest and the configured kinds
//! are locked. Dropped code still runs: the kernel reads it from the file again, which is slow only if memory is short.
//! Nothing that acts in an emergency is dropped.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

/// One group of functions, by addresses.
#[derive(Clone, Debug)]
pub struct Group {
    /// A kind of control, `recipe` or `client`, which several kinds share, `sort`, `settings` (how kinds read their keys), or `at_start`.
    pub name: &'static str,
    pub start: usize,
    pub end: usize,
}

/// What a start or a reload leaves behind.
const OF_START: [&str; 3] = ["at_start", "settings", "sort"];

static GROUPS: OnceLock<Vec<Group>> = OnceLock::new();

/// Told once by the executable, where its build laid it out.
pub fn declare(groups: Vec<Group>) {
    // A second telling would say the same.
    drop(GROUPS.set(groups));
}

/// Locks the code of these groups, and lets go of that of all others. Does nothing where nothing was declared, or nothing
/// could be locked before.
pub fn keep(groups: &[&str]) {
    for group in declared() {
        if groups.contains(&group.name) {
            let (start, length) = group.range();
            // SAFETY: whole pages of code, a read-only mapping of a file: locking them loses nothing.
            unsafe { libc::mlock(start, length) };
        } else {
            group.let_go();
        }
    }
}

/// Once more, when a start or a reload is over: threads that were started meanwhile come to [`keep`] before it is.
pub(crate) fn let_go_of_start() {
    declared().filter(|group| OF_START.contains(&group.name)).for_each(Group::let_go);
}

fn declared() -> impl Iterator<Item = &'static Group> {
    GROUPS.get().into_iter().flatten().filter(|group| group.end > group.start)
}

impl Group {
    fn range(&self) -> (*mut c_void, usize) {
        (ptr::without_provenance_mut::<c_void>(self.start), self.end - self.start)
    }

    fn let_go(&self) {
        let (start, length) = self.range();
        // SAFETY: whole pages of code, a read-only mapping of a file: what is let go of is read again when it is called.
        unsafe {
            if libc::munlock(start, length) == 0 {
                libc::madvise(start, length, libc::MADV_DONTNEED);
            }
        }
    }
}
