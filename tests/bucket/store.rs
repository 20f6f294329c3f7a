//! A store in memory that records its requests, and fails when a test says so.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_lite::{StreamExt, stream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
    memory::InMemory, path::Path,
};
use tuffet::Bytes;

pub type Says = fn(String) -> Error;
type Listing<T> = futures_lite::stream::Boxed<Result<T>>;

#[derive(Debug, Default)]
pub struct Store {
    memory: InMemory,
    pub seen: Arc<Seen>,
    /// Bodies break after so many bytes, if not 0.
    pub breaks_after: AtomicUsize,
    /// The attributes of each object.
    pub error: Mutex<Option<Says>>,
    /// Knows nothing of `if_match`, and refuses conditional puts.
    pub is_simple: AtomicBool,
}

#[derive(Debug, Default)]
pub struct Seen {
    /// The options of each GET.
    pub gets: Mutex<Vec<GetOptions>>,
    pub parts: Mutex<Vec<usize>>,
    pub begun: AtomicUsize,
    pub aborted: AtomicUsize,
    pub completed: AtomicUsize,
    /// Nothing is stored until this is false.
    pub stopped: AtomicBool,
    /// While this is true, uploads begin but do not learn it.
    pub hesitating: AtomicBool,
}

impl Store {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn insert(&self, key: &str, bytes: impl Into<Bytes>) {
        let payload = PutPayload::from(bytes.into());
        smol::block_on(self.memory.put(&Path::from(key), payload)).unwrap();
    }

    pub fn object(&self, key: &str) -> Option<Bytes> {
        smol::block_on(async { self.memory.get(&Path::from(key)).await.ok()?.bytes().await.ok() })
    }

    pub fn gets(&self) -> usize {
        self.seen.gets.lock().unwrap().len()
    }
}

impl Seen {
    async fn go(&self, waits: &AtomicBool) {
        while waits.load(SeqCst) {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.seen.go(&self.seen.stopped).await;
        if options.mode == PutMode::Create && self.is_simple.load(SeqCst) {
            return Err(Error::NotImplemented { operation: "put".into(), implementer: self.to_string() });
        }
        self.memory.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.memory.put_multipart_opts(key, options).await?;
        self.seen.begun.fetch_add(1, SeqCst);
        self.seen.go(&self.seen.hesitating).await;
        Ok(Box::new(Upload { upload, seen: self.seen.clone() }))
    }

    async fn get_opts(&self, key: &Path, mut options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.memory.get_opts(key, options).await;
        }
        self.seen.gets.lock().unwrap().push(options.clone());
        let error = *self.error.lock().unwrap();
        if let Some(error) = error {
            return Err(error(key.to_string()));
        }
        if self.is_simple.load(SeqCst) {
            options.if_match = None;
        }
        let object = self.memory.get_opts(key, options).await?;
        let most = self.breaks_after.load(SeqCst);
        if most == 0 || object.range.end - object.range.start <= most as u64 {
            return Ok(object);
        }
        let GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions } = object;
        let beginning = body.map(move |chunk| chunk.map(|chunk| chunk.slice(..most)));
        let end = stream::once(Err(Error::Generic { store: "test", source: "it broke".into() }));
        let payload = GetResultPayload::Stream(beginning.chain(end).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(&self, keys: Listing<Path>) -> Listing<Path> {
        self.memory.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> Listing<ObjectMeta> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    seen: Arc<Seen>,
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        self.seen.parts.lock().unwrap().push(payload.content_length());
        let (part, seen) = (self.upload.put_part(payload), self.seen.clone());
        Box::pin(async move {
            seen.go(&seen.stopped).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.seen.go(&self.seen.stopped).await;
        self.seen.completed.fetch_add(1, SeqCst);
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        smol::Timer::after(Duration::from_millis(50)).await;
        self.seen.aborted.fetch_add(1, SeqCst);
        self.upload.abort().await
    }
}
