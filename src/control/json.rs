//! JSON of strangers, read as it comes: each value is told with the path to it, and nothing is kept but that path. Bounded
//! in depth and in the length of what is told; never makes a tree. Pure and total.

/// As deep as serde_json goes.
const DEPTH: usize = 128;
/// Of a name; a longer one is nobody's that is asked for.
const NAME_BYTES: usize = 256;
/// Of a text or a number that is told; the rest is left out.
const VALUE_BYTES: usize = 4096;

/// One step from a value to one within it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Name(String),
    Index(usize),
    /// A name that is too long to be one that is asked for.
    Other,
}

/// A value; of what holds others, that it begins.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Told<'t> {
    Text(&'t str),
    Number(&'t str),
    Bool(bool),
    Null,
    Object,
    Array,
}

impl Told<'_> {
    pub fn text(self) -> Option<String> {
        if let Told::Text(text) = self { Some(text.to_owned()) } else { None }
    }

    pub fn whole(self) -> Option<u64> {
        if let Told::Number(number) = self { number.parse().ok() } else { None }
    }

    pub fn number(self) -> Option<f64> {
        if let Told::Number(number) = self { number.parse().ok() } else { None }
    }

    pub fn bool(self) -> Option<bool> {
        if let Told::Bool(is) = self { Some(is) } else { None }
    }
}

/// What is expected next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Value,
    /// A value, or the end of an empty array.
    FirstValue,
    Name,
    FirstName,
    Colon,
    /// A comma, or the end of what holds this.
    After,
    Text {
        of: Of,
        escape: Escape,
    },
    /// A number or a word.
    Word,
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Name,
    Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Escape {
    None,
    Begun,
    /// Digits of `\u` so far, and what they come to.
    Unicode(u8, u32),
}

/// It is no JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Goes on where it was, however the text is cut.
pub struct Reader {
    state: State,
    /// One for each object or array that is open.
    path: Vec<Step>,
    /// Of the text, name, number or word that is being read.
    token: Vec<u8>,
    is_long: bool,
    /// The first half of a pair of `\u`.
    high: Option<u32>,
}

impl Default for Reader {
    fn default() -> Self {
        let (path, token) = (Vec::new(), Vec::new());
        Self { state: State::Value, path, token, is_long: false, high: None }
    }
}

