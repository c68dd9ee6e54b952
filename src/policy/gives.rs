//! What a service has to give, by its own numbers: traffic, memory, connections, CPU. So a step that nobody asked of it by
//! name is not taken where it cannot matter. What a service does not tell is unknown, and unknown may matter.

use std::sync::Arc;

use super::ports::Ports;
use super::resource::Resource;
use super::unit::Unit;

/// As last read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Gives {
    /// Requests, commands or connections that came in a second of late.
    pub per_second: Option<f64>,
    /// Sessions of clients, now.
    pub sessions: Option<u64>,
    /// What it holds of the node's memory, as far as it could be given back.
    pub bytes: Option<u64>,
    /// What it used of late, in percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Where its connections come in and go to.
    pub ports: Ports,
}

/// Whether it can matter to a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Matters {
    Yes,
    /// Why not, to be told after `cannot help here, because`.
    No(Arc<str>),
    Unknown,
}

/// An empty Redis and an empty memcached are left with so much, and are never shrunk below it.
const LEAST_BYTES: u64 = 4 << 20;
/// Less than this is what a process uses that only wakes to look around.
const LEAST_CPU_PERCENT: f64 = 1.0;
/// Nobody came: what comes less often than once in ten seconds is none of what a node suffers from.
const LEAST_PER_SECOND: f64 = 0.1;

impl Gives {
    #[must_use]
    pub fn matters(&self, resource: Resource) -> Matters {
        match resource {
            Resource::Memory => self.memory(),
            Resource::Cpu => self.cpu(),
            Resource::Disk | Resource::Network | Resource::Connections => self.traffic(),
        }
    }

    fn memory(&self) -> Matters {
        match self.bytes {
            Some(bytes) if bytes < LEAST_BYTES => {
                Matters::No(format!("it holds {}, which is too little to matter", shown(bytes)).into())
            }
            Some(_) => Matters::Yes,
            None => self.traffic(),
        }
    }

    fn cpu(&self) -> Matters {
        match self.cpu_percent {
            Some(percent) if percent < LEAST_CPU_PERCENT => {
                Matters::No(format!("it uses {percent:.1} % of a CPU").into())
            }
            Some(_) => Matters::Yes,
            None => self.traffic(),
        }
    }

    /// An idle proxy matters to nothing, whatever it could refuse.
    fn traffic(&self) -> Matters {
        let comes = self.per_second.map(|rate| rate >= LEAST_PER_SECOND);
        let stays = self.sessions.map(|sessions| sessions > 0);
        match (comes, stays) {
            (Some(true), _) | (_, Some(true)) => Matters::Yes,
            (Some(false), Some(false)) => Matters::No("it has no client and no request".into()),
            (_, _) => Matters::Unknown,
        }
    }
}

fn shown(bytes: u64) -> String {
    Unit::Bytes.show(bytes as f64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Gives {
        Gives { per_second: Some(0.0), sessions: Some(0), ..Gives::default() }
    }

    #[test]
    fn an_idle_proxy_matters_to_nothing() {
        for resource in Resource::ALL {
            assert!(matches!(idle().matters(resource), Matters::No(_)), "{resource:?}");
        }
        assert_eq!(Gives { per_second: Some(3.0), ..idle() }.matters(Resource::Connections), Matters::Yes);
        assert_eq!(Gives { sessions: Some(1), ..idle() }.matters(Resource::Memory), Matters::Yes);
    }

    #[test]
    fn what_is_not_told_may_matter() {
        for resource in Resource::ALL {
            assert_eq!(Gives::default().matters(resource), Matters::Unknown);
        }
        assert_eq!(Gives { per_second: None, ..idle() }.matters(Resource::Network), Matters::Unknown);
        assert_eq!(Gives { sessions: None, ..idle() }.matters(Resource::Network), Matters::Unknown);
    }

    #[test]
    fn memory_and_cpu_are_what_a_service_has_of_them() {
        let small = Gives { bytes: Some(1 << 20), sessions: Some(9), ..Gives::default() };
        let Matters::No(why) = small.matters(Resource::Memory) else { panic!("1 MiB is nothing") };
        assert_eq!(&*why, "it holds 1.0MiB, which is too little to matter");
        assert_eq!(small.matters(Resource::Connections), Matters::Yes);
        let full = Gives { bytes: Some(1 << 30), ..idle() };
        assert_eq!(full.matters(Resource::Memory), Matters::Yes, "nobody uses it, and it holds a GiB");
        let asleep = Gives { cpu_percent: Some(0.0), ..Gives::default() };
        assert!(matches!(asleep.matters(Resource::Cpu), Matters::No(_)));
        assert_eq!(Gives { cpu_percent: Some(40.0), ..idle() }.matters(Resource::Cpu), Matters::Yes);
    }
}
