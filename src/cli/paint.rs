//! Colour, and words for durations: for people at a terminal only.

use std::env;
use std::io::{self, IsTerminal};

/// Of a terminal.
pub const WIDTH: usize = 80;
/// What is left beside a long name is not cut into single words.
const NARROWEST: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paint {
    Plain,
    Colour,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    Good,
    Uneasy,
    Bad,
    Heading,
    Faint,
}

impl Paint {
    /// Colour on a terminal, unless `NO_COLOR` says otherwise (no-color.org).
    #[must_use]
    pub fn of_stdout() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain }
    }

    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Uneasy => "33",
            Tone::Bad => "1;31",
            Tone::Heading => "1",
            Tone::Faint => "2",
        };
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// `42s`, `3m 12s`, `5h 02m`, `12d 4h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
    let whole = seconds.max(0.0) as u64;
    match whole {
        0 if seconds > 0.0 => format!("{seconds:.1}s"),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Breaks a text at spaces, so that no line is longer than `width` unless a word is.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A text that begins after `margin` columns, at a terminal folded below itself; elsewhere one line, for `grep`.
#[must_use]
pub fn hanging(margin: usize, text: &str) -> String {
    if io::stdout().is_terminal() { folded(margin, text) } else { text.to_owned() }
}

fn folded(margin: usize, text: &str) -> String {
    wrapped(text, WIDTH.saturating_sub(margin).max(NARROWEST)).join(&format!("\n{:margin$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_their_size() {
        let cases =
            [(0.0, "0s"), (0.25, "0.2s"), (42.9, "42s"), (192.0, "3m 12s"), (18_120.0, "5h 02m"), (1e6, "11d 13h")];
        for (seconds, words) in cases {
            assert_eq!(duration(seconds), words);
        }
    }

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("immeasurable", 4), ["immeasurable"]);
        assert!(wrapped("", 4).is_empty());
    }

    #[test]
    fn what_does_not_fit_beside_a_name_goes_on_below_itself() {
        let text = "one of these words each, ".repeat(8);
        let folded = folded(19, &text);
        assert!(folded.lines().count() > 1 && folded.lines().all(|line| line.chars().count() <= 80), "{folded}");
        assert!(folded.lines().skip(1).all(|line| line.starts_with(&" ".repeat(19))), "{folded}");
    }
}
