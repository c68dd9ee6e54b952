//! Who lives in the town and who comes to harm it; each is its own process of this executable.

pub mod attack;
pub mod crowd;
pub mod shop;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Uses that much CPU time of this thread, however fast the machine is.
pub fn burn(time: Duration) {
    let clock = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let Ok(start) = clock() else { return };
    let mut value = 1u64;
    loop {
        for _ in 0..2_000 {
            value = std::hint::black_box(value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17));
        }
        if !clock().is_ok_and(|now| now - start < time) {
            return;
        }
    }
}

/// Makes each page of it resident.
pub fn touch(memory: &mut [u8]) {
    for page in memory.iter_mut().step_by(4096) {
        *page = page.wrapping_add(1);
    }
}
