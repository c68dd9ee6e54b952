//! What is killed over: one of each kind, and each of its reversible verbs.

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Verb};

use super::super::socket::conversing;
use super::super::support::app::{App, Language};
use super::super::support::envoy::Envoy;
use super::super::support::haproxy::Haproxy;
use super::super::support::nginx::Nginx;
use super::super::support::processes::Plain;
use super::super::support::redis::Redis;
use super::{Meanwhile, caches, fickle};

/// A real service under test.
pub trait Subject {
    fn target(&self) -> Target;
    /// Everything that the verb may ever touch, as the service itself shows it.
    fn face(&self) -> String;
    /// An operator sets a value of his own where the guardian sets its one.
    fn interfere(&self);
    /// Takes that back, for the next case.
    fn tidy(&self);
    fn restart(&mut self);
    /// Whether this can happen to it.
    fn knows(&self, meanwhile: Meanwhile) -> bool {
        !matches!(meanwhile, Meanwhile::SavedRestart | Meanwhile::Move)
    }
    fn restart_with_what_was_saved(&mut self) {}
    /// To another place, where it looks like this.
    fn moves(&mut self) -> String {
        self.face()
    }
    fn moves_back(&mut self) {}
}

pub struct Case {
    pub name: &'static str,
    pub start: fn() -> Box<dyn Subject>,
    pub verb: Verb,
    pub strong: Amount,
    /// What it is weakened to; `None` where the verb knows no share.
    pub weak: Option<Amount>,
    /// Some services take long to start: then only every so many instants are tried with a restart.
    pub restart_every: usize,
}

const MIB: u64 = 1 << 20;
const HALF: Amount = Amount::Keep(50.0);
const QUARTER: Amount = Amount::Keep(25.0);

pub fn all() -> Vec<Case> {
    let case = |name, start, verb, strong, weak| Case { name, start, verb, strong, weak, restart_every: 1 };
    let fickle = |name, start| case(name, start, Verb::Throttle, QUARTER, Some(HALF));
    vec![
        fickle("late", fickle::late as fn() -> Box<dyn Subject>),
        fickle("late and rounding", fickle::late_and_rounding),
        fickle("step by step", fickle::gradual),
        fickle("late and step by step", fickle::late_and_gradual),
        fickle("rounding", fickle::rounding),
        fickle("exact", fickle::exact),
        Case { restart_every: 9, ..case("varnish shrink", caches::pages, Verb::Shrink, QUARTER, Some(HALF)) },
        case("memcached shrink", caches::items, Verb::Shrink, Amount::Bytes(64 * MIB), Some(Amount::Bytes(128 * MIB))),
        case("app throttle", application, Verb::Throttle, QUARTER, Some(HALF)),
        case("app drain", application, Verb::Drain, Amount::Whole, None),
        case("haproxy throttle servers", edge_servers, Verb::Throttle, QUARTER, Some(HALF)),
        case("haproxy throttle process", edge_process, Verb::Throttle, QUARTER, Some(HALF)),
        case("haproxy shed lease", edge_lease, Verb::Shed, QUARTER, Some(HALF)),
        case("haproxy shed map", edge_map, Verb::Shed, QUARTER, Some(HALF)),
        case("haproxy throttle rate", edge_rate, Verb::Throttle, QUARTER, Some(HALF)),
        case("nginx shed", nginx_flags, Verb::Shed, QUARTER, Some(HALF)),
        case("haproxy drain", edge_drain, Verb::Drain, Amount::Whole, None),
        case("socket throttle", recipe, Verb::Throttle, QUARTER, Some(HALF)),
        Case { restart_every: 5, ..case("http shed", requests, Verb::Shed, QUARTER, Some(HALF)) },
        case("redis throttle", redis_pause, Verb::Throttle, Amount::Whole, None),
        case("process throttle", process_niceness, Verb::Throttle, QUARTER, Some(HALF)),
        case("process freeze", process_state, Verb::Freeze, Amount::Whole, None),
        case("redis shrink", redis_limit, Verb::Shrink, Amount::Bytes(64 * MIB), Some(Amount::Bytes(128 * MIB))),
    ]
}

/// A HAProxy, and what an operator does to it.
struct Edge {
    server: Haproxy,
    target: target::Haproxy,
    interfere: String,
    tidy: String,
}

impl Subject for Edge {
    fn target(&self) -> Target {
        Target::Haproxy(self.target.clone())
    }

    fn face(&self) -> String {
        format!("{} {}", self.server.face(), self.server.ask("show table ng_lease key web").contains("gpc0=77"))
    }

    fn interfere(&self) {
        self.server.ask(&self.interfere);
    }

    fn tidy(&self) {
        self.server.ask(&self.tidy);
    }

    fn restart(&mut self) {
        self.server.restart();
    }
}

fn edge(server: Haproxy, everywhere: bool, interfere: &'static str, tidy: &'static str) -> Box<dyn Subject> {
    let mut target = server.target();
    if everywhere {
        target.backends.clear();
    }
    Box::new(Edge { server, target, interfere: interfere.into(), tidy: tidy.into() })
}

fn edge_servers() -> Box<dyn Subject> {
    // Two servers with limits, one of which an operator sets: the other must come back all the same.
    edge(Haproxy::start(), true, "set maxconn server be/s1 7", "set maxconn server be/s1 8")
}

fn edge_process() -> Box<dyn Subject> {
    edge(Haproxy::without_server_limits(), true, "set maxconn global 123", "set maxconn global 200")
}

fn edge_lease() -> Box<dyn Subject> {
    edge(Haproxy::start(), false, "set table ng_lease key web data.gpc0 77", "clear table ng_lease key web")
}

