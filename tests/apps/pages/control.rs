//! The protocol itself, ng-control/1, whatever it comes over: a line in, a reply out. Copy it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{process, thread};

use serde_json::{Map, Value, json};

const MOST_LEASES: usize = 64;
const MOST_KEYS: usize = 64;
/// What takes longer is asked for again.
const FLUSH_PATIENCE: Duration = Duration::from_millis(200);

/// What can be emptied.
pub struct Tier {
    pub name: &'static str,
    pub class: &'static str,
    pub bytes: usize,
}

/// What the protocol needs of the application.
pub trait App: Send + Sync {
    fn tiers(&self) -> Vec<Tier>;
    fn empty(&self, tier: &str);
    fn metrics(&self) -> Vec<(&'static str, usize)>;
}

pub struct Control {
    name: &'static str,
    instance: String,
    max_ttl_ms: u64,
    app: Arc<dyn App>,
    leases: Mutex<BTreeMap<String, Lease>>,
    flushes: Mutex<VecDeque<(String, Arc<Flush>)>>,
}

struct Lease {
    level: u64,
    until: Instant,
    /// The connection that it ends with.
    bound: Option<u64>,
}

#[derive(Default)]
struct Flush {
    freed: Mutex<Option<usize>>,
    done: Condvar,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Client {
    pub is_allowed: bool,
    /// None over HTTP.
    pub connection: Option<u64>,
}

pub struct Refusal {
    pub code: &'static str,
    message: &'static str,
}

type Reply = Result<Value, Refusal>;
type Request = Map<String, Value>;

const fn bad(message: &'static str) -> Refusal {
    Refusal { code: "bad_request", message }
}

impl Control {
    pub fn new(name: &'static str, max_ttl_ms: u64, app: Arc<dyn App>) -> Self {
        let born = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let instance = format!("{}-{born}", process::id());
        Self { name, instance, max_ttl_ms, app, leases: Mutex::default(), flushes: Mutex::default() }
    }

    /// The level to obey now.
    pub fn effective(&self) -> u64 {
        let (leases, now) = (self.leases.lock().unwrap(), Instant::now());
        leases.values().filter(|lease| lease.until > now).map(|lease| lease.level).max().unwrap_or(0)
    }

    pub fn connection_closed(&self, connection: u64) {
        self.leases.lock().unwrap().retain(|_, lease| lease.bound != Some(connection));
    }

    /// The reply, and the error's code if it is one. `op` is what the path says, over HTTP.
    pub fn answer(&self, line: &[u8], client: Client, op: Option<&str>) -> (Value, Option<&'static str>) {
        let request = match serde_json::from_slice(line) {
            Ok(Value::Object(request)) => request,
            Ok(_) | Err(_) => return refusal(Value::Null, &bad("a request is one JSON object")),
        };
        let id = request.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64()).cloned();
        let id = id.unwrap_or(Value::Null);
        match self.perform(&request, client, op) {
            Ok(mut reply) => {
                reply["id"] = id;
                reply["ok"] = true.into();
                (reply, None)
            }
            Err(refused) => refusal(id, &refused),
        }
    }

    fn perform(&self, request: &Request, client: Client, op: Option<&str>) -> Reply {
        if request.get("v").is_some_and(|version| *version != json!(1)) {
            return Err(Refusal { code: "unsupported_version", message: "this is ng-control/1" });
        }
        match op.or_else(|| request.get("op")?.as_str()) {
            Some("hello") => Ok(self.hello()),
            Some("status") => Ok(self.status()),
            Some("throttle" | "flush") if !client.is_allowed => {
                Err(Refusal { code: "denied", message: "you may ask for hello and status only" })
            }
            Some("throttle") => self.throttle(request, client),
            Some("flush") => self.flush(request),
            _ => Err(Refusal { code: "unknown_op", message: "hello, status, throttle or flush" }),
        }
    }

    fn hello(&self) -> Value {
        let tiers = self.app.tiers();
        let tiers: Vec<_> =
            tiers.iter().map(|tier| json!({"name": tier.name, "class": tier.class, "bytes": tier.bytes})).collect();
        json!({"v": 1, "app": self.name, "instance": self.instance, "caps": ["throttle", "drain", "flush"],
               "tiers": tiers, "max_ttl_ms": self.max_ttl_ms})
    }

