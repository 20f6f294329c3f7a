use std::{
    fmt,
    future::ready,
    io,
    path::{Path, PathBuf},
    sync::Arc,
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

/// The sizes of a read over HTTP, in bytes: the smallest, and the largest, which is used if there are few readers. A
/// connection takes any size. The smaller bounds the memory of a crowd of readers, and the larger saves system calls.
const STREAM: (usize, usize) = (16 << 10, 64 << 10);

/// The smallest read of a TFTP transfer, in bytes, if its window is not larger. It also bounds the files that are read
/// whole at once.
const SMALLEST_CHUNK: usize = 6 << 10;

mod buffer;
mod case;
mod chunks;
mod download;
mod file_version;
mod leftovers;
mod made;
mod open;
mod partial;
mod place;
mod policy;
mod root;
mod settings;
mod small;
mod system;
mod trace;
mod upload;
mod versions;

use system::{effective_user, is_no_file, relative_path};

/// The files of a directory and of its subdirectories.
///
/// No name and no symbolic link leads out of the root, even while links are being changed: names are looked up with
/// `openat2` and `RESOLVE_BENEATH` where the system has it, and component by component where it does not. Links to
/// targets inside the root are followed, relative or absolute, and also links into the directories of
/// [`also`](Self::also). Only regular files are served. If there is no file of the exact name, a name that begins with
/// the path of the root is looked up below the root.
///
/// The root is the directory that is at its path when a request comes. So the server follows a directory that is made
/// anew at this path, a link that is moved, and a file system that is mounted over it.
///
/// If a file changes while it is sent, its transfers end with an error. If it has only grown at its end, they send its
/// old length. A new time alone (`touch`) is no change for TFTP. Over HTTP it is one, because there the kernel sends
/// the bytes, and nobody looks at them. Replace a file by renaming another over it: then running transfers send the old
/// bytes to the end. A file of up to 6 KiB is mostly read whole when it is opened, and then its transfers send that.
/// Files that the kernel generates, as in /proc and /sys, are read to their end, whatever size the system reports.
///
/// # Uploads
/// Uploads are off unless [`uploads`](Self::uploads) allows them. The bytes go to a file without a name. When all of
/// them are safe on the disk, the file gets its name in one step, and then the last block is acknowledged. If the
/// transfer fails before that step, or the server is killed, nothing of the file is left; a directory that was made for
/// it stays.
///
/// If the upload replaces a file, the new one has a hidden name, `.tuffet-*`, for a moment. Where the file system has
/// no files without a name (Linux has them on all but FAT, NFS and a few others), the upload has a hidden name from its
/// beginning. Such a file is removed if the transfer fails, and clients cannot read or write it by its name. If a
/// server is killed in that time, [`remove_leftovers`](Self::remove_leftovers) removes what is left.
///
/// If the system lets no file replace one that may be written to, the bytes go into that file: if a file system is
/// mounted on it, or its directory has the sticky bit, when all of them are there; if no file can be made in its
/// directory, as they arrive, and then an upload that fails leaves it partly new. When all of them are there, they also
/// go into a file whose owner and group the server may not give to another one.
///
/// If the process has a limit on the size of files (RLIMIT_FSIZE), a larger upload makes the system end the process by
/// SIGXFSZ, unless that signal is handled or ignored, as in the program `tuffet`: then the upload is refused.
///
/// If the name is that of a symbolic link, the link stays, and the upload goes to its target, if that is in the root.
///
/// A new file has mode 0644 less the umask, or the mode that [`umask`](Self::umask) gives. A file that replaces another
/// gets the mode of the old one and, as far as the server may set them, its owner and group and, on Linux, its access
/// list (POSIX ACL), its `user.*` attributes and its label of SELinux.
///
/// ```no_run
/// use tuffet::handlers::Directory;
///
/// let directory = Directory::new("/srv/tftp")?.uploads(true).max_upload(64 << 20);
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Directory {
    root: Arc<root::Root>,
    /// The path of the root as the caller gave it.
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
    /// The directory at this path. It is opened at once, and again when another directory is there.
    ///
    /// ```
    /// use tuffet::{Error, handlers::Directory};
    ///
    /// let error = Directory::new("/no/such/directory").unwrap_err();
    /// assert!(matches!(error, Error::Directory(..)));
    /// assert!(error.to_string().ends_with("create it, or name another directory"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Directory`] if there is no such directory, or the process may not open it.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, Error> {
        let path = root.as_ref().to_path_buf();
        let root = Arc::new(root::Root::open(&path).map_err(|error| Error::Directory(path.clone(), error))?);
        let (files, cases, policy) = (Arc::default(), Arc::default(), Arc::default());
        let (uploads, ignore_case, also) = (false, false, Arc::default());
        Ok(Self { root, path, also, files, cases, uploads, ignore_case, policy, user: effective_user() })
    }

    /// Looks at the root's path now instead of at the next request. It waits for the disk.
    ///
    /// ```
    /// use tuffet::handlers::Directory;
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let root = dir.path().join("tftpboot");
    /// std::fs::create_dir(&root)?;
    /// let directory = Directory::new(&root)?;
    /// std::fs::remove_dir(&root)?;
    /// assert!(directory.look().is_err());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Directory`] if there is no directory that the process may open. Requests are refused until there is
    /// one.
    pub fn look(&self) -> Result<(), Error> {
        self.root.look(Instant::now()).map_err(|error| Error::Directory(self.path.clone(), error))
    }

    /// Removes the files that killed servers left of uploads, below the root. They have names of `.tuffet-` and 16
    /// hexadecimal digits, belong to the effective user, were last written to more than ten minutes ago, and no server
    /// has them open. Returns how many there were. It walks through all directories and waits for the disk, so call it
    /// on a thread of its own.
    ///
    /// ```
    /// use tuffet::handlers::Directory;
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join(".tuffet-0123456789abcdef"), "half a file")?;
    /// assert_eq!(Directory::new(&dir)?.remove_leftovers(), 0, "an upload that runs may have it");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn remove_leftovers(&self) -> usize {
        self.root.dir().map_or(0, |dir| leftovers::remove(&dir))
    }

    async fn place(&self, received: Option<Instant>) -> Result<Arc<place::Place>, Refusal> {
        self.root.now(&self.also, received).await.map_err(|error| self.no_place(error))
    }

    fn no_place(&self, error: io::Error) -> Refusal {
        let detail = format!("{}: {error}", self.path.display());
        let refusal = if self.root.has_ended_by(&error) { Refusal::silent() } else { refuse(error) };
        refusal.because(detail)
    }

    /// The same result, unless only the sandbox denies access, so that a new process would have it.
    async fn within_reach<T>(&self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        if result.as_ref().is_err_and(|refusal| refusal.code() == ErrorCode::ACCESS_VIOLATION) {
            self.root.check_reach().await.map_err(|error| self.no_place(error))?;
        }
        result
    }

    /// A small file that was read a moment ago, if it is still there in the same state.
    fn unchanged(&self, request: &Request, path: &Path) -> Option<small::Small> {
        let root = self.root.plain_path().filter(|_| !self.policy.per_client)?;
        self.files.unchanged(root, path, request.received())
    }

    /// The client's own file of this name, if it may have one, or else the common one.
    async fn open(&self, request: &Request, place: &Arc<place::Place>, path: PathBuf) -> Result<open::Found, Refusal> {
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
    ) -> Result<open::Found, Refusal> {
        match self.open_exactly(request, place, path.clone()).await {
            Err(refusal) if refusal.code() == ErrorCode::FILE_NOT_FOUND && self.ignores_case(request) => {
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
    ) -> Result<open::Found, Refusal> {
        if partial::is_partial(&path) {
            return Err(Refusal::not_found().because("an unfinished upload"));
        }
        self.files.open(place, path, (request.received(), &self.user)).await
    }

    /// The name of the file of an upload, in the directory of the client if it has one.
    async fn name_for_upload(&self, request: &Request, place: &Arc<place::Place>) -> PathBuf {
        let name = relative_path(request).to_owned();
        if !self.ignores_case(request) {
            return name;
        }
        let own = self.policy.path(request, PathBuf::new());
        let found = self.cases.for_upload(place.clone(), own.join(&name), request.received()).await;
        found.strip_prefix(own).map_or(name, Path::to_owned)
    }

    fn ignores_case(&self, request: &Request) -> bool {
        self.ignore_case || request.ignores_case()
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
        let path = relative_path(request);
        // Most of the future below would be for other files, and to allocate it takes time.
        if let Some(small) = self.unchanged(request, path) {
            return Box::pin(ready(Ok(small.source())));
        }
        Box::pin(async move {
            let place = self.place(request.received()).await?;
            let mut opened = self.open(request, &place, path.to_owned()).await;
            if opened.as_ref().is_err_and(|refusal| refusal.code() == ErrorCode::FILE_NOT_FOUND) {
                if let Some(shorter) = place.without_root(path) {
                    opened = self.open(request, &place, shorter).await;
                }
            }
            if opened.as_ref().is_err_and(|refusal| refusal.code() == ErrorCode::FILE_NOT_FOUND && is_url(request)) {
                let why = "the name is a URL: DHCP should give this client the name of a file";
                opened = opened.map_err(|refusal| refusal.because(why));
            }
            let opened = match self.within_reach(opened).await? {
                open::Found::Open(opened) => opened,
                open::Found::Small(small) => return Ok(small.source()),
            };
            let origin = opened.origin.clone();
            // A file that was just written to may be written to again, and only reading it shows that.
            let plain = request.protocol() == Protocol::Http && opened.made.is_none() && opened.version.is_settled();
            let plain = plain.then(|| opened.clone());
            let source = download::source(opened, self.files.readers.clone(), chunk_sizes(request));
            Ok(source.with_some(plain, |source, plain| source.with_plain(plain)).with_origin(origin))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async {
            if !self.uploads {
                return Err(Refusal::uploads_off());
            }
            request.check_upload()?;
            let place = self.place(None).await?;
            let name = self.name_for_upload(request, &place).await;
            let (chunk, _) = chunk_sizes(request);
            let place = (place, self.user.clone());
            let policy = (&self.policy, !self.ignores_case(request));
            let received = upload::receive(place, (request, name), policy, chunk, data).await;
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

/// Whether the client asks for a URL: firmware that knows no URLs takes one from DHCP for the name of a file.
fn is_url(request: &Request) -> bool {
    let name = request.filename();
    let scheme = name.windows(3).position(|three| three == b"://").map(|end| &name[..end]);
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphanumeric))
}

/// How many bytes to read or write in one call: the smallest number, and the largest, which is used if there are few
/// readers.
fn chunk_sizes(request: &Request) -> (usize, usize) {
    match request.protocol() {
        Protocol::Http => STREAM,
        _ => (chunk_size(request.options()), download::LARGEST),
    }
}

/// How many bytes to read or write in one call: a window of whole blocks, within bounds. Fewer bytes would need too
/// many system calls, and more would need too much memory with a thousand transfers.
fn chunk_size(options: &Options) -> usize {
    let asked = options::asked(options);
    let blksize = usize::from(asked.blksize());
    let window = (blksize * usize::from(asked.windowsize())).clamp(SMALLEST_CHUNK, 64 << 10);
    // A block that spans two chunks would have to be copied.
    window - window % blksize
}

/// The refusal for an error of the file system. A loop of links or a socket is not a file, so it is "not found" too.
fn refuse(error: io::Error) -> Refusal {
    if is_no_file(&error) {
        return Refusal::not_found().because(error);
    }
    error.into()
}

/// The refusal for an error of an upload. A name that no file can have is not the name of a missing file.
fn refuse_upload(error: io::Error) -> Refusal {
    match error.kind() {
        kind if is_invalid_filename(kind) => Refusal::name_too_long().because(error),
        _ => refuse(error),
    }
}

/// The same refusal, with more detail about a "permission denied" than the system gives.
fn refuse_denied(error: io::Error, refuse: fn(io::Error) -> Refusal, why: impl FnOnce() -> String) -> Refusal {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_some();
    let refusal = refuse(error);
    if is_denied { refusal.because(why()) } else { refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusal for each error, when a client reads and when it writes.
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
            // A missing file needs no detail.
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
