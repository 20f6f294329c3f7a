use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    error::Refusal,
    handler::{Answer, Handler, Request},
    name, path,
    source::Source,
    sync::Mutex,
};

/// The memory that a file costs besides its bytes and its name, so that a peer cannot fill the memory with empty files.
const ENTRY: u64 = 128;

/// Files in memory. Uploaded files can be read.
///
/// A file appears only when its upload is complete. If several clients upload one name at the same time, the first
/// complete upload wins. All readers share one copy, which stays as it was when the transfer began.
///
/// Clones share their files, so a program can look into the store that its server fills. A setting holds for uploads by
/// this clone and its later clones. Names are normalized as for [`Request::path`].
///
/// ```
/// use tuffet::handlers::Memory;
///
/// let memory = Memory::new().max_bytes(1 << 20);
/// memory.insert("/pxelinux.cfg/default", "DEFAULT linux\n")?;
/// assert_eq!(memory.get("pxelinux.cfg/default").unwrap(), "DEFAULT linux\n");
/// # Ok::<(), tuffet::Refusal>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Memory {
    store: Arc<Mutex<Store>>,
    most: u64,
    overwrite: bool,
}

#[derive(Default)]
struct Store {
    files: BTreeMap<String, Bytes>,
    /// The cost of all files and of the running uploads.
    used: u64,
}

impl Memory {
    /// An empty store.
    ///
    /// ```
    /// assert!(tuffet::handlers::Memory::new().names().is_empty());
    /// ```
    pub fn new() -> Self {
        Self { store: Arc::default(), most: 64 << 20, overwrite: false }
    }

    /// The capacity of the store, in bytes, running uploads included. Each file counts with its bytes, its name, and
    /// 128 bytes. Defaults to 64 MiB.
    ///
    /// ```
    /// use tuffet::{Refusal, handlers::Memory};
    ///
    /// let small = Memory::new().max_bytes(1000);
    /// assert_eq!(small.insert("linux", vec![0; 1000]), Err(Refusal::disk_full()), "its name counts too");
    /// ```
    pub fn max_bytes(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// Whether an upload may replace a file. Defaults to no: [`Refusal::exists`].
    ///
    /// ```
    /// use tuffet::{handlers::Memory, read};
    ///
    /// let memory = Memory::new();
    /// let clone = memory.clone().overwrite(true);
    /// memory.insert("menu", "default linux\n")?;
    /// assert_eq!(clone.names(), ["menu"], "the same files, which uploads by the clone may replace");
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    pub fn overwrite(self, overwrite: bool) -> Self {
        Self { overwrite, ..self }
    }

    /// Stores a file, and replaces any file of this name.
    ///
    /// ```
    /// let memory = tuffet::handlers::Memory::new();
    /// memory.insert("menu", "default linux\n")?;
    /// memory.insert("menu", "default memtest\n")?;
    /// assert_eq!(memory.get("menu").unwrap(), "default memtest\n");
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal::disk_full`] if there is no room for it; the errors of [`Request::new`] if the name leads out of the
    /// root or is empty.
    pub fn insert(&self, name: impl AsRef<str>, bytes: impl Into<Bytes>) -> Result<(), Refusal> {
        let (name, bytes) = (path(name.as_ref())?, bytes.into());
        let mut room = Room::new(self, &name)?;
        room.grow(bytes.len() as u64)?;
        room.fill(&mut self.store.lock(), name, bytes);
        Ok(())
    }

    /// The bytes of a file.
    ///
    /// ```
    /// let memory = tuffet::handlers::Memory::new();
    /// memory.insert("boot/menu", "default linux\n")?;
    /// assert!(memory.get("\\boot\\menu").is_some() && memory.get("menu").is_none());
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    pub fn get(&self, name: impl AsRef<str>) -> Option<Bytes> {
        self.store.lock().files.get(&path(name.as_ref()).ok()?).cloned()
    }

    /// Removes a file. Running transfers of it still get the rest.
    ///
    /// ```
    /// let memory = tuffet::handlers::Memory::new();
    /// memory.insert("menu", "default linux\n")?;
    /// assert!(memory.remove("menu").is_some() && memory.get("menu").is_none());
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    pub fn remove(&self, name: impl AsRef<str>) -> Option<Bytes> {
        self.store.lock().take(&path(name.as_ref()).ok()?)
    }

    /// The names of all files, sorted.
    ///
    /// ```
    /// let memory = tuffet::handlers::Memory::new();
    /// memory.insert("menu", "")?;
    /// memory.insert("/linux", "")?;
    /// assert_eq!(memory.names(), ["linux", "menu"]);
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    pub fn names(&self) -> Vec<String> {
        self.store.lock().files.keys().cloned().collect()
    }

    /// Returns whether there was a file of this name.
    async fn receive(&self, request: &Request, mut data: Source) -> Result<bool, Refusal> {
        let name = &*request.text();
        let overwrite = self.overwrite && !request.must_be_new();
        let may_put = |store: &Store| match store.files.contains_key(name) {
            true if !self.overwrite => Err(Refusal::no_overwrite()),
            true if !overwrite => Err(Refusal::exists()),
            _ => Ok(()),
        };
        may_put(&self.store.lock())?;
        let mut room = Room::new(self, name)?;
        self.fits(&self.store.lock(), data.size().unwrap_or(0))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            let chunk = chunk?;
            room.grow(chunk.len() as u64)?;
            bytes.extend_from_slice(&chunk);
        }
        // The buffer must not be larger than the counted bytes.
        let bytes = Bytes::from(bytes.into_boxed_slice());
        let mut store = self.store.lock();
        may_put(&store)?;
        Ok(room.fill(&mut store, name.into(), bytes))
    }

