//! The text of a condition to tokens. It never fails: what is no token is a mistake with its place, and the nearest
//! meaning is kept where there is one, so that the parser can find the mistakes behind it too.

use std::ops::Range;

use super::{Mistake, Relation};
use crate::policy::unit::Quantity;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'t> {
    pub kind: Kind<'t>,
    pub span: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'t> {
    Word(&'t str),
    /// In quotes; the content without them.
    Text(&'t str),
    /// `None` where it is a number with a unit that does not exist; complained about already.
    Value(Option<Quantity>),
    Relation(Relation),
    And,
    Or,
    Not,
    Open,
    Close,
    SelectOpen,
    SelectClose,
    Comma,
    End,
}

/// All tokens, closed by one `End`.
pub(super) fn tokens<'t>(text: &'t str, mistakes: &mut Vec<Mistake>) -> Vec<Token<'t>> {
    let mut lexer = Lexer { text, at: 0, mistakes };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next_token() {
        tokens.push(token);
    }
    tokens.push(Token { kind: Kind::End, span: text.len()..text.len() });
    tokens
}

struct Lexer<'t, 'm> {
    text: &'t str,
    at: usize,
    mistakes: &'m mut Vec<Mistake>,
}

impl<'t> Lexer<'t, '_> {
    fn next_token(&mut self) -> Option<Token<'t>> {
        loop {
            self.skip(char::is_whitespace);
            let start = self.at;
            let kind = match self.peek()? {
                '"' | '\'' => self.quoted(),
                c if starts_word(c) => self.word(),
                c if c.is_ascii_digit() => self.value(),
                '-' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.value(),
                _ => match self.symbol() {
                    Some(kind) => kind,
                    None => continue,
                },
            };
            return Some(Token { kind, span: start..self.at });
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, matches: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !matches(c)).unwrap_or(rest.len());
    }

    fn complain(&mut self, span: Range<usize>, message: String, help: &str) {
        self.mistakes.push(Mistake { span, message, help: Some(help.to_owned()) });
    }

    fn word(&mut self) -> Kind<'t> {
        let start = self.at;
        self.skip(continues_word);
        match &self.text[start..self.at] {
            "and" => Kind::And,
            "or" => Kind::Or,
            "not" => Kind::Not,
            shout @ ("AND" | "And" | "OR" | "Or" | "NOT" | "Not") => {
                let quiet = shout.to_lowercase();
                self.complain(start..self.at, format!("unknown word `{shout}`"), &format!("write `{quiet}`"));
                match quiet.as_str() {
                    "and" => Kind::And,
                    "or" => Kind::Or,
                    _ => Kind::Not,
                }
            }
            word => Kind::Word(word),
        }
    }

    fn quoted(&mut self) -> Kind<'t> {
        let start = self.at;
        let rest = self.rest();
        let quote = if rest.starts_with('"') { '"' } else { '\'' };
        if let Some(length) = rest[1..].find(quote) {
            self.at += length + 2;
            return Kind::Text(&rest[1..=length]);
        }
        self.at = self.text.len();
        let message = "this quote is never closed".to_owned();
        self.complain(start..self.at, message, &format!("close it with {quote}"));
        Kind::Text(&rest[1..])
    }

    fn value(&mut self) -> Kind<'t> {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        let digits = self.at;
        self.skip(|c| c.is_ascii_digit() || matches!(c, '.' | '_'));
        let number = self.at;
        self.skip(|c| c.is_alphanumeric() || matches!(c, '%' | '/' | '.' | '_'));
        if self.at == number {
            self.spaced_unit(digits);
        }
        let sign = if digits > start { -1.0 } else { 1.0 };
        let quantity = Quantity::parse(&self.text[digits..self.at])
            .map(|quantity| Quantity { value: sign * quantity.value, ..quantity })
            .filter(|quantity| quantity.value.is_finite());
        if quantity.is_none() {
            let message = format!("`{}` is not a number with a unit", &self.text[start..self.at]);
            self.complain(start..self.at, message, "write it like 8%, 512MiB, 250ms, 1000/s, 20MB/s or 42");
        }
        Kind::Value(quantity)
    }

    /// `20 MB/s`: the unit may stand apart from its number, where it is a unit.
    fn spaced_unit(&mut self, digits: usize) {
        let number = self.at;
        self.skip(|c| c == ' ');
        self.skip(|c| c.is_alphanumeric() || matches!(c, '%' | '/'));
        if Quantity::parse(&self.text[digits..self.at]).is_none() || self.rest().starts_with(continues_word) {
            self.at = number;
        }
        if self.text[number..self.at].trim().is_empty() {
            self.at = number;
        }
    }

    fn symbol(&mut self) -> Option<Kind<'t>> {
        const SYMBOLS: [(&str, Kind<'static>, Option<&str>); 18] = [
            ("<=", Kind::Relation(Relation::LessOrEqual), None),
            (">=", Kind::Relation(Relation::GreaterOrEqual), None),
            ("==", Kind::Relation(Relation::Equal), None),
            ("!=", Kind::Relation(Relation::NotEqual), None),
            ("<>", Kind::Relation(Relation::NotEqual), Some("write `!=`")),
            ("=<", Kind::Relation(Relation::LessOrEqual), Some("write `<=`")),
            ("=>", Kind::Relation(Relation::GreaterOrEqual), Some("write `>=`")),
            ("&&", Kind::And, Some("write `and`")),
            ("||", Kind::Or, Some("write `or`")),
            ("<", Kind::Relation(Relation::Less), None),
            (">", Kind::Relation(Relation::Greater), None),
            ("=", Kind::Relation(Relation::Equal), Some("write `==` to compare")),
            ("!", Kind::Not, Some("write `not`")),
            ("(", Kind::Open, None),
            (")", Kind::Close, None),
            ("[", Kind::SelectOpen, None),
            ("]", Kind::SelectClose, None),
            (",", Kind::Comma, None),
        ];
        let start = self.at;
        for (symbol, kind, help) in SYMBOLS {
            if self.rest().starts_with(symbol) {
                self.at += symbol.len();
                if let Some(help) = help {
                    self.complain(start..self.at, format!("`{symbol}` means nothing here"), help);
                }
                return Some(kind);
            }
        }
        self.skip(|c| !is_known(c));
        if self.at == start {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        let message = format!("unexpected `{}`", self.text[start..self.at].escape_debug());
        self.complain(start..self.at, message, "a condition is made of `metric < value`, and, or, not, ( )");
        None
    }
}

