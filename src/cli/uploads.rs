//! Options for uploads into directories, and for the targets of links.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args};
use log::warn;

use super::{
    args::Serve,
    sources,
    values::{self, Size},
};

#[derive(Args, Debug)]
pub struct Uploads {
    /// Refuse uploads that would leave less than this free on the disk
    #[arg(long, value_name = "SIZE", env = "TUFFET_MIN_FREE", default_value_t = Size(16 << 20))]
    #[arg(help_heading = "Uploads")]
    pub min_free: Size,

    /// Allow only matching names, such as '*.cfg' or 'backup/*'; may be repeated
    #[arg(long, value_name = "GLOB", env = "TUFFET_UPLOAD_NAMES", value_delimiter = ',', help_heading = "Uploads")]
    pub upload_names: Vec<String>,

    /// Give each client a directory of its own, named by its address
    #[arg(long, env = "TUFFET_UPLOAD_PER_CLIENT", action = ArgAction::SetTrue)]
    #[arg(value_parser = values::switch, help_heading = "Uploads")]
    pub upload_per_client: bool,

    /// Allow uploads to replace files, and keep this many older ones: NAME.~1~, NAME.~2~
    #[arg(long, value_name = "NUMBER", env = "TUFFET_KEEP_VERSIONS", default_value = "0", help_heading = "Uploads")]
    #[arg(value_parser = values::number(0..=u32::MAX as usize))]
    pub keep_versions: usize,

    /// Permission bits to clear from 666 for new files, and from 777 for new directories
    #[arg(long, value_name = "MASK", env = "TUFFET_UMASK", value_parser = octal, help_heading = "Uploads")]
    pub umask: Option<u32>,

    /// Allow links into this directory too; may be repeated
    #[arg(long, value_name = "DIR", env = "TUFFET_ALSO", value_delimiter = ':', help_heading = "Safety")]
    pub also: Vec<PathBuf>,
}

/// A mask as umask(1) takes it.
fn octal(text: &str) -> Result<u32, &'static str> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or("not a mask of permissions in octal digits, such as 027")
}

impl Uploads {
    /// Whether there is an option that only directories support.
    pub fn are_of_directories(&self) -> bool {
        self.upload_per_client || self.keep_versions > 0 || self.names().next().is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.upload_names.iter().filter(|name| !name.is_empty())
    }

    /// The directories that links may lead to.
    pub fn also(&self) -> impl Iterator<Item = &PathBuf> {
        self.also.iter().filter(|path| !path.as_os_str().is_empty())
    }
}

/// The reasons why links cannot lead to allowed directories: `--also DIRECTORY: why`.
pub fn wrong_also(args: &Serve) -> impl Iterator<Item = String> {
    args.uploads.also().filter_map(|directory| {
        let error = match fs::metadata(directory) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => io::ErrorKind::NotADirectory.into(),
            Err(error) => error,
        };
        Some(format!("--also {}: {error}", directory.display()))
    })
}

/// Warns about allowed directories that links cannot lead to.
pub fn look_at_also(args: &Serve) {
    for why in wrong_also(args) {
        // The sandbox is fixed at the start.
        warn!("{why}; links into it are refused until it exists and the server is restarted");
    }
}

/// Checks that no client can replace a file that the server itself writes or reads.
///
/// # Errors
/// A client could: the text names the file, and the directory that it is in.
pub fn check_own_files(args: &Serve) -> super::Result<()> {
    if !args.upload {
        return Ok(());
    }
    for source in sources::all(args) {
        let Some(directory) = source.directory() else { continue };
        for (what, path) in own_files(args) {
            if is_below(&path, directory) {
                let (path, directory) = (path.display(), directory.display());
                return Err(format!(
                    "{what} {path} is in {directory}, into which clients may upload: they could replace it; move it \
                     elsewhere"
                )
                .into());
            }
        }
    }
    Ok(())
}

fn own_files(args: &Serve) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let log = args.log_file.clone().map(|path| ("the log", path));
    let config = args.config.file().map(|path| ("the configuration", path.to_owned()));
    let program = args.notify.program().map(|path| ("the program of --on-upload", path));
    #[cfg(feature = "http")]
    let certificates = args.web.ca.clone().map(|path| ("the certificate", path));
    #[cfg(not(feature = "http"))]
    let certificates = None;
    [log, config, program, certificates].into_iter().flatten()
}

/// The most links in a row that the kernel follows.
const LINKS: usize = 40;

/// Whether the file, its name, or the target of a link of that name is in the directory or below it.
fn is_below(file: &Path, directory: &Path) -> bool {
    let Ok(directory) = fs::canonicalize(directory) else { return false };
    let is_in = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path.starts_with(&directory));
    let mut file = file.to_owned();
    for _ in 0..LINKS {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if is_in(parent) || is_in(&file) {
            return true;
        }
        // The target of a link may not exist yet.
        let Ok(target) = fs::read_link(&file) else { return false };
        file = parent.join(target);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (text, mask) in [("022", 0o022), ("0027", 0o027), ("2", 2), ("777", 0o777), ("0", 0)] {
            assert_eq!(octal(text), Ok(mask));
        }
        for wrong in ["", "8", "1000", "-1", "u=rwx", "0o22"] {
            assert!(octal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_below_a_directory() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::create_dir_all(path("root/sub")).unwrap();
        fs::create_dir_all(path("root-x")).unwrap();
        fs::write(path("root/sub/log"), "").unwrap();
        for (file, expected) in [
            ("root/log", true),
            ("root/sub/log", true),
            ("root/sub/new", true),
            ("root-x/../root/log", true),
            ("log", false),
            ("root-x/log", false),
            ("missing/log", false),
        ] {
            assert_eq!(is_below(&path(file), &path("root")), expected, "{file}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(path("root/sub/log"), path("link")).unwrap();
            std::os::unix::fs::symlink(path("root"), path("root-link")).unwrap();
            assert!(is_below(&path("link"), &path("root")));
            std::os::unix::fs::symlink(path("root/none"), path("early")).unwrap();
            std::os::unix::fs::symlink("early", path("earlier")).unwrap();
            assert!(is_below(&path("earlier"), &path("root")) && !is_below(&path("earlier"), &path("root-x")));
            assert!(is_below(&path("root/log"), &path("root-link")) && is_below(&path("root-link/log"), &path("root")));
        }
    }
}