    fn fits(&self, store: &Store, bytes: u64) -> Result<(), Refusal> {
        match store.used.checked_add(bytes) {
            Some(used) if used <= self.most => Ok(()),
            _ => Err(Refusal::disk_full().because(format_args!("the store holds {} bytes at most", self.most))),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store.lock();
        f.debug_struct("Memory").field("files", &store.files.len()).field("used", &store.used).finish_non_exhaustive()
    }
}

impl Handler for Memory {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let bytes = self.get(request.text()).ok_or(Refusal::not_found())?;
            Ok(Source::from(bytes).with_origin(format!("memory:{}", request.text())))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async {
            request.check_upload()?;
            if self.receive(request, data).await? {
                request.note_replaced();
            }
            request.note_target(format!("memory:{}", request.text()));
            Ok(())
        })
    }

    fn takes_writes(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

impl Store {
    fn take(&mut self, name: &str) -> Option<Bytes> {
        let bytes = self.files.remove(name)?;
        self.used -= cost(name, bytes.len());
        Some(bytes)
    }
}

/// Room in the store that is reserved for a running upload.
struct Room<'a> {
    memory: &'a Memory,
    held: u64,
}

impl<'a> Room<'a> {
    fn new(memory: &'a Memory, name: &str) -> Result<Self, Refusal> {
        let mut room = Self { memory, held: 0 };
        room.grow(cost(name, 0))?;
        Ok(room)
    }

    fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let mut store = self.memory.store.lock();
        self.memory.fits(&store, bytes)?;
        store.used += bytes;
        self.held += bytes;
        Ok(())
    }

    /// Stores the uploaded file in the reserved room. Returns whether it has replaced another.
    fn fill(mut self, store: &mut Store, name: String, bytes: Bytes) -> bool {
        let replaced = store.take(&name).is_some();
        store.files.insert(name, bytes);
        self.held = 0;
        replaced
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // After `fill` nothing is held, and its caller may hold the lock of the store.
        if self.held > 0 {
            self.memory.store.lock().used -= self.held;
        }
    }
}

fn cost(name: &str, bytes: usize) -> u64 {
    ENTRY + name.len() as u64 + bytes as u64
}

