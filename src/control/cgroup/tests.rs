//! The kind on a directory of plain files, which obey at once and refuse nothing. Real cgroups: `tests/suite/cgroup.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::control::consent::Consent;
use crate::control::standing::Standing;
use crate::control::undo::Undo;
use crate::control::{Control, Wish};
use crate::policy::mitigation::Amount;

const PATH: &str = "batch.slice";
const MIB: u64 = 1 << 20;

struct Files(TempDir);

impl Files {
    /// 900 MiB, of which all but 100 can be taken back.
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        fs::create_dir(files.0.path().join(PATH)).unwrap();
        files.put(HIGH, "max\n");
        files.put(CURRENT, &format!("{}\n", 900 * MIB));
        files.put(STAT, &format!("active_file {}\ninactive_file {}\n", 300 * MIB, 500 * MIB));
        files.put(MAX, "max 100000\n");
        files.put("cpuset.cpus.effective", "0-3\n");
        files.put(FREEZE, "0\n");
        files.put(EVENTS, "populated 1\nfrozen 0\n");
        files
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(PATH).join(file)
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap().trim().to_owned()
    }

    fn cgroup(&self) -> Cgroup {
        let target = target::Cgroup { path: PATH.to_owned(), floor_bytes: 64 * MIB, sacrificial: true };
        Cgroup { tree: Tree::at(self.0.path()), ..Cgroup::new(target) }
    }

    fn control(&self) -> Control {
        let service: Box<dyn Service> = Box::new(self.cgroup());
        Control::from(service)
    }
}

