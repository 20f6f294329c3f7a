//! Which uploads are allowed, and where their files go.

use std::{fs::File, path::PathBuf};

use glob::{MatchOptions, Pattern};

use crate::{
    error::{Error, Refusal},
    handler::Request,
    operator::setting,
};

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) overwrite: bool,
    pub(super) mkdir: bool,
    /// The most bytes of one upload.
    pub(super) most: u64,
    /// The bytes that must stay free.
    pub(super) min_free: u64,
    /// The patterns of allowed names; none allows all.
    names: Vec<Pattern>,
    pub(super) per_client: bool,
    /// How many replaced files are kept for each name.
    pub(super) keep: usize,
    /// The bits that are cleared from the modes of new files and directories, if not the system's umask.
    pub(super) umask: Option<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            overwrite: false,
            mkdir: false,
            most: u64::MAX,
            min_free: 0,
            names: Vec::new(),
            per_client: false,
            keep: 0,
            umask: None,
        }
    }
}

impl Policy {
    pub(super) fn allow(&mut self, pattern: &str) -> Result<(), Error> {
        let pattern = Pattern::new(pattern).map_err(|error| Error::Config(format!("{pattern}: {error}")))?;
        self.names.push(pattern);
        Ok(())
    }

    pub(super) fn check_name(&self, path: &str, case_sensitive: bool) -> Result<(), Refusal> {
        let options = MatchOptions { case_sensitive, require_literal_separator: true, ..MatchOptions::new() };
        let name = path.rsplit('/').next().unwrap_or(path);
        let fits = |pattern: &Pattern| {
            let what = if pattern.as_str().contains('/') { path } else { name };
            pattern.matches_with(what, options)
        };
        if self.names.is_empty() || self.names.iter().any(fits) {
            Ok(())
        } else {
            let names = setting("upload_names", "--upload-names");
            Err(Refusal::denied().because(format_args!("no pattern of `{names}` allows this name")))
        }
    }

    /// The path of the upload's file, relative to the root.
    pub(super) fn path(&self, request: &Request, path: PathBuf) -> PathBuf {
        if self.per_client { own_directory(request).join(path) } else { path }
    }

    /// Checks that this many further bytes leave enough space on the disk of this file.
    pub(super) fn check_space(&self, file: &File, bytes: u64) -> Result<(), Refusal> {
        if self.min_free == 0 || free(file)?.saturating_sub(bytes) >= self.min_free {
            return Ok(());
        }
        let (least, see) = (self.min_free, setting("min_free", "--min-free"));
        Err(Refusal::disk_full().because(format_args!("fewer than {least} bytes would be left free: see `{see}`")))
    }
}

/// The client's directory, named after its address.
pub(super) fn own_directory(request: &Request) -> PathBuf {
    let address = request.peer().ip().to_canonical().to_string();
    // Windows allows no colon in a name.
    if cfg!(windows) { address.replace(':', "-") } else { address }.into()
}

#[cfg(unix)]
fn free(file: &File) -> std::io::Result<u64> {
    let found = rustix::fs::fstatvfs(file)?;
    // A file system in memory without a limit has no size, and none of it is free.
    Ok(if found.f_blocks == 0 { u64::MAX } else { found.f_bavail.saturating_mul(found.f_frsize) })
}

/// The free space is unknown.
#[cfg(not(unix))]
fn free(_: &File) -> std::io::Result<u64> {
    Ok(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_allowed() {
        let mut policy = Policy::default();
        assert!(policy.check_name("anything", true).is_ok());
        for pattern in ["*.cfg", "backup/**/run-?", "[a-c]1"] {
            policy.allow(pattern).unwrap();
        }
        for name in ["a.cfg", "sub/a.cfg", ".cfg", "backup/run-1", "backup/a/b/run-2", "sub/b1"] {
            assert_eq!(policy.check_name(name, true), Ok(()), "{name}");
        }
        for name in ["a.CFG", "a.cfg.exe", "cfg", "x/backup/run-1", "backup/run-10", "run-1", "d1", "a.cfg/x"] {
            assert_eq!(policy.check_name(name, true), Err(Refusal::denied()), "{name}");
        }
        assert_eq!(policy.check_name("A.CFG", false), Ok(()));
        assert!(policy.allow("***").is_err());
    }
}
