//! The two applications of tests/apps, which speak ng-control/1, as processes of their own; and a client that asks them
//! without any help of the guardian's.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use node_guardian::control::address::Address;

use node_guardian::control::target;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Process, eventually};

const TOKEN: &str = "s3cret";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    Python,
    Rust,
}

pub const LANGUAGES: [Language; 2] = [Language::Python, Language::Rust];

pub struct App {
    process: Process,
    folder: TempDir,
    language: Language,
    port: u16,
    options: String,
}

/// One connection to its socket.
pub struct Conversation(BufReader<UnixStream>);

impl App {
    pub fn start(language: Language) -> Self {
        Self::with(language, "")
    }

    /// `options` as on its command line.
    pub fn with(language: Language, options: &str) -> Self {
        Self::launched(tempfile::tempdir().unwrap(), language, options)
    }

    /// The one in Python, with something else in its source.
    pub fn altered(from: &str, to: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(source("pages.py")).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(folder.path().join("pages.py"), text.replace(from, to)).unwrap();
        Self::launched(folder, Language::Python, "--fill 1")
    }

    fn launched(folder: TempDir, language: Language, options: &str) -> Self {
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = launch(language, &folder, port, options);
        let app = Self { process, folder, language, port, options: options.to_owned() };
        app.wait();
        app
    }

    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.language, &self.folder, self.port, &self.options);
        self.wait();
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Over its socket.
    pub fn target(&self) -> target::App {
        target::App { address: Address::Unix(self.path("ng.sock")), uid: None, token_file: None, tiers: Vec::new() }
    }

    /// Over HTTP.
    pub fn over_http(&self) -> target::App {
        let address = Address::Tcp(format!("127.0.0.1:{}", self.port));
        target::App { address, token_file: Some(self.path("token")), ..self.target() }
    }

    pub fn connect(&self) -> Conversation {
        Conversation(BufReader::new(UnixStream::connect(self.path("ng.sock")).unwrap()))
    }

    pub fn ask(&self, request: &Value) -> Value {
        self.connect().ask(&request.to_string())
    }

    pub fn effective(&self) -> u64 {
        self.ask(&json!({"op": "status"}))["effective"].as_u64().unwrap()
    }

    /// Level of each live lease, our own without its name.
    pub fn leases(&self) -> Vec<String> {
        let status = self.ask(&json!({"op": "status"}));
        let shown = |lease: &Value| {
            let name = lease["lease"].as_str().unwrap();
            format!("{} {}", name.split_once('-').map_or(name, |(prefix, _)| prefix), lease["level"])
        };
        status["leases"].as_array().unwrap().iter().map(shown).collect()
    }

    /// Somebody else's wish.
    pub fn operator(&self, level: u64) {
        let lease = json!({"op": "throttle", "lease": "operator", "level": level, "ttl_ms": 300_000});
        assert_eq!(self.ask(&lease)["ok"], true);
    }

    fn wait(&self) {
        eventually("the app listens on its socket", || UnixStream::connect(self.path("ng.sock")).ok());
        eventually("the app listens on its port", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }
}

impl Conversation {
    pub fn ask(&mut self, line: &str) -> Value {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        self.0.read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error} in the reply {reply:?} to {line:.200}"))
    }
}

pub fn source(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(name)
}

fn launch(language: Language, folder: &TempDir, port: u16, options: &str) -> Process {
    let socket = folder.path().join("ng.sock");
    // Else a restart would find the old one before the new one is there.
    std::fs::remove_file(&socket).ok();
    let options = format!("--socket {} --port {port} --token {TOKEN} {options}", socket.display());
    match language {
        Language::Python => {
            let changed = folder.path().join("pages.py");
            let source = if changed.exists() { changed } else { source("pages.py") };
            let mut words = vec![source.to_str().unwrap()];
            words.extend(options.split_whitespace());
            Process::start("python3", "python3", &words)
        }
        Language::Rust => {
            let this = std::env::current_exe().unwrap();
            let options = format!("PAGES={}", options.trim_end());
            let words = [&options, this.to_str().unwrap(), "--exact", crate::app::SERVES, "--nocapture"];
            Process::start("env", "coreutils", &words)
        }
    }
}
