//! How far memcached's limit is to come down, and whether it could be put back. Pure.

use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

/// `cache_memlimit` takes whole mebibytes, and a page of slabs is one.
pub const MIB: u64 = 1 << 20;
/// Below 8 it answers MEMLIMIT_TOO_SMALL.
pub const LEAST_BYTES: u64 = 8 * MIB;
pub const LIMIT: &str = "limit_maxbytes";

/// What memcached says about its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    pub limit: u64,
    /// What a share is a share of: the limit or the pages in use when it was first lowered, whichever is less.
    pub peak: u64,
}

pub fn shrink(memory: Memory, amount: Amount) -> Result<Vec<Change>, Failure> {
    let wanted = wanted_bytes(memory.peak, amount)?;
    if memory.limit <= wanted && memory.limit != 0 {
        return Ok(Vec::new());
    }
    if !is_settable(memory.limit) {
        return Err(Failure::refused(format!(
            "its limit of {} bytes could not be put back, because memcached takes whole MiB from 8 up while it runs: \
             start it with `-m 8` or more",
            memory.limit
        )));
    }
    Ok(vec![Change::new(LIMIT, memory.limit.to_string(), vec![wanted.to_string()]).with_peak(memory.peak)])
}

/// Whole mebibytes, and never less than memcached takes.
pub fn wanted_bytes(peak: u64, amount: Amount) -> Result<u64, Failure> {
    let wanted = match amount {
        Amount::Bytes(bytes) => bytes,
        Amount::Keep(percent) => (peak as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64,
        Amount::Whole => {
            return Err(Failure::unsupported("how far to shrink memcached? write `to` as a size or percentage"));
        }
    };
    Ok((wanted / MIB * MIB).max(LEAST_BYTES))
}

/// The lower the limit, the stricter; 0 is none.
pub fn strictness(key: &str, value: &str) -> Option<f64> {
    if key != LIMIT {
        return None;
    }
    let bytes: u64 = value.parse().ok()?;
    Some(if bytes == 0 { f64::NEG_INFINITY } else { -(bytes as f64) })
}

/// Whether `cache_memlimit` can set exactly this.
pub const fn is_settable(limit: u64) -> bool {
    limit >= LEAST_BYTES && limit.is_multiple_of(MIB)
}

/// `cache_memlimit 64`
pub fn command(limit: u64) -> String {
    format!("cache_memlimit {}", limit / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Outcome;

    fn memory(limit: u64) -> Memory {
        Memory { limit, peak: 424 * MIB }
    }

    #[test]
    fn a_share_is_of_the_pages_in_use_in_whole_mebibytes() {
        let changes = shrink(memory(512 * MIB), Amount::Keep(30.0)).unwrap();
        assert_eq!((changes[0].prior.as_str(), changes[0].wanted()), ("536870912", "133169152"));
        assert_eq!(command(133_169_152), "cache_memlimit 127");
    }

    #[test]
    fn a_limit_that_is_low_enough_is_never_raised() {
        assert_eq!(shrink(memory(64 * MIB), Amount::Bytes(100 * MIB)).unwrap(), []);
        assert_eq!(shrink(memory(8 * MIB), Amount::Keep(0.1)).unwrap(), []);
    }

    #[test]
    fn what_could_not_be_put_back_is_not_changed() {
        for limit in [0, 512 * MIB + 1] {
            assert_eq!(shrink(memory(limit), Amount::Keep(50.0)).unwrap_err().outcome, Outcome::Refused, "{limit}");
        }
        assert!(is_settable(LEAST_BYTES) && !is_settable(7 * MIB));
    }
}
