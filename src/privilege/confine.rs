//! What this program never does is forbidden to it, also where no service manager does that: to execute another program, to
//! trace one, and to make system calls through rings that no filter sees. A defect in it can then not become a shell.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use crate::status::BlindSpot;

/// `offsetof(struct seccomp_data, nr)`, and `arch`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xC000_00B7;

const FORBIDDEN: [libc::c_long; 8] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// For this thread and all that it starts: call it before there are others. Also: no dump of memory that may hold a password.
#[must_use]
pub fn confine() -> Option<BlindSpot> {
    let outcome =
        setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| prctl::set_no_new_privs()).and_then(|()| filter());
    outcome.err().map(|errno| BlindSpot {
        what: "confinement of the guardian itself".to_owned(),
        why: format!(
            "refused ({}): a defect in it could execute programs; run it under its systemd unit",
            errno.desc()
        ),
    })
}

fn filter() -> nix::Result<()> {
    let mut program = program();
    let length = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until after the call.
    let answer =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as libc::c_ulong, &raw const filter) };
    Errno::result(answer).map(drop)
}

/// Calls of another architecture (i386, x32) have other numbers: none of ours is made that way.
fn program() -> Vec<libc::sock_filter> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let equal = |value, then, otherwise| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, then, otherwise);
    let end = |action| statement(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = vec![load(ARCHITECTURE), equal(OURS, 1, 0), end(refuse), load(NUMBER)];
    for call in FORBIDDEN {
        program.extend([equal(call as u32, 0, 1), end(refuse)]);
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

const fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own, since there is no way back.
    #[test]
    fn nothing_is_executed_and_everything_else_goes_on() {
        let tried = std::thread::spawn(|| {
            let before = std::fs::read_to_string("/proc/self/status").unwrap();
            prctl::set_no_new_privs().unwrap();
            filter().unwrap();
            let executed = std::process::Command::new("/bin/true").status();
            // SAFETY: nothing is passed.
            let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, 0) };
            (executed.map(|_| ()), ring, Errno::last(), before.len(), std::fs::read("/proc/self/status").unwrap().len())
        });
        let (executed, ring, errno, before, after) = tried.join().unwrap();
        assert_eq!(executed.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!((ring, errno), (-1, Errno::EPERM));
        assert!(before > 0 && after > 0);
    }
}
