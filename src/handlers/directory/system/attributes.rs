//! Extended attributes of files that are replaced: those that users set, and the label by which SELinux decides who may
//! read the file.

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, getxattr, listxattr, openat},
    io::{Errno, Result},
};

/// The longest attribute that is kept, and the longest list of names, in bytes.
const LONGEST: usize = 16 << 10;

/// The file of a name, which need not be readable.
pub(super) struct There(OwnedFd);

impl There {
    pub(super) fn open(dir: &Dir, name: &OsStr) -> Result<Self> {
        openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    pub(super) fn attribute(&self, name: impl rustix::path::Arg) -> Result<Vec<u8>> {
        filled(|value| getxattr(self.path(), name, value))
    }

    /// Gives another file these attributes, as far as they can be read and set.
    pub(super) fn give_to(&self, file: &File) {
        let is_kept = |name: &&[u8]| name.starts_with(b"user.") || *name == b"security.selinux";
        for name in self.names().unwrap_or_default().split(|byte| *byte == 0).filter(is_kept) {
            if let Err(error) = self.attribute(name).and_then(|value| set(file, name, &value)) {
                log::debug!("cannot keep {} of a file that is replaced: {error}", name.escape_ascii());
            }
        }
    }

    fn names(&self) -> Result<Vec<u8>> {
        filled(|names| listxattr(self.path(), names))
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// Sets an attribute, unless the file has it already: a policy may forbid to set a label.
fn set(file: &File, name: &[u8], value: &[u8]) -> Result<()> {
    match filled(|now| fgetxattr(file.as_fd(), name, now)) {
        Ok(now) if now == value => Ok(()),
        Ok(_) | Err(Errno::NODATA) => fsetxattr(file.as_fd(), name, value, XattrFlags::empty()),
        Err(error) => Err(error),
    }
}

fn filled(fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; LONGEST];
    let length = fill(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}
