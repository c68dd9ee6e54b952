//! One reading of every metric at one moment. What could not be read is missing, which is neither zero nor the last
//! value; what an instance cannot have (a bridge has no link speed) does not count among the instances at all. A sample is filled in place, tick after tick, so the steady state allocates nothing.

use std::time::Duration;

use super::metric::{Family, Metric, Worse};
use super::moment::Moment;

#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Moment,
    node: Vec<f64>,
    /// When each of them was read: what is not set anew is kept, and is as old as it was.
    read_at: Vec<Moment>,
    /// By family; that of the node has no rows.
    tables: [Table; Family::ALL.len()],
}

/// Rows are instances (mounts, interfaces, ports); columns are the family's metrics.
#[derive(Clone, Debug)]
struct Table {
    width: usize,
    names: Vec<String>,
    cells: Vec<f64>,
    /// Of each cell that is missing, since when it is.
    since: Vec<Moment>,
    read_at: Vec<Moment>,
    /// Grows whenever a row is added, removed or renamed, so that resolved selectors know when to look again.
    generation: u64,
}

/// The worst reading over the instances of a family.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Extreme {
    /// `None` where nothing is known at all.
    pub value: Option<f64>,
    /// Some instance could not be read of late, so that something worse may exist.
    pub incomplete: bool,
}

impl Extreme {
    pub(crate) const MISSING: Extreme = Extreme { value: None, incomplete: true };

    fn of(cell: f64) -> Self {
        let value = present(cell);
        Self { value, incomplete: value.is_none() && cell != INAPPLICABLE }
    }

    /// Nothing is missing, and yet there is nothing: this node has none of that.
    #[must_use]
    pub(crate) const fn cannot_be(&self) -> bool {
        self.value.is_none() && !self.incomplete
    }
}

/// An instance that could not be read for so long is no longer waited for: it is a blind spot, and the worst of the others
/// counts. A hung file system misses a few readings; so does a rate after a counter was reset.
pub(crate) const WAITED_FOR: Duration = Duration::from_secs(10);

impl Default for Sample {
    fn default() -> Self {
        Self::new(Moment::ORIGIN)
    }
}

impl Sample {
    /// Everything missing.
    #[must_use]
    pub fn new(at: Moment) -> Self {
        Self {
            at,
            node: vec![f64::NAN; Metric::width(Family::Node)],
            read_at: vec![at; Metric::width(Family::Node)],
            tables: Family::ALL.map(Table::new),
        }
    }

