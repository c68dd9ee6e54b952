//! What the fuzzer sends over a connection: any bytes, in pieces, to the whole of the server but its listeners. Each request
//! is answered or the connection is closed; nothing reaches the loop over TCP without the token.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::connection::Entry;
use super::credential::Peer;
use super::gate::Gate;
use super::guesses::Ends;
use super::routes;
use super::seats::Seats;
use super::site::Site;
use super::turns::Turns;
use super::via::Via;
use crate::config::settings::{self, Settings};
use crate::fuzzing::fed::Fed;
use crate::fuzzing::measure::converse;
use crate::inbox::{self, Inbox};
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;
use crate::policy::view::View;
use crate::status::{Board, Facts, Snapshot};

/// The longest head and body, and two thousand short requests: more of them take longer, and no other way.
const SENT_BYTES: usize = 96 << 10;

struct House {
    entry: Entry,
    inbox: Inbox,
}

thread_local! {
    static HOUSE: House = house();
}

/// The first byte chooses the way in, the rest is a script ([`Fed`]).
pub fn request(input: &[u8]) {
    let Some((way, script)) = input.split_first() else { return };
    let end = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ends = Ends { peer: end(40_000), ours: end(9977) };
    let via = if way % 2 == 0 { Via::Tcp(ends) } else { Via::Admin(Peer::nobody()) };
    HOUSE.with(|house| {
        converse(house.entry.guest(via).stay(Fed::new(script).at_most(SENT_BYTES)));
        assert!(house.inbox.take().is_none(), "whoever may not change anything has told the loop something");
    });
}

fn house() -> House {
    let Ok((door, inbox)) = inbox::open() else { panic!("no eventfd") };
    let site = Arc::new(Site::new(Arc::new(Board::new(node())), Arc::default(), Arc::default(), door.clone()));
    let settings = settings::Http { listen: None, ..Settings::default().http };
    let gate = Arc::new(Gate::new(&settings, None, door));
    let (router, turns) = (routes::router(&site), Arc::new(Turns::new()));
    House { entry: Entry { seats: Seats::new(1), router, site, gate, turns }, inbox }
}

fn node() -> Snapshot {
    let now = Moment::default();
    Snapshot {
        tick: 9,
        at: now,
        unix_ms: 1_700_000_000_000,
        started: now,
        pace: Duration::from_millis(20),
        sample: Sample::default(),
        view: View::default(),
        plan: Arc::new(Plan::new(Settings::default().policy)),
        facts: Arc::new(Facts::default()),
        blind_spots: Arc::default(),
        hanging: None,
        controls: Arc::default(),
        drill: Arc::default(),
        configuration: Arc::default(),
        unrecordable: None,
        unread_orders: None,
    }
}
