//! Which file systems to watch: /proc/self/mountinfo, chosen without touching any of them, because touching a hung one
//! hangs.
//!
//! By default: every local file system that is backed by a device, once per device, once per pool of ZFS. Not watched:
//! remote and virtual file systems, loop devices, snapshots, images that are full by nature. A node has thousands of mounts
//! where it runs containers, so nothing here may take time that grows with their square.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::scan::{fields, lines, number};

/// Major number of loop devices (Documentation/admin-guide/devices.txt).
const LOOP_MAJOR: u32 = 7;

/// Always full, never written.
const IMAGES: [&str; 6] = ["squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"];

/// Local and on devices, though the kernel gives them a device number of their own making.
const POOLED: [&str; 3] = ["btrfs", "zfs", "bcachefs"];

/// What the root of a container or of a live system is on, where no device is below it: of these the space can be told.
const ROOTS: [&str; 7] = ["overlay", "overlayfs", "fuse.fuse-overlayfs", "fuse-overlayfs", "aufs", "9p", "virtiofs"];

/// A line of mountinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    id: u64,
    /// The mount that the point is in.
    parent: u64,
    /// Major and minor.
    pub device: (u32, u32),
    /// What of the file system is mounted there; not `/` for a bind mount.
    pub root: PathBuf,
    pub point: PathBuf,
    /// The mount; a sandbox of the service manager makes all of them read-only, to us alone.
    pub writable: bool,
    /// What is mounted: `errors=remount-ro` takes it away everywhere.
    pub file_system_writable: bool,
    pub file_system: String,
    pub source: String,
}

impl Entry {
    #[must_use]
    pub(crate) fn is_whole(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Of a kind that nobody ever writes to, whatever the mount says of itself.
    #[must_use]
    pub(crate) fn is_image(&self) -> bool {
        IMAGES.contains(&self.file_system.as_str())
    }

    /// By a program, which may hang.
    #[must_use]
    pub(crate) fn is_served(&self) -> bool {
        self.file_system == "fuse" || self.file_system.starts_with("fuse.")
    }

    /// Its device is shared by data sets, each of which may have a limit of its own.
    #[must_use]
    pub(crate) fn is_of_pool(&self) -> bool {
        self.file_system == "zfs"
    }

    /// What counts once: the device, or the pool that gives all its data sets numbers of their own.
    fn volume(&self) -> Volume<'_> {
        match self.source.split('/').next().filter(|_| self.is_of_pool()) {
            Some(pool) => Volume::Pool(pool),
            None => Volume::Device(self.device),
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Volume<'a> {
    Device((u32, u32)),
    Pool(&'a str),
}

/// The lines that can be understood.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Entry> {
    lines(bytes).filter_map(parse_line).collect()
}

pub(crate) fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut words = fields(line);
    let (id, parent, device) = (words.number()?, words.number()?, words.next()?);
    let colon = device.iter().position(|byte| *byte == b':')?;
    let half = |digits: &[u8]| u32::try_from(number(digits)?).ok();
    let device = (half(&device[..colon])?, half(&device[colon + 1..])?);
    let (root, point, options) = (path(words.next()?), path(words.next()?), words.next()?);
    words.find(|word| *word == b"-")?;
    let (file_system, source) = (text(words.next()?), text(words.next()?));
    let writable = is_writable(options);
    let file_system_writable = words.next().map_or(writable, is_writable);
    Some(Entry { id, parent, device, root, point, writable, file_system_writable, file_system, source })
}

fn is_writable(options: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == b"rw")
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

fn path(word: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(word)))
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(word)).into_owned()
}

/// For each file system to watch the places where it is mounted, best first. In the order of the table.
#[must_use]
pub fn choose(entries: &[Entry]) -> Vec<Vec<&Entry>> {
    let (mut groups, mut known): (Vec<Vec<&Entry>>, _) = (Vec::new(), BTreeMap::new());
    for entry in visible(entries).into_iter().filter(|entry| is_local(entry)) {
        let at = *known.entry(entry.volume()).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    for group in &mut groups {
        group.sort_by(|a, b| rank(a).cmp(&rank(b)));
    }
    groups
}

/// Whole file systems before parts of them, then the shortest path.
fn rank(entry: &Entry) -> (bool, usize, &Path) {
    (!entry.is_whole(), entry.point.as_os_str().len(), &entry.point)
}

/// What a container writes to where it is given no volume: the layer above its image.
#[must_use]
pub(crate) fn container_root(entries: &[Entry]) -> Option<&Entry> {
    let root = entries.iter().rev().find(|entry| entry.point == Path::new("/"))?;
    ROOTS.contains(&root.file_system.as_str()).then_some(root)
}

/// The entry of the file system that a path is on.
#[must_use]
pub(crate) fn holding<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    let around = visible(entries).into_iter().filter(|entry| path.starts_with(&entry.point));
    around.max_by_key(|entry| entry.point.components().count())
}

