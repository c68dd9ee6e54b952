//! What all services told of themselves, and whether one of them can matter to a trouble: it has something to give, and for
//! a port's trouble it stands before that port, itself or by another service to which it passes connections on.

use std::sync::Arc;

use super::gives::{Gives, Matters};
use super::metric::Family;
use super::ports::Ports;
use super::resource::Resource;
use super::rule::Policy;
use super::sample::Sample;

/// Proxies before proxies before proxies: deeper than any node that was seen.
const DEEPEST: u32 = 4;

#[derive(PartialEq, Debug, Default)]
pub struct Services {
    /// By control.
    told: Vec<(Arc<str>, Gives)>,
    /// By control, what the operator says of its ports, which counts instead of what it tells.
    written: Vec<(Arc<str>, Ports)>,
    /// The ports that somebody listens on in this network namespace.
    here: Vec<u16>,
    generation: u64,
}

/// Into what is there, as a view is filled at each tick.
impl Clone for Services {
    fn clone(&self) -> Self {
        let (told, written) = (self.told.clone(), self.written.clone());
        Self { told, written, here: self.here.clone(), generation: self.generation }
    }

    fn clone_from(&mut self, source: &Self) {
        self.told.clone_from(&source.told);
        self.written.clone_from(&source.written);
        self.here.clone_from(&source.here);
        self.generation = source.generation;
    }
}

impl Services {
    /// Another plan. Where ports are written no more, they are unknown until the service tells them.
    pub fn expect(&mut self, policy: &Policy) {
        let before = std::mem::replace(&mut self.written, policy.ports.clone());
        for (control, _) in before.iter().chain(&policy.ports) {
            let gives = self.of(control).cloned().unwrap_or_default();
            self.note(control, Gives { ports: Ports::default(), ..gives });
        }
    }

    pub fn note(&mut self, control: &Arc<str>, mut gives: Gives) {
        if let Some((_, ports)) = self.written.iter().find(|(known, _)| known == control) {
            gives.ports = ports.clone();
        }
        match self.told.iter_mut().find(|(known, _)| known == control) {
            Some((_, known)) => *known = gives,
            None => self.told.push((Arc::clone(control), gives)),
        }
    }

    /// Which ports are listened on, where that has changed.
    pub fn watch(&mut self, sample: &Sample) {
        let generation = sample.generation(Family::Port);
        if self.generation != generation {
            self.generation = generation;
            self.here.clear();
            self.here.extend(sample.instances(Family::Port).iter().filter_map(|name| name.parse::<u16>().ok()));
        }
    }

    /// Whether the service of this control can matter to a resource, and to these ports where the trouble is theirs.
    #[must_use]
    pub fn matters(&self, control: &str, resource: Resource, ports: &[u16]) -> Matters {
        let Some(gives) = self.of(control) else { return Matters::Unknown };
        let gives_of_it = gives.matters(resource);
        if resource != Resource::Connections || ports.is_empty() || matches!(gives_of_it, Matters::No(_)) {
            return gives_of_it;
        }
        let mut known = Before::No;
        for port in ports {
            known = known.or(self.before(control, *port, DEEPEST));
        }
        match known {
            Before::Yes => gives_of_it,
            Before::Unknown => Matters::Unknown,
            Before::No => Matters::No(format!("it does not stand before {}", Named(ports)).into()),
        }
    }

    fn of(&self, control: &str) -> Option<&Gives> {
        self.told.iter().find(|(known, _)| **known == *control).map(|(_, gives)| gives)
    }

    fn before(&self, control: &str, port: u16, deep: u32) -> Before {
        let Some(gives) = self.of(control) else { return Before::Unknown };
        if gives.ports.has(port) {
            return Before::Yes;
        }
        let (Some(own), Some(behind)) = (gives.ports.own(), gives.ports.behind()) else { return Before::Unknown };
        let is_written = self.written.iter().any(|(known, _)| **known == *control);
        // Ports of another network namespace are others, though they have the same numbers.
        if !is_written && !own.is_empty() && own.iter().all(|own| self.here.binary_search(own).is_err()) {
            return Before::Unknown;
        }
        let Some(deeper) = deep.checked_sub(1) else { return Before::Unknown };
        let is_next = |(name, gives): &&(Arc<str>, Gives)| {
            **name != *control && behind.iter().any(|behind| gives.ports.takes(*behind))
        };
        let next = self.told.iter().filter(is_next);
        // What is passed on to nobody that tells may be taken by one that does not.
        let is_taken = |port: &u16| self.told.iter().any(|(_, gives)| gives.ports.takes(*port));
        let is_silent = |(name, gives): &(Arc<str>, Gives)| **name != *control && gives.ports.own().is_none();
        let may_be_more = !behind.iter().all(is_taken) && self.told.iter().any(is_silent);
        let others = if may_be_more { Before::Unknown } else { Before::No };
        next.fold(others, |known, (name, _)| known.or(self.before(name, port, deeper)))
    }
}

/// Whether a service stands before a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Yes,
    No,
    Unknown,
}

impl Before {
    const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Before::Yes, _) | (_, Before::Yes) => Before::Yes,
            (Before::Unknown, _) | (_, Before::Unknown) => Before::Unknown,
            (Before::No, Before::No) => Before::No,
        }
    }
}