    /// A node metric, or the worst instance of the others.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.worst(metric).value
    }

    #[must_use]
    pub fn worst(&self, metric: Metric) -> Extreme {
        match self.table(metric.family()) {
            None => Extreme::of(self.node[metric.column()]),
            Some(table) => table.worst(metric, self.at),
        }
    }

    #[must_use]
    pub fn instance(&self, metric: Metric, row: usize) -> Option<f64> {
        let table = self.table(metric.family())?;
        present(*table.cells.get(row * table.width + metric.column())?)
    }

    #[must_use]
    pub(crate) fn of_instance(&self, metric: Metric, row: usize) -> Extreme {
        let cell = |table: &Table| table.cells.get(row * table.width + metric.column()).copied();
        self.table(metric.family()).and_then(cell).map_or(Extreme::MISSING, Extreme::of)
    }

    /// When that was read which is told: before this sample, where it is kept for a while, or read by others. Of one
    /// instance, or the latest of all.
    #[must_use]
    pub(crate) fn read_at(&self, metric: Metric, row: Option<usize>) -> Moment {
        let Some(table) = self.table(metric.family()) else { return self.read_at[metric.column()] };
        let of = |row: usize| table.read_at.get(row * table.width + metric.column()).copied();
        let latest = || (0..table.names.len()).filter_map(of).max();
        row.map_or_else(latest, of).unwrap_or(self.at)
    }

    /// Names of the instances, in the order of their rows.
    #[must_use]
    pub fn instances(&self, family: Family) -> &[String] {
        self.table(family).map_or(&[], |table| &table.names)
    }

    #[must_use]
    pub fn row(&self, family: Family, name: &str) -> Option<usize> {
        self.instances(family).iter().position(|known| known == name)
    }

    /// Changes whenever the instances of a family do.
    #[must_use]
    pub fn generation(&self, family: Family) -> u64 {
        self.table(family).map_or(0, |table| table.generation)
    }

    /// Sets a node metric; `None` and values that are not finite become missing.
    pub fn set(&mut self, metric: Metric, value: Option<f64>) {
        debug_assert_eq!(metric.family(), Family::Node);
        self.node[metric.column()] = stored(value);
        self.read_at[metric.column()] = self.at;
    }

    /// Says that this node cannot have such a reading: it is not missed.
    pub(crate) fn set_impossible(&mut self, metric: Metric) {
        debug_assert_eq!(metric.family(), Family::Node);
        self.node[metric.column()] = INAPPLICABLE;
    }

    pub fn set_instance(&mut self, metric: Metric, row: usize, value: Option<f64>) {
        self.put(metric, row, stored(value));
    }

    /// The same of what was read by somebody else, so long ago.
    pub(crate) fn set_instance_read(&mut self, metric: Metric, row: usize, value: Option<f64>, ago: Duration) {
        self.set_instance(metric, row, value);
        let at = self.at - ago;
        let Some(table) = self.table_mut(metric.family()) else { return };
        if let Some(read_at) = table.read_at.get_mut(row * table.width + metric.column()) {
            *read_at = at;
        }
    }

    /// Says that this instance cannot have such a reading, so that nobody waits for it.
    pub(crate) fn set_inapplicable(&mut self, metric: Metric, row: usize) {
        self.put(metric, row, INAPPLICABLE);
    }

    fn put(&mut self, metric: Metric, row: usize, value: f64) {
        let at = self.at;
        let Some(table) = self.table_mut(metric.family()) else { return };
        let cell = row * table.width + metric.column();
        let (Some(known), Some(since)) = (table.cells.get_mut(cell), table.since.get_mut(cell)) else { return };
        if value.is_nan() && !known.is_nan() {
            *since = at;
        }
        *known = value;
        table.read_at[cell] = at;
    }

    /// The instances that are no longer waited for, with the metric that cannot be read of them.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (Metric, usize)> + '_ {
        let tables = Metric::ALL.iter().filter_map(|metric| Some((*metric, self.table(metric.family())?)));
        let rows = |(metric, table): (Metric, &Table)| (0..table.names.len()).map(move |row| (metric, row));
        tables.flat_map(rows).filter(|(metric, row)| self.is_lost(*metric, *row))
    }

    fn is_lost(&self, metric: Metric, row: usize) -> bool {
        let table = self.table(metric.family());
        table.is_some_and(|table| table.is_lost(row * table.width + metric.column(), self.at))
    }

    /// Makes the family's rows exactly these, keeping the readings of the names that stay; new rows are missing.
    pub fn set_instances<S: AsRef<str>>(&mut self, family: Family, names: &[S]) {
        let at = self.at;
        if let Some(table) = self.table_mut(family) {
            table.set_names(names, at);
        }
    }

    /// Copies another sample into this one without allocating, where the instances are the same.
    pub fn copy_from(&mut self, other: &Sample) {
        self.at = other.at;
        self.node.clone_from(&other.node);
        self.read_at.clone_from(&other.read_at);
        for (mine, theirs) in self.tables.iter_mut().zip(&other.tables) {
            if mine.generation != theirs.generation || mine.names.len() != theirs.names.len() {
                mine.names.clone_from(&theirs.names);
                mine.generation = theirs.generation;
            }
            mine.cells.clone_from(&theirs.cells);
            mine.since.clone_from(&theirs.since);
            mine.read_at.clone_from(&theirs.read_at);
        }
    }

    fn table(&self, family: Family) -> Option<&Table> {
        (family != Family::Node).then(|| &self.tables[family as usize])
    }

    fn table_mut(&mut self, family: Family) -> Option<&mut Table> {
        (family != Family::Node).then(|| &mut self.tables[family as usize])
    }
}

impl Table {
    fn new(family: Family) -> Self {
        Self {
            width: Metric::width(family),
            names: Vec::new(),
            cells: Vec::new(),
            since: Vec::new(),
            read_at: Vec::new(),
            generation: 0,
        }
    }

    fn worst(&self, metric: Metric, now: Moment) -> Extreme {
        let worse = metric.describe().worse;
        let mut value: Option<f64> = None;
        let (mut incomplete, mut possible) = (false, self.names.is_empty());
        for at in (metric.column()..self.cells.len()).step_by(self.width) {
            let cell = &self.cells[at];
            possible |= *cell != INAPPLICABLE;
            match present(*cell) {
                None => incomplete |= *cell != INAPPLICABLE && !self.is_lost(at, now),
                Some(cell) => {
                    value = Some(match (value, worse) {
                        (None, _) => cell,
                        (Some(known), Worse::High) => known.max(cell),
                        (Some(known), Worse::Low) => known.min(cell),
                    });
                }
            }
        }
        Extreme { value, incomplete: incomplete || (value.is_none() && possible) }
    }

    fn is_lost(&self, cell: usize, now: Moment) -> bool {
        self.cells[cell].is_nan() && now.since(self.since[cell]) >= WAITED_FOR
    }

    fn set_names<S: AsRef<str>>(&mut self, names: &[S], now: Moment) {
        let same = self.names.len() == names.len() && self.names.iter().zip(names).all(|(a, b)| a == b.as_ref());
        if same {
            return;
        }
        let mut cells = vec![f64::NAN; names.len() * self.width];
        let (mut since, mut read_at) = (vec![now; cells.len()], vec![now; cells.len()]);
        let mut expected = 0;
        for (row, name) in names.iter().enumerate() {
            if let Some(old) = find_from(&self.names, expected, |known| known == name.as_ref()) {
                expected = old + 1;
                let from = old * self.width..(old + 1) * self.width;
                let to = row * self.width..(row + 1) * self.width;
                cells[to.clone()].copy_from_slice(&self.cells[from.clone()]);
                since[to.clone()].copy_from_slice(&self.since[from.clone()]);
                read_at[to].copy_from_slice(&self.read_at[from]);
            }
        }
        self.names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        self.cells = cells;
        self.since = since;
        self.read_at = read_at;
        self.generation += 1;
    }
}

