//! The reader against serde_json, which makes the tree that this one does without.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn pick(text: &str, pointer: &str) -> Option<Found> {
    let mut picker = Picker::new(pointer);
    picker.read(text.as_bytes());
    picker.found()
}

fn value(text: &str) -> Option<Found> {
    Some(Found::Value(text.to_owned()))
}

#[test]
fn a_pointer_leads_to_a_value_or_nothing() {
    let text =
        r#" {"entries": {"a.b": {"layers": ["", 50, true, null, {}]}}, "a/b": "\u00e9\ud83d\ude00\n", "n": -1.5e3} "#;
    assert_eq!(pick(text, "/entries/a.b/layers/1"), value("50"));
    assert_eq!(pick(text, "/entries/a.b/layers/2"), value("true"));
    assert_eq!(pick(text, "/entries/a.b/layers/3"), Some(Found::Nothing));
    assert_eq!(pick(text, "/entries/a.b/layers/4"), Some(Found::Part));
    assert_eq!(pick(text, "/entries/c"), Some(Found::Nothing));
    assert_eq!(pick(text, "/entries/a.b/layers/01"), Some(Found::Nothing));
    assert_eq!(pick(text, "/a~1b"), value("é😀\n"));
    assert_eq!(pick(text, "/n"), value("-1.5e3"));
    assert_eq!((pick("7", ""), pick("[]", ""), pick("[{}]", "/0")), (value("7"), Some(Found::Part), Some(Found::Part)));
}

#[test]
fn what_is_no_json_says_nothing() {
    for text in
        ["", "{", "[1", "{\"a\":1,}", "[1,]", "1 2", "nul", "\"a", "{\"a\" 1}", "[1}", "{]", "upstream error", "01x"]
    {
        assert_eq!(pick(text, "/a"), None, "{text:?}");
    }
    assert_eq!(pick(&"[".repeat(DEPTH + 1), "/0"), None);
}

#[test]
fn what_is_long_is_not_kept() {
    let text = format!("{{\"{}\":1,\"a\":\"{}\"}}", "n".repeat(1 << 20), "v".repeat(1 << 20));
    let Some(Found::Value(found)) = pick(&text, "/a") else { panic!("found nothing") };
    assert_eq!(found.len(), VALUE_BYTES);
    assert_eq!(pick(&text, &format!("/{}", "n".repeat(NAME_BYTES))), Some(Found::Nothing));
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(?s).{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[a-c/~\"é]{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), all))
        }
        Value::Object(items) => items.iter().for_each(|(name, item)| {
            pointers(item, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn every_value_is_found_where_serde_finds_it_over_any_cut(document in json(), cut in 1..9_usize, is_pretty in any::<bool>()) {
        let text = if is_pretty { format!("{document:#}") } else { document.to_string() };
        let mut all = Vec::new();
        pointers(&document, "", &mut all);
        for pointer in all {
            let mut picker = Picker::new(&pointer);
            text.as_bytes().chunks(cut).for_each(|piece| picker.read(piece));
            let wanted = match document.pointer(&pointer).unwrap() {
                Value::Null => Found::Nothing,
                Value::String(text) => Found::Value(text.clone()),
                Value::Array(_) | Value::Object(_) => Found::Part,
                other => Found::Value(other.to_string()),
            };
            prop_assert_eq!(picker.found(), Some(wanted), "{} in {}", pointer, text);
        }
    }

    #[test]
    fn any_text_is_survived_and_what_serde_refuses_is_refused(text in "[\\[\\]{}:,\"a0-9\\\\u .truefalsn-]{0,40}") {
        let ours = pick(&text, "/a");
        if serde_json::from_str::<Value>(&text).is_ok() {
            prop_assert!(ours.is_some(), "{}", text);
        }
    }
}
