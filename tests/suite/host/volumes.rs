//! Mount tables of nodes and containers: what is watched, by which place, and what is said where nothing can be.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use node_guardian::config::settings::Settings;
use node_guardian::host::kept::Scope;
use node_guardian::host::post::Probe;
use node_guardian::host::sampler::Sampler;
use node_guardian::host::space::Space;
use node_guardian::policy::condition::parse;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::mitigation::ActionId;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::sample::Sample;

use super::{at, sample_until, sampling};

const HALF: Space = Space {
    size_bytes: 1000,
    free_bytes: 500,
    available_bytes: 500,
    inodes: 0,
    inodes_free: 0,
    read_only: false,
    is_file: false,
};

struct Table {
    _folder: tempfile::TempDir,
    sampler: Sampler,
    born: Instant,
}

impl Table {
    /// With this table of mounts, and file systems that answer so.
    fn new(lines: &[&str], ask: impl Fn(&str) -> Result<Space, Errno> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        // A device that nothing can be written to, as the kernel tells of one below dm-verity.
        let verity = folder.path().join("sys/dev/block/253:1");
        std::fs::create_dir_all(&verity).unwrap();
        std::fs::write(verity.join("ro"), "1\n").unwrap();
        std::fs::write(folder.path().join("proc/self/mountinfo"), lines.join("\n") + "\n").unwrap();
        let settings = sampling(folder.path().join("proc"), folder.path().join("sys"));
        let ask = move |point: &Path| ask(point.to_str().unwrap());
        let sampler = Sampler::open_with(&settings, Probe { ask: Arc::new(ask), ..Probe::default() });
        Self { _folder: folder, sampler, born: Instant::now() }
    }

    fn sample(&mut self) -> Sample {
        let mut sample = sample_until(&mut self.sampler, at(1), "inventory", |sampler, _| sampler.facts().cpus > 0);
        self.sampler.sample(at(2), Scope::Full, &mut sample);
        sample
    }

    /// Why that cannot be seen, as soon as it is told.
    fn blind(&mut self, what: &str) -> String {
        let is_told = |sampler: &Sampler, _: &Sample| sampler.blind_spots().iter().any(|spot| spot.what == what);
        sample_until(&mut self.sampler, at(3), what, is_told);
        let spot = self.sampler.blind_spots().iter().find(|spot| spot.what == what).unwrap();
        spot.why.clone()
    }
}

fn used(sample: &Sample, mount: &str) -> Option<f64> {
    sample.instance(Metric::DiskUsedPercent, sample.row(Family::Disk, mount)?)
}

#[test]
fn of_two_places_the_one_that_answers_counts_and_what_cannot_be_read_is_named_alone() {
    let lines = [
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "21 20 8:2 / /root/vault rw - ext4 /dev/sda2 rw",
        "22 20 8:2 /shared /srv/shared/of/the/vault rw - ext4 /dev/sda2 rw",
        "23 20 8:3 / /root/closed rw - xfs /dev/sda3 rw",
    ];
    let ask = |point: &str| if point.starts_with("/root/") { Err(Errno::EACCES) } else { Ok(HALF) };
    let mut table = Table::new(&lines, ask);
    let sample = table.sample();
    assert_eq!(sample.instances(Family::Disk), ["/", "/root/closed", "/srv/shared/of/the/vault"]);
    assert_eq!((used(&sample, "/"), used(&sample, "/srv/shared/of/the/vault")), (Some(50.0), Some(50.0)));
    assert_eq!(used(&sample, "/root/closed"), None);
    assert!(table.blind("disk[\"/root/closed\"]").contains("Permission denied"));
    assert_eq!(table.sampler.blind_spots().iter().filter(|spot| spot.what.starts_with("disk")).count(), 1);
}

#[test]
fn a_container_with_nothing_but_files_is_judged_by_what_it_may_write_to() {
    let file = |point: &str| {
        let full = Space { free_bytes: 100, available_bytes: 100, ..HALF };
        Ok(if point == "/" { HALF } else { Space { is_file: true, ..full } })
    };
    let files = [
        "31 30 8:1 /c/1/resolv.conf /etc/resolv.conf ro - ext4 /dev/sda1 rw",
        "32 30 8:1 /c/1/hostname /etc/hostname rw - ext4 /dev/sda1 rw",
    ];
    let with = |root: &'static str| [root, files[0], files[1]];
    let sample = Table::new(&with("30 1 0:90 / / rw - overlay overlay rw"), file).sample();
    assert_eq!((sample.instances(Family::Disk), used(&sample, "/")), (&["/".to_owned()][..], Some(50.0)));
    let sample = Table::new(&with("30 1 0:90 / / ro - overlay overlay ro"), file).sample();
    assert_eq!(sample.instances(Family::Disk), ["/etc/hostname"], "its root is read-only");
    assert_eq!(used(&sample, "/etc/hostname"), Some(90.0));
    let sample = Table::new(&with("30 1 0:90 / / rw - nfs4 server:/ rw"), file).sample();
    assert_eq!(sample.instances(Family::Disk), ["/etc/hostname"], "its root is remote");
}

#[test]
fn no_disk_in_sight_is_a_blind_spot() {
    let mut table =
        Table::new(&["30 1 0:90 / / rw - nfs4 server:/ rw", "31 30 0:5 / /proc rw - proc proc rw"], |_| Ok(HALF));
    let sample = table.sample();
    assert!(sample.instances(Family::Disk).is_empty());
    assert!(table.blind("disks").contains("[sampling] mounts"));
}

