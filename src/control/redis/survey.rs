//! How far Redis's memory limits are to come down, and with which eviction policy. Pure.

use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

pub const MAXMEMORY: &str = "maxmemory";
pub const POLICY: &str = "maxmemory-policy";
/// What all clients but replicas may hold in buffers; since Redis 7.
pub const CLIENTS: &str = "maxmemory-clients";
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
    pub peak: u64,
    pub policy: String,
    pub cache_only: bool,
    /// `None` where no limit is configured for them, or this Redis has none.
    pub buffers: Option<Buffers>,
}

/// Clients that do not read their answers let Redis keep them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// `maxmemory-clients` as it is told: 0 when unlimited, bytes, or `5%` of `maxmemory`.
    pub limit: String,
    pub held: u64,
    pub wanted: u64,
}

pub fn shrink(memory: &Memory, amount: Amount) -> Result<Vec<Change>, Failure> {
    let wanted = wanted_bytes(memory.peak, amount)?;
    let mut changes: Vec<Change> = relieve(memory).into_iter().collect();
    if memory.limit != 0 && memory.limit <= wanted {
        return Ok(changes);
    }
    let policy = match eviction(memory) {
        Ok(policy) => policy,
        // Keys stay as they are, but what clients hold need not.
        Err(_) if !changes.is_empty() => return Ok(changes),
        Err(refused) => return Err(refused),
    };
    changes.push(change(MAXMEMORY, memory.limit.to_string(), wanted.to_string()).with_peak(memory.peak));
    changes.extend(policy.map(|policy| change(POLICY, memory.policy.clone(), policy.to_owned())));
    Ok(changes)
}

fn change(key: &str, prior: String, ours: String) -> Change {
    Change::new(key, prior, vec![ours])
}

/// Before the limit, because buffers count towards it: keys would be evicted for them.
fn relieve(memory: &Memory) -> Option<Change> {
    let buffers = memory.buffers.as_ref()?;
    let limit = match buffers.limit.strip_suffix('%') {
        Some(percent) => memory.limit.checked_mul(percent.parse().ok()?)? / 100,
        None => buffers.limit.parse().ok()?,
    };
    let is_needed = buffers.held > buffers.wanted && (limit == 0 || limit > buffers.wanted);
    is_needed.then(|| change(CLIENTS, buffers.limit.clone(), buffers.wanted.to_string()))
}

pub fn wanted_bytes(peak: u64, amount: Amount) -> Result<u64, Failure> {
    let wanted = match amount {
        Amount::Bytes(bytes) => bytes,
        Amount::Keep(percent) => (peak as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64,
        Amount::Whole => {
            return Err(Failure::unsupported("how far to shrink Redis? write `to` as a size or percentage"));
        }
    };
    Ok(wanted.max(LEAST_BYTES))
}

/// How much a value holds back. Policies have no order, and neither have a size and a share.
pub fn strictness(key: &str, value: &str) -> Option<f64> {
    let limit = || value.parse::<f64>().ok().map(|limit| if limit == 0.0 { f64::NEG_INFINITY } else { -limit });
    match key {
        MAXMEMORY | CLIENTS => limit(),
        PAUSE => Some(if value == "on" { 1.0 } else { 0.0 }),
        _ => None,
    }
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
        Memory { limit, peak: 200 * MIB, policy: policy.into(), cache_only, buffers: None }
    }

    fn buffered(memory: Memory, limit: &str, held: u64) -> Memory {
        Memory { buffers: Some(Buffers { limit: limit.into(), held: held * MIB, wanted: 20 * MIB }), ..memory }
    }

    fn keys(memory: &Memory) -> Vec<String> {
        shrink(memory, Amount::Bytes(100 * MIB)).unwrap().into_iter().map(|change| change.key).collect()
    }

    #[test]
    fn what_clients_hold_comes_before_the_keys_where_it_is_too_much() {
        let cache = memory(0, "allkeys-lru", false);
        assert_eq!(keys(&buffered(cache.clone(), "0", 190)), [CLIENTS, MAXMEMORY]);
        assert_eq!(keys(&buffered(cache.clone(), "0", 20)), [MAXMEMORY], "it is not what is big");
        assert_eq!(keys(&buffered(cache, "10485760", 190)), [MAXMEMORY], "a lower limit is never raised");
        let limited = memory(1000 * MIB, "allkeys-lru", false);
        assert_eq!(keys(&buffered(limited.clone(), "1%", 190)), [MAXMEMORY]);
        let changes = shrink(&buffered(limited, "5%", 190), Amount::Bytes(100 * MIB)).unwrap();
        assert_eq!((changes[0].prior.as_str(), changes[0].wanted()), ("5%", "20971520"));
    }

    #[test]
    fn where_no_key_may_go_what_clients_hold_still_may() {
        assert_eq!(keys(&buffered(memory(0, "noeviction", false), "0", 190)), [CLIENTS]);
        assert_eq!(keys(&buffered(memory(50 * MIB, "noeviction", false), "0", 190)), [CLIENTS]);
        let refused = shrink(&buffered(memory(0, "noeviction", false), "0", 3), Amount::Bytes(100 * MIB));
        assert_eq!(refused.unwrap_err().outcome, Outcome::Refused);
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
    fn a_lower_limit_is_stricter() {
        let strictness = |key, value| strictness(key, value);
        assert!(strictness(MAXMEMORY, "50") > strictness(MAXMEMORY, "100"));
        assert!(strictness(MAXMEMORY, "100") > strictness(MAXMEMORY, "0"), "none at all");
        assert_eq!((strictness(CLIENTS, "5%"), strictness(POLICY, "noeviction")), (None, None));
    }

    #[test]
    fn some_room_is_always_left() {
        assert_eq!(wanted_bytes(MIB, Amount::Keep(1.0)).unwrap(), LEAST_BYTES);
    }
}
