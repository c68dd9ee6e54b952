//! From bytes to numbers, for the parsers of this folder. Whatever the bytes are, it allocates nothing, panics never and
//! overflows never: what is not a number is `None`.

use std::iter;

use memchr::{memchr, memrchr};

/// The complete lines of a file; a last line without its newline was cut off, and half a number is not a number.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = memrchr(b'\n', bytes).unwrap_or(0);
    let mut rest = Some(&bytes[..end]);
    iter::from_fn(move || {
        let text = rest?;
        let (line, after) = match memchr(b'\n', text) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(line)
    })
}

/// The words of a line.
#[derive(Clone)]
pub struct Fields<'a>(&'a [u8]);

#[must_use]
pub fn fields(line: &[u8]) -> Fields<'_> {
    Fields(line)
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let rest = &self.0[start..];
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

impl Fields<'_> {
    pub fn number(&mut self) -> Option<u64> {
        number(self.next()?)
    }
}

/// Decimal digits only. A number that does not fit is no number.
#[must_use]
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[must_use]
pub fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        sum.checked_mul(16)?.checked_add(u64::from(digit))
    })
}

/// `12`, `0.50`. Never an exponent, a sign or a word, so the result is always finite.
#[must_use]
pub fn decimal(text: &[u8]) -> Option<f64> {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => return number(text).map(|whole| whole as f64),
    };
    let places = i32::try_from(fraction.len()).ok().filter(|places| *places <= 18)?;
    Some(number(whole)? as f64 + number(fraction)? as f64 / 10f64.powi(places))
}

/// Values of a table in the form of /proc/net/snmp: a line of names and, with the same first word, a line of numbers.
/// `None` where the table is not there; a name that the kernel does not know is `None` in its place.
#[must_use]
pub fn named<const N: usize>(bytes: &[u8], table: &[u8], names: [&[u8]; N]) -> Option<[Option<u64>; N]> {
    let mut lines = lines(bytes).map(fields).filter(|line| line.clone().next() == Some(table));
    let (header, values) = (lines.next()?, lines.next()?);
    let mut found = [None; N];
    for (name, value) in header.zip(values) {
        if let Some(place) = names.iter().position(|wanted| *wanted == name) {
            found[place] = number(value);
        }
        // Others follow by the hundred.
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_numbers() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(decimal(b"0.50"), Some(0.5));
        assert_eq!(decimal(b"7"), Some(7.0));
        assert_eq!(hexadecimal(b"0000001f"), Some(31));
        for nonsense in [&b""[..], b".", b"1.", b".5", b"-1", b"1e3", b"nan", b"inf", b"0x1", b"1 2", b"\xff"] {
            assert_eq!(decimal(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_count() {
        assert_eq!(lines(b"a 1\nb 2\nc 1234").collect::<Vec<_>>(), [b"a 1", b"b 2"]);
        assert_eq!(lines(b"no newline").flat_map(fields).count(), 0);
        assert_eq!(fields(b"  a\t b  ").collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn a_table_is_read_by_name() {
        let text = b"Ip: A B\nIp: 1 2\nTcp: RtoMax MaxConn OutSegs\nTcp: 120000 -1 77\n";
        assert_eq!(named(text, b"Tcp:", [b"OutSegs", b"MaxConn", b"New"]), Some([Some(77), None, None]));
        assert_eq!(named(text, b"Udp:", [b"OutSegs"]), None);
    }
}
