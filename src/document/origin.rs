//! Where each piece of a configuration was written, so that a complaint can point at it. Text from outside is shown with
//! its control characters replaced: a hostile file must not be able to drive the operator's terminal.

use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    BuiltIn,
    File,
    /// An environment variable or an argument: one line, so it has no line number.
    Override,
}

#[derive(Clone, Debug)]
pub struct Origin {
    pub kind: Kind,
    /// As the operator knows it: the path, `environment` or `command line`.
    pub name: String,
    pub text: String,
}

/// Bytes of the text of one origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub origin: usize,
    pub span: Range<usize>,
}

/// A place as people read it; both count from 1, and a column is a character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// A line that is longer is shown in part: enough for any terminal.
const WIDEST: usize = 150;

impl Origin {
    #[must_use]
    pub fn position(&self, span: &Range<usize>) -> Position {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The line of the span, or the part around it, and a line of carets below the span.
    #[must_use]
    pub fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = floor(&self.text, span.start);
        let from = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let to = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let end = floor(&self.text, span.end).clamp(start, to);
        let before = self.text[from..start].chars().count();
        let skipped = before.saturating_sub(WIDEST / 2);
        let line: String = self.text[from..to].trim_end().chars().skip(skipped).take(WIDEST).map(harmless).collect();
        let room = WIDEST.saturating_sub(before - skipped).max(1);
        let width = self.text[start..end].trim_end().chars().count().clamp(1, room);
        let carets = format!("{}{}", " ".repeat(before - skipped), "^".repeat(width));
        Excerpt { line, carets }
    }

    /// The place of a part of a string's value. What an escape stands for is the whole escape.
    #[must_use]
    pub fn inside(&self, string: &Range<usize>, value: &str, part: &Range<usize>) -> Range<usize> {
        let raw = self.text.get(string.clone()).unwrap_or_default();
        let place = |at: usize| raw_offset(raw, value, at).map(|offset| string.start + offset);
        match (place(part.start), place(part.end)) {
            (Some(start), Some(end)) if start <= end => start..end,
            _ => string.clone(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excerpt {
    pub line: String,
    pub carets: String,
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        // Directional overrides could make a line read as something else.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Replaces what could drive a terminal; for text from outside that is quoted in a sentence.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(harmless).collect()
}

/// The byte of the TOML string `raw`, quotes included, at which byte `at` of its value is written.
fn raw_offset(raw: &str, value: &str, at: usize) -> Option<usize> {
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| raw.starts_with(quotes));
    let Some(quotes) = quotes else {
        return (raw == value).then_some(at);
    };
    let escapes = quotes.starts_with('"');
    let mut offset = quotes.len();
    if quotes.len() == 3 {
        let body = &raw[offset..];
        offset += if body.starts_with("\r\n") { 2 } else { usize::from(body.starts_with('\n')) };
    }
    for (index, c) in value.char_indices() {
        offset += if escapes { folded(&raw[offset..]) } else { 0 };
        if index >= at {
            return Some(offset);
        }
        let rest = raw.get(offset..)?;
        let escaped = escapes && rest.starts_with('\\');
        offset += if escaped { escape_length(rest) } else { rest.chars().next().filter(|raw| *raw == c)?.len_utf8() };
        if offset > raw.len() || !raw.is_char_boundary(offset) {
            return None;
        }
    }
    Some(offset)
}

fn escape_length(rest: &str) -> usize {
    match rest.as_bytes().get(1) {
        Some(b'u') => 6,
        Some(b'U') => 10,
        Some(b'x') => 4,
        _ => 2,
    }
}

/// Length of a backslash at the end of a line with the white space that it swallows.
fn folded(rest: &str) -> usize {
    let Some(after) = rest.strip_prefix('\\') else { return 0 };
    let trimmed = after.trim_start_matches([' ', '\t', '\r', '\n']);
    let swallowed = &after[..after.len() - trimmed.len()];
    if swallowed.contains('\n') { 1 + swallowed.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin { kind: Kind::File, name: "f".into(), text: text.into() }
    }

    #[test]
    fn columns_count_characters_and_carets_stand_below_them() {
        let origin = origin("a = 1\nname = \"é中\" # x\n");
        let at = origin.text.find('中').unwrap();
        assert_eq!(origin.position(&(at..at + 3)), Position { line: 2, column: 10 });
        let excerpt = origin.excerpt(&(at..at + 3));
        assert_eq!(excerpt.line, "name = \"é中\" # x");
        assert_eq!(excerpt.carets, "         ^");
    }

    #[test]
    fn a_long_line_is_cut_and_a_hostile_one_is_harmless() {
        let long = format!("{}X{}", "a".repeat(100_000), "b".repeat(100_000));
        let excerpt = origin(&long).excerpt(&(100_000..150_000));
        assert!(excerpt.line.len() <= WIDEST && excerpt.carets.len() <= WIDEST);
        assert_eq!(excerpt.line.find('X'), excerpt.carets.find('^'));
        assert!(!origin("\u{1b}[2J\u{202e}x").excerpt(&(0..1)).line.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn parts_of_a_string_are_found_behind_escapes() {
        let part = |raw: &str, value: &str, part: &str| {
            let at = value.find(part).unwrap();
            let origin = origin(raw);
            let range = origin.inside(&(0..raw.len()), value, &(at..at + part.len()));
            origin.text[range].to_owned()
        };
        assert_eq!(part(r#""disk[\"/var\"].usd > 1""#, r#"disk["/var"].usd > 1"#, "usd"), "usd");
        assert_eq!(part(r#""é\u00e9 x""#, "éé x", "x"), "x");
        assert_eq!(part("'''\nab \\ cd'''", "ab \\ cd", "cd"), "cd");
        assert_eq!(part("\"\"\"\\\n   ab \\\n  cd\"\"\"", "ab cd", "cd"), "cd");
        assert_eq!(part("\"ab\"", "ab", "ab"), "ab");
    }
}