/// `port 80`, `ports 80, 443`
struct Named<'a>(&'a [u16]);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.len() == 1 { "port" } else { "ports" })?;
        for (at, port) in self.0.iter().enumerate() {
            write!(f, "{} {port}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(ports: Ports) -> Gives {
        Gives { per_second: Some(9.0), sessions: Some(9), ports, ..Gives::default() }
    }

    fn services(told: &[(&str, Ports)]) -> Services {
        let mut services = Services::default();
        for (name, ports) in told {
            services.note(&(*name).into(), busy(ports.clone()));
        }
        let mut sample = Sample::default();
        sample.set_instances(Family::Port, &["80", "443", "3000", "8080"]);
        services.watch(&sample);
        services
    }

    fn to(own: &[u16], behind: &[u16]) -> Ports {
        Ports::new(Some(own.to_vec()), Some(behind.to_vec()))
    }

    #[test]
    fn only_what_stands_before_a_port_matters_to_its_trouble() {
        let services = services(&[("edge", to(&[80, 443], &[8080]))]);
        let matters = |ports: &[u16]| services.matters("edge", Resource::Connections, ports);
        for yes in [&[80][..], &[443], &[8080], &[3000, 80], &[]] {
            assert_eq!(matters(yes), Matters::Yes, "{yes:?}");
        }
        assert_eq!(matters(&[3000]), Matters::No("it does not stand before port 3000".into()));
        assert_eq!(matters(&[3000, 5432]), Matters::No("it does not stand before ports 3000, 5432".into()));
        assert_eq!(services.matters("edge", Resource::Cpu, &[3000]), Matters::Yes, "what a CPU needs has no port");
    }

    #[test]
    fn a_proxy_before_a_proxy_stands_before_what_that_one_does() {
        let chain = [("edge", to(&[80], &[8080])), ("app", to(&[8080], &[3000])), ("loop", to(&[443], &[443, 80]))];
        let services = services(&chain);
        for control in ["edge", "app", "loop"] {
            assert_eq!(services.matters(control, Resource::Connections, &[3000]), Matters::Yes, "{control}");
        }
        assert!(matches!(services.matters("app", Resource::Connections, &[80]), Matters::No(_)));
    }

    #[test]
    fn a_proxy_before_somebody_who_tells_no_ports_may_stand_before_anything() {
        let silent = ("front", Ports::default());
        let told = services(&[("edge", to(&[80], &[8080])), ("inner", to(&[443], &[3000])), silent.clone()]);
        assert_eq!(told.matters("edge", Resource::Connections, &[3000]), Matters::Unknown, "8080 may be its");
        let told = services(&[("edge", to(&[80], &[8080])), ("app", to(&[8080], &[])), silent]);
        assert!(matches!(told.matters("edge", Resource::Connections, &[3000]), Matters::No(_)), "8080 is another's");
    }

    #[test]
    fn what_the_operator_writes_counts_instead_of_what_a_service_tells() {
        let policy = |ports: &[(&str, &[u16])]| {
            let written = |(name, ports): &(&str, &[u16])| ((*name).into(), Ports::all_of(ports.to_vec()));
            Policy { ports: ports.iter().map(written).collect(), ..Policy::default() }
        };
        let mut services = services(&[("edge", to(&[80], &[8080])), ("front", Ports::default())]);
        let matters = |services: &Services, control, port| services.matters(control, Resource::Connections, &[port]);
        assert_eq!(matters(&services, "front", 443), Matters::Unknown);
        services.expect(&policy(&[("front", &[8080, 3000]), ("quiet", &[443]), ("far", &[9000])]));
        for _ in 0..2 {
            assert!(matches!(matters(&services, "front", 443), Matters::No(_)));
            assert_eq!(matters(&services, "front", 3000), Matters::Yes);
            assert_eq!(matters(&services, "edge", 3000), Matters::Yes, "by what stands behind it");
            assert!(matches!(matters(&services, "edge", 443), Matters::No(_)), "nobody behind it is silent");
            assert_eq!(matters(&services, "quiet", 443), Matters::Unknown, "whether anybody comes is not known");
            for control in ["quiet", "far"] {
                assert!(matches!(matters(&services, control, 3000), Matters::No(_)), "{control}");
            }
            services.note(&"front".into(), busy(to(&[443], &[])));
        }
        services.expect(&policy(&[]));
        assert_eq!(matters(&services, "front", 443), Matters::Unknown, "until it tells");
    }

    #[test]
    fn what_is_not_told_may_stand_before_anything() {
        let own = Some(vec![80]);
        let others = [
            ("silent", Ports::default()),
            ("half", Ports::new(own.clone(), None)),
            ("edge", to(&[443], &[80])),
            ("elsewhere", to(&[9000], &[])),
            ("nowhere", to(&[], &[])),
        ];
        let services = services(&others);
        let matters = |control| services.matters(control, Resource::Connections, &[3000]);
        for control in ["silent", "half", "edge", "elsewhere", "unheard"] {
            assert_eq!(matters(control), Matters::Unknown, "{control}");
        }
        assert!(matches!(matters("nowhere"), Matters::No(_)), "it listens on no port at all");
    }
}
