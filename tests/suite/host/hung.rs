//! A file system that does not answer: its own readings are missing, it is said once, everything else goes on, and no
//! sample is late for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use node_guardian::config::settings::Sampling;
use node_guardian::host::kept::Scope;
use node_guardian::host::post::Probe;
use node_guardian::host::sampler::Sampler;
use node_guardian::host::space::Space;
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::sample::Sample;

use super::{at, sample_until, sampling};

/// A disk that can be made to hang.
#[derive(Default)]
struct Disk {
    hangs: Mutex<bool>,
    moved: Condvar,
    stuck: AtomicUsize,
}

impl Disk {
    fn answer(&self, point: &Path) -> Space {
        if point == Path::new("/hung") {
            self.stuck.fetch_add(1, Ordering::SeqCst);
            let _moving = self.moved.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap();
            self.stuck.fetch_sub(1, Ordering::SeqCst);
        }
        Space { size_bytes: 100, free_bytes: 40, available_bytes: 40, ..Space::default() }
    }

    fn set(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.moved.notify_all();
    }
}

fn used(sample: &Sample, mount: &str) -> Option<f64> {
    let row = sample.row(Family::Disk, mount)?;
    sample.instance(Metric::DiskUsedPercent, row)
}

fn told(sampler: &Sampler) -> usize {
    sampler.blind_spots().iter().filter(|spot| spot.what == "disk[\"/hung\"]").count()
}

#[test]
fn a_hung_mount_is_missing_and_delays_nothing() {
    let disk = Arc::new(Disk::default());
    disk.set(true);
    let asked = Arc::clone(&disk);
    let probe = Probe { ask: Arc::new(move |point| Ok(asked.answer(point))), patience: Duration::from_millis(100) };
    let mounts = Some(["/before", "/hung", "/later"].map(PathBuf::from).to_vec());
    let mut sampler = Sampler::open_with(&Sampling { mounts, ..sampling("/proc", "/sys") }, probe);

    let all_but_one = |sampler: &Sampler, sample: &Sample| {
        used(sample, "/before").is_some() && used(sample, "/later").is_some() && told(sampler) == 1
    };
    let sample = sample_until(&mut sampler, at(1), "reading of the others", all_but_one);
    assert_eq!(used(&sample, "/hung"), None);
    assert_eq!(used(&sample, "/later"), Some(60.0));

    let mut sample = sample;
    let mut sampling = Duration::ZERO;
    for second in 0..200 {
        let started = Instant::now();
        sampler.sample(at(2 + second), Scope::Full, &mut sample);
        sampling += started.elapsed();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(sampling < Duration::from_secs(2), "200 samples took {sampling:?}");
    assert_eq!(disk.stuck.load(Ordering::SeqCst), 1, "one stuck thread per hung mount");
    assert_eq!(told(&sampler), 1);

    disk.set(false);
    let answers = |sampler: &Sampler, sample: &Sample| used(sample, "/hung").is_some() && told(sampler) == 0;
    let sample = sample_until(&mut sampler, at(1000), "reading after it came back", answers);
    assert_eq!(used(&sample, "/hung"), Some(60.0));
}
