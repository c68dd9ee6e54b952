//! A service to protect and clients that use it: HTTP over unix sockets, slow enough that requests overlap.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a request takes in the service.
const WORK: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Counts {
    busy: AtomicUsize,
    most_busy: AtomicUsize,
    pub served: AtomicUsize,
    pub refused: AtomicUsize,
    pub failed: AtomicUsize,
}

/// Clients that ask again as soon as they were answered.
pub struct Traffic {
    pub counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

/// Ends with the test's process.
pub fn serve(socket: &Path) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let listener = UnixListener::bind(socket).unwrap();
    let shared = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), counts) = (stream, Arc::clone(&shared)) else { return };
            std::thread::spawn(move || counts.work(stream));
        }
    });
    counts
}

impl Counts {
    fn work(&self, mut stream: UnixStream) {
        let mut request = [0; 2048];
        while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
            let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_busy.fetch_max(busy, Ordering::SeqCst);
            std::thread::sleep(WORK);
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

impl Traffic {
    pub fn start(socket: &Path, clients: usize, counts: Arc<Counts>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (socket, counts, over) = (socket.to_owned(), Arc::clone(&counts), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match request(&socket) {
                        Some(200) => counts.served.fetch_add(1, Ordering::SeqCst),
                        Some(503) => counts.refused.fetch_add(1, Ordering::SeqCst),
                        Some(_) | None => counts.failed.fetch_add(1, Ordering::SeqCst),
                    };
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { counts, over, clients }
    }

    /// How many requests were in the service at once, at most, while so many more were served.
    pub fn most_busy_over(&self, requests: usize) -> usize {
        // What was let in before a change may still be at work: let it finish.
        self.wait_for(40);
        self.counts.most_busy.store(0, Ordering::SeqCst);
        self.wait_for(requests);
        self.counts.most_busy.load(Ordering::SeqCst)
    }

    /// Percent of the next requests that are refused with 503.
    pub fn refused_percent_over(&self, requests: usize) -> f64 {
        // What was on its way before a change may still be answered as before it.
        let on_their_way = self.answered() + 40;
        super::eventually("requests are answered", || (self.answered() >= on_their_way).then_some(()));
        let before = (self.counts.served.load(Ordering::SeqCst), self.counts.refused.load(Ordering::SeqCst));
        super::eventually("requests are answered", || {
            (self.answered() - before.0 - before.1 >= requests).then_some(())
        });
        let refused = self.counts.refused.load(Ordering::SeqCst) - before.1;
        refused as f64 * 100.0 / (self.answered() - before.0 - before.1) as f64
    }

    pub fn stop(self) -> Arc<Counts> {
        self.over.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.counts
    }

    fn answered(&self) -> usize {
        self.counts.served.load(Ordering::SeqCst) + self.counts.refused.load(Ordering::SeqCst)
    }

    fn wait_for(&self, requests: usize) {
        let before = self.counts.served.load(Ordering::SeqCst);
        super::eventually("requests are served", || {
            (self.counts.served.load(Ordering::SeqCst) >= before + requests).then_some(())
        });
    }
}

fn request(socket: &Path) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
