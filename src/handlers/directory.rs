use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use crate::{
    error::{Error, ErrorCode, Refusal, is_invalid_filename},
    handler::{Answer, Handler, Request},
    options,
    packet::Options,
    source::Source,
    stats::Protocol,
};

/// Bytes that are moved at once over HTTP: at least, and at most if there are few readers. A connection takes what it is
/// given; the memory of a crowd is bounded by the first, and the second spares system calls.
const STREAM: (usize, usize) = (16 << 10, 64 << 10);

#[cfg(target_os = "linux")]
mod acl;
mod case;
mod chunks;
mod denied;
mod download;
mod leftovers;
mod made;
mod open;
mod partial;
mod place;
mod policy;
mod root;
mod trace;
mod upload;
mod versions;

/// The files of a directory and of those below it.
///
/// Nothing outside of the root can be reached, by any name or symbolic link, also while links are being changed:
/// names are looked up with `openat2` and `RESOLVE_BENEATH` where the system has it, and component by component where
/// it does not. Links whose target is inside are followed, relative or absolute, and others into the directories that
/// [`also`](Self::also) names. Only regular files are served. A name that begins with the path of the root is taken as
/// below it, if there is no file of the very name.
///
/// The root is what is at its path when a request comes: a directory that is made anew there, that a link is moved to, or
/// that is mounted over it, is served from then on.
///
/// A file that changes while it is sent ends its transfers with an error; one that has only grown at its end is sent as
/// long as it was. Replace a file by renaming another over it, and its transfers end well with the bytes that they began
/// with. Files that the system makes up, as in /proc and /sys, are read to their end, whatever size is told of them.
///
/// # Uploads
/// There are none unless [`uploads`](Self::uploads) allows them. The bytes go to a file without a name; when all are
/// there and safe on the disk it gets its name in one step, and then the last block is acknowledged. If the transfer
/// fails before that step, or the server is killed, nothing of the file is left; a directory that was made for it stays.
/// For a moment the file has a hidden name, `.tuffet-*`, if it replaces another, and where the file system has no files
/// without a name (Linux has them on all but FAT, NFS and a few others) it has one from its beginning. That is removed if
/// the transfer fails, and cannot be read or written by its own name; what a server leaves behind that is killed then,
/// [`remove_leftovers`](Self::remove_leftovers) removes.
///
/// Where the size of a process's files is limited (RLIMIT_FSIZE), the system ends the process by SIGXFSZ for a larger upload,
/// unless that signal is handled or ignored, as the program `tuffet` does; then the upload is refused.
///
/// What is new has mode 0644 less the umask, or what [`umask`](Self::umask) says. What replaces a file has its mode and, on
/// Linux, its access list (POSIX ACL), and its owner and group as far as the server may give them.
///
/// ```no_run
/// use tuffet::handlers::Directory;
///
/// let directory = Directory::new("/srv/tftp")?.uploads(true).max_upload(64 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Directory {
    root: Arc<root::Root>,
    /// The path of the root as it was given.
    path: PathBuf,
    also: Arc<[PathBuf]>,
    files: Arc<open::Files>,
    cases: Arc<case::Cases>,
    uploads: bool,
    ignore_case: bool,
    policy: Arc<policy::Policy>,
    user: Arc<str>,
}

