//! A file, read as far as it is wanted.

use std::{
    fs::{File, Metadata},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};
use smol::unblock;

use super::refuse;
use crate::{Gen, error::Refusal, source::Source};

pub(super) async fn open(root: Arc<Dir>, path: PathBuf, chunk: usize) -> Result<Source, Refusal> {
    let (file, before) = unblock(move || open_regular(&root, &path)).await?;
    let size = before.len();
    let chunks = Gen::new(async move |co| {
        let mut at = 0;
        while at < size {
            let most = usize::try_from(size - at).map_or(chunk, |rest| rest.min(chunk));
            let bytes = read(&file, at, most).await?;
            at += bytes.len() as u64;
            if at == size {
                // Before the last chunk: after it there may be nothing left to fail.
                check_unchanged(file.clone(), &before).await?;
            }
            co.yield_(bytes).await;
        }
        Ok::<(), Refusal>(())
    });
    Ok(Source::from(chunks).with_size(size))
}

fn open_regular(root: &Dir, path: &Path) -> Result<(Arc<File>, Metadata), Refusal> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Without O_NONBLOCK a FIFO would wait here for its writer.
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = root.open_with(path, &options).map_err(refuse)?.into_std();
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((Arc::new(file), metadata))
    } else {
        Err(Refusal::not_found().because("not a regular file"))
    }
}

/// Up to `most` bytes, but at least one.
async fn read(file: &Arc<File>, at: u64, most: usize) -> Result<Bytes, Refusal> {
    let mut chunk = vec![0; most];
    if let Some(length) = read_cached(file, at, &mut chunk) {
        chunk.truncate(length);
        return Ok(chunk.into());
    }
    let file = file.clone();
    unblock(move || {
        // The position of the file is used by nobody else.
        let mut file = &*file;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut chunk)?;
        Ok(chunk.into())
    })
    .await
}

/// What the page cache has, which costs no thread. Any trouble is left to who can wait for the disk.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, at: u64, chunk: &mut [u8]) -> Option<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut chunk = [std::io::IoSliceMut::new(chunk)];
    preadv2(file, &mut chunk, at, ReadWriteFlags::NOWAIT).ok().filter(|&length| length > 0)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: u64, _: &mut [u8]) -> Option<usize> {
    None
}

/// A file that was written to while it was read is neither the old one nor the new one.
async fn check_unchanged(file: Arc<File>, before: &Metadata) -> Result<(), Refusal> {
    // Where the file system is on a network, this may wait for it.
    let after = unblock(move || file.metadata()).await?;
    if after.len() == before.len() && after.modified()? == before.modified()? {
        Ok(())
    } else {
        Err(Refusal::internal().because("the file changed while it was sent"))
    }
}
