use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{
    error::{Error, ErrorCode, Refusal},
    handler::{Answer, Handler, Request},
    packet::Options,
    source::Source,
};

mod case;
mod chunks;
mod download;
mod open;
mod partial;
mod policy;
mod upload;
mod versions;

/// The files of a directory and of those below it.
///
/// Nothing outside of the root can be reached, by any name or symbolic link, also while links are being changed:
/// names are looked up with `openat2` and `RESOLVE_BENEATH` where the system has it, and component by component where
/// it does not. Links that stay inside are followed, if they are relative. Only regular files are served.
///
/// A file that changes while it is sent ends its transfers with an error; replace it by renaming another over it, and
/// they end well with the bytes that they began with.
///
/// # Uploads
/// There are none unless [`uploads`](Self::uploads) allows them. The bytes go to a file without a name; when all are
/// there and safe on the disk it gets its name in one step, and then the last block is acknowledged. If the transfer
/// fails before that step, or the server is killed, nothing of the file is left; a directory that was made for it stays. Where the file system has no such files (Linux has them on all but
/// FAT, NFS and a few others) it is a hidden one, `.tuffet-*`, that is removed if the transfer fails, cannot be read or
/// written by its own name, and is left behind by a server that is killed. What is new has mode 0644, less the umask.
///
/// ```no_run
/// use tuffet::handlers::Directory;
///
/// let directory = Directory::new("/srv/tftp")?.uploads(true).max_upload(64 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Directory {
    root: Arc<Dir>,
    path: PathBuf,
    files: Arc<open::Files>,
    uploads: bool,
    ignore_case: bool,
    policy: Arc<policy::Policy>,
}

impl Directory {
    /// Opens the root, once: what is later at its path does not matter.
    ///
    /// # Errors
    /// If there is no such directory, or it may not be opened.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Self> {
        let path = root.as_ref().to_path_buf();
        let root = Arc::new(Dir::open_ambient_dir(&path, ambient_authority())?);
        let (files, policy) = (Arc::default(), Arc::default());
        Ok(Self { root, path, files, uploads: false, ignore_case: false, policy })
    }

    /// Whether a file may be read by a name that differs in upper and lower case (of ASCII), where there is none of the
    /// very name. Defaults to no. A [request](Request::ignores_case) may ask for it too.
    #[must_use]
    pub fn ignore_case(self, ignore_case: bool) -> Self {
        Self { ignore_case, ..self }
    }

    /// Whether files may be uploaded. Defaults to no: [`Refusal::denied`].
    #[must_use]
    pub fn uploads(self, uploads: bool) -> Self {
        Self { uploads, ..self }
    }

    /// Whether an upload may replace a regular file that is not read-only. Defaults to no: [`Refusal::exists`].
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.policy().overwrite = overwrite;
        self
    }

    /// Whether an upload makes the directories that its name needs. Defaults to no: [`Refusal::not_found`].
    #[must_use]
    pub fn make_directories(mut self, make_directories: bool) -> Self {
        self.policy().make_directories = make_directories;
        self
    }

    /// The largest upload, in bytes; for a larger one, [`Refusal::too_big`], before any byte if the client tells its
    /// `tsize`. Defaults to no limit but the disk's.
    #[must_use]
    pub fn max_upload(mut self, most: u64) -> Self {
        self.policy().most = most;
        self
    }

    /// The bytes that uploads leave free on the disk; with less, [`Refusal::disk_full`], before any byte if the client
    /// tells its `tsize`. Defaults to 0. Only Unix can tell.
    #[must_use]
    pub fn min_free(mut self, bytes: u64) -> Self {
        self.policy().min_free = bytes;
        self
    }

    /// Only names that fit one of these patterns may be uploaded; for others, [`Refusal::denied`]. `*.cfg` is for the
    /// last part of a name, whatever the directory, `backup/*.cfg` for the whole of it; `**` is any number of
    /// directories. May be called again for more. Defaults to all names.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no pattern.
    pub fn upload_names(mut self, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, Error> {
        for pattern in patterns {
            self.policy().allow(pattern.as_ref())?;
        }
        Ok(self)
    }

    /// Whether each client has a directory of its own, made when it is needed: what 192.0.2.7 uploads as `switch.cfg`
    /// becomes `192.0.2.7/switch.cfg`. A client that reads gets its own file, if there is one, before all others'.
    /// Defaults to no.
    #[must_use]
    pub fn per_client(mut self, per_client: bool) -> Self {
        self.policy().per_client = per_client;
        self
    }

    /// How many files are kept of those that uploads of a name replace: `switch.cfg.~1~`, `switch.cfg.~2~` and so on,
    /// the newest with the highest number. More than none lets uploads replace files, and no upload may have such a
    /// name itself. Defaults to 0.
    #[must_use]
    pub fn keep_versions(mut self, most: usize) -> Self {
        let policy = self.policy();
        policy.keep = most;
        policy.overwrite |= most > 0;
        self
    }

    fn policy(&mut self) -> &mut policy::Policy {
        Arc::make_mut(&mut self.policy)
    }

    async fn open(&self, request: &Request, path: PathBuf) -> Result<Arc<open::Opened>, Refusal> {
        match self.open_exactly(request, path.clone()).await {
            Err(refusal) if self.may_ignore_case(request, &refusal) => {
                let root = self.root.clone();
                let found = smol::unblock(move || case::find(&root, &path)).await;
                self.open_exactly(request, found.ok_or(refusal)?).await
            }
            opened => opened,
        }
    }

    async fn open_exactly(&self, request: &Request, path: PathBuf) -> Result<Arc<open::Opened>, Refusal> {
        if partial::is_partial(&path) {
            return Err(Refusal::not_found().because("an upload that is not complete"));
        }
        self.files.open((&self.root, &self.path), path, request.received()).await
    }

    /// What stands behind the path of the root, if the name begins with that. No name in normal form begins with a slash.
    fn below_root<'a>(&self, name: &'a Path) -> Option<&'a Path> {
        let root = std::path::absolute(&self.path).ok()?;
        name.strip_prefix(root.strip_prefix("/").ok()?).ok().filter(|below| !below.as_os_str().is_empty())
    }

    fn may_ignore_case(&self, request: &Request, refusal: &Refusal) -> bool {
        (self.ignore_case || request.ignores_case()) && refusal.code() == ErrorCode::FILE_NOT_FOUND
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root: _, path, files: _, uploads, ignore_case: _, policy } = self;
        f.debug_struct("Directory")
            .field("path", path)
            .field("uploads", uploads)
            .field("policy", policy)
            .finish_non_exhaustive()
    }
}

