//! Where log lines go: to the journal with their fields if stderr is the journal, else to stderr for people to read.
//! Never blocks its caller: the loop must not wait for a stalled journal or a paused terminal. Lines that cannot be
//! written at once are dropped, and on stderr counted.

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

const IDENTIFIER: &str = "node-guardian";
/// POSIX's `PIPE_BUF` on Linux: a pipe that polls writable takes this much without waiting.
const SURE_BYTES: usize = 4096;

#[derive(Debug)]
pub enum LoggingError {
    /// Not a filter such as `debug` or `node_guardian=debug,hyper=info`.
    Filter { text: String, why: String },
    /// Somebody else has installed a subscriber before.
    Installed,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter { text, why } => {
                write!(f, "`{text}` is not a log filter ({why}); try `debug`, or `node_guardian=debug,hyper=info`")
            }
            Self::Installed => f.write_str("logging was started twice"),
        }
    }
}

impl Error for LoggingError {}

/// Call it before any thread starts. Without a filter: what an operator should know, and other crates' warnings.
///
/// # Errors
/// When the filter cannot be read, or it was called before.
pub fn install(filter: Option<&str>) -> Result<(), LoggingError> {
    let targets = targets(filter)?;
    let registry = tracing_subscriber::registry().with(targets);
    let installed = match stderr_is_the_journal().then(journal).and_then(Result::ok) {
        Some(layer) => set_global_default(registry.with(layer)),
        None => set_global_default(registry.with(lines())),
    };
    installed.map_err(|_| LoggingError::Installed)
}

fn targets(filter: Option<&str>) -> Result<Targets, LoggingError> {
    let Some(text) = filter else {
        let own = env!("CARGO_CRATE_NAME");
        return Ok(Targets::new().with_default(LevelFilter::WARN).with_target(own, LevelFilter::INFO));
    };
    let is_level = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').map(str::trim).find(|word| !is_level(word)) {
        return Err(LoggingError::Filter { text: text.to_owned(), why: format!("`{word}` is not a level") });
    }
    text.parse().map_err(|error: tracing_subscriber::filter::ParseError| LoggingError::Filter {
        text: text.to_owned(),
        why: error.to_string(),
    })
}

/// As systemd.exec(5) says: the device and inode of what it gave us, which a shell may have redirected since.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

fn journal() -> io::Result<tracing_journald::Layer> {
    // The layer keeps its socket to itself. No other thread runs yet, so its descriptor is the one that is free now.
    let descriptor = UnixDatagram::unbound()?.as_raw_fd();
    let layer = tracing_journald::layer()?;
    never_wait(descriptor);
    Ok(layer.with_syslog_identifier(IDENTIFIER.to_owned()).with_field_prefix(None).with_priority_mappings(
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() },
    ))
}

fn never_wait(descriptor: i32) {
    // SAFETY: used for two questions and a flag; a closed or foreign descriptor answers with an error or another type.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if getsockopt(&socket, sockopt::SockType) == Ok(SockType::Datagram) {
        // SAFETY: sets a flag on an open socket.
        unsafe { libc::fcntl(descriptor, libc::F_SETFL, libc::O_NONBLOCK) };
    }
}

fn lines<S: Subscriber + for<'span> LookupSpan<'span>>() -> impl tracing_subscriber::Layer<S> {
    let line = Line { on_terminal: io::stderr().is_terminal() };
    tracing_subscriber::fmt::layer().with_ansi(false).event_format(line).with_writer(|| Unhurried(io::stderr()))
}

/// `14:03:22 WARN  what happened key=value`, with time and colour for people only: a collector adds its own time.
struct Line {
    on_terminal: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        if self.on_terminal {
            write!(out, "{} {}{level:<5}\x1b[0m ", TimeOfDay::now(), colour(level))?;
        } else {
            write!(out, "{level:<5} ")?;
        }
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

/// On the reader's own clock.
struct TimeOfDay(libc::tm);

impl TimeOfDay {
    fn now() -> Self {
        let seconds = i64::try_from(crate::clock::unix_ms() / 1000).unwrap_or(0);
        // SAFETY: plain numbers; localtime_r fills them, or leaves midnight.
        let mut parts = unsafe { std::mem::zeroed() };
        // SAFETY: both point to values of ours.
        unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
        Self(parts)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.0.tm_hour, self.0.tm_min, self.0.tm_sec)
    }
}

/// Writes what can be taken at once and drops the rest.
struct Unhurried<W>(W);

static LOST: AtomicU64 = AtomicU64::new(0);

impl<W: Write + AsFd> Write for Unhurried<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.takes_more() {
            LOST.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writeln!(self.0, "WARN  {lost} log lines were dropped here: their reader was too slow")?;
            return self.write(line);
        }
        self.0.write(&line[..line.len().min(SURE_BYTES)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: AsFd> Unhurried<W> {
    fn takes_more(&self) -> bool {
        poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) == Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_filter_is_read_or_explained() {
        assert!(targets(None).unwrap().would_enable("node_guardian::agent", &Level::INFO));
        assert!(!targets(None).unwrap().would_enable("hyper", &Level::INFO));
        assert!(targets(Some("debug")).unwrap().would_enable("hyper", &Level::DEBUG));
        let text = targets(Some("node_guardian=loud")).unwrap_err().to_string();
        assert!(text.contains("`node_guardian=loud` is not a log filter") && text.contains("try `debug`"), "{text}");
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_not_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut writer = Unhurried(writer);
        let line = [b'x'; 1000];
        for _ in 0..200 {
            writer.write_all(&line).unwrap();
        }
        assert!(LOST.load(Ordering::Relaxed) > 100);
        let mut taken = vec![0; 64 * 1024];
        let first = reader.read(&mut taken).unwrap();
        assert!(first >= SURE_BYTES);
        writer.write_all(b"later\n").unwrap();
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("log lines were dropped here") && rest.ends_with("later\n"), "{rest}");
    }
}
