//! The corpora of `fuzz/`, replayed on every run of the tests: what a fuzzer found once stays found, without one.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::fed::{Fed, dial, feed};
use super::measure::{Counting, converse, measured};
use super::{TARGETS, run};
use crate::control::DEADLINE;

#[global_allocator]
static COUNTING: Counting = Counting;

/// All of a target's inputs together.
const CORPUS_BYTES: u64 = 48 << 10;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

#[test]
fn every_input_that_is_kept_is_survived_within_bounds() {
    for target in &TARGETS {
        let mut files: Vec<_> = fs::read_dir(fuzz().join("corpus").join(target.name))
            .unwrap_or_else(|error| panic!("no corpus of {}: {error}", target.name))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{}", target.name);
        let mut bytes = 0;
        for file in files {
            print!("{}: ", file.display());
            let input = fs::read(&file).unwrap();
            bytes += input.len() as u64;
            let cost = run(target.name, &input);
            println!("{} bytes, {:?}, {:?} without waiting", cost.bytes, cost.time, cost.breath);
        }
        assert!(bytes <= CORPUS_BYTES, "the corpus of {} has {bytes} bytes: minimise it", target.name);
    }
}

#[test]
fn every_target_has_a_program() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let mut programs: Vec<_> = fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    programs.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    names.sort();
    assert_eq!(programs, names);
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
}

async fn read(fed: &mut Fed) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    loop {
        let mut piece = vec![0; 64];
        match fed.read(&mut piece).await.unwrap() {
            0 => return pieces,
            length => pieces.push(piece[..length].to_vec()),
        }
    }
}

#[test]
fn a_script_comes_in_pieces_and_again() {
    let pieces = converse(async { read(&mut Fed::new(b"ab\x1fc\x1a\x02\x1e\x03de\x1e\x01f")).await });
    assert_eq!(pieces, [&b"ab"[..], b"c", b"c", b"c", b"c", b"dede", b"f"]);
    assert!(converse(async { timeout(DEADLINE, read(&mut Fed::new(b"x\x1d never"))).await.is_err() }));
    feed(b"one\x1ctwo", || {
        let next = || dial().flatten().map(|mut fed| converse(async { read(&mut fed).await }));
        assert_eq!(next(), Some(vec![b"one".to_vec()]));
        assert_eq!(next(), Some(vec![b"two".to_vec()]));
        assert_eq!(next(), Some(vec![b"two".to_vec()]), "the last is for all that come");
    });
    assert!(dial().is_none());
}

#[test]
fn a_script_answers_what_it_is_asked() {
    let ask = |fed: &mut Fed, request: &[u8]| {
        converse(async {
            fed.write_all(request).await.unwrap();
            let mut answer = [0; 64];
            let length = timeout(DEADLINE, fed.read(&mut answer)).await.map(|read| read.unwrap());
            String::from_utf8_lossy(&answer[..length.unwrap_or(0)]).into_owned()
        })
    };
    feed(b"\x1bmax\x1f100\x1950\x1bset\x1fOK", || {
        let mut fed = dial().flatten().unwrap();
        assert_eq!(
            [ask(&mut fed, b"show max\n"), ask(&mut fed, b"set 50\n"), ask(&mut fed, b"who?")],
            ["100", "OK", ""]
        );
        let mut other = dial().flatten().unwrap();
        assert_eq!([ask(&mut other, b"show max\n"), ask(&mut other, b"show max\n")], ["50", "50"]);
    });
}

#[test]
fn what_is_taken_at_once_is_counted() {
    let cost = measured(|| {
        drop(Vec::<u8>::with_capacity(1000));
        drop(Vec::<u8>::with_capacity(500));
    });
    assert_eq!(cost.bytes, 1000);
}
