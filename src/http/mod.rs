//! The snapshot and the audit trail over HTTP, on a thread of its own: TCP for whoever looks, the admin socket for
//! whoever may change something. It reads the board and tells the inbox; it never touches the policy, a control or the
//! loop, and a client can neither hold its seats nor make it allocate without bound.
//!
//! What is bounded: the size of a head and of a body, the time to send them, the life of a connection, the connections
//! of each way in (a newcomer takes the seat of whoever has been idle longest), the event streams of each and their life,
//! what answering over TCP may compute. Probes come first, and each page is made once per tick however many ask.
//! Deliberately absent: TLS and compression. A page of metrics is 25 kB on loopback; whoever needs either has a proxy.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::config::settings;
use crate::events::Log;
use crate::inbox::Door;
use crate::status::Board;
use crate::telemetry::Telemetry;

mod answer;
mod asked;
mod attention;
mod chosen;
mod connection;
mod credential;
mod drill;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed;
mod gate;
mod guesses;
mod headroom;
mod health;
mod inherited;
mod listen;
mod metrics;
mod node;
mod opening;
mod orders;
mod problem;
mod pulse;
mod rendered;
mod routes;
mod scans;
mod seats;
pub mod shape;
mod site;
mod stream;
mod summary;
mod turns;
mod via;

pub use metrics::exported_name;
pub use routes::ROUTES;

/// Hyper's parser needs 30 kB in a debug build; only touched pages count.
const STACK_BYTES: usize = 512 * 1024;

/// A client that reads slowly is not waited for.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running server. Dropping it without [`Handle::stop`] ends it too, without waiting.
#[derive(Debug)]
pub struct Handle {
    opened: mpsc::Receiver<Option<SocketAddr>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Where TCP listens: the port that the kernel chose where the settings said 0. Waits for the first try; to be asked
    /// once.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.opened.recv().ok().flatten()
    }

    /// Closes the listeners, removes the socket and waits for the thread, but not for long.
    pub fn stop(self) {
        drop(self.stop);
        let until = Instant::now() + FAREWELL;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Opens both listeners and serves them until the handle is stopped. Returns at once: whatever is in the way of a listener
/// is told to the loop.
///
/// # Errors
/// When the system gives no thread or descriptor.
pub fn serve(
    settings: &settings::Http,
    board: Arc<Board>,
    log: Arc<Log>,
    telemetry: Arc<Telemetry>,
    door: Door,
) -> Result<Handle, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|error| format!("cannot start the HTTP runtime: {error}"))?;
    let settings = settings.clone();
    let (told, opened) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let serve = move || {
        let site = Arc::new(site::Site::new(board, log, telemetry, door.clone()));
        // The group is looked up here, since a directory service may take its time.
        let ways = opening::Ways::new(&settings, door, told);
        runtime.block_on(connection::serve(ways, site, stopped));
    };
    let thread = std::thread::Builder::new()
        .name("http".into())
        .stack_size(STACK_BYTES)
        .spawn(serve)
        .map_err(|error| format!("cannot start the HTTP thread: {error}"))?;
    Ok(Handle { opened, stop, thread })
}
