//! The two ways in, opened by the thread that serves them: one that cannot be had is told as a blind spot and tried again,
//! for as long as it takes. Neither the loop nor the other way in ever waits for it.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::Gid;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;

use super::inherited;
use super::listen::{self, Admin};
use crate::config::settings;
use crate::inbox::{Door, Message};

/// Whoever has the port is looked for each time, which reads a link for each descriptor of each process.
const AGAIN: Duration = Duration::from_secs(10);

pub struct Ways {
    pub settings: settings::Http,
    pub group: Option<Gid>,
    pub door: Door,
    /// Hears where TCP listens, once both were tried.
    pub opened: mpsc::Sender<Option<SocketAddr>>,
}

/// How the blind spot begins of a way in that cannot be had.
pub const CLOSED: &str = "who asks at ";

type Tcp = (TcpListener, SocketAddr);

impl Ways {
    pub fn new(settings: &settings::Http, door: Door, opened: mpsc::Sender<Option<SocketAddr>>) -> Self {
        Self { settings: settings.clone(), group: listen::admin_group(), door, opened }
    }

    /// To be called inside the runtime that will serve them.
    pub fn open(self) -> (AdminWay, impl Future<Output = TcpListener>) {
        let Self { settings, group, door, opened } = self;
        let first_admin = admin(&settings.socket, group);
        let (first_tcp, unused) = first_tcp(settings.listen);
        let address = first_tcp.as_ref().and_then(|first| first.as_ref().ok()).map(|(_, address)| *address);
        tell_where(&settings.socket, address);
        if let Some(why) = unused {
            let what = "the socket of the service manager".to_owned();
            let _heard = door.tell(Message::Lacking { what, why: Some(why) });
        }
        // Whoever started us may not care.
        opened.send(address).ok();
        let way = Way { what: format!("{CLOSED}{}", settings.socket.display()), door: door.clone() };
        let admin = AdminWay { way, path: settings.socket, group, first: Some(first_admin), told: None };
        let tcp = async move {
            let (Some(address), Some(first)) = (settings.listen, first_tcp) else { return pending().await };
            let way = Way { what: format!("{CLOSED}{address}"), door };
            way.until_open(first, &mut None, || tcp(address)).await.0
        };
        (admin, tcp)
    }
}

/// The admin socket, which is a file that somebody may remove: then it is opened anew.
pub struct AdminWay {
    way: Way,
    path: PathBuf,
    group: Option<Gid>,
    first: Option<Result<(UnixListener, Admin), String>>,
    told: Option<String>,
}

impl AdminWay {
    /// Waits until it can be had.
    pub async fn open(&mut self) -> (UnixListener, Admin) {
        let open = || admin(&self.path, self.group);
        let first = self.first.take().unwrap_or_else(open);
        self.way.until_open(first, &mut self.told, open).await
    }

    /// Returns when its file leads elsewhere.
    pub async fn watch(&mut self, admin: &Admin) {
        while admin.is_in_place() {
            sleep(AGAIN).await;
        }
        let why = format!("{} was removed or replaced; it is opened again", self.path.display());
        self.way.tell(Some(why.clone()));
        self.told = Some(why);
    }
}

/// What was handed over, else what can be had; and why what was handed over is not used.
fn first_tcp(listen: Option<SocketAddr>) -> (Option<Result<Tcp, String>>, Option<String>) {
    let Some(address) = listen else { return (None, None) };
    match inherited::take(address) {
        Ok(Some(listener)) => (Some(watched(listener)), None),
        Ok(None) => (Some(tcp(address)), None),
        Err(why) => (Some(tcp(address)), Some(why)),
    }
}

struct Way {
    what: String,
    door: Door,
}

impl Way {
    /// What was told of it before may be over.
    async fn until_open<T>(
        &self,
        first: Result<T, String>,
        told: &mut Option<String>,
        open: impl Fn() -> Result<T, String>,
    ) -> T {
        let mut outcome = first;
        loop {
            match outcome {
                Ok(opened) => {
                    if told.take().is_some() {
                        self.tell(None);
                    }
                    return opened;
                }
                Err(why) if told.as_ref() == Some(&why) => {}
                Err(why) => {
                    self.tell(Some(format!("{why}; it is tried again every 10 s")));
                    *told = Some(why);
                }
            }
            sleep(AGAIN).await;
            outcome = open();
        }
    }

    fn tell(&self, why: Option<String>) {
        // A loop that has ended needs no news.
        let _heard = self.door.tell(Message::Lacking { what: self.what.clone(), why });
    }
}

fn admin(path: &Path, group: Option<Gid>) -> Result<(UnixListener, Admin), String> {
    let admin = listen::admin(path, group)?;
    let listener = admin.listener.try_clone().and_then(UnixListener::from_std);
    Ok((listener.map_err(|error| unwatched(&error))?, admin))
}

fn tcp(address: SocketAddr) -> Result<Tcp, String> {
    watched(listen::tcp(address)?)
}

fn watched(listener: std::net::TcpListener) -> Result<Tcp, String> {
    let address = listener.local_addr().map_err(|error| unwatched(&error))?;
    Ok((TcpListener::from_std(listener).map_err(|error| unwatched(&error))?, address))
}

fn unwatched(error: &io::Error) -> String {
    format!("cannot wait for connections: {error}")
}

/// Whoever starts it is told where to look.
fn tell_where(socket: &Path, address: Option<SocketAddr>) {
    let usual = Path::new("/run/node-guardian/admin.sock") == socket;
    let flag = if usual { String::new() } else { format!(" --socket {}", socket.display()) };
    let pages = address.map_or_else(String::new, |address| {
        format!("curl http://{address}/status (also /health, /events and /metrics for Prometheus), or run ")
    });
    tracing::info!("to see how the node is: {pages}node-guardian status{flag}");
}
