//! A real Apache httpd as a balancer, on a port of its own, and the members behind it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Process, eventually};

const CONFIGURATION: &str = r#"
ServerRoot FOLDER
PidFile FOLDER/pid
DefaultRuntimeDir FOLDER
ErrorLog FOLDER/error.log
ServerName 127.0.0.1
Listen 127.0.0.1:PORT
LoadModule mpm_event_module MODULES/mod_mpm_event.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule authz_host_module MODULES/mod_authz_host.so
LoadModule proxy_module MODULES/mod_proxy.so
LoadModule proxy_http_module MODULES/mod_proxy_http.so
LoadModule proxy_balancer_module MODULES/mod_proxy_balancer.so
LoadModule slotmem_shm_module MODULES/mod_slotmem_shm.so
LoadModule lbmethod_byrequests_module MODULES/mod_lbmethod_byrequests.so
<IfModule unixd_module>
  User nobody
  Group nogroup
</IfModule>
StartServers 1
<Proxy balancer://app>
  BalancerMember http://127.0.0.1:FIRST loadfactor=100
  BalancerMember http://127.0.0.1:SECOND loadfactor=100
</Proxy>
ProxyPass /app balancer://app
<Location /balancer-manager>
  SetHandler balancer-manager
  Require local
</Location>
"#;
const MODULES: &str = "/usr/lib/apache2/modules";

pub struct Apache {
    process: Process,
    folder: TempDir,
    pub port: u16,
    pub members: [Member; 2],
}

pub struct Member {
    pub port: u16,
    served: Arc<AtomicUsize>,
}

impl Apache {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let members = [Member::start(), Member::start()];
        let text = CONFIGURATION
            .replace("FOLDER", folder.path().to_str().unwrap())
            .replace("PORT", &port.to_string())
            .replace("MODULES", MODULES)
            .replace("FIRST", &members[0].port.to_string())
            .replace("SECOND", &members[1].port.to_string());
        std::fs::write(folder.path().join("httpd.conf"), text).unwrap();
        let process = launch(&folder);
        let server = Self { process, folder, port, members };
        server.wait();
        server
    }

    pub fn restart(&mut self) {
        self.process.end();
        self.process = launch(&self.folder);
        self.wait();
    }

    /// As `systemctl reload` does it.
    pub fn reload(&self) {
        let before = self.manager("");
        self.process.signal(Signal::SIGUSR1);
        let nonce = |page: &str| page.split("nonce=").nth(1).map(|rest| rest[..36].to_owned());
        eventually("another nonce", || {
            let now = try_get(self.port, "/balancer-manager")?;
            (nonce(&now)? != nonce(&before)?).then_some(())
        });
    }

    /// The one that was started, and those that serve.
    pub fn processes(&self) -> Vec<Pid> {
        let parent = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        [&*parent]
            .into_iter()
            .chain(children.split_whitespace())
            .map(|pid| Pid::from_raw(pid.parse().unwrap()))
            .collect()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `1.00 Init Ok` of each member.
    pub fn face(&self) -> Vec<String> {
        let page = self.manager("");
        let rows = page.lines().filter(|line| line.contains("&amp;w=http://"));
        let cells = |row: &str| {
            let cells: Vec<_> = row.split("</td><td>").collect();
            format!("{} {}", cells[3], cells[5].trim())
        };
        rows.map(cells).collect()
    }

    /// As somebody at the page's form.
    pub fn set(&self, member: usize, what: &str) {
        let page = self.manager("");
        let nonce = &page.split("nonce=").nth(1).unwrap()[..36];
        let member = self.members[member].port;
        let body = format!("b=app&w=http://127.0.0.1:{member}&nonce={nonce}&{what}");
        let referer = format!("Referer: http://127.0.0.1:{}/balancer-manager\r\n", self.port);
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let head = format!("{referer}{form}Content-Length: {}\r\n", body.len());
        ask(self.port, "POST", "/balancer-manager", &head, &body).unwrap();
    }

    /// How many of so many requests each member served.
    pub fn shares(&self, requests: usize) -> [usize; 2] {
        let served = || self.members.each_ref().map(|member| member.served.load(Ordering::SeqCst));
        let before = served();
        (0..requests).for_each(|_| assert!(try_get(self.port, "/app").unwrap().contains("served")));
        let after = served();
        [after[0] - before[0], after[1] - before[1]]
    }

    fn manager(&self, query: &str) -> String {
        try_get(self.port, &format!("/balancer-manager{query}")).unwrap()
    }

    fn wait(&self) {
        eventually("Apache answers", || try_get(self.port, "/balancer-manager"));
    }
}

/// Its children end with it.
impl Drop for Apache {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGCONT);
        self.process.end();
    }
}

impl Member {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, served) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(stream, &count));
            }
        });
        Self { port, served }
    }
}

fn serve(mut stream: TcpStream, count: &AtomicUsize) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
        count.fetch_add(1, Ordering::SeqCst);
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved").is_err() {
            return;
        }
    }
}

fn launch(folder: &TempDir) -> Process {
    let configuration = folder.path().join("httpd.conf");
    Process::start("apache2", "apache2", &["-f", configuration.to_str().unwrap(), "-DFOREGROUND"])
}

pub fn try_get(port: u16, path: &str) -> Option<String> {
    ask(port, "GET", path, "", "")
}

fn ask(port: u16, method: &str, path: &str, head: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let host = format!("Host: 127.0.0.1:{port}\r\nConnection: close\r\n");
    stream.write_all(format!("{method} {path} HTTP/1.1\r\n{host}{head}\r\n{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}
