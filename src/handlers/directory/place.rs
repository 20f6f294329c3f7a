//! The root at one moment, and the targets of the links in it.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use cap_std::{ambient_authority, fs::Dir};

use super::system::path_identity;
use crate::{name, operator::setting};

/// How many links and missing parts of a path are followed: the number of links that systems follow too.
const MOST_LOOKS: usize = 80;

#[derive(Clone)]
pub(super) struct Place {
    pub(super) dir: Arc<Dir>,
    pub(super) path: Arc<Path>,
    /// The same path without links, at the time when it was opened.
    pub(super) real: Arc<Path>,
    /// Further directories that links may lead to.
    pub(super) also: Arc<[PathBuf]>,
    /// A time before the look that found the root.
    pub(super) at: Instant,
}

impl Place {
    /// The full path of a file below the root, as text. A byte that is not UTF-8 is `\xff`, as in the names of
    /// requests.
    pub(super) fn text(&self, path: &Path) -> String {
        name::text(self.path.join(path).as_os_str().as_encoded_bytes())
    }

    /// Calls `act` with a path below the root. If a link is absolute, or leads out of the root, the path is the target
    /// of the links, if that lies in the root after all, or in one of the other allowed directories.
    ///
    /// If a link is changed meanwhile, `act` still stays below one of these directories.
    pub(super) fn beneath<T>(&self, path: &Path, act: impl Fn(&Dir, &Path) -> io::Result<T>) -> io::Result<T> {
        match act(&self.dir, path) {
            Err(error) if leads_out(&error) => {
                let real = real(&self.path.join(path), &mut { MOST_LOOKS }).map_err(|why| match why.kind() {
                    io::ErrorKind::PermissionDenied => closed(&why),
                    _ if goes_round(&why) || why.kind() == io::ErrorKind::NotADirectory => why,
                    _ => error,
                })?;
                if let Some(rest) = below(&self.path, &real) {
                    return act(&self.dir, or_itself(rest));
                }
                match self.also.iter().find_map(|base| Some((base, below(base, &real)?))) {
                    Some((base, rest)) => act(&Dir::open_ambient_dir(base, ambient_authority())?, or_itself(rest)),
                    None => Err(outside(&real)),
                }
            }
            done => done,
        }
    }

    /// The same for writes, which are allowed only in the root itself.
    pub(super) fn beneath_root<T>(&self, path: &Path, act: impl Fn(&Dir, &Path) -> io::Result<T>) -> io::Result<T> {
        Self { also: Arc::default(), ..self.clone() }.beneath(path, act)
    }

    /// The path below the root of what a symbolic link there leads to; the link may be absolute, and its target
    /// missing. It waits for the disk.
    pub(super) fn target(&self, link: &Path) -> io::Result<PathBuf> {
        let target = real(&self.path.join(link), &mut { MOST_LOOKS })?;
        below(&self.path, &target).map(Path::to_owned).ok_or_else(|| outside(&target))
    }

    /// The rest of a name that begins with the path of the root. Clients send such names if their DHCP server gives the
    /// path of the file on the disk.
    pub(super) fn without_root(&self, path: &Path) -> Option<PathBuf> {
        [&self.path, &self.real].into_iter().find_map(|root| {
            let root: PathBuf = root.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            let rest = path.strip_prefix(&root).ok()?;
            (rest != path && !rest.as_os_str().is_empty()).then(|| rest.to_owned())
        })
    }
}

/// The rest of a path without links that leads into this directory. Where the directory is mounted a second time, the
/// path may begin with its other name.
fn below<'a>(base: &Path, path: &'a Path) -> Option<&'a Path> {
    if let Some(rest) = fs::canonicalize(base).ok().and_then(|base| path.strip_prefix(base).ok()) {
        return Some(rest);
    }
    let identity = |path: &Path| fs::metadata(path).map(|found| path_identity(&found)).ok().filter(|id| *id != (0, 0));
    let base = identity(base)?;
    path.strip_prefix(path.ancestors().find(|above| identity(above) == Some(base))?).ok()
}

/// Whether the error means that a link leads out of the root.
pub(super) fn leads_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

#[cfg(unix)]
fn goes_round(why: &io::Error) -> bool {
    why.raw_os_error() == Some(libc::ELOOP)
}

#[cfg(not(unix))]
fn goes_round(_: &io::Error) -> bool {
    false
}

/// The error for absolute links. They begin at `/`, and a user who may use the root may not be allowed through all
/// directories above it.
fn closed(why: &io::Error) -> io::Error {
    let what = format!("a link begins above the root, which is closed to this user: {why}");
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

fn outside(real: &Path) -> io::Error {
    let real = name::text(real.as_os_str().as_encoded_bytes());
    let also = setting("also", "--also");
    let what = format!("a link leads to {real}, which is neither in the root nor in a directory of `{also}`");
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

pub(super) fn or_itself(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The path without any link. It also works for a missing file, and for a link to a missing file. It makes at most this
/// many looks, whatever the links are.
fn real(path: &Path, looks: &mut usize) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && *looks > 0 => {
            *looks -= 1;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
            let path = real(parent, looks)?.join(name);
            match fs::read_link(&path) {
                Ok(target) => real(&path.with_file_name("").join(target), looks),
                Err(_) => Ok(path),
            }
        }
        found => found,
    }
}