fn starts_word(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '.')
}

fn continues_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn is_known(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "_.\"'<>=!&|()[],".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        let mut mistakes = Vec::new();
        let kinds = tokens(text, &mut mistakes).into_iter().map(|token| token.kind).collect();
        assert_eq!(mistakes, [], "{text}");
        kinds
    }

    #[test]
    fn units_may_stand_apart_and_words_are_not_units() {
        let value = |text| Kind::Value(Quantity::parse(text));
        assert_eq!(kinds("20 MB/s"), [value("20MB/s"), Kind::End]);
        assert_eq!(kinds("8 %"), [value("8%"), Kind::End]);
        assert_eq!(kinds("8 and"), [value("8"), Kind::And, Kind::End]);
        assert_eq!(kinds("8 )"), [value("8"), Kind::Close, Kind::End]);
        assert_eq!(kinds("5 s.x"), [value("5"), Kind::Word("s.x"), Kind::End]);
    }

    #[test]
    fn foreign_spellings_are_understood_and_complained_about() {
        let mut mistakes = Vec::new();
        let tokens = tokens("a && b || ! c = 5 § 7 parsecs", &mut mistakes);
        assert_eq!(mistakes.len(), 5);
        assert_eq!(tokens[1].kind, Kind::And);
        assert_eq!(mistakes[4].message, "unexpected `§`");
    }
}
