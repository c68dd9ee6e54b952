//! How late ticks begin while every control hangs: two daemons over the same seconds, one without controls, one whose
//! controls all accept a connection and never say a word, with a rule that wants something of each of them all the time.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::CALM;
use crate::Figures;
use crate::daemon::Daemon;
use crate::histogram::{Histogram, TICK_LAG};
use crate::table::{Row, Unit};

const WINDOW: Duration = Duration::from_secs(20);
/// The first deadlines have passed by then.
const SETTLED: Duration = Duration::from_secs(3);
const OF_EACH_KIND: usize = 2;

pub fn measure() -> Figures {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let (configuration, controls, _listeners) = hanging(folder.path())?;
    let pace = format!("{CALM}[sampling]\ninterval = \"10ms\"\nfast_interval = \"10ms\"\n");
    let without = Daemon::start(&pace)?;
    let with = Daemon::start(&format!("{pace}{configuration}"))?;
    sleep(SETTLED);
    let before = (Histogram::read(without.port, TICK_LAG)?, Histogram::read(with.port, TICK_LAG)?);
    sleep(WINDOW);
    let lag = |daemon: &Daemon, before: &Histogram| {
        Histogram::read(daemon.port, TICK_LAG).map(|now| now.since(before).between(0.99) * 1e3)
    };
    let (calm, hung) = (lag(&without, &before.0)?, lag(&with, &before.1)?);
    let figure = format!("tick lateness with {controls} hanging controls, over that with none, p99");
    Ok(vec![
        Row::new(figure, hung / calm, Unit::Times)
            .at_most(2.0, 1.2)
            .next_to(format!("{hung:.3} ms against {calm:.3} ms in the same {} s", WINDOW.as_secs())),
    ])
}

/// Of each kind: its keys, where SOCKET and PORT are those of a listener of its own, and a step.
const KINDS: [(&str, &str, &str); 8] = [
    ("app", "socket = \"SOCKET\"", "throttle = \"NAME\", to = \"50%\""),
    ("haproxy", "socket = \"SOCKET\"", "throttle = \"NAME\", to = \"50%\""),
    ("http", "socket = \"SOCKET\"\n[control.http.NAME.release]\ndo = { post = \"/\" }", "release = \"NAME\""),
    ("memcached", "socket = \"SOCKET\"", "shrink = \"NAME\", to = \"50%\""),
    ("redis", "socket = \"SOCKET\"\ncache_only = true", "shrink = \"NAME\", to = \"50%\""),
    (
        "socket",
        "socket = \"SOCKET\"\n[control.socket.NAME.release]\ndo = { send = \"x\\n\", expect = \"OK\" }",
        "release = \"NAME\"",
    ),
    ("varnish", "address = \"127.0.0.1:PORT\"\nsecret_file = \"SECRET\"", "shrink = \"NAME\", to = \"50%\""),
    ("webhook", "socket = \"SOCKET\"\npath = \"/\"", "notify = \"NAME\""),
];

/// Never accepted: the kernel takes the connection, and nobody answers.
type Listeners = (Vec<UnixListener>, Vec<TcpListener>);

/// Controls that hang, and a rule that never stops wanting something of each; how many there are.
fn hanging(folder: &Path) -> Result<(String, usize, Listeners), String> {
    let io = |error: std::io::Error| format!("cannot listen: {error}");
    let secret = folder.join("secret");
    std::fs::write(&secret, "secret").map_err(io)?;
    let (mut controls, mut steps) = (String::new(), Vec::new());
    let (mut unix, mut tcp) = (Vec::new(), Vec::new());
    for at in 0..OF_EACH_KIND {
        for (kind, keys, step) in KINDS {
            let name = format!("{kind}-{at}");
            let path = folder.join(&name);
            unix.push(UnixListener::bind(&path).map_err(io)?);
            let port = TcpListener::bind("127.0.0.1:0").map_err(io)?;
            let keys = keys.replace("SOCKET", &path.display().to_string()).replace("NAME", &name);
            let keys = keys.replace("PORT", &port.local_addr().map_err(io)?.port().to_string());
            tcp.push(port);
            let keys = keys.replace("SECRET", &secret.display().to_string());
            controls.push_str(&format!("[control.{kind}.{name}]\n{keys}\n"));
            steps.push(format!("{{ {}, settle = \"50ms\" }}", step.replace("NAME", &name)));
        }
    }
    let rule = format!(
        "[rule.always]\nwhen = \"memory.used_percent > 0%\"\nfor = \"0s\"\nseverity = \"warning\"\nsteps = [{}]\n",
        steps.join(", ")
    );
    Ok((controls + &rule, steps.len(), (unix, tcp)))
}
