//! On which CPUs one may run, as the kernel lists them: `0-3,8`. In a container that is pinned to two CPUs of 64, two busy
//! ones are all there are.

use super::scan::{fields, lines, number};

/// More than the kernel can be built for on any architecture (x86: 8192).
const MOST: usize = 8192;
const WORDS: usize = MOST / 64;

/// A set of CPUs, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// Of cpuset.cpus.effective, or of a status of a process. `None` where there is no CPU in it.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let of_status = lines(bytes).find_map(|line| line.strip_prefix(b"Cpus_allowed_list:"));
        let list = fields(of_status.or_else(|| lines(bytes).next())?).next()?;
        let mut set = Self([0; WORDS]);
        for range in list.split(|byte| *byte == b',') {
            let mut ends = range.splitn(2, |byte| *byte == b'-');
            let first = usize::try_from(number(ends.next()?)?).ok()?;
            let last = ends.next().map_or(Some(first), |last| usize::try_from(number(last)?).ok())?;
            if last >= MOST || first > last {
                return None;
            }
            (first..=last).for_each(|cpu| set.0[cpu / 64] |= 1 << (cpu % 64));
        }
        Some(set)
    }

    #[must_use]
    pub fn has(&self, cpu: u64) -> bool {
        let cpu = usize::try_from(cpu).unwrap_or(MOST);
        self.0.get(cpu / 64).is_some_and(|word| word & (1 << (cpu % 64)) != 0)
    }

    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        let set = CpuSet::parse(b"0-2,8,64-65\n").unwrap();
        assert_eq!(set.count(), 6);
        assert!(set.has(2) && set.has(8) && set.has(65) && !set.has(3) && !set.has(66) && !set.has(u64::MAX));
        let status = b"Name:\tsh\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\nMems_allowed_list:\t0\n";
        assert_eq!(CpuSet::parse(status).map(|set| set.count()), Some(2));
        for nonsense in [&b""[..], b"\n", b"max\n", b"3-1\n", b"0-9999999\n", b"1,\n", b"-1\n"] {
            assert_eq!(CpuSet::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
