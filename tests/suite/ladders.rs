//! The ladders that come built in, with whatever is configured.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::config::settings::Settings;
use node_guardian::config::{self, Source};
use node_guardian::policy::gives::Gives;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::Metric;
use node_guardian::policy::mitigation::{ActionId, Amount, Level, Verb};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::rule::{Asked, Resource, Rule, Severity, Step};
use node_guardian::policy::sample::Sample;
use tempfile::TempDir;

struct Etc(TempDir);

impl Etc {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn source(&self) -> Source {
        Source { usual: self.0.path().join("config.toml"), ..Source::default() }
    }
}

fn load(source: &Source) -> Settings {
    config::load(source).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn rule<'s>(settings: &'s Settings, name: &str) -> &'s Rule {
    settings.policy.rules.iter().find(|rule| &*rule.name == name).unwrap()
}

#[test]
fn built_in_ladders_use_whatever_controls_there_are() {
    let etc = Etc::new();
    etc.write(
        "config.toml",
        "[control.haproxy.edge]\nsocket = \"/run/h\"\n[control.haproxy.inner]\nsocket = \"/run/i\"\n\
         [control.redis.cache]\naddress = \"localhost:6379\"\n",
    );
    let settings = load(&etc.source());
    assert_eq!(ladder(&settings, "memory-caches"), ["release cache"]);
    assert_eq!(
        ladder(&settings, "memory-high"),
        ["release cache", "throttle edge to 50% +", "throttle inner to 50%"],
        "a warning asks and queues"
    );
    let memory = ladder(&settings, "memory-emergency");
    assert_eq!(
        memory[1..9].join(" "),
        "throttle edge to 50% + throttle inner to 50% shed edge by 25% + shed inner by 25% \
         shed edge by 50% + shed inner by 50% throttle edge to 25% + throttle inner to 25%"
    );
    // Nothing in this Redis is declared to be a cache: it is shrunk at most, where the level allows it.
    assert_eq!(memory[9..], ["shrink cache to 75% (aggressive)", "shrink cache to 50% (aggressive)"]);
    let cpu = ladder(&settings, "cpu-emergency").join("; ");
    assert!(cpu.starts_with("throttle edge to 75% +; throttle inner to 75%; throttle edge to 50% +;"), "{cpu}");
    assert!(cpu.contains("shed edge by 10% +; shed inner by 10%; shed edge by 25% +;"), "{cpu}");
    assert!(cpu.ends_with("throttle edge to 25% +; throttle inner to 25%"), "{cpu}");
    let paused = settings.policy.rules.iter().flat_map(|rule| &rule.steps).any(|step| {
        step.mitigation.verb == Verb::Drain
            || &*step.mitigation.control == "cache" && step.mitigation.verb == Verb::Throttle
    });
    assert!(!paused, "no built-in ladder pauses a store or drains a proxy");
    assert_eq!(ladder(&settings, "disk-full"), [""; 0]);
}

/// Whether a service can matter is asked only of steps that nobody wrote by name.
#[test]
fn a_step_says_who_chose_its_control_and_what_it_relieves() {
    let etc = Etc::new();
    let mixed =
        "when = \"memory.used_percent > 95% or cpu.used_percent > 95%\"\nsteps = [{ shed = \"*\", share = \"10%\" }]";
    etc.write(
        "config.toml",
        format!(
            "[control.haproxy.edge]\nsocket = \"/run/h\"\n[control.redis.cache]\nsocket = \"/run/r\"\n\
             [rule.cpu-pressure]\nsteps = [{{ throttle = \"edge\", to = \"50%\" }}, {{ throttle = \"haproxy.*\", to = \"40%\" }}]\n\
             [rule.mixed]\n{mixed}\n"
        ),
    );
    let settings = load(&etc.source());
    let marks =
        |name: &str| rule(&settings, name).steps.iter().map(|step| (step.asked, step.resource)).collect::<Vec<_>>();
    assert_eq!(marks("swap-high"), [(Asked::ByLadder, Some(Resource::Memory))], "release = \"*\"");
    assert_eq!(marks("cpu-pressure"), [(Asked::ByName, Some(Resource::Cpu)), (Asked::ByLadder, Some(Resource::Cpu))]);
    assert_eq!(marks("mixed"), [(Asked::ByLadder, None)], "it may be either");
    let connections = (Asked::ByLadder, Some(Resource::Connections));
    for name in ["conntrack-full", "files-high", "processes-full"] {
        assert!(!marks(name).is_empty() && marks(name).iter().all(|mark| *mark == connections), "{name}");
    }
}

