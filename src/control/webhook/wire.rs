//! One event, one request, one connection: what came of it, and whether it is worth another try. Everything is bounded by
//! the receiver's timeout; of an answer only the status counts, and no redirect is followed.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use tokio::time::{Instant, timeout, timeout_at};

use super::target::Webhook;
use crate::control::exchange::{Connection, Message, authorized};
use crate::control::failure::Failure;
use crate::control::secret;
use crate::control::stream::Stream;
use crate::control::trust::{self, Expected};

/// Of a receiver's words nothing is used; reading a little lets it end in peace.
const ANSWER_BYTES: usize = 64 << 10;
const ANSWER_PATIENCE: Duration = Duration::from_millis(200);

/// What is posted.
pub struct Letter {
    /// The same each time that it is tried, so that a receiver can tell it has it already.
    pub id: String,
    pub body: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undelivered {
    pub failure: Failure,
    pub again: Again,
}

/// Whether the same may come through later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// Nobody was reached: as long as it takes.
    Always,
    /// The receiver has had it, or a part of it: a few times, for it may be this event that it cannot take.
    Sometimes,
    /// It said no.
    Never,
}

/// Connects and sends nothing.
pub async fn reach(target: &Webhook) -> Result<(), Failure> {
    token(target)?;
    dial(target, Instant::now() + target.timeout.min(crate::control::DEADLINE)).await.map(drop)
}

pub async fn post(target: &Webhook, letter: Letter) -> Result<(), Undelivered> {
    let until = Instant::now() + target.timeout;
    let unsent = |failure| Undelivered { failure, again: Again::Always };
    let request = request(target, letter).map_err(unsent)?;
    let stream = dial(target, until).await.map_err(unsent)?;
    let answered = timeout_at(until, exchange(stream, request)).await;
    let place = target.place();
    let sometimes = |failure| Err(Undelivered { failure, again: Again::Sometimes });
    match answered {
        Ok(Ok(status)) => judge(&place, status),
        Ok(Err(error)) if error.is_parse() || error.is_parse_too_large() => {
            sometimes(Failure::unsupported(format!("the program at {place} does not speak HTTP")))
        }
        Ok(Err(_)) => sometimes(Failure::timed_out(format!("{place} hung up without an answer"))),
        Err(_) => sometimes(silent(target)),
    }
}

fn judge(place: &str, status: u16) -> Result<(), Undelivered> {
    let (again, advice) = match status {
        200..=299 => return Ok(()),
        300..=399 => (Again::Never, "redirects are not followed: give `url` the address that it leads to"),
        401 | 403 => (Again::Never, "check `token_file`"),
        408 | 425 | 429 | 500.. => (Again::Sometimes, "look into the receiver's log"),
        _ => (Again::Never, "is that the right path, and does it take this JSON?"),
    };
    Err(Undelivered { failure: Failure::refused(format!("{place} answers {status}: {advice}")), again })
}

fn request(target: &Webhook, letter: Letter) -> Result<Message, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(HOST, &target.host)
        .header(USER_AGENT, concat!("node-guardian/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .header("idempotency-key", letter.id);
    let request = authorized(request, token(target)?.as_deref()).body(Full::new(Bytes::from(letter.body)));
    request.map_err(|_| Failure::unsupported(format!("{} cannot be asked for: check `url`", target.place())))
}

fn token(target: &Webhook) -> Result<Option<String>, Failure> {
    target.token_file.as_deref().map(fit_token).transpose()
}

fn fit_token(file: &Path) -> Result<String, Failure> {
    let (token, shown) = (secret::token(file)?, file.display());
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(token) } else { Err(Failure::refused(format!("{shown} holds no token: write one line"))) }
}

async fn dial(target: &Webhook, until: Instant) -> Result<Stream, Failure> {
    let stream = Stream::dial("the receiver", &target.address, until, || silent(target)).await?;
    if target.token_file.is_some() {
        trust::check(&stream, &target.address, Expected::listener(target.listener))?;
    }
    Ok(stream)
}

fn silent(target: &Webhook) -> Failure {
    let (place, milliseconds) = (target.place(), target.timeout.as_millis());
    Failure::timed_out(format!("no answer from {place} within {milliseconds} ms: is the receiver stuck?"))
}

/// The status.
async fn exchange(stream: Stream, message: Message) -> hyper::Result<u16> {
    let connection = Connection::over(stream).await?;
    let exchanged = connection.ask(message, async |response| {
        let status = response.status().as_u16();
        let mut rest = Limited::new(response.into_body(), ANSWER_BYTES);
        // Whatever it goes on to say, or not, it has answered. Nothing of it is kept, since each frame has a whole buffer.
        let heard_out = async { while rest.frame().await.is_some_and(|frame| frame.is_ok()) {} };
        timeout(ANSWER_PATIENCE, heard_out).await.ok();
        Ok(status)
    });
    exchanged.await.map(|(status, _)| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_says_no_is_not_asked_again() {
        let again = |status| judge("http://r/", status).map_err(|undelivered| undelivered.again);
        assert_eq!((again(200), again(204)), (Ok(()), Ok(())));
        for status in [301, 308, 400, 401, 404, 413] {
            assert_eq!(again(status), Err(Again::Never), "{status}");
        }
        for status in [408, 429, 500, 503, 599] {
            assert_eq!(again(status), Err(Again::Sometimes), "{status}");
        }
    }

    #[test]
    fn a_token_is_one_line_of_plain_letters() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(fit_token(&file).unwrap_err().detail.contains("cannot read the token file"));
        for (written, read) in [("abc\n", Some("abc")), ("", None), ("a\r\nX-Evil: 1", None)] {
            std::fs::write(&file, written).unwrap();
            assert_eq!(fit_token(&file).ok().as_deref(), read);
        }
    }
}
