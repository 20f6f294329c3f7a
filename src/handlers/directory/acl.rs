//! Access lists (POSIX ACLs) of files that are replaced.
//!
//! Where a file has one, the group's bits of its mode are the mask of the list. A new file of that mode and no list would
//! give its group what was meant for others.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{Mode, OFlags, XattrFlags, fremovexattr, fsetxattr, getxattr, openat},
    io::Errno,
};

const NAME: &str = "system.posix_acl_access";
/// A list of some thousand entries; a longer one is not taken over.
const LONGEST: usize = 16 << 10;
const GROUP: u32 = 0o070;

/// What a file has beside its mode.
pub(super) enum List {
    None,
    Some(Vec<u8>),
    /// It could not be read.
    Unknown,
}

/// Of the file of this name, which need not be readable.
pub(super) fn of(dir: &Dir, name: &OsStr) -> List {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = || {
        let there = openat(dir, name, flags, Mode::empty())?;
        let (path, mut list) = (format!("/proc/self/fd/{}", there.as_raw_fd()), vec![0; LONGEST]);
        let length = getxattr(path, NAME, &mut list[..])?;
        list.truncate(length);
        Ok(list)
    };
    match read() {
        Ok(list) => List::Some(list),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => List::None,
        Err(error) => {
            log::debug!("cannot read the access list of a file that is replaced: {error}");
            List::Unknown
        }
    }
}

impl List {
    /// The file gets this list, and loses one that it has of its directory. Returns the mode that it may have then.
    pub(super) fn give_to(&self, file: &File, mode: u32) -> u32 {
        let given = match self {
            Self::None => match fremovexattr(file.as_fd(), NAME) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                removed => removed,
            },
            Self::Some(list) => fsetxattr(file.as_fd(), NAME, list, XattrFlags::empty()),
            // Without /proc there are none that could be seen, and the mode is what there is.
            Self::Unknown => return mode,
        };
        match given.map_err(io::Error::from) {
            Ok(()) => mode,
            Err(error) => {
                log::debug!("cannot keep the access list of a file that is replaced: {error}");
                mode & !GROUP
            }
        }
    }
}
