//! Whether what destroys for seconds is wanted still. Asked between its parts, because the node may recover meanwhile, or an
//! operator say no. A part that has begun is ended.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

/// Often enough that little is lost for nothing; each time costs the loop a fresh look at the node.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(100);

/// Why it is not wanted any more, where it is not.
pub(crate) type Answer = Result<(), &'static str>;

type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// The way to whoever decides.
pub struct Consent<'a> {
    ask: Box<dyn Fn() -> Asking<'a> + 'a>,
    asked: Cell<Instant>,
    begun: Cell<bool>,
}

impl<'a> Consent<'a> {
    /// Given just now.
    pub fn new<Asked: Future<Output = Answer> + 'a>(ask: impl Fn() -> Asked + 'a) -> Self {
        Self { ask: Box::new(move || Box::pin(ask())), asked: Cell::new(Instant::now()), begun: Cell::new(false) }
    }

    /// For who measures and tries, and decides nothing.
    #[must_use]
    pub fn always() -> Self {
        Self::new(|| async { Ok(()) })
    }

    /// The next byte may destroy something, whatever is answered to it.
    pub(crate) fn begin(&self) {
        self.begun.set(true);
    }

    /// Where this is not so, nothing was lost.
    #[must_use]
    pub(crate) const fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Before the next of many parts: asks where the last answer is not fresh.
    ///
    /// # Errors
    /// Why it is to stop.
    pub(crate) async fn goes_on(&self) -> Answer {
        if self.asked.get().elapsed() < ASK_EVERY {
            return Ok(());
        }
        self.again().await
    }

    /// Before a part that is worse than those before.
    ///
    /// # Errors
    /// Why it is to stop.
    pub(crate) async fn again(&self) -> Answer {
        let answer = (self.ask)().await;
        self.asked.set(Instant::now());
        answer
    }
}
