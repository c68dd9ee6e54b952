//! How a file of the kernel is read: with positional reads into a buffer that only grows, after it was opened once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Enough for every file of a node with some hundred CPUs, disks and interfaces; longer ones grow it.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// Nothing that is read here is longer in earnest.
const LONGEST_FILE_BYTES: usize = 8 * 1024 * 1024;

/// The kernel's seq_file hands out records by the page; this is the smallest page.
const PAGE_BYTES: usize = 4096;

/// No record of the files read by records is longer: a read that leaves more of a page than this was the last one.
const LONGEST_RECORD_BYTES: usize = 512;

/// How the kernel makes the file, and so how many reads it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One read gives all of it.
    Whole,
    /// Each read gives up to a page of records.
    Records,
    /// Only the first page is wanted.
    FirstPage,
}

/// Reads the file, which is opened where it is not, or cannot be read any more.
pub(crate) fn fill(path: &Path, kept: &mut Option<File>, shape: Shape, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if let Some(file) = kept.take()
        && let Ok(length) = read(&file, shape, buffer)
    {
        *kept = Some(file);
        return Ok(length);
    }
    let file = File::open(path)?;
    let length = read(&file, shape, buffer)?;
    *kept = Some(file);
    Ok(length)
}

fn read(file: &File, shape: Shape, buffer: &mut Vec<u8>) -> io::Result<usize> {
    match shape {
        Shape::Whole => read_whole(file, buffer),
        Shape::Records => read_records(file, buffer),
        Shape::FirstPage => read_at(file, &mut buffer[..PAGE_BYTES], 0),
    }
}

fn read_whole(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let length = read_at(file, buffer, 0)?;
        if length < buffer.len() || length >= LONGEST_FILE_BYTES {
            return Ok(length);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}

fn read_records(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut end = 0;
    loop {
        if buffer.len() - end < PAGE_BYTES {
            buffer.resize(buffer.len() * 2, 0);
        }
        let length = read_at(file, &mut buffer[end..], end)?;
        end += length;
        let last = length + LONGEST_RECORD_BYTES < PAGE_BYTES && (length == 0 || buffer[end - 1] == b'\n');
        if last || end >= LONGEST_FILE_BYTES {
            return Ok(end);
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}