#[test]
fn what_is_read_only_on_purpose_has_no_rule_of_space_and_is_no_failed_disk() {
    let full = Space { free_bytes: 0, available_bytes: 0, read_only: true, ..HALF };
    let lines = [
        "20 1 253:0 / / ro - ext4 /dev/dm-0 ro",
        "21 20 253:1 / /usr rw - ext4 /dev/mapper/usr-verity ro",
        "22 20 253:2 / /archive ro - xfs /dev/dm-2 ro",
        "23 20 253:3 / /failed rw - ext4 /dev/dm-3 ro",
        "24 20 253:4 / /var rw - ext4 /dev/dm-4 rw",
    ];
    let sample = Table::new(&lines, move |point| Ok(if point == "/var" { HALF } else { full })).sample();
    for mount in ["/", "/usr", "/archive"] {
        assert_eq!(used(&sample, mount), None, "{mount}");
        let row = sample.row(Family::Disk, mount).unwrap();
        assert_eq!(sample.instance(Metric::DiskReadOnly, row), Some(0.0), "{mount} was meant to be so");
    }
    let failed = sample.row(Family::Disk, "/failed").unwrap();
    assert_eq!(sample.instance(Metric::DiskReadOnly, failed), Some(1.0));
    let worst = sample.worst(Metric::DiskInodesUsedPercent);
    assert!(!worst.incomplete, "nobody waits for what cannot be: {worst:?}");
}

#[test]
fn a_pool_is_one_disk_beside_the_data_sets_that_end_before_it() {
    let mut lines =
        vec!["20 1 8:1 / / rw - ext4 /dev/sda1 rw".to_owned(), "21 20 0:40 / /tank rw - zfs tank rw".to_owned()];
    for at in 0..50 {
        lines.push(format!("{} 21 0:{} / /tank/d{at} rw - zfs tank/d{at} rw", 100 + at, 100 + at));
        lines.push(format!("{} 21 0:{} / /snap/d{at} ro - zfs tank/d{at}@x ro", 200 + at, 200 + at));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let ask = |point: &str| match point {
        "/tank/d7" => Ok(Space { size_bytes: 100, free_bytes: 5, available_bytes: 5, ..HALF }),
        _ => Ok(HALF),
    };
    let sample = Table::new(&lines, ask).sample();
    assert_eq!(sample.instances(Family::Disk), ["/", "/tank", "/tank/d7"]);
    assert_eq!(used(&sample, "/tank/d7"), Some(95.0));
}

#[test]
fn file_systems_without_end_are_bounded_and_told() {
    let lines: Vec<String> =
        (0..2000).map(|at| format!("{at} 1 253:{at} / /m{at} rw - ext4 /dev/dm-{at} rw")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut table = Table::new(&lines, |_| Ok(HALF));
    let sample = table.sample();
    assert_eq!(sample.instances(Family::Disk).len(), 256);
    let why = table.blind("disks");
    assert!(why.starts_with("1744 more"), "{why}");
}

/// A rule that waits for a disk to stay full is about to act: what it waits for is looked at as often as all else.
#[test]
fn space_is_asked_at_the_pace_of_the_loop_while_a_rule_of_disks_is_pending() {
    const FAST: Duration = Duration::from_millis(20);
    let (full, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ask = {
        let (full, asked) = (Arc::clone(&full), Arc::clone(&asked));
        move |_: &str| {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(if full.load(Ordering::SeqCst) { Space { free_bytes: 0, available_bytes: 0, ..HALF } } else { HALF })
        }
    };
    let mut table = Table::new(&["20 1 8:1 / / rw - ext4 /dev/sda1 rw"], ask);
    let mut policy = Settings::default().policy;
    policy.rules.truncate(1);
    policy.rules[0].when = parse("disk[\"/\"].used_percent > 90%").unwrap();
    policy.rules[0].clear = None;
    policy.rules[0].hold_for = Duration::from_secs(3600);
    let mut out = Decisions::default();
    let mut guardian = Guardian::new(at(1), Arc::new(Plan::new(policy)), Vec::new(), ActionId(1), &mut out);
    let mut sample = table.sample();
    // As the loop does; answers how often space was asked for meanwhile.
    let mut tick_for = |guardian: &mut Guardian, lasting: Duration| {
        let (began, before) = (Instant::now(), asked.load(Ordering::SeqCst));
        while began.elapsed() < lasting {
            let now = at(2) + table.born.elapsed();
            table.sampler.sample(now, Scope::Full, &mut sample);
            guardian.step(now, Input::Sampled(&sample), &mut out);
            table.sampler.hasten(FAST, guardian);
            std::thread::sleep(FAST);
        }
        asked.load(Ordering::SeqCst) - before
    };
    let window = Duration::from_secs(2);
    let calm = tick_for(&mut guardian, window);
    assert!(!guardian.follows(Family::Disk) && calm <= 4, "{calm} times in {window:?}");
    full.store(true, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(20);
    while !guardian.follows(Family::Disk) {
        assert!(Instant::now() < until, "it is never seen");
        tick_for(&mut guardian, FAST);
    }
    // Others have the cores too: a third of what it should be is ten times what it was.
    let pending = tick_for(&mut guardian, window);
    assert!(pending >= 33, "{pending} times in {window:?}");
    full.store(false, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(5);
    while guardian.follows(Family::Disk) {
        assert!(Instant::now() < until, "the rule stays pending");
        tick_for(&mut guardian, FAST);
    }
    let calm = tick_for(&mut guardian, window);
    assert!(calm <= 4, "{calm} times in {window:?}");
}
