//! `tuffet put`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use smol::stream::StreamExt;
use tuffet::{Refusal, SendSource, Source};

use super::{
    Result,
    args::Put,
    bars::{self, ProgressBar},
    command_line, remote,
    url::{Location, is_url},
};

/// Sends a file.
pub fn run(args: Put) -> Result<ExitCode> {
    let Put { server, file: path, name, mut request, output } = args;
    if is_url(&path) {
        command_line::usage_error("the server comes first: tuffet put URL FILE");
    }
    let last = || Some(path.file_name()?.as_encoded_bytes().to_vec()).filter(|name| name != b"-");
    // A name may be that of a directory of the server.
    let in_it = |name: Vec<u8>| match name.is_empty() || name.ends_with(b"/") {
        true => last().map(|last| [name, last].concat()),
        false => Some(name),
    };
    let (server, name) = match (server, name) {
        (Location::Server(server), name) => (server, in_it(name.unwrap_or_default().into_encoded_bytes())),
        (Location::File(_), Some(_)) => {
            command_line::usage_error("the URL has the file's name already: tuffet put URL FILE")
        }
        (Location::File(url), None) => {
            request.set_mode(url.mode);
            (url.server, in_it(url.name))
        }
    };
    let why = "FILE has no name to use on the server; add NAME: tuffet put HOST FILE NAME";
    let name = name.unwrap_or_else(|| command_line::usage_error(why));
    let file = open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut opened = Some(file);
    remote::run(&server, &request, &output, async move |client, screen| {
        // The first attempt may have taken it, but has read nothing.
        let source = opened.take().map_or_else(|| open(&path), Ok)?;
        let bar = screen.add(bars::bar(&String::from_utf8_lossy(&name), source.size()));
        let result = client.put(&name, shown(source, path.clone(), bar.clone())).await;
        bar.finish_and_clear();
        result
    })
}

fn open(path: &Path) -> io::Result<SendSource> {
    if path == Path::new("-") { Ok(Source::reader(io::stdin())) } else { Source::file(File::open(path)?) }
}

/// The same bytes, which move the bar.
fn shown(source: SendSource, path: PathBuf, bar: ProgressBar) -> SendSource {
    let size = source.size();
    let chunks = source.map(move |chunk| {
        let chunk = chunk.map_err(|refusal| {
            let why = format!("cannot read {}: {}", path.display(), refusal.detail().unwrap_or(refusal.message()));
            refusal.because(why)
        })?;
        bar.inc(chunk.len() as u64);
        Ok::<_, Refusal>(chunk)
    });
    let shown = Source::sendable(chunks);
    if let Some(size) = size { shown.with_size(size) } else { shown }
}
