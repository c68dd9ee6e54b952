//! Templates of what is sent and patterns of what is answered. Pure and total. There is no language in them: a few names
//! in braces, each filled in once, so that nothing that was read can become more than a value.

use std::borrow::Cow;

/// What was read and is to be put back, or is to be set.
pub const VALUE: &str = "{value}";
/// What `epoch` took.
pub const EPOCH: &str = "{epoch}";
/// The first line of `password_file`.
pub const PASSWORD: &str = "{password}";
/// Anything, as little of it as possible.
pub const ANYTHING: &str = "{*}";

const LONGEST_VALUE: usize = 128;

/// Names with what stands for them.
pub type Words<'a> = [(&'a str, &'a str)];

/// The text with each known name replaced; other braces stay as they are, since JSON and SQL have them too.
pub fn fill(template: &str, words: &Words<'_>, escape: fn(&str) -> Cow<'_, str>) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if let Some((name, word)) = words.iter().find(|(name, _)| from.starts_with(name)) {
            filled.push_str(&escape(word));
            rest = &from[name.len()..];
        } else {
            filled.push('{');
            rest = &from[1..];
        }
    }
    filled.push_str(rest);
    filled
}

/// Letters, digits and `. _ : / -`, no `--`: what neither ends a line, a string, a parameter or a statement, nor starts a
/// comment. Nothing is a value too: it stands for what is not set.
#[must_use]
pub fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-');
    value.len() <= LONGEST_VALUE && value.chars().all(plain) && !value.contains("--")
}

pub fn as_it_is(word: &str) -> Cow<'_, str> {
    Cow::Borrowed(word)
}

/// For the path and the query of an address (RFC 3986, section 2.3).
pub fn percent_encoded(word: &str) -> Cow<'_, str> {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if word.bytes().all(is_unreserved) {
        return Cow::Borrowed(word);
    }
    let mut encoded = String::with_capacity(word.len() * 3);
    for byte in word.bytes() {
        if is_unreserved(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

/// Whether the text begins with the pattern.
#[must_use]
pub fn begins(pattern: &str, text: &str) -> bool {
    after(pattern, text).is_some()
}

/// What stands where the pattern says `{value}`: up to what follows there, or to the end of the line; never over one.
#[must_use]
pub fn taken<'t>(pattern: &str, text: &'t str) -> Option<&'t str> {
    let (before, behind) = pattern.split_once(VALUE)?;
    let from = after(before, text)?;
    let next = behind.split(ANYTHING).next().unwrap_or_default();
    let end = if next.is_empty() { from.find('\n').unwrap_or(from.len()) } else { from.find(next)? };
    let (value, rest) = from.split_at(end);
    after(behind, rest)?;
    let value = value.strip_suffix('\r').unwrap_or(value);
    (!value.contains('\n')).then_some(value)
}

/// What follows on the pattern at the beginning of the text.
fn after<'t>(pattern: &str, text: &'t str) -> Option<&'t str> {
    let mut pieces = pattern.split(ANYTHING);
    let mut rest = text.strip_prefix(pieces.next().unwrap_or_default())?;
    for piece in pieces {
        let at = rest.find(piece)?;
        rest = &rest[at + piece.len()..];
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_filled_in_once_and_json_keeps_its_braces() {
        let words = [(VALUE, "{epoch}"), (EPOCH, "7")];
        assert_eq!(
            fill("{\"limit\": {value}, \"of\": {epoch}} {", &words, as_it_is),
            "{\"limit\": {epoch}, \"of\": 7} {"
        );
        assert_eq!(fill("/a?b={value}", &[(VALUE, "../x:1")], percent_encoded), "/a?b=..%2Fx%3A1");
    }

    #[test]
    fn a_value_is_taken_from_where_the_pattern_says() {
        assert_eq!(taken("limit: {value}", "limit: 50\r\nother: 7\n"), Some("50"));
        assert_eq!(taken("limit: {value}", "no limit: 50\n"), None);
        assert_eq!(taken("{*}b{*}<lf>{value}</lf>", "<a/><lf>1</lf><b/>\n<lf>2.50</lf>"), Some("2.50"));
        assert_eq!(taken("{value} of {*} used", "5 of 9 used"), Some("5"));
        assert_eq!(taken("{value} of {*} used", "5 of 9 free"), None);
        assert_eq!(taken("a{value}b", "a1\n2b"), None, "a value is on one line");
        assert_eq!(taken("{value}", ""), Some(""));
    }

    #[test]
    fn an_answer_begins_as_expected() {
        assert!(begins("OK", "OK, done") && begins("{*}OK", "NOT OK"));
        assert!(!begins("OK", "NOT OK") && !begins("a{*}b", "b a"));
    }

    #[test]
    fn nothing_that_could_be_more_than_a_value_is_one() {
        for good in ["", "-1", "50", "2.50", "30s", "259d69ba-17d4-09c5", "http://127.0.0.1:80", "64MB"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["1;", "1 2", "1\n", "'", "\"", "a&b", "a=b", "1--", "/*", "%0a", "é", "a+b", &"1".repeat(129)] {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(pattern in "(?s)([a-c]|\\{\\*\\}|\\{value\\}|.){0,20}", text in "(?s)[a-cé\n]{0,80}") {
            if let Some(value) = taken(&pattern, &text) {
                prop_assert!(text.contains(value) && !value.contains('\n'));
            }
            prop_assert_eq!(begins(&pattern, &text), after(&pattern, &text).is_some());
            fill(&pattern, &[(VALUE, &text)], as_it_is);
        }
    }
}
