//! Redis's protocol (RESP2), bounded: an answer that is malformed, nested too deep, or of more elements than any that is
//! asked for is an error before its memory is taken, and each byte of it is looked at once however it comes. Pure.

use crate::control::stream::shown;
use crate::control::wire::{Foreign, KEPT_BYTES};

/// Answers that we ask for are nested twice.
const DEPTH: usize = 4;
/// Of one answer: a step of SCAN has a few hundred, and each takes 64 bytes here.
const MOST_ELEMENTS: usize = 4096;
/// A line that says how long something is, or what is wrong.
const LINE_BYTES: usize = 8 << 10;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
    Nil,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Reply {
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Simple(text) => Some(text.as_bytes()),
            Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) | Reply::Nil => None,
        }
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    #[must_use]
    pub fn array(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(items) => Some(items),
            Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Nil => None,
        }
    }
}

/// A command in the form that carries any bytes.
#[must_use]
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut line = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        line.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        line.extend_from_slice(word);
        line.extend_from_slice(b"\r\n");
    }
    line
}

/// Finds where the first answer ends, over any cuts: it goes on where it was.
#[derive(Default)]
pub struct Scanner {
    at: usize,
    /// How far the line that begins there was looked through.
    seen: usize,
    /// Elements that each open array still lacks.
    open: Vec<usize>,
    elements: usize,
    is_over: bool,
}

impl Scanner {
    /// The length of the answer, or `None` where it is not whole yet. The buffer only grows between two calls.
    ///
    /// # Errors
    /// When no further byte could make it an answer within the bounds.
    pub fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Foreign> {
        while !self.is_over {
            let Some(line) = self.line(buffer)? else { return Ok(None) };
            let (kind, rest) = line.split_first().ok_or(Foreign)?;
            let next = self.at + line.len() + 2;
            match (kind, length(rest)) {
                (b'+' | b'-', _) => self.element(next)?,
                (b':', _) => {
                    number(rest).map_err(|_| Foreign)?;
                    self.element(next)?;
                }
                (b'$' | b'*', Ok(None)) => self.element(next)?,
                (b'$', Ok(Some(length))) => {
                    let end = next + length + 2;
                    if buffer.len() < end {
                        return Ok(None);
                    }
                    if buffer[end - 2..end] != *b"\r\n" {
                        return Err(Foreign);
                    }
                    self.element(end)?;
                }
                (b'*', Ok(Some(length))) => self.array(length, next)?,
                _ => return Err(Foreign),
            }
        }
        Ok(Some(self.at))
    }

    fn array(&mut self, length: usize, next: usize) -> Result<(), Foreign> {
        if self.open.len() == DEPTH || length > MOST_ELEMENTS {
            return Err(Foreign);
        }
        if length == 0 {
            return self.element(next);
        }
        (self.at, self.seen) = (next, 0);
        self.open.push(length);
        Ok(())
    }

    /// One more is whole, and with it perhaps what it is an element of.
    fn element(&mut self, next: usize) -> Result<(), Foreign> {
        (self.at, self.seen) = (next, 0);
        self.elements += 1;
        if self.elements > MOST_ELEMENTS {
            return Err(Foreign);
        }
        while let Some(lacks) = self.open.last_mut() {
            *lacks -= 1;
            if *lacks > 0 {
                return Ok(());
            }
            self.open.pop();
        }
        self.is_over = true;
        Ok(())
    }

    fn line<'b>(&mut self, buffer: &'b [u8]) -> Result<Option<&'b [u8]>, Foreign> {
        let rest = &buffer[self.at..];
        let from = self.seen.saturating_sub(1);
        match rest[from..].windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => Ok(Some(&rest[..from + end])),
            None if rest.len() > LINE_BYTES || rest.first().is_some_and(|kind| !b"+-:$*".contains(kind)) => {
                Err(Foreign)
            }
            None => {
                self.seen = rest.len();
                Ok(None)
            }
        }
    }
}

/// A whole answer.
///
/// # Errors
/// When it is none.
pub fn parse(whole: &[u8]) -> Result<Reply, Malformed> {
    (Parser { buffer: whole, at: 0 }).reply(DEPTH).map_err(|_| Malformed)
}

enum Stop {
    Incomplete,
    Malformed,
}