impl Reader {
    /// # Errors
    /// When no further byte could make it JSON.
    pub fn read(&mut self, bytes: &[u8], told: &mut dyn FnMut(&[Step], Told<'_>)) -> Result<(), Malformed> {
        bytes.iter().try_for_each(|byte| self.byte(*byte, told))
    }

    /// # Errors
    /// When it is not whole.
    pub fn end(mut self, told: &mut dyn FnMut(&[Step], Told<'_>)) -> Result<(), Malformed> {
        if self.state == State::Word && self.path.is_empty() {
            self.word(told)?;
        }
        if self.state == State::Over { Ok(()) } else { Err(Malformed) }
    }

    fn byte(&mut self, byte: u8, told: &mut dyn FnMut(&[Step], Told<'_>)) -> Result<(), Malformed> {
        if let State::Text { of, escape } = self.state {
            return self.text(byte, of, escape, told);
        }
        if self.state == State::Word {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') {
                self.keep(&[byte], VALUE_BYTES);
                return Ok(());
            }
            self.word(told)?;
        }
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => Ok(()),
            (State::Value | State::FirstValue, b'{') => self.open(Told::Object, Step::Other, State::FirstName, told),
            (State::Value | State::FirstValue, b'[') => self.open(Told::Array, Step::Index(0), State::FirstValue, told),
            (State::FirstValue, b']') | (State::FirstName, b'}') => self.close(),
            (State::Value | State::FirstValue, b'"') => self.begin_text(Of::Value),
            (State::Value | State::FirstValue, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.begin();
                self.keep(&[byte], VALUE_BYTES);
                self.state = State::Word;
                Ok(())
            }
            (State::Name | State::FirstName, b'"') => self.begin_text(Of::Name),
            (State::Colon, b':') => self.expect(State::Value),
            (State::After, b',') => match self.path.last_mut() {
                Some(Step::Index(index)) => {
                    *index += 1;
                    self.expect(State::Value)
                }
                Some(Step::Name(_) | Step::Other) => self.expect(State::Name),
                None => Err(Malformed),
            },
            (State::After, b']') if matches!(self.path.last(), Some(Step::Index(_))) => self.close(),
            (State::After, b'}') if matches!(self.path.last(), Some(Step::Name(_) | Step::Other)) => self.close(),
            _ => Err(Malformed),
        }
    }

    fn expect(&mut self, state: State) -> Result<(), Malformed> {
        self.state = state;
        Ok(())
    }

    fn open(
        &mut self,
        what: Told<'_>,
        step: Step,
        state: State,
        told: &mut dyn FnMut(&[Step], Told<'_>),
    ) -> Result<(), Malformed> {
        told(&self.path, what);
        if self.path.len() == DEPTH {
            return Err(Malformed);
        }
        self.path.push(step);
        self.expect(state)
    }

    fn close(&mut self) -> Result<(), Malformed> {
        self.path.pop();
        self.after()
    }

    fn after(&mut self) -> Result<(), Malformed> {
        self.expect(if self.path.is_empty() { State::Over } else { State::After })
    }

    fn begin(&mut self) {
        self.token.clear();
        (self.is_long, self.high) = (false, None);
    }

    fn begin_text(&mut self, of: Of) -> Result<(), Malformed> {
        self.begin();
        self.expect(State::Text { of, escape: Escape::None })
    }

    fn keep(&mut self, bytes: &[u8], most: usize) {
        self.is_long |= self.token.len() + bytes.len() > most;
        if !self.is_long {
            self.token.extend_from_slice(bytes);
        }
    }

    fn keep_char(&mut self, code: u32, of: Of) {
        let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep(c.encode_utf8(&mut [0; 4]).as_bytes(), of.most());
    }

    fn text(
        &mut self,
        byte: u8,
        of: Of,
        escape: Escape,
        told: &mut dyn FnMut(&[Step], Told<'_>),
    ) -> Result<(), Malformed> {
        let next = match (escape, byte) {
            (Escape::None, b'"') => return self.end_text(of, told),
            (Escape::None, b'\\') => Escape::Begun,
            (Escape::None, 0..0x20) => return Err(Malformed),
            (Escape::None, byte) => {
                self.keep(&[byte], of.most());
                Escape::None
            }
            (Escape::Begun, b'u') => Escape::Unicode(0, 0),
            (Escape::Begun, byte) => {
                self.keep(&[unescaped(byte)?], of.most());
                Escape::None
            }
            (Escape::Unicode(digits, code), byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                self.unicode(digits + 1, code << 4 | digit, of)
            }
        };
        self.expect(State::Text { of, escape: next })
    }

    fn unicode(&mut self, digits: u8, code: u32, of: Of) -> Escape {
        if digits < 4 {
            return Escape::Unicode(digits, code);
        }
        match (self.high.take(), code) {
            (_, 0xd800..0xdc00) => self.high = Some(code),
            (Some(high), 0xdc00..0xe000) => self.keep_char(0x10000 + ((high - 0xd800) << 10) + (code - 0xdc00), of),
            (_, code) => self.keep_char(code, of),
        }
        Escape::None
    }

    fn end_text(&mut self, of: Of, told: &mut dyn FnMut(&[Step], Told<'_>)) -> Result<(), Malformed> {
        let text = String::from_utf8_lossy(&self.token);
        match of {
            Of::Value => {
                told(&self.path, Told::Text(&text));
                self.after()
            }
            Of::Name => {
                let step = if self.is_long { Step::Other } else { Step::Name(text.into_owned()) };
                if let Some(last) = self.path.last_mut() {
                    *last = step;
                }
                self.expect(State::Colon)
            }
        }
    }

    fn word(&mut self, told: &mut dyn FnMut(&[Step], Told<'_>)) -> Result<(), Malformed> {
        let word = std::str::from_utf8(&self.token).map_err(|_| Malformed)?;
        let what = match word {
            "true" => Told::Bool(true),
            "false" => Told::Bool(false),
            "null" => Told::Null,
            // `inf` and `nan` are numbers to Rust alone.
            number if number.parse::<f64>().is_ok() && !number.contains(['i', 'n', 'N']) => Told::Number(number),
            _ => return Err(Malformed),
        };
        told(&self.path, what);
        self.after()
    }
}

impl Of {
    const fn most(self) -> usize {
        match self {
            Of::Name => NAME_BYTES,
            Of::Value => VALUE_BYTES,
        }
    }
}

fn unescaped(byte: u8) -> Result<u8, Malformed> {
    match byte {
        b'"' | b'\\' | b'/' => Ok(byte),
        b'b' => Ok(8),
        b'f' => Ok(12),
        b'n' => Ok(b'\n'),
        b'r' => Ok(b'\r'),
        b't' => Ok(b'\t'),
        _ => Err(Malformed),
    }
}

/// What a pointer into JSON (RFC 6901) leads to.
pub struct Picker {
    reader: Reader,
    wanted: Vec<String>,
    found: Found,
    is_malformed: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A text, a number, `true` or `false`.
    Value(String),
    /// `null`, or no such thing.
    Nothing,
    /// An object or an array.
    Part,
}

impl Picker {
    pub fn new(pointer: &str) -> Self {
        let wanted = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        Self { reader: Reader::default(), wanted, found: Found::Nothing, is_malformed: false }
    }

    pub fn read(&mut self, bytes: &[u8]) {
        let Self { reader, wanted, found, is_malformed } = self;
        if !*is_malformed {
            *is_malformed = reader.read(bytes, &mut |path, told| note(wanted, found, path, told)).is_err();
        }
    }

    /// `None` where it was no JSON.
    pub fn found(self) -> Option<Found> {
        let Self { reader, wanted, mut found, is_malformed } = self;
        if is_malformed {
            return None;
        }
        reader.end(&mut |path, told| note(&wanted, &mut found, path, told)).ok()?;
        Some(found)
    }
}

fn note(wanted: &[String], found: &mut Found, path: &[Step], told: Told<'_>) {
    let fits = |(step, wanted): (&Step, &String)| match step {
        Step::Name(name) => name == wanted,
        Step::Index(index) => *wanted == index.to_string(),
        Step::Other => false,
    };
    if path.len() != wanted.len() || !path.iter().zip(wanted).all(fits) {
        return;
    }
    *found = match told {
        Told::Text(text) | Told::Number(text) => Found::Value(text.to_owned()),
        Told::Bool(is) => Found::Value(is.to_string()),
        Told::Null => Found::Nothing,
        Told::Object | Told::Array => Found::Part,
    };
}

#[cfg(test)]
mod tests;