/// The steps of a rule: ` +` is taken at once with the next, and a level in brackets is needed.
fn ladder(settings: &Settings, name: &str) -> Vec<String> {
    let told = |step: &Step| {
        let together = if step.together { " +" } else { "" };
        match Level::needed_for(step.class) {
            Level::Aggressive | Level::Maximum => format!("{step}{together} ({})", Level::needed_for(step.class)),
            Level::Disabled | Level::Minimal | Level::Standard => format!("{step}{together}"),
        }
    };
    rule(settings, name).steps.iter().map(told).collect()
}

#[test]
fn steps_and_ladder_replace_each_other_and_what_is_written_later_counts() {
    let controls = "[control.haproxy.edge]\nsocket = \"/run/h\"\n[control.redis.cache]\nsocket = \"/run/r\"\n";
    let etc = Etc::new();
    let own = "[rule.memory-emergency]\nsteps = [{ throttle = \"edge\", to = \"90%..20%\" }]\n";
    etc.write("config.toml", format!("{controls}{own}[rule.swap-high]\nladder = \"memory\"\n"));
    let settings = load(&etc.source());
    assert_eq!(ladder(&settings, "memory-emergency"), ["throttle edge to 90%..20%"]);
    assert_eq!(ladder(&settings, "swap-high"), ["release cache", "throttle edge to 50%"]);
    etc.write("conf.d/10.toml", "[rule.memory-emergency]\nladder = \"memory\"\n");
    assert!(ladder(&load(&etc.source()), "memory-emergency").len() > 3);
    etc.write("conf.d/10.toml", "[rule.memory-emergency]\nladder = \"memory\"\nsteps = []\n");
    let text = config::check(&etc.source()).text();
    assert!(text.contains("`steps` of its own or a built-in `ladder`, not both"), "{text}");
}

/// Being refused is for emergencies, however the rule came to its ladder.
#[test]
fn a_warning_refuses_nobody() {
    let etc = Etc::new();
    etc.write(
        "config.toml",
        "[control.haproxy.edge]\nsocket = \"/run/h\"\n[control.nginx.front]\nflags = \"/run/node-guardian/nginx\"\n\
         [control.app.shop]\nsocket = \"/run/shop.sock\"\nuser = 1\n[rule.mine]\nwhen = \"threads > 50000\"\nladder = \"cpu\"\n",
    );
    let settings = load(&etc.source());
    let refuses = |step: &Step| match (step.mitigation.verb, step.mitigation.amount) {
        (Verb::Shed | Verb::Drain, _) => true,
        // An application refuses from level 50 on (docs/app-protocol.md).
        (Verb::Throttle, Amount::Keep(kept)) => &*step.mitigation.control == "shop" && kept <= 50.0,
        _ => false,
    };
    let (mut asked, mut refusing) = (0, 0);
    for rule in &settings.policy.rules {
        match rule.severity {
            Severity::Info | Severity::Warning => {
                assert!(!rule.steps.iter().any(refuses), "{} refuses", rule.name);
                asked += rule.steps.len();
            }
            Severity::Emergency => refusing += rule.steps.iter().filter(|step| refuses(step)).count(),
        }
    }
    assert!(asked > 0 && refusing > 0);
}

