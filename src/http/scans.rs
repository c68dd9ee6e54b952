//! The largest processes, as they were scanned last. A scan runs beside the server's thread, one at a time, and its answer
//! serves for a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::host::processes::{Order, Process, largest};
use crate::policy::moment::Moment;

const SERVES_FOR: Duration = Duration::from_secs(1);
const MOST: usize = 100;

type Scan = Option<(Moment, Arc<Vec<Process>>)>;

/// The last scan by either order.
#[derive(Debug, Default)]
pub struct Scans(Mutex<[Scan; 2]>);

impl Scans {
    pub fn take(&self, order: Order) -> Arc<Vec<Process>> {
        let now = clock::now().unwrap_or_default();
        let mut scans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut scans[usize::from(order == Order::Cpu)];
        match kept {
            Some((at, processes)) if now.since(*at) < SERVES_FOR => Arc::clone(processes),
            Some(_) | None => {
                let processes = Arc::new(largest(order, MOST));
                *kept = Some((now, Arc::clone(&processes)));
                processes
            }
        }
    }
}
