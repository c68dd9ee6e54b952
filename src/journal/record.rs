//! Bytes of one record and how to find it again: a frame says which slot life it belongs to, and carries a checksum and
//! the next free id, so that whatever else is damaged, each whole frame still counts. Never touches a file.

use crate::policy::mitigation::ActionId;

/// Cannot occur in JSON, which is UTF-8: a scan for the next frame never stops inside a payload.
const MAGIC: [u8; 4] = [0xF5, b'N', b'G', 0xFF];
const HEADER: usize = 28;
const CHECKSUM_AT: usize = 24;
/// Frames begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Most of a slot is still empty: skipped by the page.
const EMPTY: [u8; 4096] = [0; 4096];

/// One record as found in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Grows with each compaction: which life of a slot this was written in.
    pub generation: u32,
    /// Position within that life. 0 is the seal: the compaction was complete.
    pub sequence: u32,
    pub next_id: ActionId,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes that a frame with this payload occupies.
    #[must_use]
    pub const fn size(payload: usize) -> usize {
        (HEADER + payload).next_multiple_of(ALIGNMENT)
    }

    pub fn append_to(&self, out: &mut Vec<u8>) {
        // What is longer than this fits no slot and is never written.
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.next_id.0.to_le_bytes());
        let checksum = checksum(&out[start..start + CHECKSUM_AT], self.payload);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(self.payload);
        out.resize(start + Self::size(self.payload.len()), 0);
    }

    /// The whole and undamaged frame that begins here, if there is one.
    #[must_use]
    pub fn at_start_of(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        if header[..4] != MAGIC {
            return None;
        }
        let payload = bytes.get(HEADER..HEADER.checked_add(u32_at(header, 4)? as usize)?)?;
        if checksum(&header[..CHECKSUM_AT], payload) != u32_at(header, CHECKSUM_AT)? {
            return None;
        }
        let next_id = ActionId(u64::from_le_bytes(header[16..24].try_into().ok()?));
        Some(Self { generation: u32_at(header, 8)?, sequence: u32_at(header, 12)?, next_id, payload })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(payload);
    crc.finalize()
}

/// All whole frames in these bytes, and what lies between and behind them.
#[derive(PartialEq, Eq, Debug)]
pub struct Scan<'a> {
    pub frames: Vec<Frame<'a>>,
    /// Where the last frame ends.
    pub end: usize,
    /// Bytes other than zero that belong to no frame.
    pub debris: usize,
}

impl<'a> Scan<'a> {
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut scan = Scan { frames: Vec::new(), end: 0, debris: 0 };
        let mut at = 0;
        while at < bytes.len() {
            if let Some(frame) = Frame::at_start_of(&bytes[at..]) {
                at += Frame::size(frame.payload.len());
                scan.end = at;
                scan.frames.push(frame);
            } else if bytes[at..].starts_with(&EMPTY) {
                at += EMPTY.len();
            } else {
                let next = (at + ALIGNMENT).min(bytes.len());
                scan.debris += bytes[at..next].iter().filter(|byte| **byte != 0).count();
                at = next;
            }
        }
        scan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, payload: &[u8]) -> Frame<'_> {
        Frame { generation: 3, sequence, next_id: ActionId(9), payload }
    }

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, payload) in [(1, &b"first"[..]), (2, b"the second, longer"), (3, b"third")] {
            frame(sequence, payload).append_to(&mut bytes);
        }
        bytes.resize(bytes.len() + 64, 0);
        bytes
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        let bytes = three();
        let scan = Scan::of(&bytes);
        assert_eq!(scan.frames, [frame(1, b"first"), frame(2, b"the second, longer"), frame(3, b"third")]);
        assert_eq!((scan.end, scan.debris), (bytes.len() - 64, 0));
    }

    #[test]
    fn damage_anywhere_costs_the_damaged_frame_alone() {
        let whole = three();
        let second = Frame::size(5)..Frame::size(5) + HEADER + 18;
        for at in second {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let scan = Scan::of(&bytes);
                assert_eq!(scan.frames, [frame(1, b"first"), frame(3, b"third")], "bit {bit} of byte {at}");
                assert!(scan.debris > 0);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_can_be_scanned() {
        use proptest::prelude::*;
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..512))| {
            let scan = Scan::of(&bytes);
            prop_assert!(scan.end <= bytes.len() + ALIGNMENT);
        });
    }
}
