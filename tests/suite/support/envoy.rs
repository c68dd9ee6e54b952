//! A real Envoy, its admin interface on a unix socket. Debian has none: `packaging/install-test-tools` fetches it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use node_guardian::control::target::Target;
use tempfile::TempDir;

use super::recipe::example;
use super::{Process, eventually};

const CONFIGURATION: &str = r#"
admin:
  address: { pipe: { path: FOLDER/admin.sock, mode: 0660 } }
layered_runtime:
  layers:
    - { name: admin, admin_layer: {} }
static_resources:
  listeners:
    - name: web
      address: { pipe: { path: FOLDER/web.sock } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: web
                http_filters:
                  - name: health
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
                      pass_through_mode: false
                      headers: [{ name: ":path", string_match: { exact: /healthz } }]
                  - name: shed
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
                      abort: { http_status: 503, percentage: { numerator: 0, denominator: HUNDRED } }
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{ match: { prefix: / }, direct_response: { status: 200 } }]
"#;

pub struct Envoy {
    process: Process,
    folder: TempDir,
}

impl Envoy {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = CONFIGURATION.replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("envoy.yaml"), text).unwrap();
        let process = launch(folder.path());
        let server = Self { process, folder };
        server.wait();
        server
    }

    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.folder.path());
        self.wait();
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As the example has it.
    pub fn target(&self) -> Target {
        let socket = self.path("admin.sock");
        let controls = example("envoy.toml", &[("/run/envoy/admin.sock", socket.to_str().unwrap())]);
        controls.into_iter().next().unwrap().1
    }

    pub fn admin(&self, method: &str, path: &str) -> String {
        ask(&self.path("admin.sock"), method, path).unwrap()
    }

    /// Status of a request to the service behind it.
    pub fn status(&self, path: &str) -> String {
        let answer = ask(&self.path("web.sock"), "GET", path).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    /// Everything that the guardian may ever have touched.
    pub fn face(&self) -> String {
        let runtime = self.admin("GET", "/runtime?format=json");
        format!("{} {}", self.status("/healthz"), runtime.matches("layer_values").count())
    }

    fn wait(&self) {
        eventually("Envoy is live", || {
            ask(&self.path("admin.sock"), "GET", "/ready").filter(|answer| answer.contains("LIVE"))
        });
    }
}

fn launch(folder: &Path) -> Process {
    let configuration = folder.join("envoy.yaml");
    let arguments = ["-c", configuration.to_str().unwrap(), "--concurrency", "1", "--disable-hot-restart"];
    Process::start(program().to_str().unwrap(), "nothing: run packaging/install-test-tools instead", &arguments)
}

/// In the path, or where `packaging/install-test-tools` puts it.
fn program() -> PathBuf {
    let cache = std::env::var("HOME").unwrap_or_default();
    let fetched = Path::new(&cache).join(".cache/node-guardian/envoy/bin/envoy");
    let folders = std::env::var("PATH").unwrap_or_default();
    let mut known = folders.split(':').map(|folder| Path::new(folder).join("envoy")).chain([fetched]);
    known.find(|path| path.exists()).unwrap_or_else(|| panic!("there is no envoy: run packaging/install-test-tools"))
}

fn ask(socket: &Path, method: &str, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .ok()?;
    // It closes a second later, so its answers are read to their end: of the head, or of the last piece of the body.
    let (mut answer, mut piece) = (Vec::new(), [0; 65536]);
    let end: &[u8] = if socket.ends_with("web.sock") { b"\r\n\r\n" } else { b"\r\n0\r\n\r\n" };
    while !answer.windows(end.len()).any(|bytes| bytes == end) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
    String::from_utf8(answer).ok()
}
