//! Access lists (POSIX ACLs) of files that are replaced.
//!
//! If a file has an access list, the group bits of its mode are the mask of the list. A new file with that mode and no
//! list would give its group rights that were meant for others.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{XattrFlags, fremovexattr, fsetxattr, getxattr},
    io::Errno,
};

use super::attributes::There;

const NAME: &str = "system.posix_acl_access";
const OF_NEW_FILES: &str = "system.posix_acl_default";
const GROUP: u32 = 0o070;

/// The access list of a file.
pub(super) enum List {
    None,
    Some(Vec<u8>),
    /// The list could not be read.
    Unknown,
}

/// The list of a file, unless it could not be opened.
pub(super) fn of(there: Result<&There, Errno>) -> List {
    match there.and_then(|there| there.attribute(NAME)) {
        Ok(list) => List::Some(list),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => List::None,
        Err(error) => {
            log::debug!("cannot read the access list of a file that is replaced: {error}");
            List::Unknown
        }
    }
}

/// Whether the directory has a list for the files that are made in it.
pub(super) fn has_default(dir: &Dir) -> bool {
    let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    // No list fits into one byte.
    getxattr(path, OF_NEW_FILES, &mut [0][..]) == Err(Errno::RANGE)
}

impl List {
    /// Gives the file this list, and removes a list that it has from its directory. Returns the mode that the file may
    /// have then.
    pub(super) fn give_to(&self, file: &File, mode: u32) -> u32 {
        let given = match self {
            Self::None => match fremovexattr(file.as_fd(), NAME) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                removed => removed,
            },
            Self::Some(list) => fsetxattr(file.as_fd(), NAME, list, XattrFlags::empty()),
            // Without /proc no list can be read, and there is only the mode.
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
