//! What a control says to the rest of the program, of itself and in a service's words: bounded, on one line, and without the
//! secrets that it was given. Everything that leaves the controls goes through `told`; no kind may go around it.

use std::path::PathBuf;

use super::said::SENTENCE;
use super::secret;
use crate::plain::{self, CUT};

/// A piece of a secret this long is taken for it; a shorter one could be any word. Of a shorter secret, the whole.
const PIECE: usize = 8;
/// Shorter than this is no secret.
const LEAST: usize = 3;
/// What stands in its place.
const HIDDEN: &str = "{password}";

/// A sentence as it may be told.
pub fn told(sentence: &str, secrets: &[PathBuf]) -> String {
    let mut sentence = plain::line(sentence, SENTENCE);
    for file in secrets {
        // One that cannot be read was not sent either.
        let Ok(read) = secret::read("secret", file) else { continue };
        sentence = without(&sentence, read.trim());
    }
    sentence
}

/// Also where only a piece of it is there: services cut what they repeat, and so do we.
fn without(sentence: &str, secret: &str) -> String {
    if secret.len() < LEAST {
        return sentence.to_owned();
    }
    let mut told = String::with_capacity(sentence.len());
    let mut rest = sentence;
    while let Some(next) = rest.chars().next() {
        let length = piece(rest, secret);
        if length > 0 {
            told.push_str(HIDDEN);
        } else {
            told.push(next);
        }
        rest = &rest[length.max(next.len_utf8())..];
    }
    told
}

/// How much of the text begins with is of the secret.
fn piece(text: &str, secret: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    let starts = secret.match_indices(first).map(|(at, _)| &secret[at..]);
    let longest = starts.map(|from| (common(text, from), from.len() == secret.len())).max();
    let (length, is_start) = longest.unwrap_or((0, false));
    let is_cut = is_start && text[length..].starts_with(CUT);
    let is_it = length >= PIECE.min(secret.len()) || length > 0 && is_cut;
    if is_it { length } else { 0 }
}

/// Bytes that both begin with, in whole characters.
fn common(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    same.map(|(c, _)| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_and_what_is_left_of_it_is_hidden() {
        let secret = "correct-horse-battery";
        let hide = |text: &str| without(text, secret);
        assert_eq!(hide("ERR 'AUTH' 'u' 'correct-horse-battery'"), "ERR 'AUTH' 'u' '{password}'");
        assert_eq!(hide("ERR 'correct-horse-ba…"), "ERR '{password}…");
        assert_eq!(hide("ERR 'cor…"), "ERR '{password}…", "cut by us");
        assert_eq!(hide("token …battery"), "token …battery", "too little of it to be told from a word");
        assert_eq!(hide("ends in rse-battery"), "ends in {password}");
        assert_eq!(hide("the correct word"), "the correct word");
        assert_eq!(without("pass pw1 word", "pw1"), "pass {password} word");
        assert_eq!(without("a b", "a"), "a b");
    }

    #[test]
    fn a_sentence_is_one_line_of_bounded_length() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "correct-horse-battery\n").unwrap();
        let said = format!("no\n\u{1b}[31mcorrect-horse-battery {}", "x".repeat(2_000_000));
        let told = told(&said, &[file]);
        assert!(told.starts_with("no [31m{password} xxx") && told.len() < 1100, "{told}");
    }

    proptest! {
        #[test]
        fn whatever_is_said_around_it_no_secret_leaves(secret in "[a-zA-Z0-9+/=é]{8,40}", a in "(?s).{0,60}", b in "(?s).{0,60}") {
            let told = without(&format!("{a}{secret}{b}"), &secret);
            prop_assert!(!told.contains(&secret));
        }
    }
}
