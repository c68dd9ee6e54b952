//! HAProxy's tables (`show stat`, `show servers state`), read row by row: of each row only the cells that are wanted are
//! kept, and of all rows no more than a bound. Pure and total: whatever a socket says, this returns.

use crate::control::wire::KEPT_BYTES;

/// What is kept of the rows together.
const MOST_BYTES: usize = KEPT_BYTES;

/// Whether a row is wanted; `None` where it cannot be read.
type Wanted<'f, const N: usize> = Box<dyn Fn(&[&str; N]) -> Option<bool> + 'f>;

/// Of a table that is being read.
pub struct Reader<'f, const N: usize> {
    separator: char,
    names: [&'static str; N],
    columns: Option<[usize; N]>,
    wanted: Wanted<'f, N>,
    rows: Rows<N>,
    fault: Option<Fault>,
}

/// Why there are no rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A value that is missing must never pass for one that somebody took away.
    Unreadable,
    TooMany,
}

/// The cells that were wanted, in one text: a cell a line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rows<const N: usize> {
    cells: String,
    /// Where each row begins, by its cells in order; made when it is looked through.
    sorted: Option<Vec<u32>>,
}

/// A server of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Server<'r> {
    pub proxy: &'r str,
    pub server: &'r str,
    /// Limit of concurrent connections, empty when unlimited.
    pub limit: &'r str,
}

/// The servers of those backends in `show stat`.
pub fn servers<'f>(chooses: impl Fn(&str) -> bool + 'f) -> Reader<'f, 3> {
    Reader::of_statistics(["pxname", "svname", "slim"], move |row| {
        row[1] != "FRONTEND" && row[1] != "BACKEND" && chooses(row[0])
    })
}

/// Each frontend, and its limit of concurrent connections.
pub fn frontends<'f>() -> Reader<'f, 3> {
    Reader::of_statistics(["pxname", "svname", "slim"], |row| row[1] == "FRONTEND")
}

pub fn backends<'f>() -> Reader<'f, 2> {
    Reader::of_statistics(["pxname", "svname"], |row| row[1] == "BACKEND")
}

/// Of these frontends, or of all. The CLI's own are none of them.
pub fn traffic(frontends: &[String]) -> Reader<'_, 5> {
    let is_meant = |proxy: &str| frontends.is_empty() || frontends.iter().any(|name| name == proxy);
    let names = ["pxname", "svname", "scur", "stot", "req_tot"];
    Reader::of_statistics(names, move |row| row[1] == "FRONTEND" && is_meant(row[0]))
}

/// `show servers state`: backend, server, and why it takes no traffic, as a bit mask.
pub fn states<'f>(chooses: impl Fn(&str) -> bool + 'f) -> Reader<'f, 3> {
    let wanted = move |row: &[&str; 3]| row[2].parse::<u32>().ok().map(|_| chooses(row[0]));
    Reader::new(' ', ["be_name", "srv_name", "srv_admin_state"], Box::new(wanted))
}

/// `show servers state`: address and port.
pub fn addresses() -> Reader<'static, 2> {
    Reader::new(' ', ["srv_addr", "srv_port"], Box::new(|_| Some(true)))
}

