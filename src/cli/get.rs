//! `tuffet get`.

use std::{
    fs::{self, File, Metadata},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use smol::{Unblock, io::AsyncWriteExt};
use tempfile::TempPath;
use tuffet::{Refusal, Source, source::Chunks};

use super::{
    Result,
    args::Get,
    bars::{self, ProgressBar},
    command_line, remote,
    url::{Location, is_url},
};

/// The size of the buffer before a slow disk.
const BUFFER: usize = 1 << 18;

/// Fetches a file.
pub fn run(args: Get) -> Result<ExitCode> {
    let Get { server, name, file, mut request, mut output } = args;
    let (server, name, file) = match (server, name) {
        (Location::Server(server), Some(name)) => (server, name.into_encoded_bytes(), file),
        (Location::Server(server), None) => command_line::usage_error(&format!(
            "NAME is missing: tuffet get {server} NAME, or tuffet get tftp://{server}/NAME"
        )),
        (Location::File(_), Some(_)) if file.is_some() => {
            command_line::usage_error("the URL has the file's name already: tuffet get URL [FILE]")
        }
        (Location::File(_), Some(other)) if is_url(other.as_ref()) => {
            command_line::usage_error("one file at a time: tuffet get URL [FILE]")
        }
        (Location::File(url), file) => {
            request.set_mode(url.mode);
            (url.server, url.name, file.map(Into::into))
        }
    };
    if name.is_empty() || name == b"/" {
        command_line::usage_error(&format!("the URL names no file: tuffet get tftp://{server}/NAME"));
    }
    let path = file.or_else(|| last_component(&name));
    let why = "NAME has no last part to name the local file; add FILE: tuffet get HOST NAME FILE";
    let path = path.unwrap_or_else(|| command_line::usage_error(why));
    let target = Target::new(&path, &name).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let mut opened = Some(target);
    // A bar would be drawn into the text on the terminal.
    output.quiet |= is_stdout(&path) && io::stdout().is_terminal();
    remote::run(&server, &request, &output, async move |client, screen| {
        // The first attempt may have taken it.
        let target = opened.take().map_or_else(|| Target::new(&path, &name), Ok)?;
        let bar = screen.add(bars::bar(&String::from_utf8_lossy(&name), None));
        let sink = {
            let (bar, path) = (bar.clone(), path.clone());
            move |data| save(data, target, path, bar)
        };
        let result = client.get(&name, sink).await;
        bar.finish_and_clear();
        result
    })
}

async fn save<C: Chunks>(
    mut data: Source<C>,
    target: Target,
    path: PathBuf,
    bar: ProgressBar,
) -> std::result::Result<(), Refusal> {
    let failed = |error: io::Error| {
        let detail = format!("cannot write {}: {error}", path.display());
        Refusal::from(error).because(detail)
    };
    bars::set_size(&bar, data.size());
    let mut writer = Unblock::with_capacity(BUFFER, target.writer);
    while let Some(chunk) = data.next().await {
        let chunk = chunk?;
        if let Err(error) = writer.write_all(&chunk).await {
            // Only a flush says what happened on the other thread.
            return Err(failed(writer.flush().await.err().unwrap_or(error)));
        }
        bar.inc(chunk.len() as u64);
    }
    writer.flush().await.map_err(failed)?;
    drop(writer.into_inner().await);
    match target.rename {
        Some((temporary, path)) => temporary.persist(path).map_err(|error| failed(error.error)),
        None => Ok(()),
    }
}

/// The part after the last separator, of either kind; none if it is not the name of a file.
fn last_component(name: &[u8]) -> Option<PathBuf> {
    let last = name.rsplit(|byte| matches!(byte, b'/' | b'\\')).next()?;
    (![&b""[..], b".", b".."].contains(&last)).then(|| local_name(last))
}

#[cfg(unix)]
fn local_name(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(name).into()
}

#[cfg(not(unix))]
fn local_name(name: &[u8]) -> PathBuf {
    String::from_utf8_lossy(name).into_owned().into()
}

/// The destination of the bytes. A failed transfer leaves nothing behind: the bytes go into a temporary file beside the
/// target, which gets the target's name at the end.
struct Target {
    writer: Box<dyn Write + Send>,
    /// The temporary file, which is removed when this is dropped, and its final name.
    rename: Option<(TempPath, PathBuf)>,
}

impl Target {
    fn new(path: &Path, name: &[u8]) -> io::Result<Self> {
        // The shell may have opened a file for it, which stays, with what is in it.
        if is_stdout(path) {
            return Ok(Self { writer: Box::new(io::stdout()), rename: None });
        }
        let named;
        let path = match path.is_dir() {
            true => {
                named = path.join(last_component(name).ok_or(io::ErrorKind::IsADirectory)?);
                &named
            }
            false => path,
        };
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            // A device or a pipe must not be replaced.
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(path)?;
                Ok(Self { writer: Box::new(file), rename: None })
            }
            // A symbolic link stays, and its target is replaced.
            Ok(found) => Self::temporary(path.canonicalize()?, Some(&found)),
            Err(_) => Self::temporary(end_of_links(path), None),
        }
    }

    fn temporary(path: PathBuf, replaced: Option<&Metadata>) -> io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // `open` gives the file the mode of any new file, and the errors do not name the temporary file.
        let open = |path: &Path| File::options().write(true).create_new(true).open(path);
        let file = tempfile::Builder::new().prefix(".tuffet-").make_in(directory, open)?;
        let (file, temporary) = file.into_parts();
        replaced.into_iter().for_each(|replaced| take_after(&file, replaced));
        Ok(Self { writer: Box::new(file), rename: Some((temporary, path)) })
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new("/dev/stdout")
}