    fn status(&self) -> Value {
        let now = Instant::now();
        let leases = self.leases.lock().unwrap();
        let live: Vec<_> = leases.iter().filter(|(_, lease)| lease.until > now).collect();
        let effective = live.iter().map(|(_, lease)| lease.level).max().unwrap_or(0);
        let shown = |(name, lease): &(&String, &Lease)| {
            let bind = if lease.bound.is_some() { "conn" } else { "ttl" };
            json!({"lease": name, "level": lease.level, "ttl_ms": (lease.until - now).as_millis() as u64, "bind": bind})
        };
        let metrics: Map<String, Value> =
            self.app.metrics().into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect();
        json!({"instance": self.instance, "effective": effective, "leases": live.iter().map(shown).collect::<Vec<_>>(),
               "metrics": metrics})
    }

    fn throttle(&self, request: &Request, client: Client) -> Reply {
        let name = name(request, "lease")?;
        let level = request.get("level").and_then(Value::as_u64).filter(|level| *level <= 100);
        let level = level.ok_or(bad("`level` is a whole number from 0 to 100"))?;
        let ttl_ms = request.get("ttl_ms").map_or(Some(30_000), Value::as_u64).filter(|ttl| *ttl > 0);
        let ttl_ms = ttl_ms.ok_or(bad("`ttl_ms` is a whole number above 0"))?.min(self.max_ttl_ms);
        let bound = match (request.get("bind").map_or(Some("ttl"), Value::as_str), client.connection) {
            (Some("ttl"), _) => None,
            (Some("conn"), Some(connection)) => Some(connection),
            _ => return Err(bad("`bind` is `ttl`, or on a socket `conn`")),
        };
        let (mut leases, now) = (self.leases.lock().unwrap(), Instant::now());
        leases.retain(|_, lease| lease.until > now);
        let previous = leases.get(&name).map_or(0, |lease| lease.level);
        if level == 0 {
            leases.remove(&name);
        } else if leases.len() < MOST_LEASES || leases.contains_key(&name) {
            leases.insert(name, Lease { level, until: now + Duration::from_millis(ttl_ms), bound });
        } else {
            return Err(Refusal { code: "busy", message: "there are 64 leases already" });
        }
        let effective = leases.values().map(|lease| lease.level).max().unwrap_or(0);
        let ttl_ms = if level == 0 { 0 } else { ttl_ms };
        Ok(json!({"previous": previous, "level": level, "effective": effective, "ttl_ms": ttl_ms}))
    }

    fn flush(&self, request: &Request) -> Reply {
        let key = name(request, "key")?;
        let known = self.app.tiers();
        let wanted = request.get("tiers").and_then(Value::as_array).filter(|tiers| !tiers.is_empty());
        let wanted = wanted.ok_or(bad("`tiers` names at least one"))?;
        let find = |name: &Value| known.iter().position(|tier| Some(tier.name) == name.as_str());
        let wanted: Option<Vec<usize>> = wanted.iter().map(find).collect();
        let wanted = wanted.ok_or(bad("hello lists the tiers there are"))?;
        let flush = self.once(key, known.into_iter().enumerate().filter(|(at, _)| wanted.contains(at)).map(|(_, t)| t));
        let freed = flush.done.wait_timeout_while(flush.freed.lock().unwrap(), FLUSH_PATIENCE, |freed| freed.is_none());
        Ok(match *freed.unwrap().0 {
            Some(freed) => json!({"state": "done", "freed_bytes": freed}),
            None => json!({"state": "accepted"}),
        })
    }

    fn once(&self, key: String, tiers: impl Iterator<Item = Tier>) -> Arc<Flush> {
        let mut flushes = self.flushes.lock().unwrap();
        if let Some((_, known)) = flushes.iter().find(|(known, _)| *known == key) {
            return Arc::clone(known);
        }
        let flush = Arc::new(Flush::default());
        flushes.push_back((key, Arc::clone(&flush)));
        if flushes.len() > MOST_KEYS {
            flushes.pop_front();
        }
        let (app, tiers, mine) = (Arc::clone(&self.app), tiers.collect::<Vec<_>>(), Arc::clone(&flush));
        thread::spawn(move || {
            tiers.iter().for_each(|tier| app.empty(tier.name));
            *mine.freed.lock().unwrap() = Some(tiers.iter().map(|tier| tier.bytes).sum());
            mine.done.notify_all();
        });
        flush
    }
}

fn refusal(id: Value, refused: &Refusal) -> (Value, Option<&'static str>) {
    let mut error = json!({"code": refused.code, "message": refused.message});
    if refused.code == "unsupported_version" {
        error["supported"] = json!([1]);
    }
    (json!({"id": id, "ok": false, "error": error}), Some(refused.code))
}

fn name(request: &Request, field: &str) -> Result<String, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    let name = request.get(field).and_then(Value::as_str).filter(|name| name.chars().all(plain));
    let name = name.filter(|name| (1..=64).contains(&name.len()));
    name.map(str::to_owned).ok_or(bad("names are 1 to 64 of A-Z a-z 0-9 . _ : -"))
}
