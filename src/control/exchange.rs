//! One way to ask over HTTP, for every control and for the command line: a connection that can be used again, and one
//! request on it with its answer. How long that may take and what is kept of an answer are the caller's to say.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::AUTHORIZATION;
use hyper::http::request::Builder;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::stream::Stream;

/// A head of an answer, and a piece of its body.
const PIECE_BYTES: usize = 16 << 10;
/// Lines of a head.
const MOST_HEADERS: usize = 64;

pub type Message = Request<Full<Bytes>>;

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Must be polled for anything to move.
    driver: Pin<Box<dyn Future<Output = ()>>>,
}

impl Connection {
    /// # Errors
    /// As of HTTP.
    pub(crate) async fn over(stream: Stream) -> hyper::Result<Self> {
        let mut client = http1::Builder::new();
        // Bounded in what it keeps while it reads.
        client.max_buf_size(PIECE_BYTES).max_headers(MOST_HEADERS);
        let (sender, connection) = client.handshake(TokioIo::new(stream)).await?;
        // What ended it is told to whoever waits for an answer.
        Ok(Self { sender, driver: Box::pin(async { drop(connection.await) }) })
    }

    pub(crate) async fn is_open(&mut self) -> bool {
        let is_over = poll_fn(|context| Poll::Ready(self.driver.as_mut().poll(context).is_ready())).await;
        !is_over && !self.sender.is_closed()
    }

    /// What is read of the answer. The connection comes back where it can be used again.
    ///
    /// # Errors
    /// As of HTTP, or of the reading.
    pub(crate) async fn ask<T, E: From<hyper::Error>>(
        self,
        message: Message,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
    ) -> Result<(T, Option<Self>), E> {
        let Self { mut sender, mut driver } = self;
        let (answer, is_over) = {
            let exchange = async {
                sender.ready().await?;
                read(sender.send_request(message).await?).await
            };
            let mut exchange = std::pin::pin!(exchange);
            tokio::select! {
                answer = &mut exchange => (answer?, false),
                // The connection may be over before the answer is taken out of it.
                () = &mut driver => (exchange.await?, true),
            }
        };
        Ok((answer, (!is_over).then_some(Self { sender, driver })))
    }
}

/// With the token, where there is one.
pub(crate) fn authorized(request: Builder, token: Option<&str>) -> Builder {
    match token {
        Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}
