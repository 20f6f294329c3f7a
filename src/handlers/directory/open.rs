//! Opens a file: at once if everything for it is in memory, and otherwise on a thread that may wait for the disk.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Instant,
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};
use smol::unblock;

use super::{
    chunks::Chunks,
    file_version::Version,
    made::{self, Made},
    place::Place,
    refuse, refuse_denied,
    small::Small,
    system::{Wish, open_cached, open_without_waiting, read_cached, read_waiting, version, version_at, why_denied},
    trace::Trace,
};
use crate::{error::Refusal, source::Plain, sync::Mutex};

/// From this many files on, files without a reader are removed from the table, and the content of small files too.
const FEW: usize = 64;

/// How many bytes at the end of a file show whether it has only grown.
const TAIL: u64 = 16;

/// A regular file, open for reading by any number of transfers.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) version: Version,
    /// Its path, as it appears in logs.
    pub(super) origin: Arc<str>,
    /// The last chunks that were read.
    pub(super) chunks: Chunks,
    /// The beginning, if the kernel generates the file and reports a wrong size.
    pub(super) made: Option<Made>,
    /// The last bytes, if they were in memory.
    tail: Option<Vec<u8>>,
}

/// A file that was found.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Small(Small),
    Open(Arc<Opened>),
}

/// A file in the table, which keeps no file open.
#[derive(Debug)]
enum Kept {
    Small(Small),
    Open(Weak<Opened>),
}

/// The key is the name as text, because a path is hashed more slowly.
type Known = HashMap<OsString, (Instant, Kept), foldhash::quality::RandomState>;

/// The open files, and small ones that were open a moment ago. A room of machines that boots from one file needs one
/// descriptor.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Each file has a time before it was last opened, and before the last look at the root.
    known: Mutex<Known>,
    /// Each reader has a clone.
    pub(super) readers: Arc<()>,
}

impl Files {
    /// Opens a file for a request that was received at this time, if it is known.
    pub(super) async fn open(
        &self,
        place: &Arc<Place>,
        path: PathBuf,
        (received, user): (Option<Instant>, &Arc<str>),
    ) -> Result<Found, Refusal> {
        if let Some(known) = self.opened_since(&path, received) {
            return Ok(known);
        }
        let file = match open_cached(&place.dir, &path) {
            Some(opened) => opened.map_err(refuse)?,
            None => {
                let (place, path, user) = (place.clone(), path.clone(), user.clone());
                unblock(move || {
                    let why = |error| refuse_denied(error, refuse, || why_denied(&place, &path, Wish::Read, &user));
                    place.beneath(&path, open_waiting).map_err(why)
                })
                .await?
            }
        };
        let version = version(&file)?;
        if !version.is_file {
            return Err(Refusal::not_found().because("not a regular file"));
        }
        let known = same(&self.known.lock(), &path, &version);
        let found = match known {
            Some(same) => same,
            None => Found::new(file, version, place.text(&path).into()).await?,
        };
        Ok(self.share(path, place.at, found))
    }

    /// A small file that was read a moment ago, if it is in the same state at its full path, without a link on the way.
    /// This takes the place of a look at the root, since the file is below the directory that is there now.
    pub(super) fn unchanged(&self, root: &Path, path: &Path, received: Option<Instant>) -> Option<Small> {
        let (at, small) = match self.known.lock().get(path.as_os_str())? {
            (at, Kept::Small(small)) if small.is_fresh() => (*at, small.clone()),
            _ => return None,
        };
        // One look is enough for the requests of one batch.
        if received.is_none_or(|received| received > at) {
            let now = Instant::now();
            if version_at(&root.join(path))? != small.version {
                return None;
            }
            self.share(path.into(), now, Found::Small(small.clone()));
        }
        Some(small)
    }

    /// A file that was opened after the request was received is as good as one opened now. So a storm of requests opens
    /// the file once for each batch.
    fn opened_since(&self, path: &Path, received: Option<Instant>) -> Option<Found> {
        let known = self.known.lock();
        let (at, kept) = known.get(path.as_os_str())?;
        kept.found().filter(|_| received.is_some_and(|received| received <= *at))
    }

    /// The known file of the same name, if it is in the same state, or else this one.
    fn share(&self, path: PathBuf, at: Instant, found: Found) -> Found {
        if !found.can_be_shared() {
            return found;
        }
        let mut known = self.known.lock();
        if known.len() >= FEW {
            known.retain(|_, (_, kept)| matches!(kept, Kept::Open(opened) if opened.strong_count() > 0));
        }
        let found = same(&known, &path, found.version()).unwrap_or(found);
        let kept = match &found {
            Found::Small(small) => Kept::Small(small.clone()),
            Found::Open(opened) => Kept::Open(Arc::downgrade(opened)),
        };
        known.insert(path.into(), (at, kept));
        found
    }
}

