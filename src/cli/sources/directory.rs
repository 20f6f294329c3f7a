//! Directories of this machine.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use tuffet::{Handler, handlers};

use super::{Kind, Opened, Result, Serve, Source, Uploads};

pub struct Directory;

impl Kind for Directory {
    fn name(&self) -> &'static str {
        "a directory"
    }

    fn is(&self, _: &OsStr, scheme: Option<&str>) -> bool {
        scheme.is_none()
    }

    fn open(&self, text: &OsStr, args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
        let directory = handlers::Directory::new(text)?;
        let (uploads, restart) = (&args.uploads, opened.restart.clone());
        let explain = |error| format!("--upload-names {error}; a pattern is such as '*.cfg'");
        let directory = directory
            .ignore_case(args.names.ignores_case())
            .uploads(args.upload)
            .overwrite(args.overwrite)
            .mkdir(args.mkdir)
            .on_out_of_reach(move |path| restart.need_for(path))
            .min_free(uploads.min_free.0)
            .per_client(uploads.upload_per_client)
            .upload_names(uploads.names())
            .map_err(explain)?
            // Clients get the files of the other directories anyway.
            .also(uploads.also().map(PathBuf::as_path).chain(args.sources.iter().filter_map(Source::directory)));
        let directory = opened.user.iter().cloned().fold(directory, handlers::Directory::user);
        let directory = uploads.umask.into_iter().fold(directory, handlers::Directory::umask);
        // Zero versions must not undo `--overwrite`.
        let directory = match uploads.keep_versions {
            0 => directory,
            most => directory.keep_versions(most),
        };
        opened.directories.borrow_mut().push(directory.clone());
        Ok(Box::new(directory))
    }

    fn takes_uploads(&self) -> Uploads {
        Uploads::Allowed
    }

    fn directory<'a>(&self, text: &'a OsStr) -> Option<&'a Path> {
        Some(Path::new(text))
    }
}
