//! Asks nginx's `stub_status` whether it answers: one request, one answer of bounded size, one deadline.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::target::Page;
use crate::control::DEADLINE;
use crate::control::address::Address;
use crate::control::failure::Failure;
use crate::control::http::HELLO;
use crate::control::said::clip;
use crate::control::stranger::{self, HTTP_SERVER};
use crate::control::stream::{Stream, text};

/// The answer has 250 bytes.
const ANSWER_BYTES: usize = 4096;

/// What it counts itself; the one that asks among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    pub active: u64,
    /// Since it was started.
    pub requests: u64,
}

pub async fn ask(page: &Page) -> Result<Counts, Failure> {
    let shown = show(page);
    let until = Instant::now() + DEADLINE;
    let silent = || {
        Failure::timed_out(format!(
            "no answer from nginx on {shown} within {} ms: is it stopped, or are all its workers busy?",
            DEADLINE.as_millis()
        ))
    };
    let stream = Stream::dial("nginx", &page.address, until, silent).await?;
    let answer = timeout_at(until, fetch(stream, page, &shown)).await.map_err(|_| silent())??;
    let Some(counts) = counts(&answer) else {
        let first = clip(answer.lines().next().unwrap_or_default());
        let told = format!("{shown} answers `{first}`: write `stub_status;` in that location of nginx.conf");
        return Err(stranger::instead(Failure::unsupported(told), &page.address, HELLO, HTTP_SERVER).await);
    };
    Ok(counts)
}

/// HTTP/1.0 by hand: a node that has no other use for the library of HTTP keeps none of it in memory.
async fn fetch(mut stream: Stream, page: &Page, shown: &str) -> Result<String, Failure> {
    let broken = |error| Failure::unreachable(format!("nginx hung up on {shown}: {error}"));
    let request = format!("GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n", page.path);
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    stream.take(ANSWER_BYTES as u64).read_to_end(&mut answer).await.map_err(broken)?;
    Ok(text(answer))
}

fn show(page: &Page) -> String {
    match &page.address {
        Address::Unix(socket) => format!("http://unix:{}:{}", socket.display(), page.path),
        Address::Tcp(address) => format!("http://{address}{}", page.path),
    }
}

fn counts(answer: &str) -> Option<Counts> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if head.split(' ').nth(1)? != "200" {
        return None;
    }
    let mut lines = body.lines();
    let active = lines.next()?.strip_prefix("Active connections:")?.trim().parse().ok()?;
    // `server accepts handled requests`, then these three.
    let requests = lines.nth(1)?.split_ascii_whitespace().nth(2)?.parse().ok()?;
    Some(Counts { active, requests })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_stub_status_tells_its_connections() {
        let body =
            "Active connections: 3 \nserver accepts handled requests\n 5 5 7 \nReading: 0 Writing: 1 Waiting: 0 \n";
        let told = Counts { active: 3, requests: 7 };
        assert_eq!(counts(&format!("HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n{body}")), Some(told));
        assert_eq!(counts(&format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}")), None);
        assert_eq!(counts("HTTP/1.1 200 OK\r\n\r\n<html>"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in "(?s).{0,300}") {
            prop_assert!(counts(&answer).is_none_or(|told| answer.contains(&told.active.to_string()) || answer.contains('0')));
        }
    }
}
