//! `run`: puts the daemon together and runs it in the foreground. A missing privilege or listener is reported, and is
//! no reason to stop while guarding is possible without it.

use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::unistd::geteuid;

use super::code;
use crate::agent::{Agent, Earlier, Parts, Waker, unread_orders, without_a_journal};
use crate::clock;
use crate::config::settings::Settings;
use crate::config::whereabouts::{self, Noted};
use crate::config::{self, Complaints, Footing, Loaded, Source};
use crate::control::worker::Workers;
use crate::events::{Daemon, Event, Events, Log};
use crate::host::facts::Facts;
use crate::host::sampler::Sampler;
use crate::host::trigger::Triggers;
use crate::http;
use crate::inbox::{self, Door, Inbox};
use crate::journal::{self, Before, Journal, Late, Record};
use crate::keeper::Keeper;
use crate::keeper::orders::{self, Now};
use crate::logging::{self, LoggingError};
use crate::notify::Notifier;
use crate::policy::guardian::{Decisions, Guardian};
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;
use crate::policy::view::View;
use crate::privilege;
use crate::signals;
use crate::status::{BlindSpot, Board, Configuration, Snapshot};
use crate::telemetry::Telemetry;

/// What the command line may change.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub config: Option<PathBuf>,
    pub dry_run: bool,
    pub level: Option<String>,
}

/// Runs until it is told to stop; the exit code. A configuration that cannot be used is no reason not to guard, nor to leave
/// what is in force; only whoever tries one out, and sees at once what is wrong with it, is left to mend it.
#[must_use]
pub fn run(options: &Options) -> u8 {
    // Before anything else: a signal that came too early would end the process.
    let signalled = match Signalled::listen() {
        Ok(signalled) => signalled,
        Err(why) => return failed(&why),
    };
    let source = source(options);
    let loaded = config::settle(&source);
    let tried_out = options.config.is_some() && std::io::stderr().is_terminal();
    let owes_nothing = || {
        let formerly = whereabouts::find(&source);
        owes_nothing(&loaded.settings.state_directory) && formerly.is_none_or(|formerly| owes_nothing(&formerly))
    };
    if loaded.footing != Footing::Asked && tried_out && owes_nothing() {
        eprintln!("{}", loaded.complaints);
        return code::BAD_CONFIGURATION;
    }
    guard(loaded, source, signalled).map_or_else(|why| failed(&why), |()| 0)
}

fn failed(why: &str) -> u8 {
    eprintln!("node-guardian: {why}");
    code::INTERNAL
}

/// The loop's inbox, which signals reach.
struct Signalled {
    door: Door,
    inbox: Inbox,
    impatience: Arc<AtomicBool>,
}

impl Signalled {
    fn listen() -> Result<Self, String> {
        let (door, inbox) = inbox::open().map_err(|errno| format!("cannot make the loop's inbox: {errno}"))?;
        let impatience = signals::install(&door).map_err(|error| format!("cannot handle signals: {error}"))?;
        Ok(Self { door, inbox, impatience })
    }
}

/// As far as anybody can tell: what another guardian holds is its own business.
fn owes_nothing(state_directory: &Path) -> bool {
    Journal::peek(state_directory).map_or(true, |entries| entries.is_empty())
}

/// The files, the environment and the command line. Without root, what is root's by default goes where we may write.
#[must_use]
pub fn source(options: &Options) -> Source {
    let mut environment = config::environment(env::vars_os());
    if !geteuid().is_root() {
        for (variable, directory) in user_directories(|name| env::var_os(name).map(PathBuf::from)) {
            environment.entry(variable.to_owned()).or_insert_with(|| directory.display().to_string());
        }
    }
    Source {
        file: options.config.clone(),
        environment,
        level: options.level.clone(),
        dry_run: options.dry_run,
        ..Source::default()
    }
}

/// Where a guardian that this user runs without root has its admin socket by default.
#[must_use]
pub fn own_socket() -> Option<PathBuf> {
    let [_, (_, runtime)] = user_directories(|name| env::var_os(name).map(PathBuf::from));
    (!geteuid().is_root()).then(|| runtime.join("admin.sock"))
}

