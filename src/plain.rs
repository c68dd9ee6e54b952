//! Text of strangers, made fit to be shown: one line of bounded length in which nothing is left that a terminal, a log or a
//! reader's eye obeys. Never decides what it means.

use std::borrow::Cow;

/// Stands where something was cut off.
pub(crate) const CUT: char = '…';

/// At most so many characters, on one line.
#[must_use]
pub(crate) fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut left = most;
    let mut gap = false;
    for c in text.chars() {
        // What is left out for ever is not looked at for ever.
        if is_blank(c) {
            gap = !line.is_empty();
            continue;
        }
        let takes = 1 + usize::from(gap);
        if left < takes {
            line.push(CUT);
            break;
        }
        if gap {
            line.push(' ');
        }
        line.push(c);
        (gap, left) = (false, left - takes);
    }
    line
}

/// The same text where nothing in it is obeyed; line ends stay.
#[must_use]
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    let is_kept = |c: char| c == '\n' || !is_obeyed(c);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_kept(c) { c } else { '\u{fffd}' }).collect())
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_obeyed(c)
}

/// Controls and escapes, what turns the direction of text, and what has no width (Unicode: Cc, and of Cf and Zl what
/// changes how the rest is read).
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_strangers_text_is_one_line_of_plain_characters() {
        assert_eq!(line(" a\r\n\tb \u{1b}[2J c\n", 120), "a b [2J c");
        assert_eq!(line("ok\u{202e}dlrow", 120), "ok dlrow");
        assert_eq!(line(&"x".repeat(500), 120), format!("{}…", "x".repeat(120)));
        assert_eq!(lines("a\nb\u{1b}]0;x\u{7}"), "a\nb\u{fffd}]0;x\u{fffd}");
        assert!(matches!(lines("a → b"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_made_fit(text in "(?s).{0,300}", most in 0..60_usize) {
            let line = line(&text, most);
            prop_assert!(line.chars().count() <= most + 1);
            prop_assert!(!line.chars().any(|c| c.is_control()));
            prop_assert!(!lines(&text).chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
