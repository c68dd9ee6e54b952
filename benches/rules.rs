//! One pass over a thousand rules in the steady state, against a bare loop that compares the same numbers. Half of the
//! rules have one comparison, half have two, over a hundred distinct operands. `cargo bench --bench rules`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_guardian::policy::condition::parse;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::mitigation::{ActionId, Level};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::rule::{Policy, Rule, Severity};
use node_guardian::policy::sample::Sample;

const RULES: usize = 1000;
const PASSES: u32 = 2000;
const ROUNDS: usize = 15;

fn main() {
    let (policy, loops) = measure();
    println!("one pass of {RULES} rules        {:>8.1} us   (must <= 50, aim <= 15)", policy * 1e6);
    println!("bare comparisons, same number {:>8.1} us   ratio {:.1}", loops * 1e6, policy / loops);
}

/// Seconds of one pass of the policy, and of the bare comparisons.
pub fn measure() -> (f64, f64) {
    let mut guardian = guardian();
    let mut out = Decisions::default();
    let mut sample = sample();
    let mut now = Moment::ORIGIN;
    let mut step = || {
        now = now + Duration::from_secs(1);
        sample.at = now;
        guardian.step(now, Input::Sampled(black_box(&sample)), &mut out);
        assert!(out.commands.is_empty());
        out.clear();
    };
    (0..100).for_each(|_| step());

    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let bare: Vec<(usize, f64)> = (0..RULES * 3 / 2).map(|i| (i % values.len(), 1000.0 + i as f64)).collect();
    let mut pass = || {
        let holding = bare.iter().filter(|(slot, threshold)| black_box(values[*slot]) > *threshold).count();
        black_box(holding);
    };

    let (mut policy, mut loops) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        policy.push(time(&mut step));
        loops.push(time(&mut pass));
    }
    (median(policy), median(loops))
}

fn time(work: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..PASSES).for_each(|_| work());
    start.elapsed().as_secs_f64() / f64::from(PASSES)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn sample() -> Sample {
    let mut sample = Sample::default();
    let node = Metric::ALL.iter().filter(|metric| metric.family() == Family::Node);
    node.for_each(|metric| sample.set(*metric, Some(1.0)));
    let mounts: Vec<String> = (0..60).map(|n| format!("/mnt/{n}")).collect();
    sample.set_instances(Family::Disk, &mounts);
    (0..60).for_each(|row| sample.set_instance(Metric::DiskUsedPercent, row, Some(1.0)));
    sample
}

fn guardian() -> Guardian {
    let rules = (0..RULES).map(|n| {
        let mount = format!("disk[\"/mnt/{}\"].used_percent > {}%", n % 60, 50 + n % 50);
        let when = if n % 2 == 0 { mount } else { format!("{mount} and cpu.used_percent > {}%", 60 + n % 40) };
        Rule {
            name: format!("rule-{n}").into(),
            when: parse(&when).unwrap_or_else(|mistakes| panic!("{mistakes:?}")),
            hold_for: Duration::from_secs(1),
            clear: None,
            clear_for: Duration::from_secs(10),
            severity: Severity::Warning,
            priority: 1,
            cooldown: Duration::from_secs(60),
            steps: Vec::new(),
            dry_run: false,
            hints: Vec::new(),
        }
    });
    let policy = Policy { level: Level::Standard, dry_run: false, rules: rules.collect(), ..Policy::default() };
    let mut out = Decisions::default();
    Guardian::new(Moment::ORIGIN, Arc::new(Plan::new(policy)), Vec::new(), ActionId(1), &mut out)
}
