//! `completions` and `man`: texts that are made from the command line by the tests and kept in packaging/generated, so
//! that their makers are not part of the daemon, whose memory is locked, code and all. The texts themselves cost 52 kB.

use clap::ValueEnum;

use super::print;

const MANUAL: &str = include_str!("../../packaging/generated/node-guardian.8");

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    const fn script(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("../../packaging/generated/node-guardian.bash"),
            Shell::Zsh => include_str!("../../packaging/generated/_node-guardian"),
            Shell::Fish => include_str!("../../packaging/generated/node-guardian.fish"),
        }
    }
}

pub fn completions(shell: Shell) -> u8 {
    print(shell.script());
    0
}

pub fn manual() -> u8 {
    print(MANUAL);
    0
}
