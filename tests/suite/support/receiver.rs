//! A receiver of webhooks: a small real HTTP server that answers as the test wants it, and keeps what it was sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::eventually;

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Status(u16),
    /// These bytes, and then the line is cut.
    Bytes(&'static [u8]),
    /// The line stays open, and nothing comes.
    Silence,
    /// As much as it takes, and then some.
    Flood,
}

#[derive(Clone, Debug)]
pub struct Letter {
    /// `POST /hook HTTP/1.1`
    pub request: String,
    pub headers: Vec<(String, String)>,
    pub json: Value,
}

impl Letter {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn name(&self) -> &str {
        self.json["name"].as_str().unwrap()
    }
}

#[derive(Clone)]
pub struct Receiver {
    letters: Arc<Mutex<Vec<Letter>>>,
    connections: Arc<Mutex<usize>>,
    answer: Arc<Mutex<Answer>>,
    pub port: u16,
}

impl Receiver {
    pub fn start(answer: Answer) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// A port on which nobody listens.
    pub fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// Ends with the test's process.
    pub fn on(listener: TcpListener, answer: Answer) -> Self {
        let receiver = Self::new(listener.local_addr().unwrap().port(), answer);
        let mine = receiver.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| mine.take(stream)));
        receiver
    }

    pub fn on_socket(path: &Path, answer: Answer) -> Self {
        let (listener, receiver) = (UnixListener::bind(path).unwrap(), Self::new(0, answer));
        let mine = receiver.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| mine.take(stream)));
        receiver
    }

    fn new(port: u16, answer: Answer) -> Self {
        let (letters, connections, answer) = (Arc::default(), Arc::default(), Arc::new(Mutex::new(answer)));
        Self { letters, connections, answer, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn letters(&self) -> Vec<Letter> {
        self.letters.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.letters().iter().map(|letter| letter.name().to_owned()).collect()
    }

    /// Once there are as many.
    pub fn first(&self, count: usize) -> Vec<Letter> {
        eventually("letters arrive", || Some(self.letters()).filter(|letters| letters.len() >= count))
    }

    fn take(&self, stream: impl Read + Write + Send + 'static) {
        *self.connections.lock().unwrap() += 1;
        let mine = self.clone();
        std::thread::spawn(move || mine.serve(stream));
    }

    fn serve(&self, stream: impl Read + Write) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            Some(line.trim_end().to_owned())
        };
        let request = line()?;
        let mut headers = Vec::new();
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let json = serde_json::from_slice(&body).unwrap();
        let answer = *self.answer.lock().unwrap();
        self.letters.lock().unwrap().push(Letter { request, headers, json });
        let stream = stream.get_mut();
        match answer {
            Answer::Status(status) => {
                let to = if status / 100 == 3 { "Location: /elsewhere\r\n" } else { "" };
                let answer = format!("HTTP/1.1 {status} So\r\n{to}Content-Length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).ok()
            }
            Answer::Bytes(bytes) => stream.write_all(bytes).ok(),
            Answer::Silence => {
                // Until the other side hangs up.
                stream.read(&mut [0]).ok().map(drop)
            }
            Answer::Flood => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").ok()?;
                while stream.write_all(&[b'x'; 65536]).is_ok() {}
                None
            }
        }
    }
}
