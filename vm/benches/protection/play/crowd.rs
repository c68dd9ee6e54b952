//! Clients from outside: each of them asks, waits for the answer and comes again, from one of 40 addresses. Those that ask
//! for reports are people: they wait a second after being turned away and a moment after an answer. The others come again after three.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use crate::Outcome;

const PATIENCE: i64 = 20;

pub fn come(users: &str, path: &str, seconds: &str) -> Outcome {
    let users: u32 = users.parse().map_err(|_| "users: a number")?;
    let seconds: u64 = seconds.parse().map_err(|_| "seconds: a number")?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let people = path == "/report";
    thread::scope(|scope| {
        for user in 0..users {
            let visit = move || {
                // A flood is there sooner; word of an offer takes longer to go round.
                let all_there = if people { 6_000 } else { 4_000 };
                thread::sleep(Duration::from_millis(u64::from(user) * all_there / u64::from(users)));
                while Instant::now() < end {
                    let answered = ask(user, path).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"));
                    thread::sleep(Duration::from_millis(match (people, answered) {
                        (true, true) => 200,
                        (true, false) => 1_000,
                        (false, _) => 3_000,
                    }));
                }
            };
            if let Err(error) = thread::Builder::new().stack_size(32 << 10).spawn_scoped(scope, visit) {
                eprintln!("no thread: {error}");
            }
        }
    });
    Ok(())
}

fn ask(user: u32, path: &str) -> std::io::Result<Vec<u8>> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(PATIENCE, 0))?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    let from = 2 + u8::try_from(user % 40).unwrap_or(0);
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, from, 0))?;
    connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 8080))?;
    let mut stream = TcpStream::from(fd);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: town\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
