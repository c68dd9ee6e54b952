//! What people write, and JSON of strangers: conditions, configurations, texts. Whatever it is, it is understood, and then
//! means the same when it is written again; or it is complained about, in places that are there.

use serde_json::Value;

use crate::config::source::Text;
use crate::config::{Source, check, compile};
use crate::control::json::{Found, Picker};
use crate::policy::condition::{Mistake, operand, parse};
use crate::policy::plan::Plan;

/// As many as a person would read; each is said in a few lines.
const MOST_COMPLAINTS_BYTES: usize = 1 << 20;

pub fn condition(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match parse(&text) {
        Ok(condition) => {
            let written = condition.expression.to_string();
            match parse(&written) {
                Ok(again) => assert_eq!(again.expression, condition.expression, "{written}"),
                Err(mistakes) => panic!("`{text}` is written as `{written}`: {mistakes:?}"),
            }
        }
        Err(mistakes) => are_told(&text, &mistakes),
    }
    match operand(&text) {
        Ok(operand) => assert!(!operand.to_string().is_empty()),
        Err(mistakes) => are_told(&text, &mistakes),
    }
}

fn are_told(text: &str, mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty(), "`{text}` is refused without a word");
    for mistake in mistakes {
        assert!(text.get(mistake.span.clone()).is_some(), "{mistake:?} is not in `{text}`");
        assert!(!mistake.message.is_empty());
    }
}

pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let texts = Some(vec![Text { name: "config.toml".to_owned(), text }]);
    let source = Source { texts, ..Source::default() };
    let compiled = compile(&source);
    let told = compiled.complaints.to_string();
    assert!(told.len() <= MOST_COMPLAINTS_BYTES, "{} bytes of complaints", told.len());
    assert!(compiled.complaints.errors() == 0 || !told.is_empty());
    // The loop guards by this whatever was wrong.
    drop(Plan::new(compiled.settings.policy));
    let checked = check(&source);
    assert!(!checked.text().is_empty());
    if let Err(error) = serde_json::to_string(&checked.json()) {
        panic!("{error}");
    }
}

/// A pointer, a line end, and a text that comes in pieces (cut at `0x1f`).
pub fn json(input: &[u8]) {
    let cut = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let pointer = String::from_utf8_lossy(&input[..cut]);
    let text = input.get(cut + 1..).unwrap_or_default();
    let mut picker = Picker::new(&pointer);
    text.split(|byte| *byte == 0x1f).for_each(|piece| picker.read(piece));
    let found = picker.found();
    let whole: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0x1f).collect();
    let Ok(value) = serde_json::from_slice::<Value>(&whole) else { return };
    let Some(found) = found else { panic!("what serde_json reads is refused: {}", String::from_utf8_lossy(&whole)) };
    if pointer.starts_with('/') && !has_twins(&whole, &value) {
        agree(&found, value.pointer(&pointer));
    }
}

/// A name that stands twice in one object is anybody's guess.
fn has_twins(text: &[u8], value: &Value) -> bool {
    fn names(value: &Value) -> usize {
        match value {
            Value::Object(members) => members.len() + members.values().map(names).sum::<usize>(),
            Value::Array(items) => items.iter().map(names).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    // A colon in a text counts too: then nothing is compared.
    text.iter().filter(|byte| **byte == b':').count() != names(value)
}

fn agree(found: &Found, value: Option<&Value>) {
    match (found, value) {
        (Found::Nothing, None | Some(Value::Null))
        | (Found::Part, Some(Value::Object(_) | Value::Array(_)))
        | (Found::Value(_), Some(Value::Number(_))) => {}
        (Found::Value(text), Some(Value::String(told))) if text == told => {}
        (Found::Value(text), Some(Value::Bool(told))) if *text == told.to_string() => {}
        (found, value) => panic!("{found:?} is not {value:?}"),
    }
}
