//! What one input costs: memory by counting what this thread allocates, time by the processor's time of this thread, so that
//! neither depends on what else the machine does. Whoever measures installs [`Counting`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

pub struct Cost {
    /// The most that was allocated at once.
    pub bytes: usize,
    pub time: Duration,
    /// The longest between two waits of a conversation.
    pub breath: Duration,
}

/// The system's allocator, and what this thread has of it.
pub struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static BREATH: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

// SAFETY: the system's allocator does all of it. The cells need neither allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn count(more: usize, less: usize) {
    LIVE.with(|live| {
        let now = live.get().saturating_add_unsigned(more).saturating_sub_unsigned(less);
        live.set(now);
        PEAK.with(|peak| peak.set(peak.get().max(now)));
    });
}

pub fn measured(run: impl FnOnce()) -> Cost {
    let (before, began) = (LIVE.get(), computed());
    PEAK.set(before);
    BREATH.set(Duration::ZERO);
    run();
    let bytes = usize::try_from(PEAK.get() - before).unwrap_or_default();
    Cost { bytes, time: computed().saturating_sub(began), breath: BREATH.get() }
}

/// Lets a conversation come to its end, on a runtime that is kept. Its clock jumps where nothing is left to do but wait.
///
/// # Panics
/// When the system gives no runtime.
pub fn converse<F: Future>(conversation: F) -> F::Output {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| match made() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        });
        runtime.block_on(metered(conversation))
    })
}

fn made() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().start_paused(true).build()
}

async fn metered<F: Future>(conversation: F) -> F::Output {
    let mut conversation = pin!(conversation);
    std::future::poll_fn(move |context| {
        let began = computed();
        let polled = conversation.as_mut().poll(context);
        BREATH.set(BREATH.get().max(computed().saturating_sub(began)));
        match polled {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn computed() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
