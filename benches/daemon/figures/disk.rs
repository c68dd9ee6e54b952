//! What a disk that does not answer holds up. Two daemons over the same seconds, each with servers and a made-up node of its
//! own, are told the same: two controls are to act, whose undo must be recorded first; a lease stands; Redis is asked again and
//! again, which needs no disk; at last a throttle is undone. For one of them nothing becomes durable.

use std::thread::sleep;
use std::time::{Duration, Instant};

use node_guardian::http::shape::Record;

use crate::daemon::Daemon;
use crate::histogram::{Histogram, TICK_LAG};
use crate::made_up::{Line, MadeUp};
use crate::servers::{self, Server};
use crate::table::{Row, Unit, quantile};
use crate::{Figures, tracer};

pub const FLAG: &str = "--hang=";

/// Redis, by a recipe that it answers at once.
const ASKED: &str = "ping";

const HANG: Duration = Duration::from_secs(60);
/// In which nothing hangs, for both.
const BEFORE: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// Half of the time between two releases.
const HALF: Duration = Duration::from_millis(500);

/// `edge` has a lease below 80 %, `kept` is throttled below 60 %, `one` and `two` are to be below 30 %.
const RULES: &str = "
[rule.lease]
when = \"memory.available_percent < 80%\"
severity = \"emergency\"
for = \"0s\"
steps = [{ shed = \"edge\", share = \"50%\" }]
[rule.kept]
when = \"memory.available_percent < 60%\"
clear_for = \"0s\"
severity = \"emergency\"
for = \"0s\"
steps = [{ throttle = \"kept\", to = \"50%\" }]
[rule.writes]
when = \"memory.available_percent < 30%\"
severity = \"emergency\"
for = \"0s\"
steps = [{ throttle = \"one\", to = \"50%\", settle = \"50ms\" }, { throttle = \"two\", to = \"50%\" }]
[rule.asks]
when = \"memory.swap_used_percent > 50%\"
clear_for = \"0s\"
cooldown = \"0s\"
severity = \"emergency\"
for = \"0s\"
steps = [{ release = \"ping\" }]
[emergency]
hold = \"100ms\"
hold_max = \"100ms\"
undo_interval = \"100ms\"
";

struct Guarded {
    node: MadeUp,
    daemon: Daemon,
    edge: Server,
    kept: Server,
    writers: [Server; 2],
    _redis: Server,
}

/// What one of the two showed while the disk hung for one of them.
struct Seen {
    lateness_ms: f64,
    answers_ms: Vec<f64>,
    undone_ms: f64,
    acted: usize,
}

pub fn measure() -> Figures {
    let (calm, hung) = (Guarded::start()?, Guarded::start()?);
    sleep(SETTLE);
    // Both are looked at in the same way, and the loop, which is measured, in neither.
    let _watched = tracer::syncs(&calm.daemon.process, None)?;
    let watched = tracer::syncs(&hung.daemon.process, None)?;
    let started = [calm.lag()?, hung.lag()?];
    sleep(BEFORE);
    let noise = hung.lateness_ms(&started[1])? / calm.lateness_ms(&started[0])?;
    drop(watched);
    let hang = tracer::syncs(&hung.daemon.process, Some(tracer::FOR_EVER))?;
    let both = [&calm, &hung];
    let before = [calm.lag()?, hung.lag()?];
    let began = Instant::now();
    both.iter().try_for_each(|each| each.node.set(Line::Available, 25))?;
    let (mut looks, mut missing) = (0.0, 0.0);
    while began.elapsed() < duration() {
        for free in [90, 10] {
            both.iter().try_for_each(|each| each.node.set(Line::SwapFree, free))?;
            sleep(HALF);
            looks += 1.0;
            missing += if servers::has_lease(&hung.edge)? { 0.0 } else { 1.0 };
        }
    }
    let done = [calm.done()?, hung.done()?];
    let [calm, hung] = [calm.seen(&before[0], done[0])?, hung.seen(&before[1], done[1])?];
    drop(hang);
    rows(&calm, &hung, &Context { noise, looks, missing })
}

/// What else was seen of both.
struct Context {
    /// The two latenesses before anything hung, one over the other.
    noise: f64,
    looks: f64,
    missing: f64,
}

fn rows(calm: &Seen, hung: &Seen, context: &Context) -> Figures {
    if (calm.acted, hung.acted) != (2, 0) {
        return Err(format!("{} of 2 acted in calm, {} while nothing could be recorded", calm.acted, hung.acted));
    }
    let while_hung = format!("disk hung for {} s while two controls act", duration().as_secs());
    let answer = |seen: &Seen| quantile(&seen.answers_ms, 0.5);
    Ok(vec![
        Row::new(
            format!("{while_hung}: tick lateness over that of calm, p99"),
            hung.lateness_ms / calm.lateness_ms,
            Unit::Times,
        )
        .at_most(1.5, 1.2)
        .next_to(format!(
            "{:.3} ms against {:.3} ms in the same seconds; before it hung {:.2} x",
            hung.lateness_ms, calm.lateness_ms, context.noise
        )),
        Row::new("the same: looks at which its lease was not there", context.missing, Unit::Count)
            .at_most(0.0, None)
            .next_to(format!("of {:.0} looks; leases last for 10 s", context.looks)),
        Row::new(
            "the same: another control's step to its answer, over that of calm, median",
            answer(hung) / answer(calm),
            Unit::Times,
        )
        .at_most(1.5, 1.2)
        .next_to(format!(
            "Redis {:.1} ms against {:.1} ms, {} and {} times; an undo {:.0} ms against {:.0} ms",
            answer(hung),
            answer(calm),
            hung.answers_ms.len(),
            calm.answers_ms.len(),
            hung.undone_ms,
            calm.undone_ms
        )),
    ])
}

fn duration() -> Duration {
    let asked = std::env::args().find_map(|argument| argument.strip_prefix(FLAG)?.parse().ok());
    asked.map_or(HANG, Duration::from_secs)
}

impl Guarded {
    /// The lease stands, and `kept` is throttled.
    fn start() -> Result<Self, String> {
        let node = MadeUp::new()?;
        let (edge, redis, kept) = (servers::haproxy_with_leases()?, servers::redis()?, servers::haproxy()?);
        let (one, two) = (servers::haproxy()?, servers::haproxy()?);
        let named = [("kept", &kept), ("one", &one), ("two", &two)];
        let more = named.map(|(name, server)| servers::haproxy_control(name, server)).concat();
        let ping = format!(
            "[control.socket.{ASKED}]\nsocket = {:?}\n[control.socket.{ASKED}.release]\n\
             do = {{ send = \"PING\\r\\n\", expect = \"PONG\" }}\n",
            redis.path("redis.sock")
        );
        let configuration = node.configuration() + &servers::controls(&edge, &redis) + &more + &ping + RULES;
        let daemon = Daemon::start(&configuration)?;
        sleep(SETTLE);
        node.set(Line::Available, 50)?;
        for control in ["edge", "kept"] {
            daemon.event_with("acted", &[("control", control), ("outcome", "applied")], PATIENCE)?;
        }
        Ok(Self { node, daemon, edge, kept, writers: [one, two], _redis: redis })
    }

    fn lag(&self) -> Result<Histogram, String> {
        Histogram::read(self.daemon.port, TICK_LAG)
    }

    /// Of 99 of 100 ticks since then.
    fn lateness_ms(&self, before: &Histogram) -> Result<f64, String> {
        Ok(self.lag()?.since(before).between(0.99) * 1e3)
    }

    /// How many of the two acted; and milliseconds until `kept` is what it was, once nothing wants it any more.
    fn done(&self) -> Result<(usize, f64), String> {
        let limits = self.writers.each_ref().map(servers::haproxy_limit).into_iter().collect::<Result<Vec<_>, _>>()?;
        let acted = limits.iter().filter(|limit| *limit == "4").count();
        self.undone().map(|undone_ms| (acted, undone_ms))
    }

    fn undone(&self) -> Result<f64, String> {
        let began = Instant::now();
        self.node.set(Line::Available, 70)?;
        while servers::haproxy_limit(&self.kept)? != "8" {
            if began.elapsed() > PATIENCE {
                return Err("the throttle was not undone".to_owned());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    fn seen(&self, before: &Histogram, (acted, undone_ms): (usize, f64)) -> Result<Seen, String> {
        let events = self.daemon.events()?;
        let about = |event: &Record| event.fields.get("control").is_some_and(|control| control == ASKED);
        let (mut asked, mut answers_ms) = (None, Vec::new());
        for event in events.iter().filter(|event| about(event)) {
            match (event.name.as_str(), asked) {
                ("step", _) => asked = Some(event.at_seconds),
                ("acted", Some(at)) => answers_ms.push((event.at_seconds - at) * 1e3),
                (_, _) => {}
            }
        }
        Ok(Seen { lateness_ms: self.lateness_ms(before)?, answers_ms, undone_ms, acted })
    }
}