fn path(name: &str) -> Result<String, Refusal> {
    path::normalise(&name::bytes(name)).map(|path| name::text(&path))
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
        thread,
    };

    use futures_lite::{StreamExt, future::block_on, stream};

    use super::*;
    use crate::handlers::testing::request;

    fn put(memory: &Memory, name: &str, data: impl Into<Source>) -> Result<(), Refusal> {
        block_on(memory.write(&request(name), data.into()))
    }

    fn get(memory: &Memory, name: &str) -> Result<Vec<u8>, Refusal> {
        block_on(async { memory.read(&request(name)).await?.collect(1 << 20).await })
    }

    /// A source that must not be polled.
    fn untouched() -> Source {
        Source::stream(stream::poll_fn(|_| panic!("asked for a chunk")))
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_was_put_can_be_got() {
        let memory = Memory::new();
        put(&memory, "/a/./b", "data").unwrap();
        assert_eq!(get(&memory, r"A\..\a\b").unwrap(), b"data");
        assert_eq!(get(&memory, "b"), Err(Refusal::not_found()));
        assert_eq!(memory.names(), ["a/b"]);
        assert_eq!(memory.remove("a//b").unwrap(), "data");
        assert_eq!(get(&memory, "a/b"), Err(Refusal::not_found()));
        assert_eq!(memory.store.lock().used, 0);
    }

    #[test]
    fn a_file_is_replaced_only_if_that_is_allowed() {
        let memory = Memory::new();
        put(&memory, "a", "old").unwrap();
        assert_eq!(put(&memory, "a", untouched()), Err(Refusal::exists()));
        assert_eq!(get(&memory, "a").unwrap(), b"old");
        let memory = memory.overwrite(true);
        put(&memory, "a", "newer").unwrap();
        assert_eq!(get(&memory, "a").unwrap(), b"newer");
        assert_eq!(memory.store.lock().used, cost("a", 5));
    }

    #[test]
    fn a_name_with_a_slash_at_its_end_is_no_file() {
        let memory = Memory::new();
        for name in ["sub/", r"a\sub\", "/sub//"] {
            assert_eq!(put(&memory, name, untouched()), Err(Refusal::denied()), "{name}");
        }
        assert_eq!(memory.names(), [""; 0]);
    }

    #[test]
    fn the_first_upload_to_complete_wins() {
        let memory = Memory::new();
        let request = request("a");
        let half = stream::iter([Ok(Bytes::from("half"))]).chain(stream::pending());
        let mut slow = pin!(memory.write(&request, Source::stream(half)));
        assert!(poll(slow.as_mut()).is_pending());
        assert_eq!(memory.names(), [""; 0], "a file is there before it is complete");
        let mut late = false;
        let second = stream::poll_fn(move |cx| {
            if std::mem::replace(&mut late, true) {
                return Poll::Ready(None);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let mut loser = pin!(memory.write(&request, Source::stream(second)));
        assert!(poll(loser.as_mut()).is_pending());
        put(&memory, "a", "first").unwrap();
        assert_eq!(block_on(loser), Err(Refusal::exists()));
        assert_eq!(get(&memory, "a").unwrap(), b"first");
    }

    #[test]
    fn uploads_on_their_way_take_room_until_they_are_dropped() {
        let memory = Memory::new().max_bytes(cost("a", 10) + cost("b", 10));
        {
            let request = request("a");
            let half = stream::iter([Ok(Bytes::from_static(&[0; 20]))]).chain(stream::pending());
            let mut slow = pin!(memory.write(&request, Source::stream(half)));
            assert!(poll(slow.as_mut()).is_pending());
            assert_eq!(put(&memory, "b", "1"), Err(Refusal::disk_full()));
        }
        assert_eq!(memory.store.lock().used, 0);
        put(&memory, "b", "1").unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let memory = Memory::new().max_bytes(1000);
        assert_eq!(put(&memory, "a", untouched().with_size(1000)), Err(Refusal::disk_full()));
        assert_eq!(put(&memory, "a", vec![0; 1000]), Err(Refusal::disk_full()));
        assert_eq!(memory.insert("a", vec![0; 1000]), Err(Refusal::disk_full()));
        let names = (0..100).filter(|n| put(&memory, &n.to_string(), "").is_ok()).count();
        assert_eq!(names, 7, "empty files cost nothing");
    }

    #[test]
    fn a_thousand_writers_lose_nothing() {
        let memory = Memory::new();
        thread::scope(|scope| {
            for n in 0..1000 {
                let memory = &memory;
                scope.spawn(move || put(memory, &format!("file-{n}"), format!("data {n}")).unwrap());
            }
        });
        assert_eq!(memory.names().len(), 1000);
        for n in 0..1000 {
            assert_eq!(get(&memory, &format!("file-{n}")).unwrap(), format!("data {n}").as_bytes());
        }
    }

    #[test]
    fn a_reader_keeps_what_it_began_with() {
        let memory = Memory::new();
        let bytes = Bytes::from(vec![1; 100]);
        memory.insert("a", bytes.clone()).unwrap();
        let mut source = block_on(memory.read(&request("a"))).unwrap();
        memory.insert("a", "other").unwrap();
        let chunk = block_on(source.next()).unwrap().unwrap();
        assert_eq!(chunk.as_ptr(), bytes.as_ptr(), "the bytes were copied");
    }
}
