//! The snapshot and the audit trail over HTTP, on a thread of its own: TCP for whoever looks, the admin socket for
//! whoever may change something. It reads the board and tells the inbox; it never touches the policy, a control or the
//! loop, and a client can neither hold its seats nor make it allocate without bound.
//!
//! What is bounded: the size of a head and of a body, the time to send them, the life of a connection, the connections
//! of each way in (a newcomer takes the seat of whoever has been idle longest), the event streams and their life.
//! Deliberately absent: TLS and compression. A page of metrics is 25 kB on loopback; whoever needs either has a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::config::settings;
use crate::events::Log;
use crate::inbox::Door;
use crate::status::Board;
use crate::telemetry::Telemetry;

mod answer;
mod connection;
mod credential;
mod drill;
mod gate;
mod headroom;
mod health;
mod listen;
mod metrics;
mod node;
mod problem;
mod routes;
mod seats;
pub mod shape;
mod site;
mod stream;
mod summary;

pub use metrics::exported_name;

/// Hyper's parser needs 30 kB in a debug build; only touched pages count.
const STACK_BYTES: usize = 512 * 1024;

/// A running server. Dropping it without [`Handle::stop`] ends it too, without waiting.
#[derive(Debug)]
pub struct Handle {
    address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Where TCP listens: the port that the kernel chose where the settings said 0.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Closes the listeners, removes the socket and waits for the thread.
    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().ok();
    }
}

/// Binds both listeners, then serves them until the handle is stopped.
///
/// # Errors
/// A sentence that says what could not be bound and what to try.
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
    let group = listen::admin_group();
    let admin = listen::admin(&settings.socket, group)?;
    let tcp = settings.listen.map(listen::tcp).transpose()?;
    let address = tcp.as_ref().map(std::net::TcpListener::local_addr).transpose().map_err(|e| e.to_string())?;
    let listeners = {
        let _inside = runtime.enter();
        connection::Listeners::new(tcp, admin).map_err(|error| format!("cannot wait for connections: {error}"))?
    };
    let gate = gate::Gate::new(settings, group);
    let site = site::Site::new(board, log, telemetry, door);
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("http".into())
        .stack_size(STACK_BYTES)
        .spawn(move || runtime.block_on(connection::serve(listeners, Arc::new(site), Arc::new(gate), stopped)))
        .map_err(|error| format!("cannot start the HTTP thread: {error}"))?;
    Ok(Handle { address, stop, thread })
}
