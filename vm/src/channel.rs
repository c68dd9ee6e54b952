//! The host's end of the virtio port: a line of JSON and a body each way, one request at a time. The guest's end is
//! `guest/agent`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Serialize, Debug)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request<'a> {
    /// Seconds since 1970: a guest that was saved has slept since.
    Hello {
        time: f64,
    },
    Run {
        command: &'a str,
        seconds: f64,
    },
    Put {
        path: &'a str,
        size: usize,
    },
    Get {
        path: &'a str,
    },
}

#[derive(Deserialize, Debug, Default)]
pub struct Head {
    #[serde(default)]
    pub ready: bool,
    #[serde(default)]
    pub status: i32,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    size: usize,
}

#[derive(Debug)]
pub struct Channel {
    stream: BufReader<UnixStream>,
}

impl Channel {
    pub fn open(socket: &Path) -> std::io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    pub fn ask(&mut self, request: &Request<'_>, body: &[u8], patience: Duration) -> Result<(Head, Vec<u8>)> {
        let mut data = serde_json::to_vec(request).map_err(Error::while_doing("writing a request"))?;
        data.push(b'\n');
        data.extend_from_slice(body);
        let sent = self.stream.get_mut().write_all(&data);
        sent.map_err(Error::while_doing("sending to the guest"))?;
        let (head, answer) = self.hear(patience)?;
        if head.ready {
            return Err(Error::new(format!("the guest, or its agent, was restarted during {request:?}")));
        }
        match head.error {
            Some(why) => Err(Error::new(format!("the guest could not do {request:?}: {why}"))),
            None => Ok((head, answer)),
        }
    }

    /// The next answer, or the line that says that the guest has booted.
    pub fn hear(&mut self, patience: Duration) -> Result<(Head, Vec<u8>)> {
        let until = Instant::now() + patience;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            self.wait(until)?;
            match self.stream.read_until(b'\n', &mut line) {
                Ok(0) => return Err(Error::new("the guest is gone")),
                Err(error) if is_timeout(&error) => {}
                Ok(_) => {}
                Err(error) => return Err(Error::new(format!("reading from the guest: {error}"))),
            }
        }
        let head: Head = serde_json::from_slice(&line).map_err(Error::while_doing("reading the guest's answer"))?;
        let mut body = vec![0; head.size];
        self.wait(Instant::now() + Duration::from_secs(60))?;
        self.stream.read_exact(&mut body).map_err(Error::while_doing("reading from the guest"))?;
        Ok((head, body))
    }

    /// Sets how long the next read may take.
    fn wait(&self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new("the guest did not answer in time"));
        }
        self.stream.get_ref().set_read_timeout(Some(left)).map_err(Error::while_doing("setting a timeout"))
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
