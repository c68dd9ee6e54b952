//! What the fuzzer feeds to the journal: two files of any bytes, and what was just recorded.

use super::record::{Frame, Scan};
use super::recover::{Recovered, recover};
use super::slot::BODY;
use super::state::Change;
use super::{Entry, body, readable};
use crate::policy::mitigation::ActionId;

/// Ends the first file of an input, and each of the records that are written as they should be.
const END: u8 = 0x1c;
/// Begins such a record: a byte each for generation and sequence, then its payload. Anything else is as it is.
const RECORD: u8 = 0x1e;

/// Whatever the files hold, what is made of them is what it would be a second time, and can be written and read again.
pub fn recovery(input: &[u8]) {
    let cut = input.iter().position(|byte| *byte == END).unwrap_or(input.len());
    let files = [file(&input[..cut]), file(input.get(cut + 1..).unwrap_or_default())];
    let found = recover([&files[0], &files[1]]);
    assert_eq!(found, recover([&files[0], &files[1]]));
    for bytes in &files {
        let scan = Scan::of(bytes);
        assert!(scan.end <= bytes.len().next_multiple_of(8) && scan.debris <= bytes.len());
    }
    if let Some(tail) = found.tail {
        assert!(tail.slot < 2 && tail.end >= BODY && tail.slot != found.spare);
    }
    let again = rewritten(&found);
    assert_eq!(again.state, found.state, "a rewrite loses nothing");
}

fn file(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in text.split(|byte| *byte == RECORD).enumerate() {
        match part {
            [generation, sequence, payload @ ..] if at > 0 => {
                let (generation, sequence) = (number(*generation), number(*sequence));
                Frame { generation, sequence, next_id: ActionId(3), payload }.append_to(&mut bytes);
            }
            other => bytes.extend_from_slice(other),
        }
    }
    bytes
}

/// The highest there are, too.
fn number(byte: u8) -> u32 {
    if byte < 0xf0 { u32::from(byte) } else { u32::MAX - u32::from(u8::MAX - byte) }
}

fn rewritten(found: &Recovered) -> Recovered {
    let Ok((body, _)) = body(&found.state, 1) else { panic!("what was read cannot be written") };
    let mut bytes = Vec::new();
    Frame { generation: 1, sequence: 0, next_id: found.state.next_id, payload: &[] }.append_to(&mut bytes);
    bytes.resize(BODY, 0);
    bytes.extend(body);
    recover([&bytes, &[]])
}

/// What a control says is what the journal has after a crash. Holds no more of it than the journal does, since that is counted.
pub fn comes_back(entry: Entry) -> Entry {
    let change = Change::Write(Box::new(entry));
    let payload = readable(&change);
    let Change::Write(entry) = change else { panic!("it was an entry") };
    let Ok(payload) = payload else { panic!("this undo cannot be recorded: {:?}", entry.undo) };
    let mut bytes = Vec::new();
    Frame { generation: 1, sequence: 1, next_id: ActionId(8), payload: &payload }.append_to(&mut bytes);
    drop(payload);
    let found = recover([&bytes, &[]]);
    assert_eq!(found.state.entries.as_slice(), std::slice::from_ref(&*entry));
    *entry
}
