//! Files that the kernel generates when they are read, as those of /proc and /sys. It reports no size of them, or a
//! wrong one.

use std::{fs::File, io};

use bytes::Bytes;
use smol::unblock;

use super::{
    file_version::Version,
    system::{is_in_sys, read_at, read_cached},
};

/// How many bytes are read before the transfer begins, so that the size of a small file is known.
const AHEAD: usize = 64 << 10;
/// The size that systems report of most generated files, whatever they contain.
const PAGE: u64 = 4096;
/// Larger files of /sys have the reported size.
const LARGEST: u64 = AHEAD as u64;

/// The beginning of a generated file.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) beginning: Bytes,
    pub(super) is_all: bool,
}

/// Reads the beginning of a file whose size may differ from the reported one. Other files are not read.
pub(super) async fn find(file: File, version: &Version) -> io::Result<(File, Option<Made>)> {
    let size = version.size;
    // A file system without a device has the major number 0.
    let has_no_device = || version.identity.0 >> 32 == 0 && version.identity != (0, 0);
    let may_be = match size {
        // The page cache knows that an ordinary file is empty.
        0 => read_cached(&file, 0, &mut [0]) != Err(io::ErrorKind::UnexpectedEof),
        PAGE => has_no_device(),
        size => size < LARGEST && has_no_device() && is_in_sys(&file),
    };
    if !may_be {
        return Ok((file, None));
    }
    unblock(move || {
        let beginning = read_on(&file, 0)?;
        let length = beginning.len();
        let made = Made { beginning, is_all: length < AHEAD };
        Ok((file, (length as u64 != size).then_some(made)))
    })
    .await
}

/// The next bytes of a generated file; none at its end. It waits for the file system.
pub(super) fn read_on(file: &File, at: u64) -> io::Result<Bytes> {
    let mut chunk = vec![0; AHEAD];
    let length = fill(file, at, &mut chunk)?;
    chunk.truncate(length);
    Ok(chunk.into())
}

/// Fills the buffer as far as the file goes: a read of such a file returns only a part.
fn fill(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match read_at(file, at + length as u64, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
