//! Recording must be free of allocations. A binary of its own, because it counts those of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use node_guardian::telemetry::{Telemetry, Timings};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn recording_never_allocates() {
    let telemetry = Telemetry::default();
    metrics::with_local_recorder(&telemetry, || {
        let timings = Timings::register();
        let counter = metrics::counter!("some_total");
        let before = ALLOCATIONS.get();
        for n in 0..10_000 {
            timings.sample.record(f64::from(n) * 1e-5);
            timings.tick_lag.record(std::time::Duration::from_micros(30));
            counter.increment(1);
        }
        assert_eq!(ALLOCATIONS.get() - before, 0);
    });
}
