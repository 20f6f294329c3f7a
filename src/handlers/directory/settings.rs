//! The settings of a directory.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{Directory, policy};
use crate::error::Error;

impl Directory {
    /// Further directories that links in the root may lead to, for reading. Defaults to none.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// # #[cfg(unix)] {
    /// let elsewhere = tempfile::tempdir()?;
    /// std::fs::write(elsewhere.path().join("linux"), "...")?;
    /// std::os::unix::fs::symlink(elsewhere.path().join("linux"), dir.path().join("linux"))?;
    /// assert!(sim::get(&Directory::new(&dir)?, "linux").await.is_err());
    /// assert!(sim::get(&Directory::new(&dir)?.also([elsewhere.path()]), "linux").await.is_ok());
    /// # }
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn also(self, directories: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { also: directories.into_iter().map(Into::into).collect(), ..self }
    }

    /// The name of the user of this process, for the operator: the log shows it when a file may not be read or written.
    /// Defaults to the number of the effective user at the time of [`new`](Self::new).
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Directory};
    ///
    /// assert!(!Directory::new(".")?.user("tftp").takes_writes());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn user(self, name: impl Into<Arc<str>>) -> Self {
        Self { user: name.into(), ..self }
    }

    /// Calls this hook when a directory that replaced the root is out of reach only because of the process's sandbox: a
    /// new process could read it, or upload to it. The hook gets the path, perhaps more than once and from any thread.
    /// Requests then get no answer, because the clients will ask the new process again. Only the first hook is used, by
    /// all clones. By default there is no hook, and such requests are refused with
    /// [`Refusal::denied`](crate::Refusal::denied).
    ///
    /// ```
    /// use tuffet::handlers::Directory;
    ///
    /// let directory = Directory::new(".")?.on_out_of_reach(|path| eprintln!("restart, to serve {}", path.display()));
    /// assert!(directory.look().is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn on_out_of_reach(self, hook: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        _ = self.root.out_of_reach.set(Box::new(hook));
        self
    }

    /// Whether a name that differs in upper and lower case (of ASCII) finds a file, if there is none of the exact name.
    /// An upload goes to the file that is found, or else to the directory that is found. Defaults to no. A
    /// [request](crate::Request::ignores_case) may ask for it too.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("BCD"), "...")?;
    /// assert!(sim::get(&Directory::new(&dir)?.ignore_case(true), "bcd").await.is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn ignore_case(self, ignore_case: bool) -> Self {
        Self { ignore_case, ..self }
    }

    /// Whether files may be uploaded. Defaults to no: [`Refusal::denied`](crate::Refusal::denied).
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// sim::put(&Directory::new(&dir)?.uploads(true), "switch.cfg", "hostname lab\n").await?;
    /// assert_eq!(std::fs::read(dir.path().join("switch.cfg"))?, b"hostname lab\n");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn uploads(self, uploads: bool) -> Self {
        self.root.is_written.store(uploads, Relaxed);
        Self { uploads, ..self }
    }

    /// Whether an upload may replace a regular file that is not read-only. Defaults to no:
    /// [`Refusal::exists`](crate::Refusal::exists).
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true);
    /// sim::put(&directory, "switch.cfg", "hostname lab\n").await?;
    /// assert!(sim::put(&directory, "switch.cfg", "hostname hall\n").await.is_err());
    /// assert!(sim::put(&directory.overwrite(true), "switch.cfg", "hostname hall\n").await.is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.policy().overwrite = overwrite;
        self
    }

    /// Whether an upload makes the directories that its name needs. Defaults to no:
    /// [`Refusal::not_found`](crate::Refusal::not_found).
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true);
    /// assert!(sim::put(&directory, "lab/switch.cfg", "hostname lab\n").await.is_err());
    /// assert!(sim::put(&directory.mkdir(true), "lab/switch.cfg", "hostname lab\n").await.is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn mkdir(mut self, mkdir: bool) -> Self {
        self.policy().mkdir = mkdir;
        self
    }

    /// The largest upload, in bytes. A larger one is refused with [`Refusal::too_big`](crate::Refusal::too_big), before
    /// any byte if the client tells its `tsize`. Defaults to no limit except the disk.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true).max_upload(4);
    /// assert!(sim::put(&directory, "switch.cfg", "hostname lab\n").await.is_err());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn max_upload(mut self, most: u64) -> Self {
        self.policy().most = most;
        self
    }

    /// The bytes that uploads leave free on the disk. If fewer would be left, an upload is refused with
    /// [`Refusal::disk_full`](crate::Refusal::disk_full), before any byte if the client tells its `tsize`. Defaults to
    /// 0. Only Unix knows the free space. A file system without a size, such as a ramfs, takes all uploads.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true).min_free(u64::MAX);
    /// assert_eq!(sim::put(&directory, "switch.cfg", "hostname lab\n").await.is_err(), cfg!(unix));
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn min_free(mut self, bytes: u64) -> Self {
        self.policy().min_free = bytes;
        self
    }

    /// Allows only uploads whose names match one of these patterns. Others are refused with
    /// [`Refusal::denied`](crate::Refusal::denied). `*.cfg` matches the last part of a name in any directory, and
    /// `backup/*.cfg` the whole name. `**` is any number of directories. With [`ignore_case`](Self::ignore_case) case
    /// does not matter. Call it again for more patterns. Defaults to all names.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true).upload_names(["*.cfg"])?;
    /// assert!(sim::put(&directory, "switch.cfg", "hostname lab\n").await.is_ok());
    /// assert!(sim::put(&directory, "pxelinux.0", "...").await.is_err());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if a text is not a pattern.
    pub fn upload_names(mut self, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, Error> {
        for pattern in patterns {
            self.policy().allow(pattern.as_ref())?;
        }
        Ok(self)
    }

    /// Whether each client has a directory of its own, which is made when it is needed: if 192.0.2.7 uploads
    /// `switch.cfg`, the file is `192.0.2.7/switch.cfg`. For a client that reads, its own file comes before the common
    /// one. Defaults to no.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true).per_client(true);
    /// sim::put(&directory, "switch.cfg", "hostname lab\n").await?;
    /// assert!(dir.path().join("192.0.2.7/switch.cfg").exists());
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn per_client(mut self, per_client: bool) -> Self {
        self.policy().per_client = per_client;
        self
    }

    /// How many old files are kept when uploads replace a name: `switch.cfg.~1~`, `switch.cfg.~2~` and so on, the
    /// newest with the highest number. A value above 0 lets uploads replace files, and refuses uploads to such names.
    /// Defaults to 0.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// let directory = Directory::new(&dir)?.uploads(true).keep_versions(5);
    /// sim::put(&directory, "switch.cfg", "hostname lab\n").await?;
    /// sim::put(&directory, "switch.cfg", "hostname hall\n").await?;
    /// assert_eq!(std::fs::read(dir.path().join("switch.cfg.~1~"))?, b"hostname lab\n");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn keep_versions(mut self, most: usize) -> Self {
        let policy = self.policy();
        policy.keep = most;
        policy.overwrite |= most > 0;
        self
    }

    /// The bits that are cleared from mode 0666 of new files, and from 0777 of new directories, such as `0o027`.
    /// Defaults to 0022 for files, and to the umask of the process for both. Only Unix has modes.
    ///
    /// ```
    /// use tuffet::{handlers::Directory, sim};
    ///
    /// # smol::block_on(async {
    /// let dir = tempfile::tempdir()?;
    /// sim::put(&Directory::new(&dir)?.uploads(true).umask(0o077), "switch.cfg", "hostname lab\n").await?;
    /// # #[cfg(unix)] {
    /// use std::os::unix::fs::PermissionsExt;
    /// assert_eq!(std::fs::metadata(dir.path().join("switch.cfg"))?.permissions().mode() & 0o777, 0o600);
    /// # }
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn umask(mut self, umask: u32) -> Self {
        self.policy().umask = Some(umask & 0o777);
        self
    }

    fn policy(&mut self) -> &mut policy::Policy {
        Arc::make_mut(&mut self.policy)
    }
}