impl Handler for Directory {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let path = relative_path(request);
            let own = match self.policy.per_client {
                true => self.open(request, policy::own_directory(request).join(&path)).await.ok(),
                false => None,
            };
            let opened = match own {
                Some(own) => own,
                None => match self.open(request, path.clone()).await {
                    // A client that was told where the file is on this machine.
                    Err(refusal) if refusal.code() == ErrorCode::FILE_NOT_FOUND => match self.below_root(&path) {
                        Some(below) => self.open(request, below.to_path_buf()).await?,
                        None => return Err(refusal),
                    },
                    opened => opened?,
                },
            };
            let origin = opened.origin.clone();
            let source = download::source(opened, self.files.readers.clone(), chunk_size(request.options()));
            Ok(source.with_origin(origin))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async {
            if !self.uploads {
                return Err(Refusal::denied().because("uploads are off"));
            }
            upload::receive(self.root.clone(), request, &self.policy, chunk_size(request.options()), data).await
        })
    }

    fn takes_writes(&self) -> bool {
        self.uploads
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

/// Where the file is, seen from the root.
#[cfg(unix)]
fn relative_path(request: &Request) -> PathBuf {
    <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(request.path_bytes()).into()
}

/// Where the file is, seen from the root.
#[cfg(not(unix))]
fn relative_path(request: &Request) -> PathBuf {
    request.path().into()
}

/// How many bytes to move at once: a window of whole blocks, within bounds. Less would cost a system call for too few
/// bytes, more would cost too much memory with a thousand transfers.
fn chunk_size(options: &Options) -> usize {
    let asked = |name| options.value(name).and_then(|value| value.parse::<usize>().ok()).filter(|&value| value > 0);
    let blksize = asked("blksize").or(asked("blksize2")).unwrap_or(512);
    let window = blksize.saturating_mul(asked("windowsize").unwrap_or(1)).clamp(6 << 10, 64 << 10);
    // A block that spans two chunks would have to be copied.
    window - window % blksize.min(window)
}

/// What the file system's "no" is for a client: a link that goes round or a socket is not a file either.
fn refuse(error: io::Error) -> Refusal {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) {
        return Refusal::not_found().because(error);
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_windows_within_bounds() {
        for (options, expected) in [
            ("", 6144),
            ("blksize 1468", 5872),
            ("blksize 1468 windowsize 16", 23488),
            ("blksize2 1024", 6144),
            ("blksize 65464", 65464),
            ("blksize 1468 windowsize 65535", 64592),
            ("blksize 99999999999999999999", 6144),
            ("blksize 18446744073709551615 windowsize 2", 0x10000),
            ("blksize 0 windowsize 0", 6144),
            ("blksize -1 windowsize x", 6144),
        ] {
            let mut asked = Options::default();
            let mut words = options.split_whitespace();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                asked.push(name, value);
            }
            assert_eq!(chunk_size(&asked), expected, "{options}");
        }
    }
}
