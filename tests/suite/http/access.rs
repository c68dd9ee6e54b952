//! Who may ask what: peers of the admin socket, bearers of the token, neighbours on the network, pages in a browser.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::time::Duration;

use node_guardian::events::Daemon;
use node_guardian::inbox::{Message, Order};
use node_guardian::policy::mitigation::ActionId;
use node_guardian::policy::orders::Hold;
use node_guardian::policy::view::Phase;

use super::house::House;

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn an_operator_releases_over_the_admin_socket() {
    let house = House::open();
    let all = house.ask_admin(&post("/undo", "", ""));
    assert_eq!((all.status, &all.json()["undoing"][0]["id"]), (202, &7.into()));
    assert!(matches!(house.inbox.take(), Some(Message::Order { order: Order::Undo(ids), .. }) if ids.is_empty()));
    let one = house.ask_admin(&post("/undo", "", r#"{"actions":[7]}"#));
    // Nobody takes it here.
    assert_eq!((one.status, &one.json()["kept"]), (202, &false.into()));
    assert!(one.json()["detail"].as_str().unwrap().contains("did not take it within 2 s"), "{:?}", one.json());
    assert!(matches!(house.inbox.take(), Some(Message::Order { order: Order::Undo(ids), .. }) if ids == [ActionId(7)]));
    let unknown = house.ask_admin(&post("/undo", "", r#"{"actions":[7,8]}"#));
    assert_eq!(unknown.problem(404), "not in force: 8; see /status");
    for (path, list) in [("/undo", "actions"), ("/resume", "actions"), ("/drill", "controls")] {
        for none in ["[]", "null"] {
            let wrong = house.ask_admin(&post(path, "", &format!("{{\"{list}\":{none}}}"))).problem(400);
            let told = wrong.contains("expected {\"")
                && (none == "null" || wrong.contains("leave it out where all are meant"));
            assert!(told, "{path} {none}: {wrong}");
        }
    }
    for wrong in ["[7]", r#"{"action":[7]}"#, r#"{"actions":["7"]}"#, "release!"] {
        assert!(house.ask_admin(&post("/undo", "", wrong)).problem(400).contains("expected"), "{wrong}");
    }
    assert!(house.inbox.take().is_none());
    assert_eq!(house.ask_admin(&post("/reload", "", "")).status, 202);
    assert!(matches!(house.inbox.take(), Some(Message::Reload)));
    let me = format!("uid {}", nix::unistd::Uid::effective());
    let who = house.inbox.take();
    assert!(
        matches!(&who, Some(Message::Record(Daemon::Asked { what: "a reload", by })) if by.starts_with(&me)),
        "{who:?}"
    );
}

#[test]
fn a_token_that_can_be_guessed_or_waited_for_is_refused() {
    let house = House::open();
    let ask = |token: &str| house.ask(&post("/undo", &format!("Authorization: Bearer {token}\r\n"), ""));
    for short in ["x", "12345"] {
        std::fs::write(&house.token_file, short).unwrap();
        let told = ask(short).problem(503);
        assert!(told.contains("fewer than 6 characters") && told.contains("openssl rand"), "{told}");
    }
    std::fs::remove_file(&house.token_file).unwrap();
    nix::unistd::mkfifo(&house.token_file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(ask("open-sesame").problem(503).contains("not a regular file"));
    assert_eq!(house.get("/status").status, 200, "nobody waits for the pipe");
    assert!(house.inbox.take().is_none());
}

#[test]
fn who_guesses_is_slowed_down_and_told() {
    let house = House::open();
    let ask = |token: &str| house.ask(&post("/undo", &format!("Authorization: Bearer {token}\r\n"), ""));
    let answers: Vec<u16> = (0..30).map(|n| ask(&format!("guess-{n}")).status).collect();
    assert_eq!(answers[..10], [401; 10]);
    assert!(answers[10..].contains(&429), "{answers:?}");
    match house.inbox.take() {
        Some(Message::Record(Daemon::Degraded { why, .. })) => assert!(why.contains("sent 10 wrong tokens"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(house.inbox.take().is_none(), "told once");
    // Refused unheard, or it would be a guess.
    let waits = (0..100).find_map(|_| Some(ask("open-sesame")).filter(|reply| reply.status == 429));
    assert!(waits.is_none_or(|reply| reply.header("retry-after").is_some()));
    assert_eq!(house.ask_admin(&post("/undo", "", "")).status, 202, "an operator is not held up");
}

/// As root only: nobody else can become somebody else.
#[test]
fn guesses_of_one_user_are_not_those_of_another() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let house = House::open();
    let guess = |token: &str| {
        let url = format!("http://{}/undo", house.tcp);
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "-o", "/dev/null", "-X", "POST"])
            .args(["-w", "%{http_code}", "-H", &format!("Authorization: Bearer {token}"), &url])
            .output()
            .expect("setpriv and curl are needed: apt install util-linux curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answers: Vec<String> = (0..25).map(|n| guess(&format!("guess-{n}"))).collect();
    assert!(answers.iter().any(|answer| answer == "429"), "{answers:?}");
    assert_eq!(house.ask(&post("/undo", "Authorization: Bearer open-sesame\r\n", "")).status, 202);
}

#[test]
fn a_pause_and_its_end_are_ordered_with_who_asked() {
    let house = House::open();
    let me = format!("uid {}", nix::unistd::Uid::effective());
    let order = || match house.inbox.take() {
        Some(Message::Order { order, by, .. }) => (order, by.to_string()),
        other => panic!("{other:?}"),
    };
    let usual = house.ask_admin(&post("/pause", "", ""));
    assert_eq!((usual.status, usual.json()["seconds"].as_f64()), (202, Some(1800.0)));
    let (paused, by) = order();
    assert_eq!(paused, Order::Pause { lasts: Duration::from_secs(1800), hold: Hold::Undo });
    assert!(by.starts_with(&me) && usual.json()["by"] == by.as_str(), "{by}");
    let token = "Authorization: Bearer open-sesame\r\n";
    assert_eq!(house.ask(&post("/pause", token, r#"{"for":"2h","hold":true}"#)).status, 202);
    assert_eq!(order(), (Order::Pause { lasts: Duration::from_secs(7200), hold: Hold::Keep }, "token".into()));
    for wrong in [r#"{"for":"8d"}"#, r#"{"for":"0s"}"#, r#"{"for":"soon"}"#, r#"{"for":5}"#, r#"{"fro":"5m"}"#] {
        house.ask_admin(&post("/pause", "", wrong)).problem(400);
    }
    assert_eq!(house.ask_admin(&post("/resume", "", "")).status, 202);
    assert_eq!(order().0, Order::Resume(Vec::new()));
    assert_eq!(house.ask_admin(&post("/resume", "", r#"{"actions":[7]}"#)).problem(404), "not undone: 7; see /status");
    house.ask(&post("/resume", "", "")).problem(401);
    assert!(house.inbox.take().is_none());
}

#[test]
fn only_a_debt_can_be_given_up() {
    let house = House::open();
    let forget = r#"{"actions":[7],"forget":true}"#;
    assert!(house.ask_admin(&post("/undo", "", forget)).problem(409).contains("not owed: 7"));
    let none = house.ask_admin(&post("/undo", "", r#"{"forget":true}"#));
    assert_eq!((none.status, none.json()["undoing"].as_array().map(Vec::len)), (202, Some(0)));
    assert!(house.inbox.take().is_none(), "nothing is owed, so nothing is asked for");
    house.publish(|snapshot| snapshot.view.actions[0].phase = Phase::Owed);
    assert_eq!(house.ask_admin(&post("/undo", "", forget)).status, 202);
    assert!(
        matches!(house.inbox.take(), Some(Message::Order { order: Order::Forget(ids), .. }) if ids == [ActionId(7)])
    );
}

#[test]
fn over_tcp_a_change_needs_the_token() {
    let house = House::open();
    assert_eq!(house.ask(&post("/undo", "", "")).header("www-authenticate"), Some("Bearer realm=\"node-guardian\""));
    for wrong in ["Bearer open-sesam", "Bearer open-sesame2", "Basic open-sesame", "Bearer ", "open-sesame"] {
        house.ask(&post("/undo", &format!("Authorization: {wrong}\r\n"), "")).problem(401);
    }
    assert!(house.inbox.take().is_none());
    let right = "Authorization: bearer open-sesame\r\n";
    assert_eq!(house.ask(&post("/undo", right, "")).status, 202);
    std::fs::write(&house.token_file, " \n").unwrap();
    assert!(house.ask(&post("/undo", right, "")).problem(503).contains("is empty"));
    std::fs::write(&house.token_file, "another").unwrap();
    house.ask(&post("/undo", right, "")).problem(401);
}

#[test]
fn off_loopback_strangers_see_only_the_probes() {
    let house = House::listening_on("0.0.0.0:0");
    for open in ["/livez", "/readyz"] {
        assert!(matches!(house.get(open).status, 200 | 503), "{open}");
    }
    for closed in ["/", "/status", "/health", "/metrics", "/events", "/rules/x", "/nowhere"] {
        house.get(closed).problem(401);
    }
    let with_token =
        "GET /status HTTP/1.1\r\nAuthorization: Bearer open-sesame\r\nHost: n\r\nConnection: close\r\n\r\n";
    assert_eq!(house.ask(with_token).status, 200);
}

#[test]
fn a_page_that_resolves_its_name_to_loopback_reads_nothing() {
    let house = House::open();
    let ask = |host: &str| house.ask(&format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert!(ask("evil.example").problem(421).contains("localhost"));
    for fine in ["localhost:9977", "127.0.0.1", "[::1]:80"] {
        assert_eq!(ask(fine).status, 200, "{fine}");
    }
    assert_eq!(house.ask("GET /status HTTP/1.0\r\n\r\n").status, 200);
}

/// As root only: nobody else can become somebody else.
#[test]
fn a_stranger_on_the_admin_socket_may_look_and_not_touch() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let house = House::open();
    let mode = |path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for folder in house.socket.ancestors().skip(1).take(2) {
        mode(folder, 0o755);
    }
    mode(&house.socket, 0o666);
    let curl = |groups: &str, arguments: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", groups, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"])
            .arg("--unix-socket")
            .arg(&house.socket)
            .args(arguments)
            .output()
            .expect("setpriv and curl are needed: apt install util-linux curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl("--clear-groups", &["http://x/status"]), "200");
    assert_eq!(curl("--clear-groups", &["-X", "POST", "http://x/undo"]), "403");
    assert!(house.inbox.take().is_none());
    // As the unit's group would be: the kernel lets its members connect, and nobody else.
    chown(&house.socket, None, Some(4242)).unwrap();
    mode(&house.socket, 0o660);
    assert_eq!(curl("--groups=4242", &["http://x/status"]), "200");
    assert_eq!(curl("--clear-groups", &["http://x/status"]), "000");
}
