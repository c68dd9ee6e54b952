//! What services have to give, by their own numbers: an idle one matters to nothing, one that is asked or holds something
//! does, and what is not told is never taken for nothing.

use std::time::Duration;

use node_guardian::control::target::{self, Target};
use node_guardian::policy::gives::{Gives, Matters};
use node_guardian::policy::ports::Ports;
use node_guardian::policy::rule::Resource;

use super::support::desk::Desk;
use super::support::eventually;
use super::support::haproxy::Haproxy;
use super::support::memcached::Memcached;
use super::support::nginx::Nginx;
use super::support::processes::Plain;
use super::support::redis::Redis;
use super::support::varnish::Varnish;
use super::support::web::{self, Traffic};

/// The second answer knows rates.
fn twice(desk: &mut Desk, control: &str) -> Gives {
    desk.gives(control);
    std::thread::sleep(Duration::from_millis(300));
    desk.gives(control)
}

fn is_no(matters: &Matters) -> bool {
    matches!(matters, Matters::No(_))
}

#[test]
fn an_haproxy_matters_as_soon_as_somebody_comes_and_only_then() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    assert_eq!(desk.gives("edge").matters(Resource::Connections), Matters::Unknown, "no rate is known yet");
    let idle = twice(&mut desk, "edge");
    for resource in Resource::ALL {
        assert!(is_no(&idle.matters(resource)), "{resource:?}: {idle:?}");
    }
    let counts = web::serve(&server.path("app.sock"));
    let traffic = Traffic::start(&server.path("web.sock"), 4, counts);
    let is_used = |gives: Gives| (gives.matters(Resource::Memory) == Matters::Yes).then_some(());
    eventually("it is used", || is_used(desk.gives("edge")));
    traffic.stop();
    eventually("it is idle again", || {
        std::thread::sleep(Duration::from_millis(100));
        is_no(&desk.gives("edge").matters(Resource::Memory)).then_some(())
    });
    let other = target::Haproxy { frontends: vec!["nobody".into()], ..server.target() };
    let mut desk = Desk::new(&[("other", Target::Haproxy(other))]);
    assert!(is_no(&twice(&mut desk, "other").matters(Resource::Connections)), "traffic of others is not its own");
}

#[test]
fn a_redis_matters_to_memory_by_what_it_holds_and_to_the_rest_by_its_clients() {
    let server = Redis::start();
    let mut desk = Desk::new(&[("cache", Target::Redis(server.target()))]);
    let empty = twice(&mut desk, "cache");
    assert!(is_no(&empty.matters(Resource::Memory)) && is_no(&empty.matters(Resource::Cpu)), "{empty:?}");
    server.fill("cache:", 2_000, 10_000);
    let full = twice(&mut desk, "cache");
    assert_eq!(full.matters(Resource::Memory), Matters::Yes, "{full:?}");
    let client = server.connect();
    eventually("a client", || (desk.gives("cache").sessions == Some(1)).then_some(()));
    assert_eq!(desk.gives("cache").matters(Resource::Connections), Matters::Yes);
    drop(client);
}

#[test]
fn caches_tell_what_they_hold() {
    let memcached = Memcached::start();
    let mut desk = Desk::new(&[("cache", Target::Memcached(memcached.target()))]);
    let empty = twice(&mut desk, "cache");
    assert!(is_no(&empty.matters(Resource::Memory)), "{empty:?}");
    assert_eq!(empty.matters(Resource::Connections), Matters::Unknown, "its listeners are among its connections");
    let varnish = Varnish::start();
    let mut desk = Desk::new(&[("pages", Target::Varnish(varnish.target()))]);
    let held = desk.gives("pages");
    assert_eq!((held.matters(Resource::Memory), held.sessions), (Matters::Yes, None), "{held:?}");
    assert_eq!(held.matters(Resource::Connections), Matters::Unknown);
}

#[test]
fn an_nginx_tells_its_traffic_where_it_may_be_asked() {
    let server = Nginx::start();
    let mut desk = Desk::new(&[
        ("front", Target::Nginx(server.target())),
        ("silent", Target::Nginx(target::Nginx { stub_status: None, ..server.target() })),
    ]);
    let idle = twice(&mut desk, "front");
    assert!(is_no(&idle.matters(Resource::Connections)), "{idle:?}");
    for _ in 0..20 {
        server.get("/");
    }
    assert_eq!(desk.gives("front").matters(Resource::Connections), Matters::Yes);
    assert_eq!(twice(&mut desk, "silent"), Gives::default());
}

