//! As much of PostgreSQL's protocol 3.0 as a statement and its rows need. An answer is what `psql -At` shows: a line a
//! row, columns divided by `|`, and at last the statement's own word, `ALTER ROLE`. Who may log in is decided by the
//! operating system (`peer`): no password goes over this line.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Broken};
use crate::control::failure::Failure;
use crate::control::said::clip;
use crate::control::stream::{Stream, shown, text};
use crate::control::wire::KEPT_BYTES;

const VERSION: i32 = 3 << 16;
/// What it says of itself when somebody logs in.
const NOTICE_BYTES: usize = 16 << 10;
/// Of one message; of all that is kept the answer's bound.
const ROW_BYTES: usize = 64 << 10;
/// Type and length.
const HEAD: usize = 5;

struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// Ready for a statement afterwards.
pub async fn greet(stream: &mut Stream, user: &str, database: &str) -> Result<(), Broken> {
    let mut body = VERSION.to_be_bytes().to_vec();
    for word in ["user", user, "database", database, "application_name", "node-guardian", ""] {
        body.extend(word.as_bytes());
        body.push(0);
    }
    let mut packet = length(body.len());
    packet.extend(body);
    stream.write_all(&packet).await.map_err(|_| Broken::Closed)?;
    loop {
        let Message { kind, body } = receive(stream, NOTICE_BYTES).await?;
        match kind {
            b'R' if body.first_chunk() == Some(&[0; 4]) => {}
            b'R' => {
                return Err(told(format!(
                    "PostgreSQL asks {user} for a password; give it a line `local {database} {user} peer` in \
                     pg_hba.conf, above the others,"
                )));
            }
            b'E' => return Err(told(format!("PostgreSQL refuses {user}: {}", complaint(&body)))),
            b'Z' => return Ok(()),
            b'S' | b'K' | b'N' | b'A' => {}
            _ => return Err(garbage()),
        }
    }
}

pub async fn query(stream: &mut Stream, statement: &[u8]) -> Answer {
    let mut packet = vec![b'Q'];
    packet.extend(length(statement.len() + 1));
    packet.extend(statement);
    packet.push(0);
    stream.write_all(&packet).await.map_err(|_| Broken::Closed)?;
    let (mut answer, mut refused) = (String::new(), None);
    loop {
        let Message { kind, body } =
            receive(stream, (KEPT_BYTES - answer.len().min(KEPT_BYTES)).min(ROW_BYTES)).await?;
        match kind {
            b'D' => row(&body, &mut answer).ok_or_else(garbage)?,
            b'C' => {
                answer.push_str(&text(body.strip_suffix(b"\0").unwrap_or(&body).to_vec()));
                answer.push('\n');
            }
            b'E' => refused = Some(told(format!("PostgreSQL refuses it: {}", complaint(&body)))),
            b'Z' => return refused.map_or(Ok(answer), Err),
            b'T' | b'I' | b'S' | b'N' | b'A' => {}
            _ => return Err(garbage()),
        }
    }
}

async fn receive(stream: &mut Stream, most: usize) -> Result<Message, Broken> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.map_err(|_| Broken::Closed)?;
    let [kind, length @ ..] = head;
    let size = usize::try_from(i32::from_be_bytes(length)).ok().and_then(|length| length.checked_sub(4));
    let size = size.ok_or_else(garbage)?;
    if !kind.is_ascii_alphabetic() {
        return Err(garbage());
    }
    if size > most {
        return Err(Broken::TooLong);
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await.map_err(|_| Broken::Closed)?;
    Ok(Message { kind, body })
}

/// The length counts itself.
fn length(bytes: usize) -> Vec<u8> {
    i32::try_from(bytes + 4).unwrap_or(i32::MAX).to_be_bytes().to_vec()
}

fn row(body: &[u8], line: &mut String) -> Option<()> {
    let (count, mut rest) = body.split_first_chunk()?;
    for column in 0..u16::from_be_bytes(*count) {
        if column > 0 {
            line.push('|');
        }
        let (length, from) = rest.split_first_chunk()?;
        // NULL is of length -1, and shown as nothing.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        line.push_str(&text(from.get(..length)?.to_vec()));
        rest = &from[length..];
    }
    line.push('\n');
    Some(())
}

/// The message for people (`M`) of an error.
fn complaint(body: &[u8]) -> String {
    let message = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    clip(&shown(message.unwrap_or(b"it does not say why")))
}

fn told(what: String) -> Broken {
    Broken::Told(Failure::refused(what))
}

fn garbage() -> Broken {
    Broken::Told(Failure::unsupported("the program that answers does not speak PostgreSQL's protocol"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_is_a_line() {
        let body = [0, 3, 0, 0, 0, 2, b'-', b'1', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'x'];
        let mut line = String::new();
        assert_eq!((row(&body, &mut line), line.as_str()), (Some(()), "-1||x\n"));
        assert_eq!(row(&body[..body.len() - 1], &mut line), None);
    }

    #[test]
    fn an_error_is_told_in_its_own_words() {
        let body = b"SERROR\0VERROR\0C42501\0Mmust have CREATEROLE privilege\0\0";
        assert_eq!(complaint(body), "must have CREATEROLE privilege");
    }

    proptest! {
        #[test]
        fn any_row_is_survived(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut line = String::new();
            if row(&body, &mut line).is_some() {
                prop_assert!(line.len() <= body.len() + 1);
            }
            complaint(&body);
        }
    }
}
