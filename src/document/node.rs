//! TOML text to a tree in which every key and value knows its place, and one tree laid over another, key by key. What a
//! later file replaces is kept beneath, so that its mistakes are found too.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{About, Complaint, Gravity};
use super::origin::Place;

pub type Table = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Place,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub place: Place,
    /// What an earlier file said here.
    pub replaced: Option<Box<Node>>,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    /// `None` where it does not fit 64 bits.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// With its article, for complaints.
    #[must_use]
    pub const fn described(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float => "a decimal number",
            Value::Boolean(_) => "true or false",
            Value::Datetime => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

impl Node {
    #[must_use]
    pub fn new(value: Value, place: Place) -> Self {
        Self { value, place, replaced: None }
    }

    /// This node and those that it replaced, the newest first.
    pub fn versions(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(self), |node| node.replaced.as_deref())
    }
}

/// What can be read of the text, with a complaint for each place that is no TOML.
pub fn parse(text: &str, origin: usize) -> (Table, Vec<Complaint>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let complaints = errors.iter().map(|error| syntax(text, origin, error)).collect();
    (table(document.into_inner(), origin), complaints)
}

fn table(source: DeTable<'_>, origin: usize) -> Table {
    let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
        let place = Place { origin, span: key.span() };
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), Entry { key: place, node: node(value, origin) })
    };
    source.into_iter().map(entry).collect()
}

fn node(source: Spanned<DeValue<'_>>, origin: usize) -> Node {
    let place = Place { origin, span: source.span() };
    let value = match source.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()),
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(nodes) => Value::Array(nodes.into_iter().map(|value| node(value, origin)).collect()),
        DeValue::Table(entries) => Value::Table(table(entries, origin)),
    };
    Node::new(value, place)
}

/// What the parser says where a key or a table comes twice.
const DUPLICATE: &str = "duplicate key";

fn syntax(text: &str, origin: usize, error: &toml::de::Error) -> Complaint {
    let span = error.span().unwrap_or(text.len()..text.len());
    let (what, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let (message, help) = match what {
        "string values must be quoted" if span.is_empty() => {
            ("a value is missing or broken".to_owned(), "strings go in quotes: key = \"value\"".to_owned())
        }
        "string values must be quoted" => {
            let word = text.get(span.clone()).unwrap_or_default();
            ("strings go in quotes".to_owned(), format!("write \"{}\"", super::origin::printable(word)))
        }
        DUPLICATE => {
            ("this key is set twice".to_owned(), "keep one of the two; a table is opened once per file".to_owned())
        }
        what if expected.is_empty() => (what.to_owned(), "see https://toml.io for the syntax".to_owned()),
        what => (what.to_owned(), format!("expected {expected}")),
    };
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let heading = line.trim_start().starts_with('[') && what != DUPLICATE;
    let about = if heading { About::Heading } else { About::Syntax };
    Complaint { gravity: Gravity::Error, place: Place { origin, span }, message, help: Some(help), about }
}

/// Takes out what this origin said, and the tables that only it opened.
pub fn withdraw(table: &mut Table, origin: usize) {
    table.retain(|_, entry| stays(&mut entry.node, origin));
}

fn stays(node: &mut Node, origin: usize) -> bool {
    node.replaced = node.replaced.take().and_then(|mut older| stays(&mut older, origin).then_some(older));
    match &mut node.value {
        Value::Table(table) => {
            withdraw(table, origin);
            !table.is_empty() || node.place.origin != origin
        }
        Value::Text(_) | Value::Integer(_) | Value::Float | Value::Boolean(_) | Value::Datetime | Value::Array(_) => {
            node.place.origin != origin
        }
    }
}

/// Lays `over` on `base`: tables key by key, everything else as a whole.
pub fn merge(base: &mut Table, over: Table) {
    for (name, entry) in over {
        let Some(below) = base.get_mut(&name) else {
            base.insert(name, entry);
            continue;
        };
        below.key = entry.key;
        match (&mut below.node.value, entry.node) {
            (Value::Table(below_table), Node { value: Value::Table(table), place, .. }) => {
                merge(below_table, table);
                below.node.place = place;
            }
            (_, mut node) => {
                std::mem::swap(&mut below.node, &mut node);
                below.node.replaced = Some(Box::new(node));
            }
        }
    }
}
