//! The manifests in packaging/kubernetes: their configuration compiles, and what they say of ports, probes, folders and
//! rights agrees with it and with the image. Kubernetes' own schema is checked by hand (docs/kubernetes.md).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use node_guardian::config::settings::{Scope, Settings};
use node_guardian::config::{self, Source};
use node_guardian::control::target::Target;
use serde::Deserialize;
use serde_json::{Value, json};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)).unwrap()
}

struct Manifest {
    documents: Vec<Value>,
    /// Of the deployment or daemon set.
    pod: Value,
    guardian: Value,
}

impl Manifest {
    fn read(name: &str) -> Self {
        let text = read(&format!("kubernetes/{name}"));
        let documents: Vec<Value> =
            serde_norway::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect();
        let pod = documents.iter().find_map(|document| document["spec"].get("template")).unwrap()["spec"].clone();
        let containers = |key: &str| pod[key].as_array().cloned().unwrap_or_default();
        let mut all = [containers("initContainers"), containers("containers")].concat().into_iter();
        let guardian = all.find(|container| container["image"] == "node-guardian:latest").unwrap();
        Self { documents, pod, guardian }
    }

    /// A file of the config map behind a volume.
    fn file(&self, volume: &str, name: &str) -> String {
        let map = &self.volume(volume)["configMap"]["name"];
        let found = self
            .documents
            .iter()
            .find(|document| document["kind"] == "ConfigMap" && &document["metadata"]["name"] == map);
        found.unwrap()["data"][name].as_str().unwrap().to_owned()
    }

    fn volume(&self, name: &str) -> Value {
        let volumes = self.pod["volumes"].as_array().unwrap().iter();
        volumes.clone().find(|volume| volume["name"] == name).unwrap_or_else(|| panic!("no volume {name}")).clone()
    }

    fn mounts(&self) -> Vec<Value> {
        self.guardian["volumeMounts"].as_array().unwrap().clone()
    }

    /// The mount that a path is on, with its volume.
    fn holding(&self, path: &Path) -> (Value, Value) {
        let at = |mount: &Value| mount["mountPath"].as_str().unwrap().to_owned();
        let mount = self.mounts().into_iter().find(|mount| path.starts_with(at(mount)));
        let mount = mount.unwrap_or_else(|| panic!("{} is on the read-only root", path.display()));
        let volume = self.volume(mount["name"].as_str().unwrap());
        (mount, volume)
    }

    /// As it comes to in the container, with the limits of 256 MiB and 1.5 CPUs that Kubernetes would tell.
    fn settings(&self) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let (mount, _) = self.holding(Path::new("/etc/node-guardian"));
        assert_eq!(mount["readOnly"], true);
        let file = folder.path().join("config.toml");
        std::fs::write(&file, self.file(mount["name"].as_str().unwrap(), "config.toml")).unwrap();
        let given = self.guardian["env"].as_array().cloned().unwrap_or_default();
        let told = |entry: &Value| match entry["value"].as_str() {
            Some(value) => value.replace("$(EDGE_CPU_THOUSANDTHS)", "1500"),
            None if entry["valueFrom"]["resourceFieldRef"]["resource"] == "limits.memory" => "268435456".to_owned(),
            None => "1500".to_owned(),
        };
        let given = given.iter().map(|entry| (entry["name"].as_str().unwrap().into(), told(entry).into()));
        let environment = config::environment(given.chain(image_environment()));
        let checked = config::check(&Source { environment, ..Source::file(file) });
        let about_the_address = |warning: &config::Located| warning.message.contains("other machines can reach");
        assert!(checked.complaints.located().iter().all(about_the_address), "{}", checked.text());
        checked.settings.unwrap()
    }

    fn probes(&self) -> Vec<(&'static str, Value)> {
        let named = |name: &'static str| (name, self.guardian[name]["httpGet"].clone());
        ["startupProbe", "livenessProbe", "readinessProbe"].map(named).to_vec()
    }
}

