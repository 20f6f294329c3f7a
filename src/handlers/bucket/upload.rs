//! Uploads. An object exists only when it is whole.

use std::{
    mem,
    sync::{Arc, Condvar, atomic::AtomicUsize},
    time::Duration,
};

use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, JoinSet},
};

use super::{
    objects::{Key, failure},
    part::{Part, Share},
};
use crate::{Refusal, Source, sync::Mutex, within::within};

/// How long parts may continue after an abort, and how long the server waits for that at its end.
const LONGEST_ABORT: Duration = Duration::from_secs(5);

pub(super) struct Uploads<'a> {
    pub(super) store: &'a Arc<dyn ObjectStore>,
    pub(super) overwrite: bool,
    pub(super) part: usize,
    pub(super) budget: usize,
    pub(super) held: &'a Arc<AtomicUsize>,
    pub(super) aborts: &'a Arc<Aborts>,
}

impl Uploads<'_> {
    /// Takes all of `data`. It checks all that can be checked before it polls `data`.
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
        arrived(&mut parts.coming).await?;
        self.check(&key.path).await?;
        parts.complete().await
    }

    /// Checks that there is no object of this name yet, unless uploads may replace objects.
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
        let (payload, share) = part.freeze();
        let (store, path, overwrite) = (self.store.clone(), path.clone(), self.overwrite);
        let mut coming = JoinSet::new();
        coming.spawn(async move {
            let put = async |mode| {
                store.put_opts(&path, payload.clone(), PutOptions { mode, ..PutOptions::default() }).await.map(drop)
            };
            let done = put(if overwrite { PutMode::Overwrite } else { PutMode::Create }).await;
            match done {
                // The operator says that this store has no conditional puts. The name was looked up before.
                Err(object_store::Error::NotImplemented { .. }) if !overwrite => put(PutMode::Overwrite).await,
                done => done,
            }
            .map(|()| share)
        });
        arrived(&mut coming).await
    }

    async fn begin(&self, key: &Key) -> Result<Parts, Refusal> {
        let (store, path) = (self.store.clone(), key.path.clone());
        let upload = Some(Upload::Coming(tokio::spawn(async move { store.put_multipart(&path).await })));
        let mut parts = Parts { upload, key: key.clone(), coming: JoinSet::new(), aborts: self.aborts.clone() };
        parts.begun().await.map_err(refused)?;
        Ok(parts)
    }

    fn empty(&self) -> Part {
        Part::new(self.budget, self.held)
    }
}

/// The running puts, with their shares of the memory. Each put is a task, because its checksum takes milliseconds in
/// which other transfers would wait. The tasks end when this is dropped.
type Puts = JoinSet<object_store::Result<Share>>;

/// Waits until the store has taken all puts.
async fn arrived(puts: &mut Puts) -> Result<(), Refusal> {
    while let Some(put) = puts.join_next().await {
        put.map_err(object_store::Error::from).and_then(|put| put).map_err(refused)?;
    }
    Ok(())
}

/// An object in parts. A drop before all of it is there aborts the upload.
struct Parts {
    upload: Option<Upload>,
    key: Key,
    /// The running put of a part. There is at most one.
    coming: Puts,
    aborts: Arc<Aborts>,
}

/// The multipart upload at the store.
enum Upload {
    /// Requested. If the client leaves now, the store creates the upload nevertheless.
    Coming(JoinHandle<object_store::Result<Box<dyn MultipartUpload>>>),
    There(Box<dyn MultipartUpload>),
}

impl Parts {
    async fn begun(&mut self) -> object_store::Result<()> {
        if let Some(Upload::Coming(coming)) = &mut self.upload {
            let begun = coming.await.map_err(object_store::Error::from).and_then(|begun| begun);
            self.upload = None;
            self.upload = Some(Upload::There(begun?));
        }
        Ok(())
    }

    async fn put(&mut self, part: Part) -> Result<(), Refusal> {
        arrived(&mut self.coming).await?;
        if let Some(Upload::There(upload)) = &mut self.upload {
            let (payload, share) = part.freeze();
            let put = upload.put_part(payload);
            self.coming.spawn(async { put.await.map(|()| share) });
        }
        Ok(())
    }

    /// Makes an object of the parts. If this is dropped in the middle, nobody knows whether the store did it. To abort
    /// the parts of a complete object does no harm.
    async fn complete(mut self) -> Result<(), Refusal> {
        if let Some(Upload::There(upload)) = &mut self.upload {
            upload.complete().await.map_err(refused)?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Upload {
    async fn abort(self) -> object_store::Result<()> {
        match self {
            Self::There(mut upload) => upload.abort().await,
            Self::Coming(coming) => match coming.await? {
                Ok(mut upload) => upload.abort().await,
                // Then there is nothing to abort.
                Err(_) => Ok(()),
            },
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let (Some(upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else { return };
        let (running, key, mut coming) = (self.aborts.begin(), self.key.clone(), mem::take(&mut self.coming));
        runtime.spawn(async move {
            // A part that arrives after the abort would stay, so the put may finish first.
            let ended = async { while coming.join_next().await.is_some() {} };
            within(LONGEST_ABORT / 2, ended).await;
            drop(coming);
            let aborted = async { upload.abort().await.map_err(|error| failure(error).refusal()) };
            let aborted = within(LONGEST_ABORT / 2, aborted).await;
            if let Err(refusal) = aborted.unwrap_or_else(|| Err(Refusal::upstream().because("no answer"))) {
                log::warn!("{key}: the parts of an upload are left there: {}", refusal.detail().unwrap_or_default());
            }
            drop(running);
        });
    }
}

/// The refusal of a client that writes, for an error of the store. A missing bucket is no concern of the client.
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

/// Uploads that are being aborted.
#[derive(Default)]
pub(super) struct Aborts {
    running: Mutex<usize>,
    ended: Condvar,
}

struct Running(Arc<Aborts>);

impl Aborts {
    fn begin(self: &Arc<Self>) -> Running {
        *self.running.lock() += 1;
        Running(self.clone())
    }

    /// Waits until all aborts have ended, or for too long.
    pub(super) fn wait(&self) {
        let running = self.running.lock();
        drop(self.ended.wait_timeout_while(running, LONGEST_ABORT, |running| *running > 0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify_all();
    }
}