fn asked(verb: Verb, amount: Amount) -> Mitigation {
    Mitigation { control: "batch".into(), verb, amount }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

async fn applied(control: &mut Control, verb: Verb, amount: Amount) -> Result<(Undo, Done), Failure> {
    let mut undo = control.capture(&asked(verb, amount)).await?;
    control.is_as_captured(&undo).await?;
    let done = control.apply(&mut undo, &Consent::always()).await?;
    Ok((undo, done))
}

#[test]
fn each_value_comes_back_exactly() {
    for (verb, file, prior, amount, ours) in [
        (Verb::Throttle, MAX, "max 100000", Amount::Keep(50.0), "200000 100000".to_owned()),
        (Verb::Throttle, MAX, "150000 50000", Amount::Keep(10.0), "15000 50000".to_owned()),
        (Verb::Shrink, HIGH, "max", Amount::Keep(50.0), (450 * MIB).to_string()),
        (Verb::Shrink, HIGH, "838860800", Amount::Bytes(MIB), (100 * MIB).to_string()),
    ] {
        let files = Files::new();
        files.put(file, prior);
        run(async {
            let mut control = files.control();
            let (undo, done) = applied(&mut control, verb, amount).await.unwrap();
            assert_eq!((files.get(file), undo.changes[0].prior.as_str()), (ours, prior), "{}", done.detail);
            let checked = control.check(&undo, Wish::Wanted).await.unwrap();
            assert!(matches!(checked.standing, Standing::Ours { theirs: None }) && checked.due.is_empty());
            control.undo(&undo).await.unwrap();
            assert_eq!(files.get(file), prior);
        });
    }
}

#[test]
fn what_is_stricter_already_stays() {
    let files = Files::new();
    files.put(MAX, "1000 100000");
    files.put(HIGH, &(80 * MIB).to_string());
    files.put(FREEZE, "1");
    run(async {
        for (verb, amount) in
            [(Verb::Shrink, Amount::Keep(50.0)), (Verb::Freeze, Amount::Whole), (Verb::Throttle, Amount::Keep(90.0))]
        {
            let undo = files.control().capture(&asked(verb, amount)).await.unwrap();
            assert!(undo.changes.is_empty(), "{verb}: {undo:?}");
        }
    });
}

#[test]
fn what_somebody_else_set_is_left_to_them() {
    let files = Files::new();
    run(async {
        let mut control = files.control();
        let (undo, _) = applied(&mut control, Verb::Throttle, Amount::Keep(50.0)).await.unwrap();
        files.put(MAX, "300000 100000");
        let checked = control.check(&undo, Wish::Wanted).await.unwrap();
        assert!(matches!(checked.standing, Standing::Foreign(_)), "{:?}", checked.standing);
        let (done, _) = control.undo(&undo).await.unwrap();
        assert_eq!((done.outcome, files.get(MAX).as_str()), (Outcome::Overridden, "300000 100000"));
    });
}

#[test]
fn what_has_not_stopped_yet_is_in_doubt_and_is_thawed_whatever_it_comes_to() {
    let files = Files::new();
    run(async {
        let mut control = files.control();
        let mut undo = control.capture(&asked(Verb::Freeze, Amount::Whole)).await.unwrap();
        let failure = control.apply(&mut undo, &Consent::always()).await.unwrap_err();
        assert_eq!((failure.outcome, files.get(FREEZE)), (Outcome::TimedOut, "1".to_owned()), "{}", failure.detail);
        files.put(EVENTS, "populated 1\nfrozen 1\n");
        let checked = control.check(&undo, Wish::Wanted).await.unwrap();
        assert!(matches!(checked.standing, Standing::Ours { .. }), "{:?}", checked.standing);
        control.undo(&checked.undo).await.unwrap();
        assert_eq!(files.get(FREEZE), "0");
    });
}

#[test]
fn one_that_stops_between_the_look_and_the_write_is_nobody_elses_doing() {
    let files = Files::new();
    files.put(FREEZE, "1");
    files.put(EVENTS, "frozen 1");
    run(async {
        let mut cgroup = files.cgroup();
        let epoch = cgroup.folder().unwrap().epoch();
        let order = Order { key: FREEZE, value: THAWED, over: Some(FREEZING) };
        cgroup.write(&epoch, &[order], AfterRefusal::Stop).await.unwrap();
        assert_eq!(files.get(FREEZE), "0");
    });
}

#[test]
fn a_cgroup_that_is_gone_or_was_made_anew_owes_nothing() {
    let files = Files::new();
    run(async {
        let mut control = files.control();
        let (undo, _) = applied(&mut control, Verb::Throttle, Amount::Keep(50.0)).await.unwrap();
        fs::rename(files.0.path().join(PATH), files.0.path().join("was")).unwrap();
        let checked = control.check(&undo, Wish::Wanted).await.unwrap();
        assert_eq!(checked.standing, Standing::EpochChanged);
        fs::create_dir(files.0.path().join(PATH)).unwrap();
        files.put(MAX, "200000 100000");
        let (done, _) = control.undo(&undo).await.unwrap();
        assert_eq!((done.outcome, files.get(MAX).as_str()), (Outcome::EpochChanged, "200000 100000"));
    });
}

#[test]
fn what_is_missing_or_may_not_be_written_is_told_before_anything_is_done() {
    let files = Files::new();
    fs::remove_file(files.path(MAX)).unwrap();
    run(async {
        let probe = files.control().probe().await;
        assert!(probe.detail.starts_with("cgroup batch.slice is there: may shrink and freeze"), "{}", probe.detail);
        assert!(probe.detail.contains("cannot throttle: ") && probe.detail.contains("cpu controller is off"));
        let failure = files.control().capture(&asked(Verb::Throttle, Amount::Keep(50.0))).await.unwrap_err();
        assert_eq!(failure.outcome, Outcome::Unsupported, "{}", failure.detail);
        let gone = fs::remove_dir_all(files.0.path().join(PATH));
        assert!(gone.is_ok() && files.control().probe().await.detail.contains("is its service running?"));
    });
    // Root may write everything.
    if !nix::unistd::geteuid().is_root() {
        let files = Files::new();
        fs::set_permissions(files.path(HIGH), fs::Permissions::from_mode(0o444)).unwrap();
        let failure = run(files.control().capture(&asked(Verb::Shrink, Amount::Keep(50.0)))).unwrap_err();
        assert!(failure.detail.contains("chmod g+w"), "{}", failure.detail);
    }
}

#[test]
fn nothing_is_frozen_that_nobody_called_sacrificial_and_no_cgroup_of_the_system_is_touched() {
    let files = Files::new();
    let mut cgroup = files.cgroup();
    cgroup.target.sacrificial = false;
    assert!(run(cgroup.permits(Verb::Freeze)).unwrap_err().detail.contains("sacrificial = true"));
    cgroup.target.path = "system.slice/systemd-journald.service".to_owned();
    let refused = run(cgroup.permits(Verb::Throttle)).unwrap_err();
    assert_eq!(refused.outcome, Outcome::Refused, "{}", refused.detail);
}

#[test]
fn a_lowering_that_was_called_off_writes_nothing_later() {
    let files = Files::new();
    run(async {
        let mut cgroup = files.cgroup();
        let folder = cgroup.folder().unwrap();
        cgroup.lowering.lower(folder, 500 * MIB).await.unwrap();
        assert_eq!(files.get(HIGH), (500 * MIB).to_string());
        cgroup.lowering.call_off().unwrap();
        cgroup.lowering.call_off().unwrap();
    });
}

#[test]
fn it_gives_what_it_uses() {
    let files = Files::new();
    files.put("cpu.stat", "usage_usec 1000000\n");
    run(async {
        let mut cgroup = files.cgroup();
        let gives = cgroup.gives().await.unwrap();
        assert_eq!((gives.bytes, gives.cpu_percent), (Some(900 * MIB), None));
        sleep(Duration::from_millis(20)).await;
        files.put("cpu.stat", "usage_usec 1010000\n");
        let percent = cgroup.gives().await.unwrap().cpu_percent.unwrap();
        assert!(percent > 5.0 && percent <= 50.0, "{percent}");
    });
}
