//! Redis's protocol (RESP2), bounded: an answer that is malformed, nested too deep or longer than the bound is an error
//! before its memory is taken. Pure.

/// A SCAN step or an INFO is a few dozen KiB.
pub const ANSWER_BYTES: usize = 1 << 20;
/// Answers that we ask for are nested twice.
const DEPTH: usize = 4;

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

/// The first answer in a buffer, or `None` where it is not whole yet.
///
/// # Errors
/// When no further byte could make it an answer within the bounds.
pub fn parse(buffer: &[u8]) -> Result<Option<Reply>, Malformed> {
    match (Parser { buffer, at: 0 }).reply(DEPTH) {
        Ok(reply) => Ok(Some(reply)),
        Err(Stop::Incomplete) if buffer.len() <= ANSWER_BYTES => Ok(None),
        Err(Stop::Incomplete | Stop::Malformed) => Err(Malformed),
    }
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
        let text = || String::from_utf8_lossy(rest).into_owned();
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
        // The shortest element is `+\r\n`: a longer array than the buffer could hold is not whole.
        if length > (self.buffer.len() - self.at) / 3 {
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
            Ok(length) if length <= ANSWER_BYTES => Ok(Some(length)),
            Ok(_) | Err(_) => Err(Stop::Malformed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_each_kind_of_answer() {
        let whole = |text: &str| parse(text.as_bytes()).unwrap().unwrap();
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
            assert_eq!(parse(half.as_bytes()), Ok(None), "{half:?}");
        }
        for hopeless in
            ["$99999999999\r\n", "*-5\r\n", "hello\r\n", "$2\r\nabcd", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n"]
        {
            assert_eq!(parse(hopeless.as_bytes()), Err(Malformed), "{hopeless:?}");
        }
        assert_eq!(parse(&vec![b'+'; ANSWER_BYTES + 1]), Err(Malformed));
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
            for cut in 0..wire.len() {
                prop_assert_eq!(parse(&wire[..cut]), Ok(None));
            }
            prop_assert_eq!(parse(&wire), Ok(Some(reply)));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes).ok();
        }

        #[test]
        fn almost_answers_are_survived(text in "([*$:+-][0-9]{0,12}\r\n|[a-z]{0,4}\r?\n?){0,40}") {
            parse(text.as_bytes()).ok();
        }
    }
}
