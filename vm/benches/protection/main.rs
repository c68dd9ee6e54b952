//! What a guardian is worth while a node is under attack: the same small town in a Debian guest, each attack in turn, with
//! nothing, with five guards that Debian has, and with node-guardian. `vm/protection.md` says how it is measured.
//!
//! One executable has every part: without a part's name it is the host's half, which starts guests and carries itself into
//! them. All load stays on the guest's loopback and is bounded in number and time by whoever makes it.

mod guest;
mod host;
mod play;
mod record;
mod scenario;
mod table;
mod tool;

use std::env;
use std::process::ExitCode;

type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["guest", tool] => guest::prepare(tool),
        ["guest", tool, scenario] => guest::run(tool, scenario),
        ["shop"] => play::shop::serve(),
        ["crowd", users, path, seconds] => play::crowd::come(users, path, seconds),
        ["attack", scenario, seconds] => play::attack::run(scenario, seconds),
        _ => host::run(&words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("protection: {why}");
            ExitCode::FAILURE
        }
    }
}