/// A mount hides what was there before it: of those at one point the last one in the table is seen, and below a point that
/// was mounted over nothing of what was mounted there earlier.
fn visible(entries: &[Entry]) -> Vec<&Entry> {
    let mut covered = HashSet::with_capacity(entries.len());
    let mut visible: Vec<&Entry> = entries.iter().rev().filter(|entry| covered.insert(&*entry.point)).collect();
    visible.reverse();
    let tree = Tree::of(entries);
    visible.retain(|entry| tree.reaches(entry));
    visible
}

/// Which mount is in which. A table of strangers (FUSE, gVisor) may say anything of that.
struct Tree<'e> {
    points: HashSet<(u64, &'e [u8])>,
    by_id: HashMap<u64, &'e Entry>,
}

/// Mounts within mounts are a few; where a table says that they go round in a circle, they end.
const DEEPEST: usize = 64;

impl<'e> Tree<'e> {
    fn of(entries: &'e [Entry]) -> Self {
        Self {
            points: entries.iter().map(|entry| (entry.parent, entry.point.as_os_str().as_bytes())).collect(),
            by_id: entries.iter().map(|entry| (entry.id, entry)).collect(),
        }
    }

    /// Whoever goes down from the root comes to it. Its parent may be out of sight.
    fn reaches(&self, entry: &'e Entry) -> bool {
        let parent = |entry: &&'e Entry| self.by_id.get(&entry.parent).copied();
        let mut line = std::iter::successors(Some(entry), parent).take(DEEPEST);
        line.all(|entry| !self.is_covered(entry))
    }

    /// By a mount in the same one, above it: that came later, or it would be in that.
    fn is_covered(&self, entry: &Entry) -> bool {
        let point = entry.point.as_os_str().as_bytes();
        let ends = (1..point.len()).filter(|at| point[*at] == b'/');
        let mut above = ends.map(|end| &point[..end]).chain((point.len() > 1).then_some(&b"/"[..]));
        above.any(|folder| self.points.contains(&(entry.parent, folder)))
    }
}

fn is_local(entry: &Entry) -> bool {
    let (major, _) = entry.device;
    let is_device = POOLED.contains(&entry.file_system.as_str()) || (major != 0 && major != LOOP_MAJOR);
    is_device && !entry.is_image() && !is_snapshot(entry)
}

/// `tank/home@yesterday`: what it holds is counted where it was taken.
fn is_snapshot(entry: &Entry) -> bool {
    entry.is_of_pool() && entry.source.contains('@')
}

#[cfg(test)]
mod tests {
    use super::super::thrift::thread_time;
    use super::*;

    fn chosen(text: &str) -> Vec<String> {
        let best = |group: &Vec<&Entry>| group[0].point.display().to_string();
        choose(&parse(text.as_bytes())).iter().map(best).collect()
    }

    #[test]
    fn a_line_with_optional_fields_and_escapes() {
        let entry = &parse(b"36 35 98:0 /a /mnt/two\\040words rw,noatime master:1 x - ext3 /dev/ro\\134ot rw\n")[0];
        assert_eq!((entry.device, entry.writable), ((98, 0), true));
        assert_eq!(entry.point, Path::new("/mnt/two words"));
        assert_eq!((entry.file_system.as_str(), entry.source.as_str()), ("ext3", "/dev/ro\\ot"));
        assert!(!entry.is_whole() && entry.file_system_writable);
        let seen_from_a_sandbox = &parse(b"36 35 98:0 / / ro,nosuid - ext4 /dev/vda rw,discard\n")[0];
        assert!(!seen_from_a_sandbox.writable && seen_from_a_sandbox.file_system_writable);
        assert!(!parse(b"36 35 98:0 / / rw - ext4 /dev/vda ro,errors=remount-ro\n")[0].file_system_writable);
        assert!(parse(b"36 35 98 /a /b rw - ext3 x\n36 35 98:0 /a\n\\ - -\n").is_empty());
    }

    #[test]
    fn devices_once_and_nothing_virtual() {
        let points = chosen(
            "1 3 0:21 / /proc rw - proc proc rw\n\
             2 3 254:0 /sub /srv/bind rw - ext4 /dev/vda rw\n\
             3 0 254:0 / / rw - ext4 /dev/vda rw\n\
             4 3 7:1 / /snap/core ro - squashfs /dev/loop1 ro\n\
             5 3 254:2 / /media ro - iso9660 /dev/vdc ro\n\
             6 3 0:40 / /mnt/nfs rw - nfs4 server:/x rw\n\
             7 3 0:45 /@home /home rw - btrfs /dev/vdb rw\n\
             8 3 0:46 / /tank rw - zfs tank rw\n\
             9 3 0:24 / /run rw - tmpfs tmpfs rw\n",
        );
        assert_eq!(points, ["/", "/home", "/tank"]);
    }

