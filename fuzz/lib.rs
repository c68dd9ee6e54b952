//! What every fuzz target shares: the allocator that counts, and a `main` of one line. What is fed to what is in
//! `src/fuzzing` of the crate, where `cargo test` replays the corpora without a fuzzer.

pub use libfuzzer_sys;
pub use node_guardian::fuzzing::run;

#[global_allocator]
static COUNTING: node_guardian::fuzzing::measure::Counting = node_guardian::fuzzing::measure::Counting;

/// The target of this name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            $crate::run($name, input);
        });
    };
}
