//! In the steady state nothing is allocated: a full sample, and a whole tick of the loop, with every built-in rule
//! evaluated and the board published. In its own binary, because it counts with a global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_guardian::config::settings::Settings;
use node_guardian::host::kept::Scope;
use node_guardian::host::sampler::Sampler;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::mitigation::ActionId;
use node_guardian::policy::moment::Moment;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::sample::Sample;
use node_guardian::policy::view::View;
use node_guardian::status::{Board, Snapshot};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const TURNS: u32 = 1000;
/// The slow thread delivers at its own pace, and a machine in use changes now and then.
const PATIENCE: Duration = Duration::from_secs(30);

/// All that a tick needs, as the loop has it.
struct Loop {
    sampler: Sampler,
    sample: Sample,
    guardian: Guardian,
    board: Board,
    out: Decisions,
    now: Moment,
    tick: u64,
}

impl Loop {
    fn new() -> Self {
        Self::of(Settings::default())
    }

    fn of(settings: Settings) -> Self {
        let plan = Arc::new(Plan::new(settings.policy));
        let mut out = Decisions::default();
        let board = Board::new(Snapshot {
            tick: 0,
            at: Moment::ORIGIN,
            unix_ms: 0,
            started: Moment::ORIGIN,
            pace: Duration::ZERO,
            sample: Sample::default(),
            view: View::default(),
            plan: Arc::clone(&plan),
            facts: Arc::default(),
            blind_spots: Arc::default(),
            hanging: None,
            unrecordable: None,
            unread_orders: None,
            controls: Arc::default(),
            drill: Arc::default(),
            configuration: Arc::default(),
        });
        Self {
            sampler: Sampler::open(&settings.sampling),
            sample: Sample::default(),
            guardian: Guardian::new(Moment::ORIGIN, plan, Vec::new(), ActionId(1), &mut out),
            board,
            out,
            now: Moment::ORIGIN,
            tick: 0,
        }
    }

    fn sample(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        self.sampler.sample(self.now, Scope::Full, &mut self.sample);
    }

    fn tick(&mut self) {
        self.sample();
        self.sample.at = self.now;
        self.sample.set(Metric::GuardianTickSeconds, Some(0.001));
        self.guardian.step(self.now, Input::Sampled(&self.sample), &mut self.out);
        self.tick += 1;
        let (guardian, sampler, sample) = (&self.guardian, &self.sampler, &self.sample);
        let (tick, at) = (self.tick, self.now);
        self.board.publish(|snapshot| {
            snapshot.tick = tick;
            snapshot.at = at;
            snapshot.sample.copy_from(sample);
            guardian.show(&mut snapshot.view);
            snapshot.facts = sampler.facts();
        });
        std::hint::black_box(self.guardian.soonest_crossing());
    }

    /// What a change of makes a batch not steady: a port that some other program opened, a disk that was mounted.
    fn shape(&self) -> ([u64; Family::ALL.len()], usize, usize) {
        let blind = Arc::as_ptr(self.sampler.blind_spots()) as usize;
        let facts = Arc::as_ptr(&self.sampler.facts()) as usize;
        (Family::ALL.map(|family| self.sample.generation(family)), blind, facts)
    }

    /// Allocations in so many turns in which neither the machine changed nor anything was decided.
    fn steady(&mut self, mut turn: impl FnMut(&mut Self)) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        while self.sampler.facts().cpus == 0 || self.sample.instances(Family::Disk).is_empty() {
            assert!(Instant::now() < deadline, "the slow thread does not deliver");
            turn(self);
        }
        // As many again first, so that the windows that rules look back on have filled.
        let (mut steady, mut allocations) = (0, 0);
        while steady < 2 * TURNS {
            assert!(Instant::now() < deadline, "this machine changes all the time");
            let before = self.shape();
            let counted = ALLOCATIONS.with(Cell::get);
            turn(self);
            let counted = ALLOCATIONS.with(Cell::get) - counted;
            if self.shape() == before && self.out.events.is_empty() {
                steady += 1;
                allocations += if steady > TURNS { counted } else { 0 };
            }
            self.out.clear();
        }
        allocations
    }
}

/// What the loop's thread allocates in a thousand ticks.
pub fn in_a_thousand_ticks() -> u64 {
    Loop::new().steady(Loop::tick)
}

#[test]
fn a_thousand_samples_allocate_nothing() {
    assert_eq!(Loop::new().steady(Loop::sample), 0);
}

#[test]
fn a_thousand_ticks_allocate_nothing() {
    assert_eq!(in_a_thousand_ticks(), 0);
}

/// Whatever limits our own cgroup has here, their files are read.
#[test]
fn a_thousand_samples_of_a_cgroup_allocate_nothing() {
    let mut usual = Settings::default();
    usual.sampling.scope = node_guardian::config::settings::Scope::Container;
    (usual.sampling.memory_limit, usual.sampling.cpu_limit) = (Some(64 << 20), Some(0.5));
    assert_eq!(Loop::of(usual).steady(Loop::sample), 0);
}

#[cfg(test)]
mod firing {
    use node_guardian::policy::condition::parse;
    use node_guardian::policy::mitigation::{Amount, Answered, Command, Mitigation, Outcome, Report, Verb};
    use node_guardian::policy::range::Range;
    use node_guardian::policy::rule::{Rule, Severity, Step};

    use super::*;

    /// A rule that has come to the end of its ladder and holds it there, one step by how far beyond it is.
    #[test]
    fn a_thousand_ticks_of_a_firing_rule_allocate_nothing() {
        let mut settings = Settings::default();
        // What helps nobody is given back as a test before the thousand are over, which this is not about.
        settings.policy.emergency.stand_down = PATIENCE * 1000;
        let control = |control: &str, verb| Mitigation { control: control.into(), verb, amount: Amount::Keep(90.0) };
        let throttle = Step::new(control("edge", Verb::Throttle), Duration::from_secs(1));
        settings.policy.rules.push(Rule {
            name: "always".into(),
            when: parse("threads > 0 or cpu.used_percent > 1%").unwrap(),
            hold_for: Duration::ZERO,
            clear: None,
            clear_for: Duration::ZERO,
            severity: Severity::Warning,
            priority: 0,
            cooldown: Duration::ZERO,
            steps: vec![
                Step { together: true, ..Step::new(control("cache", Verb::Shed), Duration::from_secs(1)) },
                Step { range: Range::new(90.0, 20.0), ..throttle },
            ],
            dry_run: false,
            hints: Vec::new(),
        });
        let (mut run, nothing) = (Loop::of(settings), Arc::from(""));
        let allocations = run.steady(|run| {
            run.tick();
            let commands = std::mem::take(&mut run.out.commands);
            for command in &commands {
                let answered = match command {
                    Command::Apply { .. } => Answered::Apply,
                    Command::Verify { .. } => Answered::Verify,
                    Command::Undo { .. } | Command::Forget { .. } => Answered::Undo,
                };
                let report = Report {
                    id: command.id(),
                    answered,
                    outcome: Outcome::Applied,
                    detail: Arc::clone(&nothing),
                    took: Duration::ZERO,
                    freed_bytes: None,
                    theirs: None,
                };
                run.guardian.step(run.now, Input::Reported(report), &mut run.out);
            }
            let more = std::mem::replace(&mut run.out.commands, commands);
            run.out.commands.clear();
            assert!(more.is_empty());
        });
        assert_eq!((allocations, run.guardian.in_force()), (0, 2));
    }
}
