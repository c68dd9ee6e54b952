//! A running server over a made-up node, and a client that sends exactly the bytes it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::clock;
use node_guardian::config::settings;
use node_guardian::events::{Events, Log};
use node_guardian::http::{Handle, serve};
use node_guardian::inbox::{self, Inbox};
use node_guardian::policy::condition::{Comparison, Condition, Expression, Operand, Relation};
use node_guardian::policy::effect::Effect;
use node_guardian::policy::event::Mode;
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::mitigation::{ActionId, Amount, Mitigation, Verb};
use node_guardian::policy::plan::Plan;
use node_guardian::policy::rule::{Hint, Policy, Resource, Rule, Scale, Severity, Step};
use node_guardian::policy::sample::Sample;
use node_guardian::policy::view::{ActionView, Phase, RuleView, State, StepView, View};
use node_guardian::status::{Board, Facts, Snapshot};
use node_guardian::telemetry::Telemetry;
use serde_json::Value;

pub struct House {
    pub board: Arc<Board>,
    pub events: Events,
    pub inbox: Inbox,
    pub telemetry: Arc<Telemetry>,
    pub tcp: SocketAddr,
    pub socket: PathBuf,
    pub token_file: PathBuf,
    server: Option<Handle>,
    _folder: tempfile::TempDir,
}

impl House {
    pub fn open() -> Self {
        Self::listening_on("127.0.0.1:0")
    }

    pub fn listening_on(listen: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/admin.sock");
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "open-sesame\n").unwrap();
        let board = Arc::new(Board::new(node()));
        let log: Arc<Log> = Arc::default();
        let events = Events::new(Arc::clone(&log));
        let telemetry = Arc::new(Telemetry::default());
        let (door, inbox) = inbox::open().unwrap();
        let settings = settings::Http {
            listen: Some(listen.parse().unwrap()),
            socket: socket.clone(),
            token_file: Some(token_file.clone()),
        };
        let server = serve(&settings, Arc::clone(&board), log, Arc::clone(&telemetry), door).unwrap();
        let tcp = server.address().unwrap();
        Self { board, events, inbox, telemetry, tcp, socket, token_file, server: Some(server), _folder: folder }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Over TCP, these bytes as they are.
    pub fn ask(&self, request: &str) -> Reply {
        exchange(TcpStream::connect(("127.0.0.1", self.tcp.port())).unwrap(), request.as_bytes())
    }

    /// Over the admin socket.
    pub fn ask_admin(&self, request: &str) -> Reply {
        exchange(UnixStream::connect(&self.socket).unwrap(), request.as_bytes())
    }

    /// Insists, where the loop would leave it to the next tick.
    pub fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut change = Some(change);
        while change.is_some() {
            self.board.publish(|snapshot| {
                snapshot.tick += 1;
                snapshot.at = clock::now().unwrap();
                snapshot.unix_ms = clock::unix_ms();
                if let Some(change) = change.take() {
                    change(snapshot);
                }
            });
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.server.take().unwrap().stop();
        assert!(!self.socket.exists(), "the socket outlives its server");
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The reply is a refusal that explains itself.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

pub fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Reply {
    // A server that refuses early may have closed before all of it was written.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..length]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// A node in an emergency: memory is short, HAProxy is throttled.
pub fn node() -> Snapshot {
    let now = clock::now().unwrap();
    let throttle = Mitigation { control: "edge".into(), verb: Verb::Throttle, amount: Amount::Keep(50.0) };
    let since = now - Duration::from_secs(42);
    let view = View {
        mode: Mode::Emergency,
        turns_away: true,
        mode_since: since,
        hold_until: Some(now + Duration::from_secs(5)),
        rules: vec![RuleView { state: State::Firing, since, taken: 1, fired: 2, ..RuleView::default() }],
        steps: vec![StepView { effect: Some(Effect::Share(0.4)), ..StepView::default() }],
        actions: vec![ActionView {
            id: ActionId(7),
            mitigation: throttle.clone(),
            rule: "memory-critical".into(),
            phase: Phase::InForce,
            since,
            began: since,
            target: "unix:/run/haproxy/admin.sock".into(),
            changed: "s1 maxconn 100 -> 50".into(),
            loosened_from: None,
            detail: "s1 maxconn 100 -> 50".into(),
            theirs: None,
            effect: Some(Effect::Share(0.4)),
            next_try: None,
        }],
        exhaustion: vec![(Resource::Memory, 95.5)],
        ..View::default()
    };
    Snapshot {
        tick: 9,
        at: now,
        unix_ms: clock::unix_ms(),
        started: now - Duration::from_secs(3600),
        pace: Duration::from_millis(20),
        sample: sample(),
        view,
        plan: Arc::new(Plan::new(policy(throttle))),
        facts: Arc::new(Facts { host: "web-3".into(), ..Facts::default() }),
        blind_spots: Arc::default(),
        hanging: None,
        unrecordable: None,
        unread_orders: None,
        controls: Arc::default(),
        drill: Arc::default(),
        configuration: Arc::default(),
    }
}

fn sample() -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::MemoryAvailablePercent, Some(7.1));
    sample.set(Metric::CpuUsedPercent, Some(43.0));
    sample.set(Metric::MemoryOomKills, Some(2.0));
    sample.set_instances(Family::Disk, &["/", "/var/\"odd\\name\"\n"]);
    for row in 0..2 {
        sample.set_instance(Metric::DiskUsedPercent, row, Some(61.0));
        sample.set_instance(Metric::DiskFreeBytes, row, Some(4e9));
    }
    sample.set_instances(Family::Network, &["eth0"]);
    sample.set_instance(Metric::NetworkReceiveRate, 0, Some(1e6));
    sample.set_instances(Family::Port, &["443"]);
    sample.set_instance(Metric::PortEstablished, 0, Some(12.0));
    sample
}

fn policy(throttle: Mitigation) -> Policy {
    let operand = Operand { metric: Metric::MemoryAvailablePercent, selector: None, function: None };
    let expression = Expression::Compare(Comparison { operand, relation: Relation::Less, threshold: 8.0 });
    let rule = Rule {
        name: "memory-critical".into(),
        when: Condition { text: "memory.available_percent < 8%".into(), expression },
        hold_for: Duration::from_secs(1),
        clear: None,
        clear_for: Duration::from_secs(10),
        severity: Severity::Emergency,
        priority: 100,
        cooldown: Duration::from_secs(60),
        steps: vec![Step::new(throttle, Duration::from_secs(3))],
        dry_run: false,
        hints: vec![Hint { resource: Resource::Memory, scale: Scale::Up }],
    };
    let targets = vec![("edge".into(), "unix:/run/haproxy/admin.sock".into())];
    Policy { rules: vec![rule], targets, ..Policy::default() }
}
