//! Ports as data: which of them a service stands before, as far as it tells.

use std::sync::Arc;

/// TCP ports of this node that a service has to do with. `None` is not known, which is not the same as none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ports {
    own: Option<Arc<[u16]>>,
    behind: Option<Arc<[u16]>>,
}

impl Ports {
    #[must_use]
    pub fn new(own: Option<Vec<u16>>, behind: Option<Vec<u16>>) -> Self {
        Self { own: own.map(tidy), behind: behind.map(tidy) }
    }

    /// Of a service that listens on these and passes nothing on.
    #[must_use]
    pub fn last(own: Option<Vec<u16>>) -> Self {
        Self::new(own, Some(Vec::new()))
    }

    /// All that it has to do with, whether it takes connections in there or passes them on.
    #[must_use]
    pub(crate) fn all_of(ports: Vec<u16>) -> Self {
        Self::new(Some(ports.clone()), Some(ports))
    }

    /// It takes connections in at this one.
    #[must_use]
    pub(crate) fn takes(&self, port: u16) -> bool {
        has(&self.own, port)
    }

    /// It takes connections in at this one, or passes them on to it.
    #[must_use]
    pub(crate) fn has(&self, port: u16) -> bool {
        self.takes(port) || has(&self.behind, port)
    }

    /// Those where it takes connections in.
    #[must_use]
    pub fn own(&self) -> Option<&[u16]> {
        self.own.as_deref()
    }

    /// Those to which it passes connections on.
    #[must_use]
    pub fn behind(&self) -> Option<&[u16]> {
        self.behind.as_deref()
    }
}

fn tidy(mut ports: Vec<u16>) -> Arc<[u16]> {
    ports.sort_unstable();
    ports.dedup();
    ports.into()
}

fn has(ports: &Option<Arc<[u16]>>, port: u16) -> bool {
    ports.as_ref().is_some_and(|ports| ports.binary_search(&port).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_none() {
        let ports = Ports::new(Some(vec![443, 80, 443]), None);
        assert_eq!(ports.own(), Some([80, 443].as_slice()));
        assert!(ports.takes(80) && ports.has(443) && !ports.has(8080));
        assert_eq!((ports.behind(), Ports::last(None).behind()), (None, Some([].as_slice())));
        assert!(Ports::new(None, Some(vec![8080])).has(8080) && !Ports::new(None, Some(vec![8080])).takes(8080));
    }
}