/// The file that a symbolic link names, which may be missing.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.with_file_name("").join(target);
    }
    path
}

/// Gives the file the mode of the one that it will replace, and its owner and group as far as this user may: a secret
/// stays one.
#[cfg(unix)]
fn take_after(file: &File, replaced: &Metadata) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let group = Some(replaced.gid());
    // Not every file system has owners and modes.
    _ = fchown(file, Some(replaced.uid()), group).or_else(|_| fchown(file, None, group));
    _ = file.set_permissions(PermissionsExt::from_mode(replaced.mode() & 0o777));
}

#[cfg(not(unix))]
fn take_after(_: &File, _: &Metadata) {}

#[cfg(test)]
mod tests {
    use tuffet::Gen;

    use super::*;

    #[test]
    fn names_of_files() {
        let last = |name: &str| last_component(name.as_bytes());
        assert_eq!(last("pxelinux.0"), Some("pxelinux.0".into()));
        assert_eq!(last("/boot/amd64/linux"), Some("linux".into()));
        assert_eq!(last(r"\Boot\BCD"), Some("BCD".into()));
        for bad in ["", "/", "boot/", "..", "boot/..", r"boot\."] {
            assert_eq!(last(bad), None, "{bad}");
        }
    }

    fn get(target: Target, data: impl Into<Source>) -> std::result::Result<(), Refusal> {
        smol::block_on(save(data.into(), target, "file".into(), bars::bar("", None)))
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let files = || directory.path().read_dir().unwrap().count();
        let path = directory.path().join("file");

        let broken = Gen::new(async |co| {
            co.yield_(Ok("half")).await;
            co.yield_(Err(Refusal::internal())).await;
        });
        assert_eq!(get(Target::new(&path, b"file").unwrap(), broken), Err(Refusal::internal()));
        assert_eq!(files(), 0);

        let target = Target::new(directory.path(), b"boot/file").unwrap();
        assert!(!path.exists());
        get(target, "whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(files(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told() {
        let target = Target::new(Path::new("/dev/full"), b"x").unwrap();
        let refusal = get(target, vec![0; 4 * BUFFER]).unwrap_err();
        assert_eq!(refusal, Refusal::disk_full());
        assert!(refusal.detail().is_some_and(|detail| detail.contains("No space left")), "{refusal:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        for kept in [0o600, 0o640, 0o666, 0o700] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(kept)).unwrap();
            for place in [path.as_path(), directory.path()] {
                get(Target::new(place, b"boot/secret").unwrap(), "new").unwrap();
                assert_eq!((mode(), fs::read(&path).unwrap()), (kept, b"new".to_vec()), "{kept:o}");
            }
        }
    }

    #[test]
    fn a_directory_of_the_name_is_noticed_before_anything_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("file")).unwrap();
        let error = Target::new(directory.path(), b"boot/file").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_links_are_not_replaced() {
        assert!(Target::new(Path::new("/dev/null"), b"x").unwrap().rename.is_none());
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        get(Target::new(&link, b"x").unwrap(), "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // The target may be missing.
        fs::remove_file(&file).unwrap();
        let other = directory.path().join("other");
        std::os::unix::fs::symlink("link", &other).unwrap();
        get(Target::new(&other, b"x").unwrap(), "new").unwrap();
        assert!(link.is_symlink() && other.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
