//! The sources of files. A kind of source is a file here and a line in [`KINDS`]. It parses its sources, opens them,
//! and says which uploads they take and what they need from the system.

mod bucket;
mod directory;
mod memory;
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only clients of web servers outlive a reload"))]
mod opened;
pub mod web;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use tuffet::Handler;

use super::{Result, args::Serve};
pub use opened::Opened;

const KINDS: [&dyn Kind; 4] = [&memory::Memory, &web::Web, &bucket::Bucket, &directory::Directory];

/// A kind of source. The text of a source is what the user wrote.
trait Kind: Sync {
    /// The common word for a source of this kind.
    fn name(&self) -> &'static str;

    /// The schemes of its URLs, as messages show them.
    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a source is of this kind. By default the scheme decides.
    fn is(&self, _text: &OsStr, scheme: Option<&str>) -> bool {
        scheme.is_some_and(|scheme| self.schemes().contains(&scheme))
    }

    fn open(&self, text: &OsStr, args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>>;

    /// Whether a source of this kind takes uploads.
    fn takes_uploads(&self) -> Uploads;

    /// The directory of its files, if they are on this machine. Such a source supports all upload options, and finds
    /// names in either case.
    fn directory<'a>(&self, _text: &'a OsStr) -> Option<&'a Path> {
        None
    }

    /// The URL of the server behind it, if there is one.
    fn url<'a>(&self, _text: &'a OsStr) -> Option<&'a str> {
        None
    }

    /// The files that it reads now and then, and the URLs that it asks, according to its settings in the environment.
    #[cfg_attr(not(all(feature = "full", target_os = "linux")), allow(dead_code, reason = "only the sandbox asks"))]
    fn settings(&self) -> (Vec<PathBuf>, Vec<String>) {
        Default::default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Uploads {
    Never,
    /// With `--upload`.
    Allowed,
    Always,
}

/// Something to serve.
#[derive(Clone)]
pub struct Source {
    kind: &'static dyn Kind,
    text: OsString,
}

impl Source {
    pub fn open(&self, args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
        self.kind.open(&self.text, args, opened)
    }

    /// Whether it takes uploads with these options.
    pub fn takes_uploads(&self, args: &Serve) -> bool {
        match self.kind.takes_uploads() {
            Uploads::Never => false,
            Uploads::Allowed => args.upload,
            Uploads::Always => true,
        }
    }

    pub fn directory(&self) -> Option<&Path> {
        self.kind.directory(&self.text)
    }

    pub fn url(&self) -> Option<&str> {
        self.kind.url(&self.text)
    }
}

impl TryFrom<OsString> for Source {
    type Error = String;

    fn try_from(text: OsString) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Err("the name of a directory is empty".into());
        }
        let scheme = text.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme.to_lowercase());
        match KINDS.into_iter().find(|kind| kind.is(&text, scheme.as_deref())) {
            Some(kind) => Ok(Self { kind, text }),
            None => {
                let schemes = KINDS.iter().flat_map(|kind| kind.schemes()).map(|scheme| format!("{scheme}://"));
                Err(format!("a URL begins with {}", any_of(schemes)))
            }
        }
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// All sources of files.
pub fn all(args: &Serve) -> Vec<Source> {
    args.sources.iter().cloned().chain(args.names.sources()).collect()
}

/// Whether clients may upload files.
pub fn takes_uploads(args: &Serve) -> bool {
    all(args).iter().any(|source| source.takes_uploads(args))
}

/// Checks that the sources support the options of uploads.
pub fn check_uploads(args: &Serve) -> Result<()> {
    let sources = all(args);
    if args.upload && !takes_uploads(args) {
        let taking =
            KINDS.iter().rev().filter(|kind| kind.takes_uploads() != Uploads::Never).map(|kind| kind.name().into());
        return Err(format!("--upload needs {} for the files; name one too", any_of(taking)).into());
    }
    let other =
        sources.iter().find(|source| source.kind.takes_uploads() != Uploads::Never && source.directory().is_none());
    match other.filter(|_| args.uploads.are_of_directories()) {
        None => Ok(()),
        Some(other) => {
            let (options, other) =
                ("--upload-names, --upload-per-client and --keep-versions", Path::new(&other.text).display());
            Err(format!("{options} are for directories only; leave them out, or leave out {other}").into())
        }
    }
}

/// The files and URLs that the settings of all kinds in the environment name.
#[cfg_attr(not(all(feature = "full", target_os = "linux")), allow(dead_code, reason = "only the sandbox asks"))]
pub fn settings() -> (Vec<PathBuf>, Vec<String>) {
    let (files, urls): (Vec<_>, Vec<_>) = KINDS.iter().map(|kind| kind.settings()).unzip();
    (files.concat(), urls.concat())
}

/// `a, b or c`
fn any_of(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Why this program lacks a kind of source.
#[cfg(not(all(feature = "http", feature = "object-store")))]
fn not_built<T>(text: &OsStr, what: &str, feature: &str) -> Result<T> {
    let text = Path::new(text).display();
    Err(format!("cannot serve {text}: this tuffet is built without {what}; build it with `--features {feature}`")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_sources() {
        let source = |text: &str| Source::try_from(OsString::from(text));
        for (text, kind) in [
            ("memory:", "memory:"),
            ("/srv/tftp", "a directory"),
            ("memory", "a directory"),
            ("HTTP://mirror/", "a web server"),
            ("https://mirror/", "a web server"),
            ("s3://bucket/boot", "a bucket"),
            ("abfss://bucket/boot", "a bucket"),
        ] {
            let source = source(text).unwrap();
            assert_eq!((source.kind.name(), source.text.to_str()), (kind, Some(text)));
        }
        let why = "a URL begins with http://, https://, s3://, gs:// or az://";
        assert_eq!(source("ftp://mirror/").unwrap_err(), why);
        assert!(source("").is_err());
    }

    #[test]
    fn help_tells_of_all_schemes() {
        use clap::CommandFactory;

        let program = super::super::args::Arguments::command();
        let serve = program.find_subcommand("serve").unwrap();
        let sources = serve.get_positionals().next().unwrap().get_help().unwrap().to_string();
        assert!(KINDS.iter().flat_map(|kind| kind.schemes()).all(|scheme| sources.contains(scheme)), "{sources}");
    }
}
