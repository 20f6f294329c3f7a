//! Reads of a file, no farther than the transfer needs.

use std::sync::Arc;

use bytes::Bytes;
use smol::unblock;

use super::{
    buffer::Buffer,
    made::{self, Made},
    open::Opened,
    system::{read_cached, read_waiting},
    trace::Trace,
};
use crate::{
    Gen,
    error::Refusal,
    source::{Source, Start},
};

/// How many bytes all readers together may read ahead while they are few. With more readers, each one's chunk is
/// smaller.
const AHEAD: usize = 1 << 20;
/// The largest chunk of a TFTP transfer.
pub(super) const LARGEST: usize = 32 << 10;

/// The source of a download. `window` is the smallest useful chunk, in whole blocks, and `largest` about the largest.
/// Each reader has a clone of `readers`.
pub(super) fn source(opened: Arc<Opened>, readers: Arc<()>, (window, largest): (usize, usize)) -> Source {
    if let Some(made) = &opened.made {
        return made_source(opened.clone(), made);
    }
    let (size, modified, start) = (opened.version.size, opened.version.modified(), Start::default());
    let first = start.clone();
    let chunks = Gen::new(async move |co| {
        let (mut at, mut sent) = (first.get(), Trace::new(opened.version.is_settled(), first.get()));
        while at < size {
            let bytes = match opened.chunks.find(at, window, size) {
                Some(chunk) => chunk,
                None => {
                    let settled = opened.version.is_settled();
                    let chunk = chunk_size((window, largest), Arc::strong_count(&readers));
                    let most = usize::try_from(size - at).map_or(chunk, |rest| rest.min(chunk));
                    let bytes = read(&opened, at, most).await?;
                    if settled {
                        opened.keep_chunk(at, &bytes);
                    }
                    bytes
                }
            };
            at += bytes.len() as u64;
            sent.add(&bytes);
            if at == size {
                // Check before the last chunk, because after it the transfer may have ended.
                opened.check_unchanged(&sent).await?;
            }
            co.yield_(bytes).await;
        }
        Ok::<(), Refusal>(())
    });
    Source::from(chunks).with_size(size).with_start(start).with_some(modified, Source::with_modified)
}

/// The source of a generated file. Its size is unknown if it continues after the beginning.
fn made_source(opened: Arc<Opened>, Made { beginning, is_all }: &Made) -> Source {
    let mut chunk = beginning.clone();
    if *is_all {
        return chunk.into();
    }
    let chunks = Gen::new(async move |co| {
        let mut at = 0;
        while !chunk.is_empty() {
            at += chunk.len() as u64;
            co.yield_(chunk).await;
            let opened = opened.clone();
            chunk = unblock(move || made::read_on(&opened.file, at)).await?;
        }
        Ok::<(), Refusal>(())
    });
    chunks.into()
}

/// A chunk is whole windows: a block that spans two chunks would have to be copied.
fn chunk_size((window, largest): (usize, usize), readers: usize) -> usize {
    window * ((AHEAD / readers).min(largest) / window).max(1)
}

/// Up to `most` bytes, but at least one.
async fn read(opened: &Arc<Opened>, at: u64, most: usize) -> Result<Bytes, Refusal> {
    let mut buffer = Buffer::new(most);
    if let Ok(length) = read_cached(&opened.file, at, buffer.as_mut()) {
        return Ok(buffer.into_bytes(length));
    }
    let opened = opened.clone();
    unblock(move || {
        read_waiting(&opened.file, at, buffer.as_mut())?;
        Ok(buffer.into_bytes(most))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_readers_get_large_chunks() {
        let blocks = |readers| chunk_size((12 * 512, LARGEST), readers) / 512;
        assert_eq!([1, 32, 50, 100, 1000].map(blocks), [60, 60, 36, 12, 12]);
        assert_eq!(chunk_size((64592, LARGEST), 1), 64592);
        assert_eq!(chunk_size((64 << 10, LARGEST), 1000), 64 << 10);
    }
}
