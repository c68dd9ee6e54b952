//! The two ways in, opened by the thread that serves them: one that cannot be had is told as a blind spot and tried again,
//! for as long as it takes. Neither the loop nor the other way in ever waits for it.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::Gid;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;

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

type Tcp = (TcpListener, SocketAddr);

impl Ways {
    pub fn new(settings: &settings::Http, door: Door, opened: mpsc::Sender<Option<SocketAddr>>) -> Self {
        Self { settings: settings.clone(), group: listen::admin_group(), door, opened }
    }

    /// To be called inside the runtime that will serve them.
    pub fn open(self) -> (impl Future<Output = (UnixListener, Admin)>, impl Future<Output = TcpListener>) {
        let Self { settings, group, door, opened } = self;
        let first_admin = admin(&settings.socket, group);
        let first_tcp = settings.listen.map(tcp);
        let address = first_tcp.as_ref().and_then(|first| first.as_ref().ok()).map(|(_, address)| *address);
        tell_where(&settings.socket, address);
        // Whoever started us may not care.
        opened.send(address).ok();
        let way = Way { what: format!("who asks at {}", settings.socket.display()), door: door.clone() };
        let socket = settings.socket;
        let admin = way.until_open(first_admin, move || admin(&socket, group));
        let tcp = async move {
            let (Some(address), Some(first)) = (settings.listen, first_tcp) else { return pending().await };
            let way = Way { what: format!("who asks at {address}"), door };
            way.until_open(first, || tcp(address)).await.0
        };
        (admin, tcp)
    }
}

struct Way {
    what: String,
    door: Door,
}

impl Way {
    async fn until_open<T>(self, first: Result<T, String>, open: impl Fn() -> Result<T, String>) -> T {
        let mut outcome = first;
        let mut told = None;
        loop {
            match outcome {
                Ok(opened) => {
                    if told.is_some() {
                        self.tell(None);
                    }
                    return opened;
                }
                Err(why) if told.as_ref() == Some(&why) => {}
                Err(why) => {
                    self.tell(Some(format!("{why}; it is tried again every 10 s")));
                    told = Some(why);
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
    let listener = listen::tcp(address)?;
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
