//! What strangers can send, each as one function of bytes: the targets of the fuzzer (`fuzz/`), and of the corpora that
//! `cargo test` replays. Each holds memory and time to a bound, besides not panicking. In no build that is shipped: only for
//! tests, and with the feature `fuzzing`. Never decides anything, and touches nothing but what it makes itself.

mod answers;
pub mod fed;
pub mod measure;
#[cfg(test)]
mod tests;

use std::time::Duration;

use measure::measured;

/// What is read from somebody.
pub struct Target {
    pub name: &'static str,
    run: fn(&[u8]),
    /// May be allocated at once while one input is read, above what was there before.
    most_bytes: usize,
}

/// Instrumented code is a few times slower than what is shipped, and that of a debug build some twenty times.
const SLOWER: u32 = if cfg!(test) { 20 } else { 4 };
/// For one input, by the processor's time of this thread.
const MOST_TIME: Duration = Duration::from_millis(250).saturating_mul(SLOWER);
/// Without waiting once, where it is a conversation: the thread that all controls share is in real time.
const LONGEST_BREATH: Duration = Duration::from_millis(5).saturating_mul(SLOWER);

/// The promise of the controls: no answer raises resident memory by more.
const CONTROL_BYTES: usize = 1 << 20;

pub const TARGETS: [Target; 1] = [Target { name: "redis", run: answers::redis, most_bytes: CONTROL_BYTES }];

/// Runs that target.
///
/// # Panics
/// Where it is not known, and where a promise is broken: that is what it looks for.
pub fn run(name: &str, input: &[u8]) {
    let known = TARGETS.iter().find(|target| target.name == name);
    let Some(Target { run, most_bytes, .. }) = known else { panic!("no target is called {name}") };
    let cost = measured(|| run(input));
    assert!(cost.bytes <= *most_bytes, "{name} took {} bytes at once, over {most_bytes}", cost.bytes);
    assert!(cost.time <= MOST_TIME, "{name} took {:?} of the processor, over {MOST_TIME:?}", cost.time);
    assert!(cost.breath <= LONGEST_BREATH, "{name} computed {:?} without waiting", cost.breath);
}
