//! An object that is there when it is whole, and not before.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use futures_lite::future;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use smol::Timer;
use tokio::{runtime::Handle, task::JoinSet};

use super::{
    objects::{Key, failure},
    part::{Part, Share},
};
use crate::{Refusal, Source};

/// How long parts that are given up may take to go, and how long that is waited for at the end.
const LONGEST_ABORT: Duration = Duration::from_secs(5);

pub(super) struct Uploads<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) overwrite: bool,
    pub(super) part: usize,
    pub(super) budget: usize,
    pub(super) held: &'a Arc<AtomicUsize>,
    pub(super) aborts: &'a Arc<Aborts>,
}

impl Uploads<'_> {
    /// Takes all of `data`. Nothing is asked of `data` before all that can be known beforehand is right.
    pub(super) async fn take(&self, key: &Key, mut data: Source) -> Result<(), Refusal> {
        self.check(&key.path).await?;
        let (mut part, mut parts) = (self.empty(), None);
        while let Some(chunk) = data.next().await {
            let mut chunk = chunk?;
            while !chunk.is_empty() {
                if part.len() == self.part {
                    let parts = match &mut parts {
                        Some(parts) => parts,
                        None => parts.insert(self.begin(key).await?),
                    };
                    parts.put(mem::replace(&mut part, self.empty())).await?;
                }
                let fitting = chunk.split_to(chunk.len().min(self.part - part.len()));
                part.append(&fitting)?;
            }
        }
        let Some(mut parts) = parts else { return self.put(&key.path, part).await };
        parts.put(part).await?;
        parts.arrived().await?;
        self.check(&key.path).await?;
        parts.complete().await
    }

    /// That there is no object of this name yet, if that matters.
    async fn check(&self, path: &Path) -> Result<(), Refusal> {
        if self.overwrite {
            return Ok(());
        }
        match self.store.head(path).await {
            Ok(_) => Err(Refusal::exists()),
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failure(error).refusal()),
        }
    }

    async fn put(&self, path: &Path, part: Part) -> Result<(), Refusal> {
        let mode = if self.overwrite { PutMode::Overwrite } else { PutMode::Create };
        let (payload, _share) = part.freeze();
        let put = self.store.put_opts(path, payload, PutOptions { mode, ..PutOptions::default() }).await;
        put.map(drop).map_err(refused)
    }

    async fn begin(&self, key: &Key) -> Result<Parts, Refusal> {
        let upload = self.store.put_multipart(&key.path).await.map_err(refused)?;
        Ok(Parts { upload: Some(upload), key: key.clone(), coming: JoinSet::new(), aborts: self.aborts.clone() })
    }

    fn empty(&self) -> Part {
        Part::new(self.budget, self.held)
    }
}

/// An object in parts. They are given up when this is dropped before all of it is there.
struct Parts {
    upload: Option<Box<dyn MultipartUpload>>,
    key: Key,
    /// The part on its way, of which there is one at most. It is a task, for its checksum takes milliseconds in which
    /// other transfers would wait.
    coming: JoinSet<object_store::Result<Share>>,
    aborts: Arc<Aborts>,
}

impl Parts {
    async fn put(&mut self, part: Part) -> Result<(), Refusal> {
        self.arrived().await?;
        if let Some(upload) = &mut self.upload {
            let (payload, share) = part.freeze();
            let put = upload.put_part(payload);
            self.coming.spawn(async { put.await.map(|()| share) });
        }
        Ok(())
    }

    /// Waits until the part before has been taken.
    async fn arrived(&mut self) -> Result<(), Refusal> {
        while let Some(put) = self.coming.join_next().await {
            put.map_err(object_store::Error::from).and_then(|put| put).map_err(refused)?;
        }
        Ok(())
    }

    /// Makes an object of the parts. When this is dropped in the middle, nobody knows whether the store did it; to give
    /// up the parts of an object that is there already does no harm.
    async fn complete(mut self) -> Result<(), Refusal> {
        if let Some(upload) = &mut self.upload {
            upload.complete().await.map_err(refused)?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.coming.abort_all();
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else { return };
        let (running, key) = (self.aborts.begin(), self.key.clone());
        runtime.spawn(async move {
            let aborted = async { upload.abort().await.map_err(|error| failure(error).refusal()) };
            let late = async {
                Timer::after(LONGEST_ABORT).await;
                Err(Refusal::upstream().because(format_args!("no answer for {LONGEST_ABORT:?}")))
            };
            if let Err(refusal) = future::or(aborted, late).await {
                log::warn!("{key}: the parts of an upload are left there: {}", refusal.detail().unwrap_or_default());
            }
            drop(running);
        });
    }
}

/// What a store's error means to who writes: that a bucket is not there is not the client's business.
fn refused(error: object_store::Error) -> Refusal {
    let refusal = match error {
        object_store::Error::Precondition { .. } => return Refusal::exists(),
        error => failure(error).refusal(),
    };
    match refusal.code() {
        crate::ErrorCode::FILE_NOT_FOUND => Refusal::upstream().because(refusal.detail().unwrap_or_default()),
        _ => refusal,
    }
}

/// Uploads that are being given up.
#[derive(Default)]
pub(super) struct Aborts {
    running: Mutex<usize>,
    ended: Condvar,
}

struct Running(Arc<Aborts>);

impl Aborts {
    fn begin(self: &Arc<Self>) -> Running {
        *self.running() += 1;
        Running(self.clone())
    }

    /// Waits until there is none, or for too long.
    pub(super) fn wait(&self) {
        let running = self.running();
        drop(self.ended.wait_timeout_while(running, LONGEST_ABORT, |running| *running > 0));
    }

    fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running() -= 1;
        self.0.ended.notify_all();
    }
}