/// As the XDG base directory specification has them.
fn user_directories(variable: impl Fn(&str) -> Option<PathBuf>) -> [(&'static str, PathBuf); 2] {
    let temporary = || env::temp_dir().join(format!("node-guardian-{}", geteuid()));
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    [
        ("STATE_DIRECTORY", state.map_or_else(temporary, |state| state.join("node-guardian"))),
        ("RUNTIME_DIRECTORY", variable("XDG_RUNTIME_DIR").map_or_else(temporary, |run| run.join("node-guardian"))),
    ]
}

fn guard(loaded: Loaded, source: Source, signalled: Signalled) -> Result<(), String> {
    let Signalled { door, inbox, impatience } = signalled;
    let Loaded { settings, complaints, footing, last_good } = loaded;
    let unusual_log = start_logging()?;
    let proc_root = settings.sampling.proc_root.clone();
    let mut blind_spots: Vec<BlindSpot> = [
        privilege::protect_from_oom_killer(privilege::writable_proc(&proc_root)),
        privilege::lock_memory(&proc_root),
        privilege::confine(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let telemetry = Telemetry::install()?;
    let mut events = Events::new(Arc::new(Log::default()));
    let started = clock::now().map_err(|errno| format!("cannot read the clock: {errno}"))?;
    tell_start(&mut events, &settings, &complaints, footing);
    if let Some(why) = unusual_log {
        let what = "NODE_GUARDIAN_LOG".to_owned();
        events.emit(clock::unix_ms(), Event::Daemon(Daemon::Degraded { what, why }));
    }

    let plan = Arc::new(Plan::new(settings.policy.clone()));
    events.expect(&settings.policy);
    let (journal, before) = open_journal(&settings, &source, &mut events)?;
    let no_journal = journal.trouble().map(ToOwned::to_owned);
    let mut first = Decisions::default();
    let inherited = before.entries.iter().map(journal::inherited).collect();
    let mut guardian = Guardian::new(started, Arc::clone(&plan), inherited, before.next_id, &mut first);
    let earlier = match (before.unread_orders, &no_journal) {
        (None, _) => Earlier::Known,
        (Some(why), Some(_)) => Earlier::Awaited(why),
        (Some(why), None) => Earlier::Damaged(why),
    };
    guardian.restore_orders(started, before.orders, &mut first);
    if earlier != Earlier::Known {
        guardian.miss_orders();
    }
    let workers = Workers::start(journal, settings.controls.clone(), door.clone())
        .map_err(|error| format!("cannot start the thread that acts: {error}"))?;
    // What could not be read must not be written over.
    let kept = (earlier == Earlier::Known)
        .then(|| orders::bytes(guardian.orders(), Now { moment: started, unix_ms: clock::unix_ms() }));
    let keeper = Keeper::start(&settings.state_directory, kept, door.clone());
    let keeper = keeper.map_err(|error| format!("cannot start the thread that keeps small files: {error}"))?;

    let sampler = Sampler::open(&settings.sampling);
    tracing::info!("memory, CPU, pressure and tasks: using {}", sampler.place());
    let triggers = Triggers::arm(privilege::writable_proc(&proc_root));
    blind_spots.extend(triggers.blind_spots().iter().cloned());
    let refused = (footing != Footing::Asked).then(|| complaints.brief());
    let configuration = Configuration { footing, refused, next_directory: None };
    let board = Arc::new(Board::new(first_snapshot(started, plan, configuration.clone())));
    let log = Arc::clone(events.log());
    if !workers.tell(Arc::clone(&log)) {
        return Err("the thread that acts has ended".to_owned());
    }
    // Opens its listeners by itself: nothing here waits for a port.
    let site = http::serve(&settings.http, Arc::clone(&board), log, telemetry, door)?;
    if std::io::stderr().is_terminal() {
        tracing::info!("Ctrl-C undoes everything that is in force, and ends");
    }
    let waker = Waker::new(&inbox, triggers).map_err(|errno| format!("cannot wait for events: {errno}"))?;
    // Last, so that no other thread has it.
    blind_spots.extend(privilege::schedule_in_real_time(privilege::Urgency::Loop));
    let agent = Agent::new(Parts {
        settings,
        configuration,
        last_good,
        keeper,
        settle: Box::new({
            let source = source.clone();
            move || config::settle(&source)
        }),
        reload: Box::new(move || config::load_again(&source)),
        guardian,
        first,
        sampler,
        waker,
        inbox,
        workers,
        board,
        events,
        notifier: Notifier::from_environment(),
        blind_spots,
        earlier,
        no_journal,
        started,
        impatience,
    });
    let ended = agent.run().map_err(|errno| format!("the loop cannot go on: {errno}"));
    site.stop();
    ended
}

/// What was before, and how to remember from now on. Without a journal nothing new stays in force, but everything is still
/// seen and told; and what can be read of it is undone all the same, since that is safe to repeat.
fn open_journal(settings: &Settings, source: &Source, events: &mut Events) -> Result<(Late, Before), String> {
    let directory = &settings.state_directory;
    let opened = Late::open(directory, Arc::new(Noted(source.clone())));
    let (journal, mut before) = opened.map_err(|error| error.to_string())?;
    let unix_ms = clock::unix_ms();
    if let Some(what) = before.damage.take() {
        events.emit(unix_ms, Event::Daemon(Daemon::JournalDamage { what }));
    }
    if let Some(why) = journal.trouble() {
        events.emit(unix_ms, Event::Daemon(Daemon::JournalFailed { why: without_a_journal(why) }));
    }
    if let Some(why) = &before.unread_orders {
        events.emit(unix_ms, Event::Daemon(unread_orders(directory, why)));
    }
    Ok((journal, before))
}

fn first_snapshot(started: Moment, plan: Arc<Plan>, configuration: Configuration) -> Snapshot {
    Snapshot {
        tick: 0,
        at: started,
        unix_ms: clock::unix_ms(),
        started,
        pace: Duration::ZERO,
        sample: Sample::new(started),
        view: View::default(),
        plan,
        facts: Arc::new(Facts::default()),
        blind_spots: Arc::default(),
        hanging: None,
        unrecordable: None,
        unread_orders: None,
        controls: Arc::default(),
        drill: Arc::default(),
        configuration: Arc::new(configuration),
    }
}

/// A misspelt filter must not keep the node unguarded: then everything usual is logged, and why.
fn start_logging() -> Result<Option<String>, String> {
    let filter = env::var("NODE_GUARDIAN_LOG").ok();
    match logging::install(filter.as_deref()) {
        Ok(()) => Ok(None),
        Err(misspelt @ LoggingError::Filter { .. }) => {
            logging::install(None).map_err(|error| error.to_string())?;
            Ok(Some(misspelt.to_string()))
        }
        Err(error @ LoggingError::Installed) => Err(error.to_string()),
    }
}

fn tell_start(events: &mut Events, settings: &Settings, complaints: &Complaints, footing: Footing) {
    let names: Vec<String> = settings.sources.iter().map(|path| path.display().to_string()).collect();
    let sources = if names.is_empty() { "built-in defaults".to_owned() } else { names.join(", ") };
    events.emit(clock::unix_ms(), Event::Daemon(Daemon::Started { version: env!("CARGO_PKG_VERSION"), sources }));
    if footing != Footing::Asked {
        let why = complaints.to_string();
        return events.emit(clock::unix_ms(), Event::Daemon(Daemon::Fallback { footing, why }));
    }
    for warning in complaints.located() {
        let what = warning.line.map_or_else(|| warning.file.clone(), |line| format!("{}:{line}", warning.file));
        let why = warning.help.map_or_else(|| warning.message.clone(), |help| format!("{}; {help}", warning.message));
        events.emit(clock::unix_ms(), Event::Daemon(Daemon::Degraded { what, why }));
    }
}
