//! A full sample in the steady state allocates nothing on the thread that samples. In its own binary, because it counts
//! with a global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_guardian::config::settings::Sampling;
use node_guardian::host::sampler::{Sampler, Scope};
use node_guardian::policy::metric::Family;
use node_guardian::policy::moment::Moment;
use node_guardian::policy::sample::Sample;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SAMPLES: u32 = 1000;

/// What a change of makes a batch not steady: a port that some other program opened, a disk that was mounted.
fn shape(sampler: &Sampler, sample: &Sample) -> ([u64; 3], usize, usize) {
    let blind = Arc::as_ptr(sampler.blind_spots()) as usize;
    let facts = Arc::as_ptr(&sampler.facts()) as usize;
    (Family::INSTANCED.map(|family| sample.generation(family)), blind, facts)
}

#[test]
fn a_thousand_samples_allocate_nothing() {
    let mut sampler = Sampler::open(&Sampling {
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(20),
        mounts: None,
        proc_root: "/proc".into(),
        sys_root: "/sys".into(),
    });
    let mut sample = Sample::default();
    let mut now = Moment::ORIGIN;
    let mut tick = |sampler: &mut Sampler, sample: &mut Sample| {
        now = now + Duration::from_secs(1);
        sampler.sample(now, Scope::Full, sample);
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while sampler.facts().cpus == 0 || sample.instances(Family::Disk).is_empty() {
        assert!(Instant::now() < deadline, "the slow thread does not deliver");
        tick(&mut sampler, &mut sample);
    }
    loop {
        tick(&mut sampler, &mut sample);
        let before = shape(&sampler, &sample);
        let counted = ALLOCATIONS.with(Cell::get);
        for _ in 0..SAMPLES {
            tick(&mut sampler, &mut sample);
        }
        let allocations = ALLOCATIONS.with(Cell::get) - counted;
        if shape(&sampler, &sample) == before {
            assert_eq!(allocations, 0, "in {SAMPLES} samples");
            return;
        }
        assert!(Instant::now() < deadline, "this machine changes all the time");
    }
}
