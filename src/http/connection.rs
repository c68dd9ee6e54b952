//! From a listener to a request: seats, time limits and size limits. What a request means is in `routes`.

use std::convert::Infallible;
use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::credential::Peer;
use super::gate::Gate;
use super::guesses::Ends;
use super::opening::{AdminWay, Ways};
use super::problem::Problem;
use super::routes;
use super::seats::{Room, Seated, Seats};
use super::site::Site;
use super::turns::{self, Turns};
use super::via::{Actor, Via};

/// Twice the 64 clients that the figures are measured with; about 22 kB each when busy.
const TCP_SEATS: usize = 128;
/// Its own, so that nobody on TCP can lock an operator out.
const ADMIN_SEATS: usize = 16;

/// For a whole head, and for the pause between two requests of one connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For the body of a request and its answer.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Then the connection is asked to close, and a little later it is closed.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
const CLOSING_TIME: Duration = Duration::from_secs(10);

/// The least that hyper takes; a longer head is answered with 431.
const HEAD_BYTES: usize = 8 * 1024;
const MOST_HEADERS: usize = 64;

/// When the kernel gives no descriptor, so that a full table is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Welcoming somebody and answering a probe takes 60 µs: so many between two breaths take half a core at most, however many
/// come anew for each request. Among 64 of those a probe waits for four breaths.
const WELCOMED_AT_ONCE: u32 = 16;
/// The runtime's timer wakes a millisecond later than that.
const BREATH: Duration = Duration::from_millis(1);

/// Until it is stopped. The first look at both ways in is over when `opened` hears where TCP listens.
pub async fn serve(ways: Ways, site: Arc<Site>, stopped: oneshot::Receiver<()>) {
    let gate = Arc::new(Gate::new(&ways.settings, ways.group, ways.door.clone()));
    let turns = Arc::new(Turns::new());
    let entry = |seats| Entry {
        seats: Seats::new(seats),
        router: routes::router(&site),
        site: Arc::clone(&site),
        gate: Arc::clone(&gate),
        turns: Arc::clone(&turns),
    };
    let (admin, tcp) = ways.open();
    tokio::select! {
        () = entry(ADMIN_SEATS).admin(admin) => {}
        () = entry(TCP_SEATS).tcp(tcp) => {}
        _ = stopped => {}
    }
}

pub(super) struct Entry {
    pub(super) seats: Arc<Seats>,
    pub(super) router: Router,
    pub(super) site: Arc<Site>,
    pub(super) gate: Arc<Gate>,
    pub(super) turns: Arc<Turns>,
}

impl Entry {
    async fn tcp(self, way: impl Future<Output = TcpListener>) {
        let listener = way.await;
        let mut breath = Breath::new();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    stream.set_nodelay(true).ok();
                    let Ok(ours) = stream.local_addr() else { continue };
                    let urgent = |stream: &TcpStream| Turns::begins_at_once(&first_bytes(stream));
                    if self.welcome(stream, Via::Tcp(Ends { peer, ours }), urgent) != Room::Free {
                        // Whoever has just come is to be heard before the next one takes its seat.
                        yield_now().await;
                    }
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
            // Whoever is answered or turned away may come back at once: then coming is what has to be slowed down.
            breath.take().await;
        }
    }

    async fn admin(self, mut way: AdminWay) {
        loop {
            // The file is there for as long as it is served.
            let (listener, file) = way.open().await;
            tokio::select! {
                () = way.watch(&file) => {}
                () = self.admin_guests(&listener) => {}
            }
        }
    }

    async fn admin_guests(&self, listener: &UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let peer = Peer::of(&stream);
                    self.welcome(stream, Via::Admin(peer), |_| true);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn welcome<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        via: Via,
        is_urgent: impl FnOnce(&S) -> bool,
    ) -> Room {
        let room = self.seats.make_room(|| is_urgent(&stream));
        match room {
            Room::Free => {}
            Room::Made | Room::Taken => self.site.tallies.turned_away.increment(1),
            Room::None => {
                self.site.tallies.turned_away.increment(1);
                return room;
            }
        }
        let guest = self.guest(via);
        let pulse = Arc::clone(&guest.seated.pulse);
        let task = tokio::spawn(guest.stay(stream));
        self.seats.seat(pulse, task.abort_handle());
        room
    }

    pub(super) fn guest(&self, via: Via) -> Guest {
        let (site, gate) = (Arc::clone(&self.site), Arc::clone(&self.gate));
        Guest {
            via,
            seated: self.seats.guard(),
            router: self.router.clone(),
            site,
            gate,
            turns: Arc::clone(&self.turns),
        }
    }
}

