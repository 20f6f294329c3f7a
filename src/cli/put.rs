//! `tuffet put`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use smol::{Unblock, io::AsyncReadExt};
use tuffet::{Gen, Refusal, Source};

use super::{
    Result,
    args::Put,
    bars::{self, ProgressBar},
    command_line, remote,
    url::Location,
};

/// The size of the read-ahead buffer and of each chunk.
const BUFFER: usize = 1 << 18;
const CHUNK: usize = 1 << 16;

/// Sends a file.
pub fn run(args: Put) -> Result<ExitCode> {
    let Put { server, file: path, name, mut request, output } = args;
    let last = || Some(path.file_name()?.as_encoded_bytes().to_vec()).filter(|name| name != b"-");
    let (server, name) = match (server, name) {
        (Location::Server(server), name) => (server, name.map(OsString::into_encoded_bytes).or_else(last)),
        (Location::File(_), Some(_)) => {
            command_line::usage_error("the URL has the file's name already: tuffet put URL FILE")
        }
        (Location::File(url), None) => {
            request.set_mode(url.mode);
            // The URL names a directory of the server.
            let is_whole = !url.name.is_empty() && !url.name.ends_with(b"/");
            (url.server, if is_whole { Some(url.name) } else { last().map(|last| [url.name, last].concat()) })
        }
    };
    let why = "FILE has no name to use on the server; add NAME: tuffet put HOST FILE NAME";
    let name = name.unwrap_or_else(|| command_line::usage_error(why));
    let file = open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut opened = Some(file);
    remote::run(&server, &request, &output, async move |client, screen| {
        // The first attempt may have taken it, but has read nothing.
        let (reader, size) = opened.take().map_or_else(|| open(&path), Ok)?;
        let bar = screen.add(bars::bar(&String::from_utf8_lossy(&name), size));
        let chunks = chunks(reader, path.clone(), bar.clone());
        let source = if let Some(size) = size { chunks.with_size(size) } else { chunks };
        let result = client.put(&name, source).await;
        bar.finish_and_clear();
        result
    })
}

type Reader = Box<dyn Read + Send>;

/// The file and its size, if it has one.
fn open(path: &Path) -> io::Result<(Reader, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // The files of /proc have a size of 0, but they have bytes.
    Ok(match found.len() {
        // A log may grow meanwhile: the server is told this size.
        size if size > 0 && found.is_file() => (Box::new(file.take(size)), Some(size)),
        _ => (Box::new(file), None),
    })
}

fn chunks(reader: Reader, path: PathBuf, bar: ProgressBar) -> Source {
    let mut reader = Unblock::with_capacity(BUFFER, reader);
    Source::from(Gen::new(async move |co| {
        loop {
            let mut chunk = vec![0; CHUNK];
            match reader.read(&mut chunk).await {
                Ok(0) => return Ok(()),
                Ok(length) => chunk.truncate(length),
                Err(error) => {
                    let detail = format!("cannot read {}: {error}", path.display());
                    return Err(Refusal::from(error).because(detail));
                }
            }
            bar.inc(chunk.len() as u64);
            co.yield_(chunk).await;
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_grows_is_sent_as_long_as_it_was() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"first\n").unwrap();
        let (mut reader, size) = open(file.path()).unwrap();
        file.write_all(b"second\n").unwrap();
        let mut sent = String::new();
        reader.read_to_string(&mut sent).unwrap();
        assert_eq!((sent.as_str(), size), ("first\n", Some(6)));
    }

    #[test]
    fn an_empty_file_may_have_bytes_and_a_directory_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("empty");
        std::fs::write(&path, "").unwrap();
        assert_eq!(open(&path).unwrap().1, None);
        assert_eq!(open(directory.path()).err().unwrap().kind(), io::ErrorKind::IsADirectory);
    }
}