/// The known file of this name, if it is in this state.
fn same(known: &Known, path: &Path, version: &Version) -> Option<Found> {
    let (_, kept) = known.get(path.as_os_str())?;
    kept.found().filter(|found| found.version() == version)
}

impl Kept {
    fn found(&self) -> Option<Found> {
        match self {
            Self::Small(small) => small.is_fresh().then(|| Found::Small(small.clone())),
            Self::Open(opened) => opened.upgrade().map(Found::Open),
        }
    }
}

impl Found {
    async fn new(file: File, version: Version, origin: Arc<str>) -> Result<Self, Refusal> {
        let (file, made) = made::find(file, &version).await?;
        if made.is_none() {
            if let Some(small) = Small::read(&file, version, &origin) {
                return Ok(Self::Small(small));
            }
        }
        let (file, tail) = if made.is_some() { (file, None) } else { tail(file, version.size).await };
        Ok(Self::Open(Arc::new(Opened { file, version, origin, chunks: Chunks::default(), made, tail })))
    }

    fn version(&self) -> &Version {
        match self {
            Self::Small(small) => &small.version,
            Self::Open(opened) => &opened.version,
        }
    }

    /// Whether the version tells all about the content.
    fn can_be_shared(&self) -> bool {
        let is_made = matches!(self, Self::Open(opened) if opened.made.is_some());
        !is_made && self.version().identity != (0, 0)
    }
}

impl Opened {
    /// Fails if the file was written to while it was read, because the bytes may be of neither the old file nor the new
    /// one. A file is good if it has the sent bytes now: only its time was changed, or it has only grown.
    pub(super) async fn check_unchanged(self: &Arc<Self>, sent: &Trace) -> Result<(), Refusal> {
        let now = version(&self.file)?;
        if self.is_same(now) {
            return Ok(());
        }
        let (opened, sent) = (self.clone(), sent.clone());
        let is_good = move || io::Result::Ok(opened.may_be_good(now) && opened.trace(&sent)? == sent);
        if unblock(is_good).await? { Ok(()) } else { Err(changed()) }
    }

    /// When another file is renamed over this one, the inode changes, but the old content is sent to its end.
    fn is_same(&self, now: Version) -> bool {
        now == (Version { changed: now.changed, ..self.version })
    }

    /// Whether the file may still have the sent bytes.
    fn may_be_good(&self, now: Version) -> bool {
        now.size == self.version.size || self.has_grown(now)
    }

    /// Whether the file is larger than before, with the same bytes where it ended. They are seldom waited for: what has
    /// grown was written a moment ago.
    fn has_grown(&self, now: Version) -> bool {
        let Some(tail) = self.tail.as_ref().filter(|_| now.size > self.version.size) else { return false };
        let mut bytes = vec![0; tail.len()];
        let at = self.version.size - tail.len() as u64;
        read_waiting(&self.file, at, &mut bytes).is_ok_and(|()| bytes == *tail)
    }

    /// The trace of the bytes that the file has now. It waits for the disk.
    fn trace(&self, sent: &Trace) -> io::Result<Trace> {
        sent.again().of_file(&self.file, self.version.size)
    }

    /// Keeps a chunk for other readers of the same version, if there are any. They check it themselves.
    pub(super) fn keep_chunk(self: &Arc<Self>, at: u64, chunk: &Bytes) {
        let readers = Arc::strong_count(self);
        if readers > 1 {
            self.chunks.keep(at, chunk, readers);
        }
    }
}

impl Plain for Opened {
    fn file(&self) -> &File {
        &self.file
    }

    fn check(&self) -> Result<(), Refusal> {
        let now = version(&self.file)?;
        if self.is_same(now) || self.has_grown(now) { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Refusal {
    Refusal::internal().because("the file changed while it was sent")
}

/// The last bytes of a file of this size, if they can be read without a wait for the disk, as with a growing file.
/// Where the file system does not say whether a read would wait, another thread reads them.
async fn tail(file: File, size: u64) -> (File, Option<Vec<u8>>) {
    let at = size.saturating_sub(TAIL);
    let mut tail = vec![0; (size - at) as usize];
    match read_cached(&file, at, &mut tail) {
        Ok(length) => (file, (length == tail.len()).then_some(tail)),
        Err(ErrorKind::Unsupported) => {
            unblock(move || {
                let read = read_waiting(&file, at, &mut tail);
                (file, read.is_ok().then_some(tail))
            })
            .await
        }
        Err(_) => (file, None),
    }
}

fn open_waiting(root: &Dir, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    open_without_waiting(&mut options);
    Ok(root.open_with(path, &options)?.into_std())
}
