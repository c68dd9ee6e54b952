//! Whether we run inside a container, and what made it. Asked once, at start; [`super::place`] decides whose limits
//! count.
//!
//! No sign is certain by itself: a disk image made from a container keeps its marker file. So a wrong yes must be
//! harmless: without a visible limit the node's readings count.

use std::fs;
use std::path::Path;

/// The inode of the first cgroup namespace (include/linux/proc_ns.h, `PROC_CGROUP_INIT_INO`).
const FIRST_NAMESPACE: &str = "cgroup:[4026531835]";

/// Who runs the container that we are in, as far as can be told; `None` on a node.
#[must_use]
pub fn detect(proc_root: &Path) -> Option<String> {
    let own = fs::read(proc_root.join("self/environ")).unwrap_or_default();
    if variable(&own, "KUBERNETES_SERVICE_HOST").is_some() {
        return Some("Kubernetes".to_owned());
    }
    let root = proc_root.join("self/root");
    let marked = [("run/.containerenv", "Podman"), (".dockerenv", "Docker")];
    if let Some((_, name)) = marked.into_iter().find(|(marker, _)| root.join(marker).exists()) {
        return Some(name.to_owned());
    }
    // systemd.io/CONTAINER_INTERFACE: pid 1 is told `container=`; systemd copies it to where everybody may read it.
    let told = fs::read_to_string(root.join("run/systemd/container")).ok().map(|text| text.trim().to_owned());
    let first = || fs::read(proc_root.join("1/environ")).ok().and_then(|first| variable(&first, "container"));
    if let Some(name) = told.or_else(|| variable(&own, "container")).or_else(first).filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let namespace = fs::read_link(proc_root.join("self/ns/cgroup")).ok()?;
    (namespace != Path::new(FIRST_NAMESPACE)).then(|| "a cgroup namespace".to_owned())
}

/// Of an environment as /proc/PID/environ has it.
fn variable(environment: &[u8], name: &str) -> Option<String> {
    let mut entries = environment.split(|byte| *byte == 0);
    entries.find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let proc_root = folder.path();
        assert_eq!(detect(proc_root), None);
        for path in ["self/root/run/systemd", "self/ns", "1"] {
            fs::create_dir_all(proc_root.join(path)).unwrap();
        }
        let link = proc_root.join("self/ns/cgroup");
        std::os::unix::fs::symlink(FIRST_NAMESPACE, &link).unwrap();
        assert_eq!(detect(proc_root), None);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("cgroup:[4026532277]", &link).unwrap();
        assert_eq!(detect(proc_root).as_deref(), Some("a cgroup namespace"));
        // From here on each sign goes before those above.
        for (file, text, name) in [
            ("1/environ", "TERM=linux\0container=lxc\0", "lxc"),
            ("self/environ", "containers=7\0container=oci\0", "oci"),
            ("self/root/run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
            ("self/root/.dockerenv", "", "Docker"),
            ("self/root/run/.containerenv", "", "Podman"),
            ("self/environ", "KUBERNETES_SERVICE_HOST=10.0.0.1\0", "Kubernetes"),
        ] {
            fs::write(proc_root.join(file), text).unwrap();
            assert_eq!(detect(proc_root).as_deref(), Some(name), "{file}");
        }
    }
}