impl Directory {
    /// The directory at this path, which is opened now, and again when there is another one.
    ///
    /// # Errors
    /// If there is no such directory, or it may not be opened.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Self> {
        let path = root.as_ref().to_path_buf();
        let root = Arc::new(root::Root::open(&path)?);
        let (files, cases, policy) = (Arc::default(), Arc::default(), Arc::default());
        let (uploads, ignore_case, also) = (false, false, Arc::default());
        Ok(Self { root, path, also, files, cases, uploads, ignore_case, policy, user: effective_user() })
    }

    /// Further directories that links in the root may lead to, for reading. Defaults to none.
    #[must_use]
    pub fn also(self, directories: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { also: directories.into_iter().map(Into::into).collect(), ..self }
    }

    /// The name of the user that this process is, for the operator: it stands in the log where a file may not be read or
    /// written. Defaults to the number of the user that it is when this is made.
    #[must_use]
    pub fn user(self, name: impl Into<Arc<str>>) -> Self {
        Self { user: name.into(), ..self }
    }

    /// What to do when another directory has come in the place of the root that this process could read, or upload to, but
    /// for its sandbox: only a process that begins anew can serve it. It is told of the path, perhaps more than once and from any
    /// thread, and requests are left without an answer, because clients will ask the new process again. The first hook
    /// counts, for all clones. Defaults to none; then requests are refused with [`Refusal::denied`].
    #[must_use]
    pub fn on_out_of_reach(self, hook: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        _ = self.root.out_of_reach.set(Box::new(hook));
        self
    }

    /// Looks at the root's path now, and not when the next request comes. It waits for the disk.
    ///
    /// # Errors
    /// If there is no directory, or none that may be opened. Requests are refused until there is one.
    pub fn look(&self) -> io::Result<()> {
        self.root.look(Instant::now())
    }

    /// Removes what servers that were killed have left of uploads, below the root: files named `.tuffet-` and 16
    /// hexadecimal digits that belong to the effective user, that were written to more than ten minutes from now, and that no
    /// server has open. Returns how many there were. It goes through all directories and waits for the disk, so it is for a thread
    /// of its own.
    pub fn remove_leftovers(&self) -> usize {
        self.root.dir().map_or(0, |dir| leftovers::remove(&dir))
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
        self.root.is_written.store(uploads, Relaxed);
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
    pub fn mkdir(mut self, mkdir: bool) -> Self {
        self.policy().mkdir = mkdir;
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

    /// The bits that new files have not of mode 0666, and new directories not of 0777, such as `0o027`. Defaults to 0022 for
    /// files, and to the umask of the process for both. Only Unix has modes.
    #[must_use]
    pub fn umask(mut self, umask: u32) -> Self {
        self.policy().umask = Some(umask & 0o777);
        self
    }

    fn policy(&mut self) -> &mut policy::Policy {
        Arc::make_mut(&mut self.policy)
    }

    async fn place(&self, received: Option<Instant>) -> Result<Arc<place::Place>, Refusal> {
        self.root.now(&self.also, received).await.map_err(|error| self.no_place(error))
    }

    fn no_place(&self, error: io::Error) -> Refusal {
        let detail = format!("{}: {error}", self.path.display());
        let refusal = if self.root.has_ended_by(&error) { Refusal::silent() } else { refuse(error) };
        refusal.because(detail)
    }

    /// The same result, unless it is a sandbox that denies it, which a process that begins anew would not.
    async fn within_reach<T>(&self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        if result.as_ref().is_err_and(|refusal| refusal.code() == ErrorCode::ACCESS_VIOLATION) {
            self.root.check_reach().await.map_err(|error| self.no_place(error))?;
        }
        result
    }

    /// The client's own file of this name, if it may have one, or else everybody's.
    async fn open(
        &self,
        request: &Request,
        place: &Arc<place::Place>,
        path: PathBuf,
    ) -> Result<Arc<open::Opened>, Refusal> {
        if self.policy.per_client {
            match self.open_any_case(request, place, policy::own_directory(request).join(&path)).await {
                Err(refusal) if refusal.code() == ErrorCode::FILE_NOT_FOUND => {}
                own => return own,
            }
        }
        self.open_any_case(request, place, path).await
    }

    async fn open_any_case(
        &self,
        request: &Request,
        place: &Arc<place::Place>,
        path: PathBuf,
    ) -> Result<Arc<open::Opened>, Refusal> {
        match self.open_exactly(request, place, path.clone()).await {
            Err(refusal) if self.may_ignore_case(request, &refusal) => {
                let found = self.cases.find(place.clone(), path, request.received()).await;
                self.open_exactly(request, place, found.ok_or(refusal)?).await
            }
            opened => opened,
        }
    }

    async fn open_exactly(
        &self,
        request: &Request,
        place: &Arc<place::Place>,
        path: PathBuf,
    ) -> Result<Arc<open::Opened>, Refusal> {
        if partial::is_partial(&path) {
            return Err(Refusal::not_found().because("an upload that is not complete"));
        }
        self.files.open(place, path, (request.received(), &self.user)).await
    }

    fn may_ignore_case(&self, request: &Request, refusal: &Refusal) -> bool {
        (self.ignore_case || request.ignores_case()) && refusal.code() == ErrorCode::FILE_NOT_FOUND
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("path", &self.path)
            .field("uploads", &self.uploads)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Handler for Directory {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let place = self.place(request.received()).await?;
            let path = relative_path(request);
            let shorter = place.without_root(&path);
            let opened = match (self.open(request, &place, path).await, shorter) {
                (Err(refusal), Some(shorter)) if refusal.code() == ErrorCode::FILE_NOT_FOUND => {
                    self.open(request, &place, shorter).await
                }
                (opened, _) => opened,
            };
            let opened = self.within_reach(opened).await?;
            let origin = opened.origin.clone();
            // What was just written to may be written to again: that is found out by reading it.
            let plain = request.protocol() == Protocol::Http && opened.made.is_none() && opened.version.is_settled();
            let plain = plain.then(|| opened.clone());
            let source = download::source(opened, self.files.readers.clone(), chunk_sizes(request));
            let source = match plain {
                Some(plain) => source.with_plain(plain),
                None => source,
            };
            Ok(source.with_origin(origin))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async {
            if !self.uploads {
                return Err(Refusal::denied().because("uploads are off"));
            }
            request.check_upload()?;
            let place = self.place(None).await?;
            let (chunk, _) = chunk_sizes(request);
            let received = upload::receive((place, self.user.clone()), request, &self.policy, chunk, data).await;
            self.within_reach(received).await
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

/// How many bytes to move at once: at least, and at most if there are few readers.
fn chunk_sizes(request: &Request) -> (usize, usize) {
    match request.protocol() {
        Protocol::Http => STREAM,
        _ => (chunk_size(request.options()), download::LARGEST),
    }
}

/// How many bytes to move at once: a window of whole blocks, within bounds. Less would cost a system call for too few
/// bytes, more would cost too much memory with a thousand transfers.
fn chunk_size(options: &Options) -> usize {
    let asked = options::asked(options);
    let blksize = usize::from(asked.blksize());
    let window = (blksize * usize::from(asked.windowsize())).clamp(6 << 10, 64 << 10);
    // A block that spans two chunks would have to be copied.
    window - window % blksize
}

/// What the file system's "no" is for a client: a link that goes round or a socket is not a file either.
fn refuse(error: io::Error) -> Refusal {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) {
        return Refusal::not_found().because(error);
    }
    error.into()
}

/// The same for an upload: a name that no file can have is not that of a file that is missing.
fn refuse_upload(error: io::Error) -> Refusal {
    match error.kind() {
        kind if is_invalid_filename(kind) => Refusal::name_too_long().because(error),
        _ => refuse(error),
    }
}

/// The same, with more about a "permission denied" than the system says.
fn refuse_denied(error: io::Error, refuse: fn(io::Error) -> Refusal, why: impl FnOnce() -> String) -> Refusal {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_some();
    let refusal = refuse(error);
    if is_denied { refusal.because(why()) } else { refusal }
}

#[cfg(unix)]
fn effective_user() -> Arc<str> {
    rustix::process::geteuid().as_raw().to_string().into()
}

#[cfg(not(unix))]
fn effective_user() -> Arc<str> {
    "of this process".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client is told of each error, when it reads and when it writes.
    #[cfg(target_os = "linux")]
    #[test]
    fn errors_have_their_codes() {
        let (not_found, denied, full) = (Refusal::not_found(), Refusal::denied(), Refusal::disk_full());
        for (number, read, write) in [
            (libc::ENOENT, &not_found, &not_found),
            (libc::ENOTDIR, &not_found, &not_found),
            (libc::EISDIR, &not_found, &not_found),
            (libc::ELOOP, &not_found, &not_found),
            (libc::ENXIO, &not_found, &not_found),
            (libc::ENAMETOOLONG, &not_found, &Refusal::name_too_long()),
            (libc::EACCES, &denied, &denied),
            (libc::EPERM, &denied, &denied),
            (libc::EROFS, &denied, &denied),
            (libc::EEXIST, &Refusal::exists(), &Refusal::exists()),
            (libc::ENOSPC, &full, &full),
            (libc::EDQUOT, &full, &full),
            (libc::EFBIG, &Refusal::too_big(), &Refusal::too_big()),
            (libc::EMFILE, &Refusal::busy(), &Refusal::busy()),
            (libc::ENFILE, &Refusal::busy(), &Refusal::busy()),
            (libc::ENOMEM, &Refusal::busy(), &Refusal::busy()),
            (libc::EIO, &Refusal::internal(), &Refusal::internal()),
        ] {
            let error = || io::Error::from_raw_os_error(number);
            assert_eq!((&refuse(error()), &refuse_upload(error())), (read, write), "{}", error());
            // That a file is not there needs no more words.
            let is_told = refuse(error()).detail().is_some_and(|detail| detail.contains("os error"));
            assert!(is_told || number == libc::ENOENT, "{}", error());
        }
        assert_eq!(Refusal::name_too_long().code(), ErrorCode::ACCESS_VIOLATION);
    }

    #[test]
    fn chunks_are_whole_windows_within_bounds() {
        for (options, expected) in [
            ("", 6144),
            ("blksize 1468", 5872),
            ("blksize 1468 windowsize 16", 23488),
            ("blksize2 1024", 6144),
            ("blksize 65464", 65464),
            ("blksize 1468 windowsize 65535", 64592),
            ("blksize 99999999999999999999", 65464),
            ("blksize 18446744073709551615 windowsize 2", 65464),
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
