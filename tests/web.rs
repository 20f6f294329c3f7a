//! The files of a server over HTTP.
#![cfg(all(feature = "web", feature = "directory"))]

mod common;

#[path = "web/answers.rs"]
mod answers;
#[path = "web/client.rs"]
mod client;
#[path = "web/crowds.rs"]
mod crowds;
#[path = "web/firmware.rs"]
mod firmware;
#[path = "web/heads.rs"]
mod heads;
#[path = "web/hostile.rs"]
mod hostile;
#[path = "web/life.rs"]
mod life;
#[path = "web/nginx.rs"]
mod nginx;
#[cfg(feature = "full")]
#[path = "web/program.rs"]
mod program;
#[path = "web/ranges.rs"]
mod ranges;
#[path = "web/slow.rs"]
mod slow;
#[path = "web/uploads.rs"]
mod uploads;

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use common::Serving;
use tuffet::{Handler, ServerBuilder};

/// A server of this over HTTP as well.
fn serve(handler: impl Handler) -> Serving {
    serve_with(handler, |builder| builder)
}

fn serve_with(handler: impl Handler, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Serving {
    Serving::with(handler, |builder| set(builder.http("127.0.0.1:0")))
}

/// A file that has been left alone for long.
fn put(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// This time as HTTP writes it.
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