/// Where the name is, looked for from here on and then from the start: lists of instances keep their order, so the next one
/// is nearly always the one that comes next.
#[must_use]
pub(crate) fn find_from(names: &[String], from: usize, is_it: impl Fn(&str) -> bool) -> Option<usize> {
    let from = from.min(names.len());
    let behind = names[from..].iter().position(|name| is_it(name)).map(|at| from + at);
    behind.or_else(|| names[..from].iter().position(|name| is_it(name)))
}

/// Readings are finite, so this value is free to mean something else.
const INAPPLICABLE: f64 = f64::NEG_INFINITY;

fn present(cell: f64) -> Option<f64> {
    cell.is_finite().then_some(cell)
}

fn stored(value: Option<f64>) -> f64 {
    value.filter(|value| value.is_finite()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_instance_counts_and_a_missing_one_shows() {
        let mut sample = Sample::default();
        sample.set_instances(Family::Disk, &["/", "/var"]);
        sample.set_instance(Metric::DiskUsedPercent, 0, Some(40.0));
        assert_eq!(sample.worst(Metric::DiskUsedPercent), Extreme { value: Some(40.0), incomplete: true });
        sample.set_instance(Metric::DiskUsedPercent, 1, Some(91.0));
        sample.set_instance(Metric::DiskFreeBytes, 0, Some(7.0));
        sample.set_instance(Metric::DiskFreeBytes, 1, Some(9.0));
        assert_eq!(sample.worst(Metric::DiskUsedPercent), Extreme { value: Some(91.0), incomplete: false });
        assert_eq!(sample.get(Metric::DiskFreeBytes), Some(7.0));
    }

    #[test]
    fn an_instance_that_cannot_be_read_is_not_waited_for() {
        let mut sample = Sample::default();
        sample.set_instances(Family::Disk, &["/", "/mnt"]);
        let read = |sample: &mut Sample, seconds: u64, mnt: Option<f64>| {
            sample.at = Moment::at(Duration::from_secs(seconds));
            sample.set_instance(Metric::DiskUsedPercent, 0, Some(40.0));
            sample.set_instance(Metric::DiskUsedPercent, 1, mnt);
            let unread = sample.unread().any(|lost| lost == (Metric::DiskUsedPercent, 1));
            (sample.worst(Metric::DiskUsedPercent), unread)
        };
        let worst = |value, incomplete| Extreme { value: Some(value), incomplete };
        assert_eq!(read(&mut sample, 5, Some(90.0)), (worst(90.0, false), false));
        assert_eq!(read(&mut sample, 6, None), (worst(40.0, true), false));
        assert_eq!(read(&mut sample, 15, None), (worst(40.0, true), false));
        assert_eq!(read(&mut sample, 16, None), (worst(40.0, false), true));
        assert_eq!(read(&mut sample, 17, Some(95.0)), (worst(95.0, false), false));
        assert_eq!(read(&mut sample, 18, None), (worst(40.0, true), false), "it is waited for anew");
    }

    #[test]
    fn an_instance_that_cannot_have_a_reading_leaves_the_others_complete() {
        let mut sample = Sample::default();
        sample.set_instances(Family::Network, &["docker0", "eth0"]);
        sample.set_inapplicable(Metric::NetworkLinkUsedPercent, 0);
        assert_eq!(sample.worst(Metric::NetworkLinkUsedPercent), Extreme { value: None, incomplete: true });
        sample.set_instance(Metric::NetworkLinkUsedPercent, 1, Some(3.0));
        assert_eq!(sample.worst(Metric::NetworkLinkUsedPercent), Extreme { value: Some(3.0), incomplete: false });
        assert_eq!(sample.instance(Metric::NetworkLinkUsedPercent, 0), None);
    }

    #[test]
    fn readings_follow_their_instance_when_rows_move() {
        let mut sample = Sample::default();
        sample.set_instances(Family::Network, &["eth0", "eth1"]);
        sample.set_instance(Metric::NetworkReceiveRate, 1, Some(5.0));
        let before = sample.generation(Family::Network);
        sample.set_instances(Family::Network, &["eth1"]);
        assert_eq!(sample.instance(Metric::NetworkReceiveRate, 0), Some(5.0));
        assert!(sample.generation(Family::Network) > before);
    }

    #[test]
    fn what_is_not_finite_is_missing() {
        let mut sample = Sample::default();
        sample.set(Metric::CpuUsedPercent, Some(f64::INFINITY));
        assert_eq!(sample.get(Metric::CpuUsedPercent), None);
    }
}