fn edge_map() -> Box<dyn Subject> {
    let server = Haproxy::with_map();
    let map = server.map().unwrap();
    let (interfere, tidy) = (format!("set map {map} web 77"), format!("set map {map} web 0"));
    let target = target::Haproxy { map: Some(map), ..server.target() };
    Box::new(Edge { server, target, interfere, tidy })
}

fn edge_rate() -> Box<dyn Subject> {
    let server = Haproxy::start();
    let set = |rate| format!("set rate-limit connections global {rate}");
    let target = target::Haproxy { connection_rate: Some(1000), backends: Vec::new(), ..server.target() };
    Box::new(Edge { server, target, interfere: set(77), tidy: set(0) })
}

fn edge_drain() -> Box<dyn Subject> {
    edge(Haproxy::start(), false, "set server be/s1 state maint", "set server be/s1 state ready")
}

/// The same HAProxy, as a recipe.
struct Written(Haproxy);

impl Subject for Written {
    fn target(&self) -> Target {
        conversing(&self.0.path("admin.sock"))
    }

    fn face(&self) -> String {
        self.0.face()
    }

    fn interfere(&self) {
        self.0.ask("set maxconn global 123");
    }

    fn tidy(&self) {
        self.0.ask("set maxconn global 200");
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

fn recipe() -> Box<dyn Subject> {
    Box::new(Written(Haproxy::start()))
}

struct Refusing(Envoy);

const ABORTED: &str = "/runtime_modify?fault.http.abort.abort_percent";

impl Subject for Refusing {
    fn target(&self) -> Target {
        self.0.target()
    }

    fn face(&self) -> String {
        let runtime = self.0.admin("GET", "/runtime?format=json");
        format!("{} {}", self.0.face(), runtime.contains("\"7\""))
    }

    fn interfere(&self) {
        self.0.admin("POST", &format!("{ABORTED}=7"));
    }

    fn tidy(&self) {
        self.0.admin("POST", &format!("{ABORTED}="));
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

fn requests() -> Box<dyn Subject> {
    Box::new(Refusing(Envoy::start()))
}

struct Limited(Redis);

impl Subject for Limited {
    fn target(&self) -> Target {
        Target::Redis(target::Redis { cache_only: true, ..self.0.target() })
    }

    fn face(&self) -> String {
        self.0.face()
    }

    fn interfere(&self) {
        self.0.ask(&["CONFIG", "SET", "maxmemory", "123456789"]);
    }

    fn tidy(&self) {
        self.0.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

fn redis_limit() -> Box<dyn Subject> {
    Box::new(Limited(Redis::start()))
}

/// Redis 7.0 does not tell whether it is paused: a write does.
struct Paused(Redis);

impl Subject for Paused {
    fn target(&self) -> Target {
        Target::Redis(self.0.target())
    }

    fn face(&self) -> String {
        let mut writer = self.0.connect();
        writer.send(&["SET", "face", "1"]);
        let writes = writer.answers_within(std::time::Duration::from_millis(500));
        format!("{} {}", if writes { "writes" } else { "paused" }, self.0.setting("maxclients"))
    }

    fn interfere(&self) {
        // A pause is only over or not; what else an operator sets must stay.
        self.0.ask(&["CONFIG", "SET", "maxclients", "77"]);
    }

    fn tidy(&self) {
        self.0.ask(&["CONFIG", "SET", "maxclients", "10000"]);
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

fn redis_pause() -> Box<dyn Subject> {
    Box::new(Paused(Redis::start()))
}

/// Other agents have leases of their own.
struct Leased(App);

impl Subject for Leased {
    fn target(&self) -> Target {
        Target::App(self.0.target())
    }

    fn face(&self) -> String {
        format!("{:?} {}", self.0.leases(), self.0.effective())
    }

    fn interfere(&self) {
        self.0.operator(77);
    }

    fn tidy(&self) {
        self.0.operator(0);
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

fn application() -> Box<dyn Subject> {
    Box::new(Leased(App::start(Language::Rust)))
}

/// A process; where nothing is stopped, an operator's niceness is what must stay.
struct Batch {
    process: Plain,
    idle_io: bool,
}

impl Subject for Batch {
    fn target(&self) -> Target {
        let target = self.process.target();
        Target::Process(target::Process { sacrificial: true, idle_io: self.idle_io, ..target })
    }

    fn face(&self) -> String {
        format!("{} {} {}", self.process.states(), self.process.nice(), self.process.io_class())
    }

    fn interfere(&self) {
        self.process.renice(7);
    }

    fn tidy(&self) {
        self.process.renice(0);
    }

    fn restart(&mut self) {
        self.process.restart(&["600"]);
    }
}

fn process_niceness() -> Box<dyn Subject> {
    Box::new(Batch { process: Plain::start("sleep", &["600"]), idle_io: true })
}

fn process_state() -> Box<dyn Subject> {
    Box::new(Batch { process: Plain::start("sleep", &["600"]), idle_io: false })
}

/// An nginx, one of whose flags an operator makes his own.
struct Flagged(Nginx);

impl Flagged {
    fn flag(&self) -> std::path::PathBuf {
        self.0.flags().join("shed-25")
    }
}

impl Subject for Flagged {
    fn target(&self) -> Target {
        Target::Nginx(self.0.target())
    }

    fn face(&self) -> String {
        format!("{:?} {:?}", self.0.set(), std::fs::read_to_string(self.flag()).ok())
    }

    fn interfere(&self) {
        std::fs::create_dir_all(self.0.flags()).unwrap();
        std::fs::write(self.flag(), "an operator's").unwrap();
    }

    fn tidy(&self) {
        std::fs::remove_file(self.flag()).ok();
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

fn nginx_flags() -> Box<dyn Subject> {
    Box::new(Flagged(Nginx::start()))
}
