//! How much of a core answering may take. Probes and `/health` are cheap and answered at once. Everything else over TCP
//! waits for its turn, first come first served, and all of it together gets a quarter of a core: readers wait for each
//! other, and neither a probe nor the node waits for them.

use std::time::Duration;

use hyper::{Method, Request};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::routes::{self, Access};

/// A scrape of 25 kB four times a second takes a thousandth of this.
const SHARE: f64 = 0.25;
/// Answered at once after a pause: a page that asks for everything.
const BURST: Duration = Duration::from_millis(50);
/// What reading a request and sending its answer take beside making it (60 kB over loopback: 40 µs).
const PER_REQUEST: Duration = Duration::from_micros(50);

/// What is asked often, by machines that act on it.
const AT_ONCE: [Access; 2] = [Access::Probe, Access::Health];

#[derive(Debug)]
pub struct Turns {
    spent: Mutex<Spent>,
    /// Beside the lock, for those who are done.
    done: std::sync::Mutex<Duration>,
}

#[derive(Debug)]
struct Spent {
    level: Duration,
    at: Instant,
}

impl Turns {
    #[must_use]
    pub fn new() -> Self {
        Self {
            spent: Mutex::new(Spent { level: Duration::ZERO, at: Instant::now() }),
            done: std::sync::Mutex::default(),
        }
    }

    /// Whether this one waits for nobody.
    #[must_use]
    pub fn is_at_once<B>(request: &Request<B>) -> bool {
        matches!(*request.method(), Method::GET | Method::HEAD) && routes::is(request.uri().path(), &AT_ONCE)
    }

    /// The same by the first bytes of a request, before it is read.
    #[must_use]
    pub fn begins_at_once(request: &[u8]) -> bool {
        let path = request.strip_prefix(b"GET ").or_else(|| request.strip_prefix(b"HEAD "));
        path.is_some_and(|path| routes::paths(&AT_ONCE).any(|known| path.starts_with(known.as_bytes())))
    }

    /// Waits in the order of coming; what was spent meanwhile counts.
    pub async fn wait(&self) {
        let mut spent = self.spent.lock().await;
        loop {
            spent.add(self.take_done(), Instant::now());
            let Some(over) = spent.level.checked_sub(BURST).filter(|over| !over.is_zero()) else { return };
            sleep(over.div_f64(SHARE)).await;
        }
    }

    /// To be called with what this thread had computed when it began to answer.
    pub fn done(&self, began: Duration) {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *done += computed().saturating_sub(began) + PER_REQUEST;
    }

    fn take_done(&self) -> Duration {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Spent {
    fn add(&mut self, spent: Duration, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.level = self.level.saturating_sub(passed.mul_f64(SHARE)) + spent;
        self.at = now;
    }
}

/// By this thread so far; nothing where no clock says it.
#[must_use]
pub fn computed() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_wears_off_at_its_share() {
        let now = Instant::now();
        let mut spent = Spent { level: Duration::ZERO, at: now };
        spent.add(Duration::from_millis(250), now);
        spent.add(Duration::ZERO, now + Duration::from_millis(400));
        assert_eq!(spent.level, Duration::from_millis(150));
        spent.add(Duration::ZERO, now + Duration::from_secs(9));
        assert_eq!(spent.level, Duration::ZERO);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn more_than_a_burst_waits() {
        let turns = Turns::new();
        let began = Instant::now();
        turns.wait().await;
        *turns.done.lock().unwrap() = BURST + Duration::from_millis(20);
        turns.wait().await;
        assert!(began.elapsed() >= Duration::from_millis(70), "{:?}", began.elapsed());
        assert!(Turns::begins_at_once(b"GET /livez HTTP/1") && Turns::begins_at_once(b"HEAD /health?x HT"));
        assert!(
            !Turns::begins_at_once(b"GET /status HTTP")
                && !Turns::begins_at_once(b"")
                && !Turns::begins_at_once(b"POST /livez H")
        );
        let probe = |method: Method, path: &str| Request::builder().method(method).uri(path).body(()).unwrap();
        assert!(Turns::is_at_once(&probe(Method::GET, "/livez?verbose")));
        assert!(
            !Turns::is_at_once(&probe(Method::GET, "/status")) && !Turns::is_at_once(&probe(Method::POST, "/livez"))
        );
    }
}