struct Parser<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn reply(&mut self, depth: usize) -> Result<Reply, Stop> {
        let line = self.line()?;
        let (kind, rest) = line.split_first().ok_or(Stop::Malformed)?;
        let text = || shown(rest).into_owned();
        match kind {
            b'+' => Ok(Reply::Simple(text())),
            b'-' => Ok(Reply::Error(text())),
            b':' => Ok(Reply::Integer(number(rest)?)),
            b'$' => match length(rest)? {
                None => Ok(Reply::Nil),
                Some(length) => self.bulk(length),
            },
            b'*' => match length(rest)? {
                None => Ok(Reply::Nil),
                Some(length) => self.array(length, depth),
            },
            _ => Err(Stop::Malformed),
        }
    }

    fn bulk(&mut self, length: usize) -> Result<Reply, Stop> {
        let end = self.at + length;
        let bytes = self.buffer.get(self.at..end).ok_or(Stop::Incomplete)?.to_vec();
        match self.buffer.get(end..end + 2) {
            Some(b"\r\n") => self.at = end + 2,
            Some(_) => return Err(Stop::Malformed),
            None => return Err(Stop::Incomplete),
        }
        Ok(Reply::Bulk(bytes))
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Reply, Stop> {
        if depth == 0 {
            return Err(Stop::Malformed);
        }
        // The shortest element is `+\r\n`: the buffer could not hold a longer array.
        if length > (self.buffer.len() - self.at) / 3 || length > MOST_ELEMENTS {
            return Err(Stop::Incomplete);
        }
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.reply(depth - 1)?);
        }
        Ok(Reply::Array(items))
    }

    fn line(&mut self) -> Result<&[u8], Stop> {
        let rest = &self.buffer[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or(Stop::Incomplete)?;
        self.at += end + 2;
        Ok(&rest[..end])
    }
}

fn number(digits: &[u8]) -> Result<i64, Stop> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Stop::Malformed)
}

fn length(digits: &[u8]) -> Result<Option<usize>, Stop> {
    match number(digits)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= KEPT_BYTES => Ok(Some(length)),
            Ok(_) | Err(_) => Err(Stop::Malformed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(buffer: &[u8]) -> Result<Option<usize>, ()> {
        Scanner::default().end(buffer).map_err(|_| ())
    }

    #[test]
    fn reads_each_kind_of_answer() {
        let whole = |text: &str| parse(text.as_bytes()).unwrap();
        assert_eq!(whole("+OK\r\n"), Reply::Simple("OK".into()));
        assert_eq!(whole("-NOPERM no\r\n"), Reply::Error("NOPERM no".into()));
        assert_eq!(whole(":-7\r\n"), Reply::Integer(-7));
        assert_eq!(whole("$-1\r\n"), Reply::Nil);
        let scan = whole("*2\r\n$1\r\n0\r\n*1\r\n$2\r\na\r\r\n");
        assert_eq!(scan.array().unwrap()[1], Reply::Array(vec![Reply::Bulk(b"a\r".to_vec())]));
    }

    #[test]
    fn half_an_answer_is_waited_for_and_an_endless_one_is_not() {
        for half in ["", "$", "$5\r\nab", "*2\r\n+OK\r\n", "$2\r\nab\r"] {
            assert_eq!(end(half.as_bytes()), Ok(None), "{half:?}");
        }
        for hopeless in
            ["$99999999999\r\n", "*-5\r\n", "hello\r\n", "$2\r\nabcd", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n"]
        {
            assert_eq!(end(hopeless.as_bytes()), Err(()), "{hopeless:?}");
        }
        assert_eq!(end(&vec![b'+'; LINE_BYTES + 1]), Err(()));
        let many = format!("*{}\r\n", MOST_ELEMENTS + 1);
        assert_eq!(end(many.as_bytes()), Err(()));
        let many = format!("*2\r\n{0}{0}", format!("*{}\r\n{}", MOST_ELEMENTS - 9, ":1\r\n".repeat(MOST_ELEMENTS - 9)));
        assert_eq!(end(many.as_bytes()), Err(()), "it may not be so many in pieces either");
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Reply::Integer),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Reply::Bulk),
            "[a-zA-Z ]{0,10}".prop_map(Reply::Simple),
            Just(Reply::Nil),
        ];
        leaf.prop_recursive(2, 16, 4, |inner| proptest::collection::vec(inner, 0..4).prop_map(Reply::Array))
    }

    fn encode(reply: &Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::Simple(text) => out.extend(format!("+{text}\r\n").bytes()),
            Reply::Error(text) => out.extend(format!("-{text}\r\n").bytes()),
            Reply::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
            Reply::Nil => out.extend(b"$-1\r\n"),
            Reply::Bulk(bytes) => {
                out.extend(format!("${}\r\n", bytes.len()).bytes());
                out.extend(bytes);
                out.extend(b"\r\n");
            }
            Reply::Array(items) => {
                out.extend(format!("*{}\r\n", items.len()).bytes());
                items.iter().for_each(|item| encode(item, out));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_every_cut_of_it_is_waited_for(reply in reply()) {
            let mut wire = Vec::new();
            encode(&reply, &mut wire);
            let mut scanner = Scanner::default();
            for cut in 0..wire.len() {
                prop_assert_eq!(end(&wire[..cut]), Ok(None));
                prop_assert!(matches!(scanner.end(&wire[..cut]), Ok(None)));
            }
            prop_assert!(matches!(scanner.end(&wire), Ok(Some(length)) if length == wire.len()));
            prop_assert_eq!(parse(&wire), Ok(reply));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes).ok();
            end(&bytes).ok();
        }

        #[test]
        fn almost_answers_are_survived(text in "([*$:+-][0-9]{0,12}\r\n|[a-z]{0,4}\r?\n?){0,40}") {
            if let Ok(Some(length)) = end(text.as_bytes()) {
                prop_assert!(parse(&text.as_bytes()[..length]).is_ok());
            }
        }
    }
}
