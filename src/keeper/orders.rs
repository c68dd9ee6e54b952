//! The operator's orders as a file: a pause, and what an operator undid, set or gave up, survive a restart and a crash.
//! Times are by the wall clock, since moments start again at each boot. A clock that jumps shortens a pause, never
//! extends it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::slots;
use crate::journal;
use crate::policy::losses::{Loss, Losses};
use crate::policy::mitigation::{ActionId, Knob, Mitigation, Verb};
use crate::policy::moment::Moment;
use crate::policy::orders::{Ends, Hold, Orders, Pause, Theirs, Undone};
use crate::policy::quiet::Quiet;
use crate::policy::stood_down::{LONGEST_PAUSE, StoodDown, StoodDowns};

pub const NAME: &str = "orders";
/// What an earlier version wrote instead, as one JSON text.
pub const EARLIER: &str = "orders.json";

/// An earlier version set no bound; a thousand undone knobs have a third of this.
const LARGEST: u64 = 1 << 20;

/// The same moment on both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub moment: Moment,
    pub unix_ms: u64,
}

impl Now {
    fn unix_ms_of(self, moment: Moment) -> u64 {
        (self.unix_ms + millis(moment.since(self.moment))).saturating_sub(millis(self.moment.since(moment)))
    }

    /// What was before this boot is as old as moments get.
    fn moment_of(self, unix_ms: u64) -> Moment {
        let ahead = Duration::from_millis(unix_ms.saturating_sub(self.unix_ms));
        (self.moment + ahead) - Duration::from_millis(self.unix_ms.saturating_sub(unix_ms))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What an earlier version did not know is missing in its file.
#[derive(Serialize, Deserialize)]
struct Page {
    pause: Option<PauseLine>,
    undone: Vec<UndoneLine>,
    #[serde(default)]
    theirs: Vec<TheirsLine>,
    #[serde(default)]
    forgotten: Vec<ActionId>,
    #[serde(default)]
    losses: Vec<LossLine>,
    #[serde(default)]
    stood_down: Vec<StoodDownLine>,
}

#[derive(Serialize, Deserialize)]
struct StoodDownLine {
    rule: Arc<str>,
    ladder: u32,
    since_unix_ms: u64,
    tries: u32,
    until_unix_ms: u64,
    retries: bool,
    read: Option<(Arc<str>, f64)>,
}

#[derive(Serialize, Deserialize)]
struct LossLine {
    rule: Arc<str>,
    #[serde(default)]
    control: Arc<str>,
    target: Arc<str>,
    verb: Verb,
    at_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct PauseLine {
    since_unix_ms: u64,
    until_unix_ms: u64,
    keeps: bool,
    by: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct UndoneLine {
    id: ActionId,
    target: Arc<str>,
    verb: Verb,
    mitigation: Mitigation,
    since_unix_ms: u64,
    /// What was watched of it: a restart is no quiet time.
    #[serde(default)]
    quiet_ms: Option<u64>,
    by: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct TheirsLine {
    id: ActionId,
    target: Arc<str>,
    verb: Verb,
    mitigation: Mitigation,
    found: Arc<str>,
    since_unix_ms: u64,
}

/// What its file holds. Empty where it cannot be written, which is read as no order.
#[must_use]
pub fn bytes(orders: &Orders, now: Now) -> Vec<u8> {
    let pause = orders.pause().map(|pause| PauseLine {
        since_unix_ms: now.unix_ms_of(pause.since),
        until_unix_ms: now.unix_ms_of(pause.until),
        keeps: pause.hold == Hold::Keep,
        by: Arc::clone(&pause.by),
    });
    let undone = orders.undone().iter().map(|undone| UndoneLine {
        id: undone.id,
        target: Arc::clone(&undone.knob.target),
        verb: undone.knob.verb,
        mitigation: undone.mitigation.clone(),
        since_unix_ms: now.unix_ms_of(undone.since),
        quiet_ms: undone.quiet.lasted().map(millis),
        by: Arc::clone(&undone.by),
    });
    let (undone, theirs) = (undone.collect(), orders.theirs().iter().map(|theirs| theirs_line(theirs, now)).collect());
    let losses = orders.losses().all().iter().map(|loss| LossLine {
        rule: Arc::clone(&loss.rule),
        control: Arc::clone(&loss.control),
        target: Arc::clone(&loss.knob.target),
        verb: loss.knob.verb,
        at_unix_ms: now.unix_ms_of(loss.at),
    });
    let stood_down = orders.stood_down().all().map(|stood| StoodDownLine {
        rule: Arc::clone(&stood.rule),
        ladder: stood.ladder,
        since_unix_ms: now.unix_ms_of(stood.since),
        tries: stood.tries,
        until_unix_ms: now.unix_ms_of(stood.until),
        retries: stood.retries,
        read: stood.read.clone().filter(|(_, value)| value.is_finite()),
    });
    let (losses, stood_down) = (losses.collect(), stood_down.collect());
    let page = Page { pause, undone, theirs, forgotten: orders.forgotten().to_vec(), losses, stood_down };
    serde_json::to_vec(&page).unwrap_or_default()
}

fn theirs_line(theirs: &Theirs, now: Now) -> TheirsLine {
    TheirsLine {
        id: theirs.id,
        target: Arc::clone(&theirs.knob.target),
        verb: theirs.knob.verb,
        mitigation: theirs.mitigation.clone(),
        found: Arc::clone(&theirs.found),
        since_unix_ms: now.unix_ms_of(theirs.since),
    }
}

/// Those that were in force when the guardian ended; none where there is no file.
///
/// # Errors
/// When there is one that cannot be read: what it ordered is lost, and somebody should know.
pub fn read(directory: &Path, now: Now) -> io::Result<Orders> {
    journal::check_directory(directory).map_err(io::Error::other)?;
    let Some(bytes) = newest(directory)? else { return Ok(Orders::default()) };
    let page: Page = serde_json::from_slice(&bytes)?;
    let undone = page.undone.into_iter().map(|line| Undone {
        id: line.id,
        knob: Knob { target: line.target, verb: line.verb },
        mitigation: line.mitigation,
        since: now.moment_of(line.since_unix_ms),
        by: line.by,
        quiet: Quiet::lasting(line.quiet_ms.map(Duration::from_millis)),
    });
    let theirs = page.theirs.into_iter().map(|line| theirs(line, now)).collect();
    let pause = page.pause.and_then(|line| pause(line, now));
    let losses = page.losses.into_iter().map(|line| {
        let knob = Knob { target: line.target, verb: line.verb };
        Loss::new(line.rule, line.control, knob, now.moment_of(line.at_unix_ms.min(now.unix_ms)))
    });
    let stood_down = page.stood_down.into_iter().map(|line| stood_down(line, now)).collect();
    let mut orders = Orders::of(pause, undone.collect(), theirs, page.forgotten, Losses::of(losses.collect()));
    *orders.stood_down_mut() = StoodDowns::of(stood_down);
    Ok(orders)
}

/// Keeps these, where no keeper does yet. Durable when it returns.
///
/// # Errors
/// When there is no room for it, or it cannot be written.
pub fn put(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    slots::Slots::open(&directory.join(NAME), bytes)?.write(bytes)?;
    remove_if_there(&directory.join(EARLIER))
}

/// What nobody can read, for somebody to be told of it again.
///
/// # Errors
/// As `put`.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    let source = [NAME, EARLIER].map(|name| from.join(name)).into_iter().find(|path| path.exists());
    File::open(source.unwrap_or_else(|| from.join(NAME)))?.take(LARGEST).read_to_end(&mut bytes)?;
    super::replace(to, NAME, &bytes)
}

/// Whether there is a file of them.
#[must_use]
pub fn is_in(directory: &Path) -> bool {
    [NAME, EARLIER].iter().any(|name| directory.join(name).exists())
}

/// They are kept elsewhere.
///
/// # Errors
/// When the system refuses.
pub fn remove(directory: &Path) -> io::Result<()> {
    remove_if_there(&directory.join(NAME))?;
    remove_if_there(&directory.join(EARLIER))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn newest(directory: &Path) -> io::Result<Option<Vec<u8>>> {
    match slots::read(&directory.join(NAME)) {
        Ok(bytes) => {
            let payload = slots::payload(&bytes).ok_or_else(|| io::Error::other("it is damaged"))?;
            Ok(Some(payload.to_vec()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => earlier(directory),
        Err(error) => Err(error),
    }
}

fn earlier(directory: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(directory.join(EARLIER)) {
        Ok(file) => file.take(LARGEST).read_to_end(&mut bytes).map(|_| Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// By which rule it ends is seen anew: this guardian has evaluated none yet.
fn theirs(line: TheirsLine, now: Now) -> Theirs {
    Theirs {
        id: line.id,
        knob: Knob { target: line.target, verb: line.verb },
        mitigation: line.mitigation,
        found: line.found,
        since: now.moment_of(line.since_unix_ms),
        ends: Ends::WhenAllAreClear(Quiet::default()),
    }
}

/// `None` where its time is over.
fn pause(line: PauseLine, now: Now) -> Option<Pause> {
    let meant = line.until_unix_ms.saturating_sub(line.since_unix_ms);
    let left = line.until_unix_ms.saturating_sub(now.unix_ms).min(meant);
    let hold = if line.keeps { Hold::Keep } else { Hold::Undo };
    (left > 0).then(|| Pause {
        since: now.moment_of(line.since_unix_ms.min(now.unix_ms)),
        until: now.moment + Duration::from_millis(left),
        hold,
        by: line.by,
    })
}

/// A clock that was set back makes no pause longer than any is.
fn stood_down(line: StoodDownLine, now: Now) -> StoodDown {
    StoodDown {
        rule: line.rule,
        ladder: line.ladder,
        since: now.moment_of(line.since_unix_ms.min(now.unix_ms)),
        tries: line.tries,
        until: now.moment_of(line.until_unix_ms.min(now.unix_ms + millis(LONGEST_PAUSE))),
        retries: line.retries,
        read: line.read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Amount;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn orders() -> Orders {
        let mitigation = Mitigation { control: "edge".into(), verb: Verb::Throttle, amount: Amount::Keep(50.0) };
        let undone = Undone {
            id: ActionId(7),
            knob: Knob { target: "unix:/run/haproxy.sock".into(), verb: Verb::Throttle },
            mitigation,
            since: at(900),
            by: "uid 1000 (oncall)".into(),
            quiet: Quiet::lasting(Some(Duration::from_secs(90))),
        };
        let pause = Pause { since: at(1000), until: at(2800), hold: Hold::Keep, by: "token".into() };
        let theirs = Theirs {
            id: ActionId(8),
            knob: Knob { target: "unix:/run/redis.sock".into(), verb: Verb::Shrink },
            mitigation: Mitigation { control: "cache".into(), verb: Verb::Shrink, amount: Amount::Bytes(1 << 20) },
            found: "maxmemory is 5, not the 6 that was set".into(),
            since: at(950),
            ends: Ends::WhenAllAreClear(Quiet::default()),
        };
        let flushed = Knob { target: "unix:/run/redis.sock".into(), verb: Verb::Flush };
        let losses = Losses::of(vec![Loss::new("short".into(), "cache".into(), flushed, at(980))]);
        let mut orders = Orders::of(Some(pause), vec![undone], vec![theirs], vec![ActionId(3)], losses);
        *orders.stood_down_mut() = StoodDowns::of(vec![StoodDown {
            rule: "short".into(),
            ladder: 7,
            since: at(960),
            tries: 2,
            until: at(1560),
            retries: true,
            read: Some(("memory.available_percent".into(), 7.25)),
        }]);
        orders
    }

    fn kept(unix_s: u64, moment: u64) -> Orders {
        let folder = tempfile::tempdir().unwrap();
        let written = bytes(&orders(), Now { moment: at(1000), unix_ms: 5_000_000 });
        slots::Slots::open(&folder.path().join(NAME), &written).unwrap();
        read(folder.path(), Now { moment: at(moment), unix_ms: unix_s * 1000 }).unwrap()
    }

    #[test]
    fn orders_outlive_a_restart_and_a_boot() {
        assert_eq!(kept(5000, 1000), orders());
        let booted = kept(5600, 20);
        let pause = booted.pause().unwrap();
        assert_eq!((pause.until, pause.hold), (at(20 + 1200), Hold::Keep));
        let stood = booted.stood_down().all().next().unwrap();
        assert_eq!((stood.since, stood.until, stood.tries), (at(0), at(0), 2), "its pause is over by 40 s");
        assert_eq!((booted.undone()[0].since, booted.undone()[0].by.as_ref()), (at(0), "uid 1000 (oncall)"));
    }

    #[test]
    fn a_pause_always_ends() {
        assert!(kept(6800, 1).pause().is_none());
        // Somebody set the clock back by an hour: it lasts as long as it was meant to, at most.
        assert_eq!(kept(1400, 1000).pause().unwrap().until, at(1000 + 1800));
    }

    #[test]
    fn a_file_that_is_damaged_is_told_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let now = Now { moment: at(1), unix_ms: 1 };
        assert!(read(folder.path(), now).unwrap().is_empty());
        for name in [EARLIER, NAME] {
            fs::write(folder.path().join(name), "{").unwrap();
            assert!(read(folder.path(), now).is_err());
        }
    }

    #[test]
    fn what_an_earlier_version_kept_is_read_until_there_is_something_newer() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            r#"{"pause":{"since_unix_ms":1000,"until_unix_ms":9000,"keeps":true,"by":"uid 0 (root)"},"undone":[]}"#;
        fs::write(folder.path().join(EARLIER), text).unwrap();
        let now = Now { moment: at(1), unix_ms: 1000 };
        let orders = read(folder.path(), now).unwrap();
        assert_eq!((orders.pause().unwrap().until, orders.theirs().len()), (at(9), 0));
        slots::Slots::open(&folder.path().join(NAME), &bytes(&Orders::default(), now)).unwrap();
        assert!(read(folder.path(), now).unwrap().is_empty());
    }
}
