//! Finds our cgroup in the hierarchy with a controller: version 2, version 1, and the mixture of both. A container sees
//! only a part of the tree, so the search covers the folders from our own up to the highest visible one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::scan::lines;

/// Deeper than any tree of a node seen so far (Kubernetes with nested containers: 6).
const DEEPEST: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    One,
    Two,
}

/// Folders from our own cgroup up to the highest that can be seen; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lineage {
    pub version: Version,
    pub folders: Vec<PathBuf>,
}

/// In the tree that is mounted at `mounted`, by /proc/self/cgroup. `None` where no such hierarchy is mounted.
#[must_use]
pub fn lineage(own: &[u8], mounted: &Path, controller: &str) -> Option<Lineage> {
    let (mut first, mut second) = (None, None);
    for line in lines(own).map(String::from_utf8_lossy) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        // What lies outside of our namespace, `/../..`, is not to be climbed to.
        let path = PathBuf::from(path.trim_start_matches('/').replace("..", "."));
        if controllers.is_empty() {
            second = Some(path);
        } else if controllers.split(',').any(|name| name == controller) {
            first = Some((controllers.to_owned(), path));
        }
    }
    let old = first.and_then(|(controllers, path)| {
        // The order of names in /proc is not always that of the mount's.
        let both = if controller.starts_with("cpu") { "cpu,cpuacct" } else { controller };
        let bases = [controller, &controllers, both].map(|name| mounted.join(name));
        bases.iter().find_map(|base| upward(base, &path, Version::One))
    });
    old.or_else(|| {
        let path = second?;
        [mounted.join("unified"), mounted.to_path_buf()].iter().find_map(|base| upward(base, &path, Version::Two))
    })
}

fn upward(base: &Path, path: &Path, version: Version) -> Option<Lineage> {
    let join = |folder: &Path| base.join(folder).components().collect::<PathBuf>();
    let folders: Vec<PathBuf> = path.ancestors().map(join).filter(|folder| folder.is_dir()).collect();
    (!folders.is_empty()).then_some(Lineage { version, folders })
}

/// In a larger part of the same tree that is mounted elsewhere too: the folder that is the same inode as the one that we
/// see as ours, whatever its runtime has called it.
#[must_use]
pub fn found_again(own: &Path, larger: &Path) -> Option<Lineage> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|known| (known.dev(), known.ino()));
    let wanted = identity(own)?;
    let mut waiting = vec![(larger.to_path_buf(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        if identity(&folder) == Some(wanted) {
            let path = folder.strip_prefix(larger).ok()?;
            return upward(larger, path, Version::Two);
        }
        if depth == DEEPEST {
            continue;
        }
        let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(folders.map(|entry| (entry.path(), depth + 1)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folders: &[&str]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        tree
    }

    fn shown(lineage: Option<Lineage>, tree: &Path) -> Vec<String> {
        let folders = lineage.map(|lineage| lineage.folders).unwrap_or_default();
        folders.iter().map(|folder| folder.strip_prefix(tree).unwrap().display().to_string()).collect()
    }

    #[test]
    fn the_hierarchy_that_has_the_controller() {
        let tree = tree(&["cpu,cpuacct/pod/x", "memory", "unified/pod/x"]);
        let own = b"4:cpu,cpuacct:/pod/x\n3:memory:/kubepods/pod1/x\n1:name=systemd:/\n0::/pod/x\n";
        let of = |controller| lineage(own, tree.path(), controller);
        assert_eq!(shown(of("cpu"), tree.path()), ["cpu,cpuacct/pod/x", "cpu,cpuacct/pod", "cpu,cpuacct"]);
        assert_eq!(shown(of("memory"), tree.path()), ["memory"], "a part of the tree is mounted");
        assert_eq!(of("pids").map(|lineage| lineage.version), Some(Version::Two));
        assert_eq!(lineage(b"0::/../../x\n", tree.path(), "cpu").map(|found| found.version), Some(Version::Two));
        assert_eq!(lineage(b"", tree.path(), "cpu"), None);
    }

    #[test]
    fn our_folder_by_another_name() {
        let tree = tree(&["host/kubepods.slice/kubepods-pod7.slice/cri-a.scope", "host/system.slice", "own"]);
        let own = tree.path().join("seen");
        let scope = tree.path().join("host/kubepods.slice/kubepods-pod7.slice/cri-a.scope");
        std::os::unix::fs::symlink(scope, &own).unwrap();
        let found = found_again(&own, &tree.path().join("host"));
        assert_eq!(
            shown(found, &tree.path().join("host")),
            [
                "kubepods.slice/kubepods-pod7.slice/cri-a.scope",
                "kubepods.slice/kubepods-pod7.slice",
                "kubepods.slice",
                ""
            ]
        );
        assert_eq!(found_again(&tree.path().join("own"), &tree.path().join("host")), None);
    }
}
