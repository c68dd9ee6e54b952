//! The service that is protected: it holds 145 MB, asks a Redis, writes an order record for each checkout and syncs it, and
//! makes reports that need memory and time.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{burn, touch};
use crate::Outcome;

pub const LISTEN: &str = "127.0.0.1:8000";
const RECORDS: &str = "/var/lib/shop/orders";
const REDIS: &str = "/run/redis/redis-server.sock";
const HELD: usize = 145 << 20;
const REPORT: usize = 8 << 20;
/// What the cache holds: 48 MiB.
const KEYS: u64 = 760;
const VALUE: usize = 64 << 10;

struct Shop {
    /// The catalogue: each request reads a few pages of it, so that a part that was swapped out is felt.
    held: Mutex<Vec<u8>>,
    orders: File,
    count: AtomicU64,
}

pub fn serve() -> Outcome {
    let text = |error: std::io::Error| error.to_string();
    let mut held = vec![0; HELD];
    touch(&mut held);
    let orders = OpenOptions::new().create(true).append(true).open(RECORDS).map_err(text)?;
    let shop = Arc::new(Shop { held: Mutex::new(held), orders, count: AtomicU64::new(0) });
    for stream in TcpListener::bind(LISTEN).map_err(text)?.incoming() {
        let shop = Arc::clone(&shop);
        let talk = move || {
            if let Ok(stream) = stream {
                shop.talk(&stream);
            }
        };
        // A thread that cannot be had costs this connection, not the service.
        if let Err(error) = thread::Builder::new().stack_size(64 << 10).spawn(talk) {
            eprintln!("no thread: {error}");
        }
    }
    Ok(())
}

impl Shop {
    fn talk(&self, stream: &TcpStream) {
        let mut lines = BufReader::new(stream);
        let mut cache = None;
        while let Some(path) = request(&mut lines) {
            let (status, body) = match self.answer(&path, &mut cache) {
                Ok(body) => ("200 OK", body),
                Err(error) => ("500 Internal Server Error", error.to_string()),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if (&*stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, path: &str, cache: &mut Option<UnixStream>) -> std::io::Result<String> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let found = ask(cache, number % KEYS)?;
        self.browse(number);
        match path {
            "/checkout" => {
                burn(Duration::from_millis(2));
                (&self.orders).write_all(format!("order {number:>10} {:->180}\n", "").as_bytes())?;
                self.orders.sync_data()?;
            }
            "/report" => {
                let mut report = vec![0; REPORT];
                touch(&mut report);
                burn(Duration::from_millis(5));
                thread::sleep(Duration::from_secs(8));
            }
            // One that waits for somebody else's answer.
            _ => thread::sleep(Duration::from_secs(4)),
        }
        Ok(format!("{number} {found}\n"))
    }

    fn browse(&self, number: u64) {
        let Ok(mut held) = self.held.lock() else { return };
        let mut at = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..32 {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let index = (at >> 16) as usize % HELD;
            held[index] = held[index].wrapping_add(1);
        }
    }
}

/// The path of the next request, without whatever follows it; nothing when the connection is over.
fn request(lines: &mut impl BufRead) -> Option<String> {
    let mut first = String::new();
    lines.read_line(&mut first).ok().filter(|&length| length > 0)?;
    loop {
        let mut header = String::new();
        lines.read_line(&mut header).ok().filter(|&length| length > 0)?;
        if header.trim().is_empty() {
            return first.split(' ').nth(1).map(str::to_owned);
        }
    }
}

/// Whether the cache has it; a cache that does not answer is the request's failure.
fn ask(cache: &mut Option<UnixStream>, key: u64) -> std::io::Result<bool> {
    if cache.is_none() {
        let stream = UnixStream::connect(REDIS)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        *cache = Some(stream);
    }
    let Some(stream) = cache.as_mut() else { return Ok(false) };
    let asked = exists(stream, key);
    if asked.is_err() {
        *cache = None;
    }
    asked
}

fn exists(stream: &mut UnixStream, key: u64) -> std::io::Result<bool> {
    stream.write_all(format!("STRLEN key{key}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut byte = [0; 64];
        match stream.read(&mut byte)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&byte[..n]),
        }
    }
    Ok(answer != b":0\r\n")
}

/// Fills the cache.
pub fn stock() -> Outcome {
    let fill = || -> std::io::Result<()> {
        let mut stream = UnixStream::connect(REDIS)?;
        let value = "x".repeat(VALUE);
        for first in (0..KEYS).step_by(20) {
            let commands: String = (first..first + 20)
                .map(|key| {
                    format!("*3\r\n$3\r\nSET\r\n${}\r\nkey{key}\r\n${VALUE}\r\n{value}\r\n", format!("key{key}").len())
                })
                .collect();
            stream.write_all(commands.as_bytes())?;
            stream.read_exact(&mut [0; 100])?;
        }
        Ok(())
    };
    fill().map_err(|error| format!("the cache cannot be filled: {error}"))
}