#[test]
fn a_process_matters_to_the_cpu_by_what_it_uses() {
    let (asleep, busy) = (Plain::start("sleep", &["600"]), Plain::start("bash", &["-c", "while :; do :; done"]));
    let mut desk = Desk::new(&[("asleep", asleep.sacrificial()), ("busy", busy.sacrificial())]);
    assert_eq!(desk.gives("asleep").matters(Resource::Cpu), Matters::Unknown, "one reading is no share");
    let still = twice(&mut desk, "asleep");
    assert!(is_no(&still.matters(Resource::Cpu)) && is_no(&still.matters(Resource::Memory)), "{still:?}");
    eventually("it is busy", || (twice(&mut desk, "busy").matters(Resource::Cpu) == Matters::Yes).then_some(()));
}

#[test]
fn who_is_not_there_may_matter() {
    let mut server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", Target::Haproxy(server.target()))]);
    server.end();
    assert_eq!(desk.gives("edge"), Gives::default());
}

#[test]
fn servers_tell_which_ports_they_stand_before() {
    let edge = Haproxy::on_ports(8081);
    let named = |frontends: &[&str], backends: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let target = target::Haproxy { frontends: names(frontends), backends: names(backends), ..edge.target() };
        Target::Haproxy(target)
    };
    let asked_by_operator = target::Haproxy { socket: edge.path("operator.sock"), frontends: vec![], ..edge.target() };
    let asked_by_user = target::Haproxy { socket: edge.path("user.sock"), ..edge.target() };
    let mut desk = Desk::new(&[
        ("all", named(&[], &[])),
        ("web", named(&["web"], &["other"])),
        ("operator", Target::Haproxy(asked_by_operator)),
        ("user", Target::Haproxy(asked_by_user)),
    ]);
    let own = edge.own_port();
    for _ in 0..2 {
        assert_eq!(desk.gives("all").ports, Ports::new(Some(vec![own]), Some(vec![8081])));
        assert_eq!(
            desk.gives("web").ports,
            Ports::new(Some(vec![]), Some(vec![8081])),
            "a frontend refuses for all backends"
        );
        assert_eq!(desk.gives("operator").ports, Ports::new(Some(vec![own]), Some(vec![8081])));
        assert_eq!(desk.gives("user").ports, Ports::new(None, Some(vec![8081])), "that level may not ask");
    }
    let (redis, memcached) = (Redis::start(), Memcached::start());
    let mut desk = Desk::new(&[
        ("redis", Target::Redis(redis.target())),
        ("memcached", Target::Memcached(memcached.target())),
        ("nginx", Target::Nginx(Nginx::start().target())),
    ]);
    for cache in ["redis", "memcached"] {
        let ports = desk.gives(cache).ports;
        assert!(ports.own().is_some(), "{cache}: {ports:?}");
        assert_eq!(ports.behind(), Some([].as_slice()), "{cache}");
    }
    assert_eq!(desk.gives("nginx").ports, Ports::default(), "it does not tell");
}

#[test]
fn a_varnish_tells_where_it_listens_and_where_its_backends_are() {
    let server = Varnish::start();
    let mut desk = Desk::new(&[("pages", Target::Varnish(server.target()))]);
    let [clients, backend] = server.ports();
    assert_eq!(desk.gives("pages").ports, Ports::new(Some(vec![clients]), Some(vec![backend])));
    let mut load = |name: &str, vcl: &str| {
        let file = server.path(name);
        std::fs::write(&file, vcl).unwrap();
        server.ask(&["vcl.load", name, file.to_str().unwrap()]);
        let told = server.ask(&["vcl.use", name]);
        assert!(told.contains("now active"), "{told}");
        desk.gives("pages").ports
    };
    let two = "vcl 4.1; import std; backend one { .host = \"127.0.0.1\"; .port = \"8081\"; }\n\
               backend two { .host = \"[::1]:8082\"; } # backend three\n\
               sub vcl_recv { if (req.url == \"/2\") { set req.backend_hint = two; } }";
    assert_eq!(load("two", two), Ports::new(Some(vec![clients]), Some(vec![8081, 8082])));
    let elsewhere = "vcl 4.1; backend far { .host = \"192.0.2.7\"; .port = \"80\"; }";
    assert_eq!(load("elsewhere", elsewhere), Ports::new(Some(vec![clients]), Some(vec![])));
    server.ask(&["vcl.label", "blue", "two"]);
    assert_eq!(desk.gives("pages").ports, Ports::new(Some(vec![clients]), None), "it may pass requests to that one");
}
