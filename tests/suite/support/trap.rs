//! Kills the daemon at one of the messages between it and a server, as `kill -9` or the out-of-memory killer might.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::proxy::{self, Passing, Protocol, Verdict, Way};

#[derive(Clone, Default)]
pub struct Trap(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    victim: Option<Pid>,
    at: usize,
    sprung: bool,
    written: Vec<String>,
    /// Redis keeps what it is told until `DISCARD`.
    queues: bool,
}

impl Trap {
    /// At this message, counted from 0: a request is never delivered, an answer comes too late.
    pub fn set(front: &Path, back: &Path, protocol: Protocol, at: usize) -> Self {
        let trap = Self::default();
        trap.0.0.lock().unwrap().at = at;
        let mine = trap.clone();
        proxy::start(front, back, protocol, move |passing| mine.watch(passing));
        trap
    }

    pub fn arm(&self, victim: Pid) {
        self.0.0.lock().unwrap().victim = Some(victim);
        self.0.1.notify_all();
    }

    pub fn has_sprung(&self) -> bool {
        self.0.0.lock().unwrap().sprung
    }

    /// What would change something at the server and came after the kill.
    pub fn written_since(&self) -> Vec<String> {
        self.0.0.lock().unwrap().written.clone()
    }

    fn watch(&self, passing: &Passing<'_>) -> Verdict {
        let (state, armed) = &*self.0;
        let mut state = armed.wait_while(state.lock().unwrap(), |state| state.victim.is_none()).unwrap();
        if state.sprung {
            state.queues = (state.queues || passing.says("\r\nMULTI\r\n")) && !passing.says("\r\nDISCARD\r\n");
            if passing.way == Way::Request && !state.queues && changes_something(passing) {
                state.written.push(String::from_utf8_lossy(passing.bytes).into_owned());
            }
            return Verdict::Pass;
        }
        if passing.number < state.at {
            return Verdict::Pass;
        }
        let victim = state.victim.unwrap();
        kill(victim, Signal::SIGKILL).unwrap();
        waitid(Id::Pid(victim), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        state.sprung = true;
        Verdict::Cut
    }
}

/// Redis is asked for what it cannot accept, `probe`, to learn whether it may be asked; HAProxy about a key that nobody has.
fn changes_something(passing: &Passing<'_>) -> bool {
    let haproxy = passing.says("set ") || passing.says("clear ");
    let redis = (passing.says("\r\nSET\r\n") || passing.says("PAUSE")) && !passing.says("\r\nprobe\r\n");
    (haproxy && !passing.says("node-guardian.probe")) || redis
}