impl<'f, const N: usize> Reader<'f, N> {
    fn new(separator: char, names: [&'static str; N], wanted: Wanted<'f, N>) -> Self {
        Self { separator, names, columns: None, wanted, rows: Rows::default(), fault: None }
    }

    /// The columns wanted are all before the first that HAProxy would quote.
    fn of_statistics(names: [&'static str; N], wanted: impl Fn(&[&str; N]) -> bool + 'f) -> Self {
        Self::new(',', names, Box::new(move |row| Some(wanted(row))))
    }

    pub fn line(&mut self, line: &str) {
        let taken = match self.columns {
            _ if self.fault.is_some() || line.is_empty() => Ok(()),
            Some(columns) => self.row(line, columns),
            None => self.header(line),
        };
        self.fault = self.fault.or(taken.err());
    }

    /// # Errors
    /// Where it is no such table, or not wholly readable.
    pub fn rows(self) -> Result<Rows<N>, Fault> {
        match (self.fault, self.columns) {
            (Some(fault), _) => Err(fault),
            (None, None) => Err(Fault::Unreadable),
            (None, Some(_)) => Ok(self.rows),
        }
    }

    fn header(&mut self, line: &str) -> Result<(), Fault> {
        // The version of the format goes before it, where there is one.
        if self.separator == ' ' && line.parse::<u32>().is_ok() {
            return Ok(());
        }
        let header = line.strip_prefix("# ").ok_or(Fault::Unreadable)?;
        let mut columns = [0; N];
        for (column, name) in columns.iter_mut().zip(self.names) {
            let found = header.split(self.separator).position(|title| title == name);
            *column = found.ok_or(Fault::Unreadable)?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn row(&mut self, line: &str, columns: [usize; N]) -> Result<(), Fault> {
        let (mut row, mut found) = ([""; N], 0);
        let last = columns.iter().max().copied().unwrap_or_default();
        for (at, cell) in line.split(self.separator).take(last + 1).enumerate() {
            for (place, _) in row.iter_mut().zip(&columns).filter(|(_, column)| **column == at) {
                *place = cell;
                found += 1;
            }
        }
        if found < N {
            return Err(Fault::Unreadable);
        }
        if (self.wanted)(&row).ok_or(Fault::Unreadable)? {
            self.rows.push(row)?;
        }
        Ok(())
    }
}

impl<const N: usize> Rows<N> {
    fn push(&mut self, row: [&str; N]) -> Result<(), Fault> {
        let more: usize = row.iter().map(|cell| cell.len() + 1).sum();
        if self.cells.len() + more > MOST_BYTES {
            return Err(Fault::TooMany);
        }
        for cell in row {
            self.cells.push_str(cell);
            self.cells.push('\n');
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = [&str; N]> + Clone {
        let mut rest = self.cells.as_str();
        std::iter::from_fn(move || {
            let (row, after) = split(rest)?;
            rest = after;
            Some(row)
        })
    }

    /// The row that begins with these two cells.
    pub fn find(&mut self, first: &str, second: &str) -> Option<[&str; N]> {
        let cells = self.cells.as_str();
        let sorted = self.sorted.get_or_insert_with(|| sort::<N>(cells));
        let key = |at: &u32| row_at::<N>(cells, *at).map(|row| (row[0], row[1]));
        let at = sorted.binary_search_by(|at| key(at).cmp(&Some((first, second)))).ok()?;
        row_at(cells, sorted[at])
    }
}

fn sort<const N: usize>(cells: &str) -> Vec<u32> {
    let (mut starts, mut rest) = (Vec::new(), cells);
    while let Some((_, after)) = split::<N>(rest) {
        starts.push(u32::try_from(cells.len() - rest.len()).unwrap_or(u32::MAX));
        rest = after;
    }
    starts.sort_unstable_by_key(|at| row_at::<N>(cells, *at));
    starts
}

fn row_at<const N: usize>(cells: &str, at: u32) -> Option<[&str; N]> {
    split(cells.get(usize::try_from(at).ok()?..)?).map(|(row, _)| row)
}

fn split<const N: usize>(mut rest: &str) -> Option<([&str; N], &str)> {
    let mut row = [""; N];
    for cell in &mut row {
        (*cell, rest) = rest.split_once('\n')?;
    }
    Some((row, rest))
}

impl Rows<3> {
    pub fn servers(&self) -> impl Iterator<Item = Server<'_>> + Clone {
        self.iter().map(|[proxy, server, limit]| Server { proxy, server, limit })
    }

    /// Backend, server, administrative state.
    pub fn states(&self) -> impl Iterator<Item = (&str, &str, u32)> + Clone {
        self.iter().filter_map(|[proxy, server, state]| Some((proxy, server, state.parse().ok()?)))
    }
}

impl Rows<5> {
    /// Sessions now, and requests or connections since the start.
    #[must_use]
    pub fn traffic(&self) -> Option<(u64, u64)> {
        let number = |cell: &str| if cell.is_empty() { Some(0) } else { cell.parse::<u64>().ok() };
        self.iter().try_fold((0_u64, 0_u64), |(sessions, came), row| {
            let more = number(row[3])?.max(number(row[4])?);
            Some((sessions.saturating_add(number(row[2])?), came.saturating_add(more)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<const N: usize>(mut reader: Reader<'_, N>, answer: &str) -> Result<Rows<N>, Fault> {
        answer.lines().for_each(|line| reader.line(line));
        reader.rows()
    }

    const STATES: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n";

    #[test]
    fn reads_what_version_2_6_answers() {
        let stat = "# pxname,svname,qcur,qmax,scur,smax,slim,stot\nweb,FRONTEND,,,0,0,200,0\nbe,s1,0,0,0,0,100,0\n\
                    be,s2,0,0,0,0,,0\nbe,BACKEND,0,0,0,0,20,0";
        let servers = read(servers(|_| true), stat).unwrap();
        let limits: Vec<_> = servers.servers().map(|row| (row.server, row.limit)).collect();
        assert_eq!(limits, [("s1", "100"), ("s2", "")]);
        assert_eq!(read(super::servers(|name| name != "be"), stat).unwrap().iter().count(), 0);
        assert_eq!(read(frontends(), stat).unwrap().iter().next(), Some(["web", "FRONTEND", "200"]));
        assert_eq!(read(backends(), stat).unwrap().iter().next(), Some(["be", "BACKEND"]));
        let state = format!("{STATES}3 be 1 s1 127.0.0.1 2 8 1 1\n");
        assert_eq!(read(states(|_| true), &state).unwrap().states().next(), Some(("be", "s1", 8)));
    }

    #[test]
    fn what_is_missing_is_never_read_as_a_value() {
        for answer in ["", "1\n", "Permission denied\n", "1\n3 be 1 s1 127.0.0.1 2 8 1 1\n"] {
            assert_eq!(read(states(|_| true), answer), Err(Fault::Unreadable), "{answer:?}");
        }
        for row in ["3 be 1 s1 127.0.0.1\n", "3 be 1 s1 127.0.0.1 2 x 1 1\n"] {
            assert_eq!(read(states(|_| true), &format!("{STATES}{row}")), Err(Fault::Unreadable));
        }
        let cut = "# pxname,svname,qcur,qmax,scur,smax,slim,stot\nbe,s1,0\n";
        assert_eq!(read(servers(|_| true), cut), Err(Fault::Unreadable));
    }

    #[test]
    fn traffic_is_of_the_frontends_that_are_meant() {
        let stat = "# pxname,svname,scur,stot,req_tot\nweb,FRONTEND,2,10,70\ntcp,FRONTEND,1,5,\nbe,BACKEND,9,9,9\n";
        assert_eq!(read(traffic(&[]), stat).unwrap().traffic(), Some((3, 75)));
        assert_eq!(read(traffic(&["tcp".to_owned()]), stat).unwrap().traffic(), Some((1, 5)));
        let unreadable = "# pxname,svname,scur,stot,req_tot\nweb,FRONTEND,x,10,70\n";
        assert_eq!(read(traffic(&[]), unreadable).unwrap().traffic(), None);
    }

    #[test]
    fn a_row_is_found_among_many_and_too_many_are_refused() {
        let table = |rows: usize| {
            let rows = (0..rows).map(|at| format!("be,s{at},{at}\n"));
            format!("# pxname,svname,slim\n{}", rows.collect::<String>())
        };
        let mut rows = read(servers(|_| true), &table(5000)).unwrap();
        assert_eq!(rows.find("be", "s4321"), Some(["be", "s4321", "4321"]));
        assert!(rows.find("be", "s5000").is_none() && rows.find("b", "s1").is_none());
        assert_eq!(read(servers(|_| true), &table(50_000)), Err(Fault::TooMany));
        assert!(
            read(servers(|name| name == "x"), &table(50_000)).unwrap().is_empty(),
            "what is not wanted takes no room"
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in "(?s).{0,400}", rows in "# pxname,svname,slim\n(.{0,40}\n){0,5}") {
            for text in [&answer, &rows] {
                if let Ok(rows) = read(servers(|_| true), text) {
                    prop_assert!(rows.iter().count() <= text.lines().count());
                }
                read(states(|_| true), text).ok();
                read(traffic(&[]), text).ok().and_then(|rows| rows.traffic());
            }
        }
    }
}
