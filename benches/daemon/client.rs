//! Just enough HTTP to ask the daemon, and to keep many connections busy with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(port: u16) -> Result<Self, String> {
        let open = || {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(Self(BufReader::new(stream)))
        };
        open().map_err(|error: std::io::Error| format!("cannot connect to port {port}: {error}"))
    }

    pub fn ask(&mut self, path: &str) -> Result<(), String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).map_err(|error| format!("GET {path}: {error}"))
    }

    pub fn answer(&mut self) -> Result<String, String> {
        let mut read = || {
            let (mut line, mut length) = (String::new(), 0);
            while self.0.read_line(&mut line)? > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body)?;
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        read().map_err(|error: std::io::Error| format!("the answer broke off: {error}"))
    }
}

pub fn get(port: u16, path: &str) -> Result<String, String> {
    let mut connection = Connection::open(port)?;
    connection.ask(path)?;
    connection.answer()
}

/// So many requests over so many connections that are open at once: mostly of health, some of what a scraper and a person
/// ask for.
pub fn crowd(port: u16, requests: usize, connections: usize) -> Result<(), String> {
    let mut open = (0..connections).map(|_| Connection::open(port)).collect::<Result<Vec<_>, _>>()?;
    for round in 0..requests.div_ceil(connections) {
        let path = ["/metrics", "/status", "/rules"].get(round % 10).unwrap_or(&"/health");
        open.iter_mut().try_for_each(|connection| connection.ask(path))?;
        open.iter_mut().try_for_each(|connection| connection.answer().map(drop))?;
    }
    Ok(())
}
