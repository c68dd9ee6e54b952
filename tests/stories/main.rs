//! Generated stories for the pure policy: arbitrary readings, services that hang, fail, restart or are set by others,
//! operators, reloads, ends and deaths. However it goes, in the end nothing is left behind and on the way nothing is done
//! that must not be. A binary of its own: `STORIES=1000000 cargo test --release --test stories`, from `STORY=` on.

mod known;
mod laws;
mod random;
mod rules;
mod run;
mod story;
mod world;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic;

use laws::Broken;
use run::{Run, Tell, told};
use story::{Happening, shortened, tell};

/// As many as an unoptimized build tells in some seconds.
const STORIES: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn broken(story: &[Happening]) -> Option<Broken> {
    let end = panic::catch_unwind(|| Run::new(Tell::Nothing).through(story));
    end.unwrap_or_else(|what| Err(Broken("no panic", words(&*what)))).err()
}

fn words(what: &(dyn Any + Send)) -> String {
    let plain = what.downcast_ref::<&str>().map(|words| (*words).to_owned());
    plain.or_else(|| what.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[test]
fn whatever_happens_nothing_is_left_behind() {
    let (first, stories) = (number("STORY").unwrap_or(1), number("STORIES").unwrap_or(STORIES));
    // A panic is a fault like any other, and told with its story.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let faults = faults(first, stories);
    for (law, seed) in &faults {
        let fails = |story: &[Happening]| broken(story).is_some_and(|Broken(broken, _)| broken == *law);
        let short = shortened(&tell(*seed), fails);
        eprintln!("story {seed}: {short:#?}\n{}\n", told(&short));
    }
    panic::set_hook(hook);
    assert!(faults.is_empty(), "of {stories} stories: {faults:#?}");
}

/// Of each broken law the first story that shows it.
fn faults(first: u64, stories: u64) -> BTreeMap<&'static str, u64> {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = move |worker| {
        let seeds = (first + worker..first + stories).step_by(workers as usize);
        let mut found = BTreeMap::new();
        for seed in seeds {
            if let Some(Broken(law, _)) = broken(&tell(seed)) {
                found.entry(law).or_insert(seed);
            }
        }
        found
    };
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..workers).map(|worker| scope.spawn(move || share(worker))).collect();
        tellers.into_iter().flat_map(|teller| teller.join().unwrap()).collect()
    })
}
