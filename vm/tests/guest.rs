//! The guest itself, so that a failure of the tests that use it can be told from a failure of the guest.

use std::time::Duration;

use node_guardian_vm::Machine;

#[test]
fn a_guest_runs_commands_carries_files_and_comes_back_from_a_reboot() -> node_guardian_vm::Result<()> {
    let mut guest = Machine { swap_mib: 256, ..Machine::default() }.start()?;
    assert_eq!(guest.must("cat /proc/1/comm")?.trim(), "systemd");
    assert_eq!(guest.must("stat -fc %T /sys/fs/cgroup")?.trim(), "cgroup2fs");
    assert_eq!(guest.must("awk '/SwapTotal/ { print ($2 >= 262000) }' /proc/meminfo")?.trim(), "1");
    assert_eq!(guest.run("exit 3", Duration::from_secs(5))?.status, 3);
    assert_eq!(guest.run("sleep 20", Duration::from_millis(200))?.status, 124);

    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap_or_default()).collect();
    guest.write("/root/file", &bytes)?;
    assert!(guest.get("/root/file")? == bytes, "the file came back changed");

    guest.must("sync /root/file; echo of-this-boot >/run/mark")?;
    guest.reboot()?;
    assert!(guest.must("cat /run/mark").is_err(), "still the same boot");
    guest.pull_the_plug()?;
    assert!(guest.get("/root/file")? == bytes, "what was written before the reboot is gone");
    Ok(())
}
