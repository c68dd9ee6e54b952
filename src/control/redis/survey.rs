//! How far Redis's memory limit is to come down, and with which eviction policy. Pure.

use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

pub const MAXMEMORY: &str = "maxmemory";
pub const POLICY: &str = "maxmemory-policy";
/// Prior and ours are `off` and `on`; it lapses by itself.
pub const PAUSE: &str = "client pause write";

/// An empty Redis 7 uses 0.9 MB by itself; below that no write would be accepted at all.
const LEAST_BYTES: u64 = 4 << 20;

/// What Redis says about its memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Memory {
    /// `maxmemory`, 0 when unlimited.
    pub limit: u64,
    /// What a share is a share of: the limit or the memory in use when it was first lowered, whichever is less.
    pub base: u64,
    pub policy: String,
    pub cache_only: bool,
}

pub fn shrink(memory: &Memory, amount: Amount) -> Result<Vec<Change>, Failure> {
    let wanted = wanted_bytes(memory.base, amount)?;
    if memory.limit != 0 && memory.limit <= wanted {
        return Ok(Vec::new());
    }
    let policy = eviction(memory)?;
    let change = |key: &str, prior: String, ours: String| Change { key: key.to_owned(), prior, ours: vec![ours] };
    let mut changes = vec![change(MAXMEMORY, memory.limit.to_string(), wanted.to_string())];
    changes.extend(policy.map(|policy| change(POLICY, memory.policy.clone(), policy.to_owned())));
    Ok(changes)
}

pub fn wanted_bytes(base: u64, amount: Amount) -> Result<u64, Failure> {
    let wanted = match amount {
        Amount::Bytes(bytes) => bytes,
        Amount::Keep(percent) => (base as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64,
        Amount::Whole => {
            return Err(Failure::unsupported("how far to shrink Redis? write `to` as a size or percentage"));
        }
    };
    Ok(wanted.max(LEAST_BYTES))
}

/// A lower limit only helps where every key may be evicted; otherwise it ends in refused writes.
fn eviction(memory: &Memory) -> Result<Option<&'static str>, Failure> {
    if memory.policy.starts_with("allkeys-") {
        return Ok(None);
    }
    if memory.cache_only {
        return Ok(Some("allkeys-lru"));
    }
    Err(Failure::refused(format!(
        "with maxmemory-policy {} a lower limit makes Redis refuse writes instead of evicting: set an allkeys policy, or \
         `cache_only = true` on this control where all of it can be rebuilt",
        memory.policy
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Outcome;

    const MIB: u64 = 1 << 20;

    fn memory(limit: u64, policy: &str, cache_only: bool) -> Memory {
        Memory { limit, base: 200 * MIB, policy: policy.into(), cache_only }
    }

    #[test]
    fn a_share_is_of_what_is_in_use() {
        let changes = shrink(&memory(0, "allkeys-lru", false), Amount::Keep(50.0)).unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].prior.as_str(), changes[0].wanted()), ("0", "104857600"));
    }

    #[test]
    fn a_limit_that_is_low_enough_is_never_raised() {
        assert_eq!(shrink(&memory(50 * MIB, "noeviction", false), Amount::Bytes(100 * MIB)).unwrap(), []);
    }

    #[test]
    fn without_eviction_only_a_cache_is_shrunk() {
        for policy in ["noeviction", "volatile-ttl"] {
            let refused = shrink(&memory(0, policy, false), Amount::Keep(50.0)).unwrap_err();
            assert_eq!(refused.outcome, Outcome::Refused);
            assert!(refused.detail.contains("cache_only = true"));
            let changes = shrink(&memory(0, policy, true), Amount::Keep(50.0)).unwrap();
            assert_eq!((changes[1].prior.as_str(), changes[1].wanted()), (policy, "allkeys-lru"));
        }
    }

    #[test]
    fn some_room_is_always_left() {
        assert_eq!(wanted_bytes(MIB, Amount::Keep(1.0)).unwrap(), LEAST_BYTES);
    }
}
