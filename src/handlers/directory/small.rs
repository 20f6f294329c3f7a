//! Small files, which one read returns whole when they are opened.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    SMALLEST_CHUNK,
    file_version::Version,
    system::{read_cached, version},
};
use crate::{
    Gen,
    source::{Source, Start},
};

/// How long the content counts as that of its version. A program that writes through mapped memory may change a file
/// and not its times.
const FRESH: Duration = Duration::from_secs(1);

/// The content of a small file. It needs no descriptor, so a storm of requests for many such files needs few.
#[derive(Clone, Debug)]
pub(super) struct Small {
    content: Bytes,
    pub(super) version: Version,
    origin: Arc<str>,
    /// A time before it was read.
    read: Instant,
}

impl Small {
    /// Reads the file, if it is not larger than the smallest chunk of a transfer, is in memory, and was not written to
    /// meanwhile or just before.
    pub(super) fn read(file: &File, before: Version, origin: &Arc<str>) -> Option<Self> {
        let size = usize::try_from(before.size).ok().filter(|size| (1..=SMALLEST_CHUNK).contains(size))?;
        if !before.is_settled() {
            return None;
        }
        let (read, mut content) = (Instant::now(), vec![0; size]);
        let is_all = read_cached(file, 0, &mut content) == Ok(size);
        let is_good = is_all && version(file).is_ok_and(|now| now == before);
        is_good.then(|| Self { content: content.into(), version: before, origin: origin.clone(), read })
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.read.elapsed() < FRESH
    }

    pub(super) fn source(self) -> Source {
        let (Self { content, version, origin, .. }, start) = (self, Start::default());
        let first = start.clone();
        let chunks = Gen::new(async move |co| {
            co.yield_(content.slice(usize::try_from(first.get()).map_or(content.len(), |at| at.min(content.len()))..))
                .await;
        });
        let source = Source::from(chunks).with_size(version.size).with_start(start).with_origin(origin);
        source.with_some(version.modified(), Source::with_modified)
    }
}