fn image_environment() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let file = read("container/Containerfile");
    let line = file.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    line.split(' ').map(|pair| pair.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// What holds wherever it runs.
fn is_sound(manifest: &Manifest) -> Settings {
    let settings = manifest.settings();
    let guardian = &manifest.guardian;
    let port = settings.http.listen.unwrap().port();
    assert_eq!(guardian["ports"], json!([{ "name": "guardian", "containerPort": port }]));
    for (name, probe) in manifest.probes() {
        assert_eq!(probe["port"], "guardian", "{name}");
        assert_eq!(probe["path"], if name == "readinessProbe" { "/readyz" } else { "/livez" }, "{name}");
    }
    let security = &guardian["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(manifest.pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(manifest.pod["automountServiceAccountToken"], false);
    assert!(manifest.pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 20, "a stop undoes for up to 20 s");
    for written in [&settings.state_directory, &settings.http.socket] {
        assert_eq!(manifest.holding(written).0.get("readOnly"), None, "{}", written.display());
    }
    for control in &settings.controls {
        let Target::Haproxy(haproxy) = &control.target else { panic!("{control:?}") };
        manifest.holding(&haproxy.socket);
    }
    for mount in manifest.mounts() {
        let volume = manifest.volume(mount["name"].as_str().unwrap());
        let is_state = settings.state_directory.starts_with(mount["mountPath"].as_str().unwrap());
        assert!(volume.get("hostPath").is_none() || is_state || mount["readOnly"] == true, "{mount}");
    }
    settings
}

#[test]
fn the_sidecar_is_sound() {
    let manifest = Manifest::read("sidecar.yaml");
    let settings = is_sound(&manifest);
    assert_eq!(manifest.guardian["restartPolicy"], "Always");
    assert_eq!(
        (manifest.guardian["securityContext"].get("runAsUser"), manifest.pod["securityContext"].get("runAsNonRoot")),
        (Some(&json!(65532)), Some(&json!(true)))
    );
    assert!(manifest.guardian["securityContext"]["capabilities"].get("add").is_none());
    let listen = settings.http.listen.unwrap();
    assert!(listen.ip().is_unspecified(), "the kubelet comes from outside");
    assert!(manifest.probes().iter().all(|(_, probe)| probe.get("host").is_none()));
    let sampling = &settings.sampling;
    assert_eq!((sampling.scope, sampling.memory_limit, sampling.cpu_limit), (Scope::Auto, Some(256 << 20), Some(1.5)));
    let (_, volume) = manifest.holding(sampling.cgroup_root.as_ref().unwrap());
    assert_eq!(volume["hostPath"]["path"], "/sys/fs/cgroup");
    assert!(manifest.holding(&settings.state_directory).1["emptyDir"].get("medium").is_none(), "a journal is on disk");
}

/// Both ends of the shared folder: HAProxy's own judgement of its configuration, and one path in both.
#[test]
fn the_sidecar_and_its_haproxy_agree_on_the_socket() {
    let manifest = Manifest::read("sidecar.yaml");
    let Target::Haproxy(control) = &manifest.settings().controls[0].target.clone() else { panic!() };
    let text = manifest.file("haproxy-config", "haproxy.cfg");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, &text).unwrap();
    let checked = Command::new("haproxy").arg("-c").arg("-f").arg(&file).output();
    let checked = checked.expect("haproxy is not there: packaging/install-test-tools installs it");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let line = text.lines().find_map(|line| line.trim().strip_prefix("stats socket ")).unwrap();
    assert_eq!(PathBuf::from(line.split(' ').next().unwrap()), control.socket);
    assert!(line.contains("mode 660") && line.contains("level admin"));
    let haproxy = &manifest.pod["containers"][0];
    let (mount, _) = manifest.holding(&control.socket);
    assert!(haproxy["volumeMounts"].as_array().unwrap().contains(&mount), "the folder is shared at the same place");
    assert!(manifest.pod["securityContext"]["fsGroup"].is_u64(), "the group that both are in");
}

#[test]
fn the_daemon_set_is_sound() {
    let manifest = Manifest::read("daemonset.yaml");
    let settings = is_sound(&manifest);
    assert_eq!(settings.http.listen, Some(SocketAddr::from(([127, 0, 0, 1], 9977))));
    assert_eq!(manifest.pod["hostNetwork"], true);
    assert!(manifest.probes().iter().all(|(_, probe)| probe["host"] == "127.0.0.1"), "the kubelet is on the node");
    assert_eq!(settings.sampling.scope, Scope::Node);
    assert_eq!(manifest.holding(&settings.sampling.proc_root).1["hostPath"]["path"], "/proc");
    let (_, state) = manifest.holding(&settings.state_directory);
    assert_eq!(state["hostPath"]["path"].as_str(), settings.state_directory.to_str(), "the journal outlives the pod");
    for unwanted in ["hostPID", "hostIPC"] {
        assert!(manifest.pod.get(unwanted).is_none(), "{unwanted}");
    }
    assert!(manifest.guardian["securityContext"].get("privileged").is_none());
}

#[test]
fn the_image_writes_only_to_its_volumes() {
    let file = read("container/Containerfile");
    let folders: Vec<String> =
        image_environment().into_iter().map(|(_, folder)| format!("\"{}\"", folder.into_string().unwrap())).collect();
    let volumes = format!("VOLUME [{}]", folders.join(", "));
    assert!(file.contains(&volumes), "{volumes}");
    assert!(file.lines().any(|line| line == "FROM scratch") && file.contains("USER 65532:65532"));
}
