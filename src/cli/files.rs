//! The files that options name, none of which makes the program wait for another one that never comes; and the umask.

#[cfg(any(unix, feature = "http"))]
use std::fs;
#[cfg(unix)]
use std::sync::OnceLock;
use std::{fs::File, io, path::Path};

#[cfg(unix)]
use rustix::{
    fs::{Mode, RawMode},
    process::umask,
};

/// Opens a log, to be appended to.
///
/// A FIFO is opened without a wait for its reader, which may start later or again: until then it holds some lines. If
/// it is full, a write fails with `WouldBlock`.
pub fn append(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    if is_fifo(path) {
        // As a reader of its own, the program can open a FIFO that has no other, and is not cut off from it.
        return match nonblocking().read(true).append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => only_append(path),
            opened => opened,
        };
    }
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        #[allow(clippy::unnecessary_cast, reason = "a mode has 16 bits on some systems")]
        options.mode(0o666 & !(umask_at_start().as_raw_mode() as u32));
    }
    options.create(true).append(true).open(path)
}

/// Makes the umask of the process allow what this one allows, for the directories that uploads make. They must have
/// their mode from the beginning: if a user who is not in their group changes it, they lose the setgid bit.
#[cfg(unix)]
pub fn allow_umask(mask: Option<u32>) {
    let mask = mask.map_or(Mode::all(), |mask| Mode::from_raw_mode(mask as RawMode));
    umask(umask_at_start() & mask);
}

#[cfg(not(unix))]
pub fn allow_umask(_: Option<u32>) {}

#[cfg(unix)]
fn umask_at_start() -> Mode {
    static AT_START: OnceLock<Mode> = OnceLock::new();
    *AT_START.get_or_init(|| {
        let mask = umask(Mode::empty());
        umask(mask);
        mask
    })
}

/// Opens a FIFO that this user may not read.
#[cfg(unix)]
fn only_append(path: &Path) -> io::Result<File> {
    nonblocking().append(true).open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("no program reads this FIFO, and this user may not read it either"),
        _ => error,
    })
}

/// Whether the path is that of the FIFO that is open already.
#[cfg(unix)]
pub fn is_open_fifo(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    is_fifo(path) && fs::metadata(path).map(identity).ok() == file.metadata().map(identity).ok()
}

#[cfg(not(unix))]
pub fn is_open_fifo(_: &File, _: &Path) -> bool {
    false
}

/// Reads a file that is read only once, such as a configuration. A FIFO is read until its writers have closed it.
#[cfg(feature = "full")]
pub fn read_once(path: &Path) -> io::Result<String> {
    #[cfg(unix)]
    if is_fifo(path) {
        return read_fifo(path);
    }
    fs::read_to_string(path)
}

#[cfg(all(feature = "full", unix))]
fn read_fifo(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut file = nonblocking().read(true).open(path)?;
    let mut text = vec![0; 1];
    match file.read(&mut text) {
        Ok(0) => return Err(io::Error::other("no program writes to this FIFO")),
        Ok(_) => {}
        // There is a writer.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => text.clear(),
        Err(error) => return Err(error),
    }
    rustix::io::ioctl_fionbio(&file, false)?;
    file.read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads a file that may be read several times, so it cannot be a FIFO.
#[cfg(feature = "http")]
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    #[cfg(unix)]
    if is_fifo(path) {
        return Err(io::Error::other("a FIFO can be read only once; name a regular file"));
    }
    fs::read(path)
}

#[cfg(unix)]
fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

#[cfg(unix)]
fn nonblocking() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.custom_flags(libc::O_NONBLOCK);
    options
}