    #[test]
    fn the_root_of_a_container() {
        let root = |kind: &str| {
            let text = format!("1 0 0:300 / / rw - {kind} none rw\n2 1 254:0 /v /data rw - ext4 /dev/vda rw\n");
            container_root(&parse(text.as_bytes())).map(|entry| entry.point.clone())
        };
        assert_eq!(root("overlay").as_deref(), Some(Path::new("/")));
        assert_eq!(root("fuse.fuse-overlayfs").as_deref(), Some(Path::new("/")));
        assert_eq!(root("nfs4"), None, "it may hang, and others are told of its space");
    }

    #[test]
    fn a_pool_counts_once_and_a_snapshot_never() {
        let mut text = String::from("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /tank rw - zfs tank rw\n");
        for at in 0..20_000 {
            text += &format!("1{at} 2 0:{} / /tank/.zfs/snapshot/{at} ro - zfs tank/home@{at} ro\n", 100 + at);
            text += &format!("2{at} 1 0:{} / /docker/{at} rw - zfs tank/docker/{at} rw\n", 100 + at);
            text += &format!("3{at} 1 0:45 /@/.snapshots/{at} /.snapshots/{at} ro - btrfs /dev/sdb ro\n");
        }
        text += "4 1 0:41 / /other rw - zfs other/data rw\n";
        assert_eq!(chosen(&text), ["/", "/tank", "/.snapshots/0", "/other"]);
    }

    #[test]
    fn a_mount_over_a_mount_hides_it() {
        let text =
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /m rw - ext4 /dev/sda2 rw\n3 2 0:9 / /m rw - nfs s:/ rw\n";
        assert_eq!(chosen(text), ["/"]);
        let entries = parse(text.as_bytes());
        assert_eq!(holding(&entries, Path::new("/var/lib")).unwrap().device, (8, 1));
        assert_eq!(holding(&entries, Path::new("/m/x")).unwrap().file_system, "nfs");
    }
    #[test]
    fn what_was_mounted_below_a_later_mount_is_not_there_any_more() {
        // As `mount a /srv/a; mount b /srv/a/deep; mount over /srv; mount again /srv/a` leaves it, the root last as an
        // initial RAM disk does.
        let text = "24 30 8:1 / /srv/a rw - ext4 /dev/sda1 rw\n\
                    25 24 8:2 / /srv/a/deep rw - ext4 /dev/sda2 rw\n\
                    26 30 8:3 / /srv rw - ext4 /dev/sda3 rw\n\
                    27 26 8:4 / /srv/a rw - ext4 /dev/sda4 rw\n\
                    28 30 8:5 / /srv-a rw - ext4 /dev/sda5 rw\n\
                    30 1 8:6 / / rw - ext4 /dev/sda6 rw\n";
        assert_eq!(chosen(text), ["/srv", "/srv/a", "/srv-a", "/"]);
        let entries = parse(text.as_bytes());
        assert_eq!(holding(&entries, Path::new("/srv/a/deep/x")).unwrap().device, (8, 4));
        let over_all = format!("{text}31 30 8:7 / / rw - ext4 /dev/sda7 rw\n32 31 8:8 / /srv rw - ext4 /dev/sda8 rw\n");
        assert_eq!(chosen(&over_all), ["/", "/srv"]);
        let round = "1 2 8:1 / /a rw - ext4 /dev/sda1 rw\n2 1 8:2 / /b rw - ext4 /dev/sda2 rw\n";
        assert_eq!(chosen(round), ["/a", "/b"], "a table that is nobody's");
    }

    #[test]
    fn a_table_of_thousands_takes_as_long_as_it_is_long() {
        let table = |length: u64| -> Vec<Entry> {
            let line = |at| format!("{} 1 0:{} / /run/c/{at}/merged rw - overlay overlay rw\n", 100 + at, 200 + at);
            parse((0..length).map(line).collect::<String>().as_bytes())
        };
        let cost = |entries: &[Entry]| {
            let least = (0..7).map(|_| {
                let before = thread_time();
                assert_eq!(choose(entries).len(), 0);
                thread_time().saturating_sub(before)
            });
            least.min().unwrap()
        };
        let (short, long) = (cost(&table(500)), cost(&table(8000)));
        assert!(
            long < short * 64,
            "sixteen times the mounts took {long:?} and not {short:?}: the square would be 256 times"
        );
    }
}
