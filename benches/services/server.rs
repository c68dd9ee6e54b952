//! A server in a folder of its own, with its configuration in it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::backend;
use super::process::Process;

pub struct Server {
    /// Ends before its folder goes.
    _process: Process,
    pub port: u16,
    folder: TempDir,
}

/// Free a moment ago.
pub fn free_port() -> Result<u16, String> {
    let listening = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    listening.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

impl Server {
    /// `FOLDER` and `PORT` of the configuration are filled in, and the backend listens on `FOLDER/app.sock`.
    pub fn start(program: &str, arguments: &[&str], configuration: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot prepare {program}: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let port = free_port()?;
        let shown = folder.path().to_string_lossy();
        let fill = |text: &str| text.replace("FOLDER", &shown).replace("PORT", &port.to_string());
        fs::write(folder.path().join("conf"), fill(configuration)).map_err(failed)?;
        backend::serve(&folder.path().join("app.sock"))?;
        let process = Process::quietly(Command::new(program).args(arguments.iter().map(|argument| fill(argument))))?;
        let server = Self { _process: process, port, folder };
        server.wait(program)?;
        Ok(server)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait(&self, program: &str) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > end {
                return Err(format!("{program} does not listen after 10 s"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
