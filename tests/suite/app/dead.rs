//! A guardian that is killed, and one that hangs, leave no throttle behind: the whole daemon, against an application whose
//! leases are short.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::app::{App, Language};
use crate::support::node::{Node, short_of_memory};

/// The shortest leases that the guardian takes.
const TTL: Duration = Duration::from_secs(15);

fn throttled(app: &App) -> (Node, crate::support::node::Daemon) {
    let socket = app.path("ng.sock");
    let steps = short_of_memory("{ throttle = \"api\", to = \"40%\", settle = \"100ms\" }");
    let node = Node::new(&format!("[control.app.api]\nsocket = \"{}\"\n{steps}", socket.display()));
    node.set_available(5);
    let mut daemon = node.start();
    daemon.until_in_force(&["throttle api to 40%"]);
    assert_eq!(app.effective(), 60);
    (node, daemon)
}

#[test]
fn a_guardian_that_is_killed_or_hangs_loses_its_throttle_in_time() {
    let [killed, hung, well] = [Language::Rust, Language::Python, Language::Rust].map(|language| {
        let app = App::with(language, "--max-ttl-ms 15000");
        let (node, daemon) = throttled(&app);
        (app, node, daemon)
    });
    let began = Instant::now();
    killed.2.kill();
    hung.2.signal(Signal::SIGSTOP);
    for app in [&killed.0, &hung.0] {
        let lapsed = crate::support::eventually("the lease lapses", || (app.effective() == 0).then(Instant::now));
        let took = lapsed - began;
        eprintln!("lapsed after {:.1} s", took.as_secs_f64());
        assert!(took < TTL + Duration::from_secs(2), "{took:?}");
    }
    // Longer than the lease was given for, and still in force: the guardian that is well has renewed it.
    assert!(began.elapsed() > TTL / 2);
    std::thread::sleep((TTL + Duration::from_millis(500)).saturating_sub(began.elapsed()));
    assert_eq!(well.0.effective(), 60);
    hung.2.signal(Signal::SIGCONT);
    let (app, node, mut daemon) = well;
    node.set_available(50);
    daemon.until_calm();
    assert_eq!(app.leases(), [""; 0]);
}
