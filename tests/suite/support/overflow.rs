//! A listening port whose accept queue is full, and clients that come in vain: what the kernel counts is real.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};

/// A client whose request is dropped would send it again after a second.
const GIVES_UP_AFTER: Duration = Duration::from_millis(50);
/// More than any queue here holds.
const HELD: usize = 32;

/// Goes on until it is dropped.
pub struct Overflow {
    over: Arc<AtomicBool>,
    clients: Option<JoinHandle<()>>,
}

impl Overflow {
    pub fn at(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let come = move || {
            let mut held = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                match TcpStream::connect_timeout(&address, GIVES_UP_AFTER) {
                    Ok(client) if held.len() < HELD => held.push(client),
                    // Whoever serves here ended the first ones.
                    Ok(client) => held = vec![client],
                    Err(_) => {}
                }
            }
        };
        Self { over, clients: Some(std::thread::spawn(come)) }
    }
}

impl Drop for Overflow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.clients.take().into_iter().for_each(|clients| drop(clients.join()));
    }
}

/// Nobody accepts here, and two may wait.
pub fn full_listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    listener
}
