//! A real nginx in a temporary folder, whose workers run as another user where the tests run as root. It serves itself a
//! page of 4 KB, through a cache for `/cached/…`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use node_guardian::control::address::Address;
use node_guardian::control::target::{self, Page};
use tempfile::TempDir;

use super::{Process, eventually};

const CONFIGURATION: &str = r#"
daemon off;
USER
worker_processes 1;
error_log FOLDER/error.log warn;
pid FOLDER/nginx.pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    proxy_cache_path FOLDER/cache levels=1:2 keys_zone=pages:1m inactive=1d use_temp_path=off;

    split_clients "$request_id" $ngb { 10% 10; 15% 25; 25% 50; 25% 75; * 100; }

    server {
        listen unix:FOLDER/web.sock;
        location / {
            if (-f FOLDER/run/nginx/shed-$ngb) {
                add_header Retry-After 5 always;
                return 503;
            }
            return 200 'ok';
        }
        location /cached/ {
            proxy_pass http://unix:FOLDER/origin.sock;
            proxy_cache pages;
            proxy_cache_key $uri;
            proxy_cache_valid 1d;
            add_header X-Cache $upstream_cache_status;
        }
        location = /status { stub_status; }
    }
    server { listen unix:FOLDER/origin.sock; location / { return 200 'PAGE'; } }
}
"#;

pub struct Nginx {
    process: Process,
    folder: TempDir,
}

impl Nginx {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As /run/node-guardian is: others may go through it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        fs::set_permissions(folder.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        let user = if geteuid().is_root() { "user www-data;" } else { "" };
        let text = CONFIGURATION
            .replace("FOLDER", folder.path().to_str().unwrap())
            .replace("USER", user)
            .replace("PAGE", &"x".repeat(3000));
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let server = Self { process: launch(folder.path()), folder };
        server.wait();
        server
    }

    pub fn restart(&mut self) {
        self.process.end();
        for socket in ["web.sock", "origin.sock"] {
            fs::remove_file(self.path(socket)).ok();
        }
        self.process = launch(self.folder.path());
        self.wait();
    }

    pub fn end(&mut self) {
        self.process.end();
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn flags(&self) -> PathBuf {
        self.path("run/nginx")
    }

    pub fn target(&self) -> target::Nginx {
        target::Nginx {
            flags: Some(self.flags()),
            caches: vec![self.path("cache")],
            stub_status: Some(Page { address: Address::Unix(self.path("web.sock")), path: "/status".into() }),
        }
    }

    /// The flags that are there, in order of their names.
    pub fn set(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.flags()) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Whether the cache had it, and the whole answer.
    pub fn get(&self, path: &str) -> (bool, String) {
        let answer = get(&self.path("web.sock"), path).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        (answer.contains("X-Cache: HIT"), answer)
    }

    /// The file of a page in the cache.
    pub fn cached(&self, key: &str) -> Option<PathBuf> {
        files(&self.path("cache")).into_iter().find(|file| {
            String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).contains(&format!("\nKEY: {key}\n"))
        })
    }

    pub fn complaints(&self) -> String {
        fs::read_to_string(self.path("error.log")).unwrap_or_default()
    }

    fn wait(&self) {
        eventually("nginx answers", || get(&self.path("web.sock"), "/status"));
    }
}

/// All of them below a folder, links as they are.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    found
}

fn get(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

fn launch(folder: &Path) -> Process {
    let configuration = folder.join("nginx.conf");
    Process::start("nginx", "nginx-light", &["-c", configuration.to_str().unwrap(), "-p", folder.to_str().unwrap()])
}
