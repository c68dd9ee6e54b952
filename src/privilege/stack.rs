//! The main thread's stack. The kernel maps 132 KiB of it at the start, and reading the configuration goes deep. After
//! everything is locked, the part below the present call is dropped; later use locks it again.

use std::ffi::c_void;
use std::fs;
use std::path::Path;
use std::ptr;

/// Left alone below the present call: what the calls need that let go of the rest, and a signal's frame.
const MARGIN: usize = 16 << 10;

/// For the main thread, and before others are started. Does nothing where the kernel does not tell where the stack is.
pub fn let_go(proc_root: &Path) {
    let here = 0_u8;
    let here = (&raw const here).addr();
    let maps = fs::read_to_string(proc_root.join("self/maps")).unwrap_or_default();
    let Some((start, end)) = unused(&maps, here) else { return };
    let (start, length) = (ptr::without_provenance_mut::<c_void>(start), end - start);
    // SAFETY: whole pages of this thread's stack below everything that is live in it; the kernel gives empty ones again.
    unsafe {
        if libc::munlock(start, length) == 0 {
            libc::madvise(start, length, libc::MADV_DONTNEED);
            libc::syscall(libc::SYS_mlock2, start, length, libc::MLOCK_ONFAULT);
        }
    }
}

/// Whole pages between the stack's lowest address and the margin below the present call.
fn unused(maps: &str, here: usize) -> Option<(usize, usize)> {
    let line = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let below = here.checked_sub(MARGIN)? & !(MARGIN - 1);
    ((start..end).contains(&here) && below > start).then_some((start, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "7f7e3d800000-7f7e3d822000 r--p 00000000 fe:00 53 /usr/bin/node-guardian\n\
                        7ffcdb86a000-7ffcdb88b000 rw-p 00000000 00:00 0                          [stack]\n";

    #[test]
    fn only_what_lies_below_the_present_call_is_let_go_of() {
        assert_eq!(unused(MAPS, 0x7ffc_db88_9123), Some((0x7ffc_db86_a000, 0x7ffc_db88_4000)));
        assert_eq!(unused(MAPS, 0x7ffc_db86_b000), None, "nothing but the margin lies below");
        assert_eq!(unused(MAPS, 0x7f7e_3d80_0000), None, "another thread's stack");
        assert_eq!(unused("", 0x7ffc_db88_9123), None);
    }
}