/// A pause after so many who came within a moment.
struct Breath {
    began: Instant,
    welcomed: u32,
}

impl Breath {
    fn new() -> Self {
        Self { began: Instant::now(), welcomed: 0 }
    }

    async fn take(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.began) >= BREATH {
            *self = Self { began: now, welcomed: 0 };
        }
        self.welcomed += 1;
        if self.welcomed >= WELCOMED_AT_ONCE {
            sleep(BREATH).await;
        }
    }
}

/// Of what somebody sent already; it stays where it is.
fn first_bytes(stream: &TcpStream) -> [u8; 16] {
    let mut bytes = [0; 16];
    // Whoever says nothing is not urgent.
    recv(stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).ok();
    bytes
}

pub(super) struct Guest {
    via: Via,
    seated: Seated,
    router: Router,
    site: Arc<Site>,
    gate: Arc<Gate>,
    turns: Arc<Turns>,
}

impl Guest {
    pub(super) async fn stay<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(|request| self.answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .max_headers(MOST_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // How a connection ends is the client's business: a reset or a timeout is nothing to report.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = sleep(CONNECTION_LIFE) => {
                connection.as_mut().graceful_shutdown();
                timeout(CLOSING_TIME, connection).await.ok();
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let waited = self.take_turn(&request).await;
        let began = turns::computed();
        self.seated.pulse.works();
        let response = match self.gate.admit(&self.via, &request) {
            Err(problem) => problem.at(request.uri().path()).into_response(),
            Ok(()) => route(self.router.clone(), self.signed(request.map(Body::new))).await,
        };
        self.site.tallies.answered(&self.via, response.status());
        if waited {
            self.turns.done(began);
        }
        self.seated.pulse.waits();
        Ok(response)
    }

    /// Whether it had to. Those who may open the admin socket are trusted not to flood it, and an operator waits for no reader.
    async fn take_turn(&self, request: &Request<Incoming>) -> bool {
        let pipelined = self.seated.pulse.was_just_answered();
        if pipelined {
            yield_now().await;
        }
        let waits = matches!(self.via, Via::Tcp(_)) && (pipelined || !Turns::is_at_once(request));
        if waits {
            self.seated.pulse.queues();
            self.turns.wait().await;
        }
        waits
    }

    /// With who asks, where that may change something.
    fn signed(&self, mut request: Request<Body>) -> Request<Body> {
        if *request.method() == Method::POST {
            request.extensions_mut().insert(Actor::of(&self.via));
        }
        request
    }
}

/// Only requests that bring a body can take time: everything else is answered from memory.
async fn route(mut router: Router, request: Request<Body>) -> Response<Body> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return call(&mut router, request).await;
    }
    match timeout(REQUEST_TIME, call(&mut router, request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took longer than 10 s to arrive").into_response()
        }
    }
}

async fn call(router: &mut Router, request: Request<Body>) -> Response<Body> {
    let ready = poll_fn(|context| Service::<Request<Body>>::poll_ready(router, context)).await;
    match ready {
        Ok(()) => router.call(request).await.unwrap_or_else(|never| match never {}),
        Err(never) => match never {},
    }
}
