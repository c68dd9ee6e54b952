//! `/events` as `text/event-stream`: the trail from a number on, then whatever is added, for a bounded time and a bounded
//! number of readers. It looks at the trail four times a second, so that the loop never has to wake a reader.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::events::{Log, Record};

/// Each costs a connection and four looks a second.
const MOST_READERS: usize = 8;
/// A browser's EventSource comes back by itself where it was.
const LIFE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A comment in this many looks, so that both ends notice when the other has gone.
const LOOKS_PER_SIGN: u32 = 60;
const BATCH: usize = 64;

/// Those of one way in: whoever takes all of them takes none from the other.
#[derive(Clone, Default, Debug)]
pub struct Streams(Arc<AtomicUsize>);

#[derive(Debug)]
struct Reader(Streams);

impl Reader {
    fn admit(streams: &Streams) -> Option<Self> {
        let more = |readers| (readers < MOST_READERS).then_some(readers + 1);
        let admitted = streams.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        admitted.ok().map(|_| Self(streams.clone()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub struct EventStream {
    log: Arc<Log>,
    seen: u64,
    looks: Interval,
    until: Instant,
    silent: u32,
    waiting: VecDeque<Arc<Record>>,
    _reader: Reader,
}

impl EventStream {
    /// `None` when there are as many readers as there may be.
    #[must_use]
    pub fn open(streams: &Streams, log: Arc<Log>, since: u64) -> Option<Self> {
        let reader = Reader::admit(streams)?;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let until = Instant::now() + LIFE;
        Some(Self { log, seen: since, looks, until, silent: 0, waiting: VecDeque::new(), _reader: reader })
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let me = &mut *self;
            if let Some(text) = drain(&mut me.waiting) {
                me.silent = 0;
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
            let now = ready!(me.looks.poll_tick(context));
            if now >= me.until {
                return Poll::Ready(None);
            }
            me.waiting.extend(me.log.since(me.seen, BATCH));
            me.seen = me.waiting.back().map_or(me.seen, |record| record.seq);
            me.silent += 1;
            if me.waiting.is_empty() && (me.silent == 1 || me.silent > LOOKS_PER_SIGN) {
                me.silent = 1;
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": nothing new\n\n")))));
            }
        }
    }
}

fn drain(waiting: &mut VecDeque<Arc<Record>>) -> Option<String> {
    let mut text = String::new();
    for record in waiting.drain(..) {
        let json = serde_json::to_string(&*record).unwrap_or_default();
        writeln!(text, "id: {}\nevent: {}\ndata: {json}\n", record.seq, record.name).ok();
    }
    (!text.is_empty()).then_some(text)
}
