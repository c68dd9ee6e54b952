//! Caches, killed over: what they hold may go, their limits must come back.

use node_guardian::control::target::Target;

use super::super::support::memcached::Memcached;
use super::super::support::varnish::Varnish;
use super::subjects::Subject;

struct Items(Memcached);

impl Subject for Items {
    fn target(&self) -> Target {
        Target::Memcached(self.0.target())
    }

    fn face(&self) -> String {
        self.0.limit().to_string()
    }

    fn interfere(&self) {
        assert_eq!(self.0.ask("cache_memlimit 77"), "OK");
    }

    fn tidy(&self) {
        assert_eq!(self.0.ask("cache_memlimit 256"), "OK");
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

pub fn items() -> Box<dyn Subject> {
    Box::new(Items(Memcached::start()))
}

struct Pages(Varnish);

impl Subject for Pages {
    fn target(&self) -> Target {
        Target::Varnish(self.0.target())
    }

    fn face(&self) -> String {
        format!("{:?}", self.0.face())
    }

    fn interfere(&self) {
        self.0.ask(&["param.set", "thread_pool_max", "777"]);
    }

    fn tidy(&self) {
        self.0.ask(&["param.set", "thread_pool_max", "1000"]);
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

pub fn pages() -> Box<dyn Subject> {
    Box::new(Pages(Varnish::start()))
}
