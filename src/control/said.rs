//! A service's words within our sentences: bounded, and on one line. What leaves the controls goes through `told.rs` too.

use crate::plain;

/// Of a service's words within a sentence: enough to recognise them.
const WORDS: usize = 120;
/// A whole sentence; the longest of ours, which shows lines of a configuration, has 500.
pub(super) const SENTENCE: usize = 1000;
/// Enough of a service's text to recognise it, on one line.
pub fn clip(text: &str) -> String {
    plain::line(text, WORDS)
}

/// No longer than it will be told: several are kept at once, and a service's words may be in each.
pub fn sentence(text: String) -> String {
    if text.len() <= SENTENCE { text } else { plain::line(&text, SENTENCE) }
}
