//! One subcommand, one exit code. Nothing here decides: the daemon is `agent`, and the other subcommands ask it over its
//! admin socket or work on files. What goes wrong is one sentence on stderr that says what to do next; with `--json`
//! nothing but JSON goes to stdout.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::policy::mitigation::Level;
use crate::policy::unit::Quantity;

mod check;
mod client;
mod drill;
mod explain;
mod listener;
mod metrics;
mod pages;
mod paint;
mod pause;

pub mod replay;
pub(crate) mod run;
mod status;
mod undo;

/// What the process leaves behind for scripts; the numbers are those of sysexits.h where it has one.
pub(crate) mod code {
    /// Emergency or recovering; something still owed; `--expect` differs.
    pub(crate) const NOT_WELL: u8 = 1;
    /// Normal, but something is in force, owed, paused, refused or broken.
    pub(crate) const ATTENTION: u8 = 3;
    /// `EX_UNAVAILABLE`: nobody answers.
    pub(crate) const UNREACHABLE: u8 = 69;
    /// `EX_SOFTWARE`
    pub(crate) const INTERNAL: u8 = 70;
    /// `EX_CONFIG`
    pub(crate) const BAD_CONFIGURATION: u8 = 78;
}

/// Keeps a Linux node usable under runaway load.
#[derive(Debug, Parser)]
#[command(name = "node-guardian", version, max_term_width = 80)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Guard this node, in the foreground
    Run(RunArgs),
    /// Compile the whole configuration and print every complaint
    Check(CheckArgs),
    /// Show the state of the node, actions in force and why, and the headroom
    Status(StatusArgs),
    /// Explain why each rule does what it does
    Explain(ExplainArgs),
    /// List every metric that a condition may use
    Metrics(MetricsArgs),
    /// Run samples from a file through the rules, offline
    Replay(ReplayArgs),
    /// Apply and undo each reversible action for a moment, and verify both
    Drill(DrillArgs),
    /// Undo actions in force, now. No rule repeats them until its rules were quiet
    /// for 10 minutes, or `resume`
    Undo(UndoArgs),
    /// Take no new actions for a while, and undo those in force
    Pause(PauseArgs),
    /// End a pause, and return undone knobs to the rules
    Resume(ResumeArgs),
    /// Print a script that lets a shell complete these commands
    Completions(CompletionsArgs),
    /// Print the manual page, for `man -l -`
    Man,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Default: /etc/node-guardian/config.toml if it exists, else built-in defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Decide and report, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The harshest class of action that is allowed
    #[arg(long, value_parser = PossibleValuesParser::new(Level::ALL.map(Level::name)))]
    pub level: Option<String>,
}

impl RunArgs {
    fn options(&self) -> run::Options {
        run::Options { config: self.config.clone(), dry_run: self.dry_run, level: self.level.clone() }
    }
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Default: /etc/node-guardian/config.toml
    #[arg(value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also test every control: can it be reached and used? Changes nothing
    #[arg(long)]
    pub live: bool,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub reach: Reach,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
    /// Also list rules that are not applicable on this node
    #[arg(long)]
    pub all: bool,
    /// Show it every second, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Print nothing, and exit 0 while the daemon ticks, also in an emergency: for
    /// health checks in containers, which have no curl
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub alive: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Default: all rules
    pub rule: Option<String>,
    #[command(flatten)]
    pub reach: Reach,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The configuration whose rules are tried
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The file with the samples
    pub trace: PathBuf,
    /// The decisions that are expected; exit 1 if they differ
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Default: every control
    #[arg(value_name = "CONTROL")]
    pub controls: Vec<String>,
    #[command(flatten)]
    pub reach: Reach,
    /// Do not ask first
    #[arg(long, short)]
    pub yes: bool,
    /// How long to wait for the result
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = read_duration)]
    pub wait: Duration,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct UndoArgs {
    /// Numbers from `status`; default: all actions in force
    #[arg(value_name = "ACTION")]
    pub actions: Vec<u64>,
    /// Give up an owed undo whose target is gone: nothing is sent, the value stays,
    /// and the events record who gave it up
    #[arg(long)]
    pub forget: bool,
    #[command(flatten)]
    pub reach: Reach,
    /// How long to wait for the result
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = read_duration)]
    pub wait: Duration,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The pause ends by itself after this time, at most 7d
    #[arg(long = "for", value_name = "TIME", default_value = "30m", value_parser = read_duration)]
    pub lasts: Duration,
    /// Keep what is in force
    #[arg(long)]
    pub hold: bool,
    #[command(flatten)]
    pub reach: Reach,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Numbers of undone knobs, from `status`. Default: all of them; it also ends the
    /// pause and closes every breaker
    #[arg(value_name = "ACTION")]
    pub actions: Vec<u64>,
    #[command(flatten)]
    pub reach: Reach,
    /// For programs: JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to write it for
    pub shell: pages::Shell,
}

/// Where the daemon is.
#[derive(Clone, Debug, Args)]
pub struct Reach {
    /// The daemon's admin socket; root, you or the daemon's user must own it
    /// [default: /run/node-guardian/admin.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there.
    /// With --socket: only if that does not answer
    #[arg(long)]
    pub url: Option<String>,
    /// The file with the bearer token for --url
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Cli {
    /// Runs the subcommand.
    #[must_use]
    pub fn execute(&self) -> ExitCode {
        let code = match &self.command {
            Command::Status(args) => status::run(args),
            Command::Explain(args) => explain::run(args),
            Command::Metrics(args) => metrics::run(args),
            Command::Undo(args) => undo::run(args),
            Command::Pause(args) => pause::pause(args),
            Command::Resume(args) => pause::resume(args),
            Command::Drill(args) => drill::run(args),
            Command::Run(args) => run::run(&args.options()),
            Command::Replay(args) => replay::run(&args.config, &args.trace, args.expect.as_deref()),
            Command::Check(args) => check::run(args),
            Command::Completions(args) => pages::completions(args.shell),
            Command::Man => pages::manual(),
        };
        ExitCode::from(code)
    }
}

fn read_duration(text: &str) -> Result<Duration, String> {
    Quantity::parse(text).and_then(Quantity::duration).ok_or_else(|| "expected a duration, such as 30s".to_owned())
}

/// To stdout; false when nobody reads it any more, which is no mistake.
fn print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// One sentence to stderr, and the exit code to leave with.
fn complain(sentence: &str, code: u8) -> u8 {
    // Where stderr is closed there is nobody left to tell.
    writeln!(io::stderr(), "node-guardian: {sentence}").ok();
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["node-guardian", "run", "--level", "minimal", "--dry-run"]).unwrap();
        assert!(matches!(cli.command, Command::Run(RunArgs { level: Some(_), dry_run: true, .. })));
        let wrong = Cli::try_parse_from(["node-guardian", "run", "--level", "max"]).unwrap_err().to_string();
        assert!(wrong.contains("[possible values: disabled, minimal, standard, aggressive, maximum]"), "{wrong}");
        let wrong = Cli::try_parse_from(["node-guardian", "undo", "--wait", "5"]).unwrap_err().to_string();
        assert!(wrong.contains("such as 30s"), "{wrong}");
    }
}
