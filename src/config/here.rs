//! What this node has, for warnings about rules that can hold never or always here: `check` looks, by name and number
//! only. It decides nothing, and a configuration may be checked on another node than the one that it is for.

use std::path::{Path, PathBuf};

use super::settings::Sampling;
use crate::host::mounts::{self, Entry};
use crate::host::{memory, network};
use crate::policy::condition::Operand;
use crate::policy::family::Selector;
use crate::policy::metric::Metric;

/// Whether this node is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Look {
    #[default]
    Away,
    Here,
}

/// Each is `None` where nobody looked, or nothing could be seen.
#[derive(Debug, Default)]
pub struct Here {
    /// As the operator named them.
    watched: Option<Vec<PathBuf>>,
    mounts: Option<Vec<Entry>>,
    interfaces: Option<Vec<String>>,
    memory_bytes: Option<u64>,
}

impl Here {
    #[must_use]
    pub fn look(look: Look, sampling: &Sampling) -> Self {
        if look == Look::Away {
            return Self::default();
        }
        let read = |name: &str| std::fs::read(sampling.proc_root.join(name)).ok();
        Self {
            watched: sampling.mounts.clone(),
            mounts: read("self/mountinfo").map(|text| mounts::parse(&text)),
            interfaces: read("net/dev").map(|text| network::names(&text).collect()),
            memory_bytes: read("meminfo").and_then(|text| memory::parse(&text)).map(|raw| raw.total),
        }
    }

    /// The most that a metric can be on this node, where that is known.
    #[must_use]
    pub fn most(&self, operand: &Operand) -> Option<f64> {
        let all_of_it = operand.metric == Metric::MemoryAvailableBytes && operand.function.is_none();
        self.memory_bytes.filter(|_| all_of_it).map(|bytes| bytes as f64)
    }

    /// Why there is no such instance, and what to write in its place.
    #[must_use]
    pub fn lacks(&self, operand: &Operand) -> Option<(String, String)> {
        let selected = operand.selector.as_deref()?;
        match operand.metric.family().selector() {
            Selector::Path => self.lacks_disk(Path::new(selected)),
            Selector::Name => self.lacks_interface(selected),
            Selector::Nothing | Selector::Port | Selector::Reported => None,
        }
    }

    fn lacks_disk(&self, point: &Path) -> Option<(String, String)> {
        if let Some(watched) = &self.watched {
            let why = || format!("{} is not among [sampling] mounts", point.display());
            return (!watched.iter().any(|known| known == point)).then(|| (why(), "add it there".to_owned()));
        }
        let entries = self.mounts.as_ref()?;
        let groups = mounts::choose(entries);
        let best = |entry: &Entry| {
            let group = groups.iter().find(|group| group.iter().any(|known| known.point == entry.point))?;
            group.first().map(|entry| entry.point.clone())
        };
        let holder = mounts::holding(entries, point)?;
        let is_root = point == Path::new("/");
        match best(holder) {
            Some(best) if best == point => None,
            // Which of several places is watched is found out by asking; a data set has a row of its own at times.
            Some(_) if holder.point == point && (holder.is_of_pool() || !holder.is_whole()) => None,
            None if is_root && mounts::container_root(entries).is_some() => None,
            Some(best) => {
                let why = format!("{} is not a mount point here: the rule would stay unknown", point.display());
                Some((why, format!("use disk[\"{}\"], or add it to [sampling] mounts", best.display())))
            }
            None => {
                let why =
                    format!("no local file system is watched at {}: the rule would stay unknown", point.display());
                Some((why, "correct the path, or add it to [sampling] mounts".to_owned()))
            }
        }
    }

    fn lacks_interface(&self, name: &str) -> Option<(String, String)> {
        if !network::counts(name.as_bytes()) {
            let why = format!("{name} is not watched: what goes through it is counted elsewhere, or leaves nothing");
            return Some((why, "name the interface that leads out of the node".to_owned()));
        }
        let known = self.interfaces.as_ref()?;
        let usable: Vec<&str> =
            known.iter().map(String::as_str).filter(|name| network::counts(name.as_bytes())).collect();
        let why = || format!("no interface is named {name} here: the rule would stay unknown");
        (!usable.contains(&name)).then(|| (why(), format!("there are: {}", usable.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition::{Expression, parse};

    fn here() -> Here {
        let table = b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 8:2 / /srv rw - ext4 /dev/sda2 rw\n\
                      22 20 8:2 / /mnt/the/same rw - ext4 /dev/sda2 rw\n23 20 0:5 / /proc rw - proc proc rw\n";
        Here {
            watched: None,
            mounts: Some(mounts::parse(table)),
            interfaces: Some(["lo", "eth0", "veth1"].map(str::to_owned).to_vec()),
            memory_bytes: Some(1 << 30),
        }
    }

    fn lacks(here: &Here, text: &str) -> Option<(String, String)> {
        let Expression::Compare(comparison) = parse(text).unwrap().expression else { panic!("{text}") };
        here.lacks(&comparison.operand)
    }

    #[test]
    fn instances_that_are_not_here() {
        let lacks = |text: &str| lacks(&here(), text);
        for there in ["disk[\"/\"].used_percent > 1%", "disk[\"/srv\"].used_percent > 1%"] {
            assert_eq!(lacks(there), None, "{there}");
        }
        assert_eq!(lacks("network[\"eth0\"].receive_rate > 1MiB/s"), None);
        let help = |text: &str| lacks(text).unwrap().1;
        assert!(help("disk[\"/nope\"].used_percent > 1%").contains("disk[\"/\"]"));
        assert!(help("disk[\"/mnt/the/same\"].used_percent > 1%").contains("disk[\"/srv\"]"));
        assert!(help("disk[\"/proc\"].used_percent > 1%").contains("[sampling] mounts"));
        assert_eq!(help("network[\"eth7\"].receive_rate > 1MiB/s"), "there are: eth0");
        assert!(lacks("network[\"lo\"].receive_rate > 1MiB/s").unwrap().0.contains("not watched"));
        let named = Here { watched: Some(vec!["/nope".into()]), ..here() };
        let Expression::Compare(nope) = parse("disk[\"/nope\"].used_percent > 1%").unwrap().expression else {
            panic!()
        };
        assert_eq!(named.lacks(&nope.operand), None);
    }

    #[test]
    fn nobody_who_looks_away_knows_anything_but_what_is_so_everywhere() {
        let away = Here::look(Look::Away, &Sampling::default());
        assert_eq!(lacks(&away, "disk[\"/nope\"].used_percent > 1%"), None);
        assert!(lacks(&away, "network[\"lo\"].receive_rate > 1MiB/s").is_some());
    }
}
