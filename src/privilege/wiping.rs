//! Memory is wiped before it is freed, so that no copy of a password or token outlives its use, whichever library made it. A
//! block that outgrows its place moves to another one, and the place it leaves is wiped.
//!
//! It costs what it takes to write zeros over what is freed: nothing in a steady tick, which frees nothing. Only blocks that
//! may hold a secret count: none is longer than 4 KiB, nor any request or file in which one is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{Ordering, compiler_fence};

pub struct Wiping;

/// A buffer that is longer holds an answer, a page or a table.
const LONGEST: usize = 32 << 10;

// SAFETY: every call goes to the system's allocator with what the caller promised of it.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() > LONGEST {
            // SAFETY: as the caller promised.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        // SAFETY: the caller promises that this size, rounded up to the alignment, is no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as the caller promised; both blocks are as long as the shorter of the two, and are not the same.
        unsafe {
            let moved = System.alloc(wanted);
            if !moved.is_null() {
                pointer.copy_to_nonoverlapping(moved, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block is as long as its layout says, and nobody else has it any more.
        unsafe {
            if layout.size() <= LONGEST {
                pointer.write_bytes(0, layout.size());
                // Else what nobody reads again need not be written.
                compiler_fence(Ordering::SeqCst);
            }
            System.dealloc(pointer, layout);
        }
    }
}
