//! Which program it is that answers where another was expected: by the first bytes that it says, and where it says nothing,
//! by what it says to an offer of TLS. Only for the words of a failure: nothing is ever done by it.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::address::Address;
use super::failure::Failure;
use super::stream::{Stream, place};

/// On the node, or next to it.
const ANSWERS_WITHIN: Duration = Duration::from_millis(150);

/// A program by what it says, and what to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    program: &'static str,
    advice: &'static str,
}

impl Name {
    /// Whether it is what was expected.
    pub fn is(self, service: &str) -> bool {
        self.program == service
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program, self.advice)
    }
}

const ANOTHER: &str = "another service's address: correct this control's";

/// As they are called here.
pub const JSON_SPEAKER: &str = "a program that speaks JSON";
pub const HTTP_SERVER: &str = "a server of HTTP";

const fn other(program: &'static str) -> Name {
    Name { program, advice: ANOTHER }
}

const TLS: Name = Name {
    program: "TLS",
    advice: "this port is encrypted, which the guardian does not speak: give it one that is not, on loopback or a unix socket",
};
const BINARY_MEMCACHED: Name = Name {
    program: "memcached with its binary protocol alone (SASL, `-S` or `-B binary`)",
    advice: "give it a unix socket without: `-s /run/memcached/memcached.sock -a 0660`",
};

/// How a program begins what it says.
const BEGINNINGS: [(&[u8], Name); 24] = [
    (b"\x15\x03", TLS),
    (b"\x16\x03", TLS),
    (b"\x81", BINARY_MEMCACHED),
    (b"HTTP/1.", Name { program: HTTP_SERVER, advice: "a control of kind `http`, or another address, is for that" }),
    (b"SSH-", other("a server of SSH")),
    (b"220 ", other("a server of mail or FTP")),
    (b"220-", other("a server of mail or FTP")),
    (b"+OK ", other("a server of mail")),
    (b"* OK", other("a server of mail")),
    (b"-ERR", other("Redis")),
    (b"-NOAUTH", other("Redis")),
    (b"-DENIED", other("Redis")),
    (b"+PONG", other("Redis")),
    (b"ERROR\r\n", other("memcached")),
    (b"CLIENT_ERROR", other("memcached")),
    (b"STAT ", other("memcached")),
    (b"Unknown command", other("HAProxy")),
    (b"Permission denied", other("HAProxy")),
    (b"\n> ", other("HAProxy")),
    (b"AMQP", other("RabbitMQ")),
    (b"RFB ", other("a server of VNC")),
    (b"{\"", other(JSON_SPEAKER)),
    (b"<", other("a program that speaks XML or HTML")),
    (b"\x00\x00", other("a server of HTTP/2")),
];

/// `None` where these bytes are nobody's that is known.
pub fn name(first: &[u8]) -> Option<Name> {
    let begins = |(beginning, _): &&(&[u8], Name)| first.starts_with(beginning);
    if is_varnish(first) {
        return Some(other("Varnish"));
    }
    // Length, number of the packet, version of the protocol (MySQL's greeting).
    if first.len() > 5 && first[3..5] == [0, 10] {
        return Some(other("MySQL or MariaDB"));
    }
    BEGINNINGS.iter().find(begins).map(|(_, name)| *name)
}

/// Of one that says nothing in the clear.
pub async fn asked(address: &Address) -> Option<Name> {
    let hello = heard(address, &client_hello()).await;
    if let Some(TLS) = hello.as_deref().and_then(name) {
        return Some(TLS);
    }
    let noop = [&[0x80, 0x0a][..], &[0; 22]].concat();
    let known = heard(address, &noop).await;
    known.as_deref().and_then(name).filter(|name| *name == BINARY_MEMCACHED)
}

/// The failure, unless it is TLS that is spoken there.
pub async fn unless_tls(failure: Failure, address: &Address) -> Failure {
    match asked(address).await {
        Some(name) if name == TLS => Failure::unsupported(format!("{} answers as {name}", place(address))),
        Some(_) | None => failure,
    }
}

/// Of one that did not understand this request, or hung up on it.
pub async fn met(address: &Address, request: &[u8]) -> Option<Name> {
    match heard(address, request).await.as_deref().and_then(name) {
        Some(name) => Some(name),
        None => asked(address).await,
    }
}

/// The failure, unless another program is known to be there.
pub async fn instead(failure: Failure, address: &Address, request: &[u8], service: &str) -> Failure {
    match met(address, request).await.filter(|name| !name.is(service)) {
        Some(name) => Failure::unsupported(format!("{} answers as {name}, not as {service}", place(address))),
        None => failure,
    }
}

async fn heard(address: &Address, said: &[u8]) -> Option<Vec<u8>> {
    let talk = async {
        let mut stream = Stream::connect(address).await.ok()?;
        stream.write_all(said).await.ok()?;
        let mut first = [0; 64];
        let length = stream.read(&mut first).await.ok()?;
        Some(first[..length].to_vec())
    };
    timeout(ANSWERS_WITHIN, talk).await.ok().flatten()
}

/// Status, length, line end (varnish-cli(7)).
fn is_varnish(first: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ');
    first.len() >= 13 && digits(&first[..12]) && first[..3].iter().all(u8::is_ascii_digit) && first[12] == b'\n'
}

/// The least that TLS 1.2 and 1.3 answer: no name, no session, one common suite of each.
fn client_hello() -> Vec<u8> {
    let suites: [u8; 8] = [0x13, 0x01, 0xc0, 0x2f, 0xc0, 0x2b, 0x00, 0x2f];
    let mut body = vec![3, 3];
    body.extend([0x47; 32]);
    body.push(0);
    body.extend([0, 8]);
    body.extend(suites);
    body.extend([1, 0]);
    let length = |bytes: usize| u8::try_from(bytes).unwrap_or(u8::MAX);
    let mut hello = vec![0x16, 3, 1, 0, length(body.len() + 4), 1, 0, 0, length(body.len())];
    hello.extend(body);
    hello
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_program_is_known_by_how_it_begins() {
        let program = |first: &[u8]| name(first).map(|name| name.program);
        assert_eq!(program(b"107 59      \n"), Some("Varnish"));
        assert_eq!(program(b"\x15\x03\x03\x00\x02\x02\x46"), Some("TLS"));
        assert_eq!(program(b"J\x00\x00\x00\x0a8.0"), Some("MySQL or MariaDB"));
        assert_eq!(program(b"-ERR unknown command"), Some("Redis"));
        assert_eq!(program(b"HTTP/1.1 400 Bad Request\r\n"), Some("a server of HTTP"));
        assert_eq!((program(b""), program(b"hello")), (None, None));
    }

    proptest! {
        #[test]
        fn any_beginning_is_survived(first in proptest::collection::vec(any::<u8>(), 0..30)) {
            prop_assert!(name(&first).is_none_or(|name| !name.program.is_empty()));
        }
    }
}
