//! Many clients at once that all behave: none of them holds up a probe or an operator, and all together take no core.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::house::{House, exchange};
use crate::support::node::{Daemon, Node};

/// Connections that always have many requests on their way, until dropped.
struct Crowd {
    enough: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    readers: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn of(readers: usize, address: SocketAddr, path: &str) -> Self {
        let (enough, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let batch = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(50);
        let read = |_| {
            let (enough, bytes, batch) = (Arc::clone(&enough), Arc::clone(&bytes), batch.clone());
            std::thread::spawn(move || {
                while !enough.load(Ordering::SeqCst) {
                    let Ok(stream) = TcpStream::connect(address) else { continue };
                    read_until(stream, &batch, &enough, &bytes);
                }
            })
        };
        let crowd = Self { readers: (0..readers).map(read).collect(), enough, bytes };
        let until = Instant::now() + Duration::from_secs(45);
        while crowd.served() < 200_000 {
            assert!(Instant::now() < until, "the crowd is not served at all");
            std::thread::sleep(Duration::from_millis(5));
        }
        crowd
    }

    fn served(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::SeqCst);
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
    }
}

fn read_until(mut stream: TcpStream, batch: &str, enough: &AtomicBool, bytes: &AtomicU64) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut chunk = vec![0; 64 * 1024];
    let mut pending = 0;
    while !enough.load(Ordering::SeqCst) {
        // The rest of a batch that did not fit whole would be garbage without what came before it.
        while pending < batch.len() {
            match stream.write(&batch.as_bytes()[pending..]) {
                Ok(length) => pending += length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(_) => return,
            }
        }
        pending %= batch.len();
        match stream.read(&mut chunk) {
            Ok(length @ 1..) => _ = bytes.fetch_add(length as u64, Ordering::SeqCst),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn probe(address: SocketAddr) -> u16 {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    exchange(stream, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status
}

fn ticking() -> (Node, Daemon, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = Node::listening("", &free.to_string());
    let daemon = node.start();
    (node, daemon, free)
}

/// Seconds of computing of one of its threads.
fn computed(daemon: &Daemon, thread: &str) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let stat = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let stat = stat.into_iter().find(|stat| stat.contains(&format!("({thread})"))).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn a_probe_waits_for_none_of_sixty_who_pipeline() {
    let (_node, daemon, address) = ticking();
    for path in ["/status", "/livez", "/metrics"] {
        let crowd = Crowd::of(60, address, path);
        let mut took: Vec<Duration> = (0..40)
            .map(|_| {
                let began = Instant::now();
                assert_eq!(probe(address), 200, "a probe is lost among readers of {path}");
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        println!("{path}: probes took {:?} in the median, {:?} at most; {} bytes", took[20], took[39], crowd.served());
        // Other tests have the cores too: half of them tells what the server does.
        assert!(took[20] < Duration::from_millis(100), "{path}: {took:?}");
        let until = Instant::now() + Duration::from_secs(20);
        let before = crowd.served();
        while crowd.served() == before {
            assert!(Instant::now() < until, "readers of {path} are not served any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn readers_take_a_part_of_a_core_and_no_more() {
    let (_node, daemon, address) = ticking();
    let _crowd = Crowd::of(100, address, "/status");
    let (before, began) = (computed(&daemon, "http"), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let share = (computed(&daemon, "http") - before) / began.elapsed().as_secs_f64();
    println!("{share:.2} of a core");
    // Without optimizing, what is not counted weighs more.
    assert!(share < 0.6, "{share:.2} of a core");
}

#[test]
fn more_clients_than_seats_lose_no_probe() {
    let house = House::open();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, house.tcp.port()));
    let _crowd = Crowd::of(200, address, "/status");
    for _ in 0..20 {
        assert_ne!(probe(address), 0, "a probe is lost");
    }
}

#[test]
fn event_streams_of_the_port_leave_the_admin_socket_its_own() {
    let house = House::open();
    let follow = b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    let begin = |mut stream: Box<dyn ReadWrite>| {
        stream.write_all(follow).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        (String::from_utf8(first.to_vec()).unwrap(), stream)
    };
    let tcp = || begin(Box::new(TcpStream::connect(house.tcp).unwrap()));
    let streams: Vec<_> = (0..8).map(|_| tcp()).collect();
    assert!(streams.iter().all(|(head, _)| head == "HTTP/1.1 200"));
    assert_eq!(tcp().0, "HTTP/1.1 503");
    let (admin, _open) = begin(Box::new(UnixStream::connect(&house.socket).unwrap()));
    assert_eq!(admin, "HTTP/1.1 200");
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}
