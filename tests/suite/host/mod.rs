//! Sampling: trees of several kernels and containers, this machine, hostile content, hung disks.

mod fixtures;
mod hints;
mod hostile;
mod hung;
mod live;
mod pod;
mod volumes;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use node_guardian::config::settings::Sampling;
use node_guardian::host::kept::Scope;
use node_guardian::host::sampler::Sampler;
use node_guardian::policy::moment::Moment;
use node_guardian::policy::sample::Sample;

/// The slow thread is done with its first round long before; a loaded machine may need it.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

fn sampling(proc_root: impl Into<PathBuf>, sys_root: impl Into<PathBuf>) -> Sampling {
    Sampling {
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(20),
        proc_root: proc_root.into(),
        sys_root: sys_root.into(),
        ..Sampling::default()
    }
}

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

/// Samples at one moment until the slow thread has delivered what is waited for.
fn sample_until(sampler: &mut Sampler, now: Moment, what: &str, arrived: impl Fn(&Sampler, &Sample) -> bool) -> Sample {
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut sample = Sample::new(now);
    loop {
        sampler.sample(now, Scope::Full, &mut sample);
        if arrived(sampler, &sample) {
            return sample;
        }
        assert!(Instant::now() < deadline, "no {what} after {LONGEST_WAIT:?}: {:?}", sampler.blind_spots());
        std::thread::sleep(Duration::from_millis(2));
    }
}