/// What the built-in rules do in two minutes in which accept queues overflow, with an HAProxy that has this to give.
fn done_about_overflows(gives: Gives) -> Vec<String> {
    let etc = Etc::new();
    etc.write("config.toml", "[control.haproxy.edge]\nsocket = \"/run/h\"\n");
    let plan = Arc::new(Plan::new(load(&etc.source()).policy));
    let (mut out, edge) = (Decisions::default(), Arc::from("edge"));
    let mut guardian = Guardian::new(Moment::ORIGIN, plan, Vec::new(), ActionId(1), &mut out);
    for second in 1..120 {
        let now = Moment::ORIGIN + Duration::from_secs(second);
        let mut sample = Sample::new(now);
        sample.set(Metric::ConnectionsListenOverflowRate, Some(100.0));
        guardian.step(now, Input::Gives { control: &edge, gives: gives.clone() }, &mut out);
        guardian.step(now, Input::Sampled(&sample), &mut out);
    }
    out.commands.iter().map(ToString::to_string).collect()
}

/// Overflows are counted for the whole node, whoever's queue it was: who has no traffic is not before it.
#[test]
fn an_idle_proxy_is_not_made_to_refuse_for_another_process() {
    let idle = Gives { per_second: Some(0.0), sessions: Some(0), ..Gives::default() };
    let busy = Gives { per_second: Some(200.0), sessions: Some(40), ..Gives::default() };
    assert_eq!(done_about_overflows(idle), [""; 0]);
    assert!(!done_about_overflows(busy).is_empty());
}

/// In the order in which memory is asked for.
#[test]
fn kinds_are_asked_by_what_they_cost_users() {
    let etc = Etc::new();
    let process = "pid_file = \"/run/p.pid\"\ncommand = \"p\"\n";
    etc.write(
        "config.toml",
        format!(
            "level = \"aggressive\"\n[control.webhook.ops]\nurl = \"http://127.0.0.1:8080/hook\"\n\
             [control.pressure.unit]\nsignal = true\n{process}[control.app.shop]\nsocket = \"/run/shop.sock\"\nuser = 1\n\
             [control.redis.cache]\nsocket = \"/run/r\"\ncache_only = true\n[control.jvm.search]\n{process}\
             [control.haproxy.edge]\nsocket = \"/run/h\"\n[control.memcached.pages]\nsocket = \"/run/m\"\ncache_only = true\n\
             [control.process.api]\npid_file = \"/run/g.pid\"\ncommand = \"gunicorn\"\nworkers = \"gunicorn\"\n\
             [control.process.batch]\npid_file = \"/run/b.pid\"\ncommand = \"batch\"\nsacrificial = true\n"
        ),
    );
    let settings = load(&etc.source());
    let memory = ladder(&settings, "memory-emergency");
    let expected = [
        "notify ops +",
        "release unit +",
        "release shop",
        "release cache +",
        "release search",
        "freeze batch",
        "throttle shop to 75%",
        "throttle edge to 50%",
        "throttle api to 75%",
        "shed edge by 25%",
        "shed edge by 50% +",
        "throttle shop to 50%",
        "throttle edge to 25%",
        "flush shop (aggressive)",
        "shrink pages to 75% (aggressive)",
        "shrink cache to 75% (aggressive)",
        "shrink pages to 50% (aggressive)",
        "shrink cache to 50% (aggressive)",
        "flush pages (aggressive)",
        "flush cache (aggressive)",
    ];
    assert_eq!(memory, expected);
    let cpu = ladder(&settings, "cpu-emergency");
    let first = ["notify ops +", "throttle batch to 75%", "freeze batch", "throttle shop to 75%"];
    assert_eq!(cpu[..4], first, "niceness gives CPU, and no memory");
    assert_eq!(cpu.iter().filter(|step| step.starts_with("freeze")).count(), 1);
    assert_eq!(ladder(&settings, "cpu-high")[..4], first, "what has no users goes first");
    assert!(rule(&settings, "conntrack-full").steps.iter().all(|step| step.mitigation.verb != Verb::Freeze));
}
