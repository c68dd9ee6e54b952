//! A Debian guest with systemd, cgroup v2, PSI and journald, for what no container shows: `make vm-test`, `make vm-bench`.
//! It never touches the machine it runs on beyond its own cache folder and its own qemu processes.
