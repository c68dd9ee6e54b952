//! What strangers can send, each as one function of bytes: the targets of the fuzzer (`fuzz/`), and of the corpora that
//! `cargo test` replays. Each holds memory and time to a bound, besides not panicking. In no build that is shipped: only for
//! tests, and with the feature `fuzzing`. Never decides anything, and touches nothing but what it makes itself.

mod answers;
pub mod fed;
mod kernel;
pub mod measure;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use crate::control::fuzzed::{jvm, webhook};
use crate::{http, journal};
use measure::{Cost, measured};

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

const TRIES: usize = 2;

/// The promise of the controls: no answer raises resident memory by more.
const CONTROL_BYTES: usize = 1 << 20;
/// The journal's two files have half of that, and every record is a value and its bytes.
const JOURNAL_BYTES: usize = 8 << 20;
/// A few times the text: the fuzzer's longest is 8 KiB, and the built-in rules come with it.
const CONFIG_BYTES: usize = 4 << 20;
/// A connection, its head and body (64 KiB), and the longest page.
const REQUEST_BYTES: usize = 512 << 10;
/// What is parsed in place, or into a few lists.
const TEXT_BYTES: usize = 256 << 10;

pub const TARGETS: [Target; 15] = [
    Target { name: "app", run: answers::app, most_bytes: CONTROL_BYTES },
    Target { name: "condition", run: words::condition, most_bytes: TEXT_BYTES },
    Target { name: "config", run: words::config, most_bytes: CONFIG_BYTES },
    Target { name: "haproxy", run: answers::haproxy, most_bytes: CONTROL_BYTES },
    Target { name: "journal", run: journal::fuzzed::recovery, most_bytes: JOURNAL_BYTES },
    Target { name: "json", run: words::json, most_bytes: TEXT_BYTES },
    Target { name: "jvm", run: jvm::answers, most_bytes: CONTROL_BYTES },
    Target { name: "kernel", run: kernel::texts, most_bytes: TEXT_BYTES },
    Target { name: "memcached", run: answers::memcached, most_bytes: CONTROL_BYTES },
    Target { name: "postgres", run: answers::postgres, most_bytes: CONTROL_BYTES },
    Target { name: "recipes", run: answers::recipes, most_bytes: CONTROL_BYTES },
    Target { name: "redis", run: answers::redis, most_bytes: CONTROL_BYTES },
    Target { name: "request", run: http::fuzzed::request, most_bytes: REQUEST_BYTES },
    Target { name: "varnish", run: answers::varnish, most_bytes: CONTROL_BYTES },
    Target { name: "webhook", run: webhook::answer, most_bytes: CONTROL_BYTES },
];

/// Runs that target, and says what that took.
///
/// # Panics
/// Where it is not known, and where a promise is broken: that is what it looks for.
pub fn run(name: &str, input: &[u8]) -> Cost {
    let known = TARGETS.iter().find(|target| target.name == name);
    let Some(Target { run, most_bytes, .. }) = known else { panic!("no target is called {name}") };
    let mut cost = measured(|| run(input));
    // A machine that others share books their time as ours now and then: what takes too long does so each time.
    for _ in 0..TRIES {
        if cost.time <= MOST_TIME && cost.breath <= LONGEST_BREATH {
            break;
        }
        let again = measured(|| run(input));
        (cost.time, cost.breath) = (cost.time.min(again.time), cost.breath.min(again.breath));
    }
    assert!(cost.bytes <= *most_bytes, "{name} took {} bytes at once, over {most_bytes}", cost.bytes);
    assert!(cost.time <= MOST_TIME, "{name} took {:?} of the processor, over {MOST_TIME:?}", cost.time);
    assert!(cost.breath <= LONGEST_BREATH, "{name} computed {:?} without waiting", cost.breath);
    cost
}
