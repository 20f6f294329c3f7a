//! Files of an object store: S3, Google Cloud Storage, Azure, and what speaks like them.

mod builder;
mod objects;
mod part;
mod place;
mod upload;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_compat::Compat;
use object_store::{ObjectStore, path::Path};

pub use self::builder::BucketBuilder;
use self::{
    objects::{Key, Objects},
    place::Place,
    upload::{Aborts, Uploads},
};
use super::shared::{self, Gateway, Rules};
use crate::{Error, Refusal, Request, Source, handler::Answer};

/// The least that S3 takes as a part of an object, but for the last one.
const LEAST_PART: usize = 5 << 20;

/// S3 has no longer names.
const LONGEST_NAME: usize = 1024;

/// Reads the objects of a bucket as files, and takes uploads if told to.
///
/// An RRQ becomes a GET of the object whose key is the prefix and [`Request::path`]; no name leads out of the prefix.
/// `tsize` is always known. What the store answers becomes:
///
/// | answer                                       | for the peer                                |
/// |----------------------------------------------|---------------------------------------------|
/// | the object                                   | the file                                    |
/// | there is none, or its key cannot be one      | [`Refusal::not_found`]                      |
/// | not allowed, or not with these credentials   | [`Refusal::denied`]                         |
/// | anything else, or no answer                  | [`Refusal::upstream`]                       |
///
/// S3 says of an object that is not there that it is not allowed, to those who may not list the bucket: allow
/// `s3:ListBucket` beside `s3:GetObject`, so that boot loaders that try many names are told the truth, and uploads can
/// see that a name is free.
///
/// # Shared, resumed, bounded
/// As with [`Http`](super::Http): with a [cache](BucketBuilder::cache), transfers of the same object share one GET. It is asked
/// about again (by its `ETag`) when it was last asked about more than 1 s ago; see [`fresh`](BucketBuilder::fresh). A GET that
/// breaks or stalls goes on where it was, by a range and the condition that the `ETag` is still the same, or else the
/// date and the size: old and new are never mixed. The same pauses, tries, bounds and breaker hold.
///
/// # Uploads
/// A WRQ becomes an object when all of it has come, and not before; the last ACK is sent after that. Up to one part
/// of 5 MiB is held in memory and put at once. What is longer is put in parts, one on its way while the next one
/// comes, so that an upload holds 10 MiB at most, and all of them [no more](BucketBuilder::upload_memory) than 256 MiB. With
/// 10000 parts an object of S3 ends at 48 GiB.
///
/// When the client goes away, sends an ERROR, or the server stops, the parts are given up (aborted). The end of
/// the server waits for that, up to 5 s. If the process is killed, or the store does not answer then, parts are left that
/// nobody sees but that are paid for: a lifecycle rule that ends incomplete uploads after a day removes them.
///
/// An object that is there is refused with ERROR 6, unless it may be [replaced](BucketBuilder::overwrite). This is checked
/// before the first byte is taken. Up to 5 MiB the store itself decides (a conditional put), so of two who upload
/// the same new name at the same time one is refused. Beyond, it is looked up once more before the parts become an
/// object: of two who end within the same few milliseconds, both are told that all is well, and the later one stays.
/// They are never mixed. A client that goes away while its last bytes are committed may leave a whole object there.
///
/// ```
/// use std::sync::Arc;
/// use object_store::memory::InMemory;
/// use tuffet::{Handler, handlers::Bucket};
///
/// let bucket = Bucket::of(Arc::new(InMemory::new()), "netboot").cache(64 << 20).uploads(true).build()?;
/// assert!(bucket.takes_writes());
/// assert_eq!(bucket.describe(), "InMemory/netboot/");
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Bucket {
    from: From,
    reads: Arc<dyn ObjectStore>,
    writes: Arc<dyn ObjectStore>,
    gateway: Gateway<Objects>,
    rules: Rules,
    uploads: bool,
    overwrite: bool,
    budget: usize,
    held: Arc<AtomicUsize>,
    aborts: Arc<Aborts>,
}

/// Where the store comes from.
enum From {
    Url(Place),
    Given(Arc<dyn ObjectStore>, Path),
}

impl Bucket {
    /// The objects below this URL, with the defaults of [`builder`](Self::builder): they can be read.
    ///
    /// # Errors
    /// As [`BucketBuilder::build`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// The objects below this URL: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    ///
    /// Everything else comes from the environment: for S3 the variables `AWS_REGION`, `AWS_ENDPOINT_URL` (for other
    /// stores that speak S3), `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the credentials of the machine, the
    /// container or the web identity (the files in `~/.aws` are not read); `AWS_SKIP_SIGNATURE=true` is for public
    /// buckets. An endpoint may be `http://`. For the others `GOOGLE_*` and
    /// `AZURE_*`; see [`from_env`](object_store::aws::AmazonS3Builder::from_env) of the builders in `object_store`.
    pub fn builder(url: &str) -> BucketBuilder {
        BucketBuilder::new(url)
    }

    /// The objects of this store whose keys begin with this prefix and a slash; of all of it if the prefix is empty.
    ///
    /// The store is used in a tokio context. What it does when something fails (retries, timeouts) is up to it;
    /// [`connect_timeout`](BucketBuilder::connect_timeout) and
    /// [`root_certificates`](BucketBuilder::root_certificates) do nothing. This is the one place where the version of
    /// `object_store` matters: it is that which this crate depends on.
    pub fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> BucketBuilder {
        BucketBuilder::of(store, prefix)
    }

    /// Whether the bucket can be listed, in a few words: for the operator, before the first client comes. Objects may be
    /// there to be read though it can not, so this is nothing to refuse to serve for.
    ///
    /// # Errors
    /// The refusal has the cause as its detail; there is none within the [`upstream_timeout`](BucketBuilder::upstream_timeout), or the
    /// store says no.
    pub async fn ask_base(&self) -> Result<String, Refusal> {
        let listed = async { objects::listed(&*self.reads, self.prefix()).await };
        shared::answered(self.rules.upstream_timeout, listed).await
    }

    /// Bytes in the cache now.
    pub fn cached(&self) -> usize {
        self.gateway.cached()
    }

    /// Bytes that uploads hold in memory now.
    pub fn uploading(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn key(&self, request: &Request) -> Result<Key, Refusal> {
        let no = |why: &str| Refusal::not_found().because(why);
        let root = match &self.from {
            From::Url(place) => place.root(),
            From::Given(store, _) => format!("{store}/"),
        };
        // Not `Request::path`: there, names that are not UTF-8 become the same.
        let name = String::from_utf8(request.path_bytes()).map_err(|_| no("the name is not UTF-8"))?;
        let path = format!("{}/{name}", self.prefix());
        if path.len() > LONGEST_NAME {
            return Err(no("the name is too long for a key"));
        }
        let path = Path::parse(path).map_err(|error| no(&error.to_string()))?;
        Ok(Key { root, path })
    }

    fn prefix(&self) -> &Path {
        match &self.from {
            From::Url(place) => place.prefix(),
            From::Given(_, prefix) => prefix,
        }
    }

    async fn get(&self, request: &Request) -> Result<Source, Refusal> {
        let key = self.key(request)?;
        let origin = key.to_string();
        Ok(self.gateway.open(key).await?.with_origin(origin))
    }

    async fn put(&self, request: &Request, data: Source) -> Result<(), Refusal> {
        if !self.uploads {
            return Err(Refusal::denied().because("uploads are not allowed"));
        }
        let key = self.key(request)?;
        let uploads = Uploads {
            store: &self.writes,
            overwrite: self.overwrite,
            part: LEAST_PART,
            budget: self.budget,
            held: &self.held,
            aborts: &self.aborts,
        };
        uploads.take(&key, data).await?;
        self.gateway.forget(&key);
        Ok(())
    }
}

impl crate::Handler for Bucket {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        // The stores live in a tokio context; this enters one at each poll and for the drop.
        Box::pin(Compat::new(self.get(request)))
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(Compat::new(async {
            request.check_upload()?;
            self.put(request, data).await
        }))
    }

    fn takes_writes(&self) -> bool {
        self.uploads
    }

    fn close(&self) {
        self.aborts.wait();
    }

    fn describe(&self) -> String {
        self.from.to_string()
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(place) => place.fmt(f),
            Self::Given(store, prefix) if prefix.as_ref().is_empty() => write!(f, "{store}/"),
            Self::Given(store, prefix) => write!(f, "{store}/{prefix}/"),
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("place", &crate::Handler::describe(self))
            .field("cache", &self.rules.cache)
            .field("uploads", &self.uploads)
            .field("overwrite", &self.overwrite)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::{ErrorCode, handlers::testing::request};

    fn key(prefix: &str, name: &str) -> Result<String, ErrorCode> {
        let bucket = Bucket::of(Arc::new(InMemory::new()), prefix).build().unwrap();
        bucket.key(&request(name)).map(|key| key.path.to_string()).map_err(|refusal| refusal.code())
    }

    #[test]
    fn names_stay_below_the_prefix_and_stay_names() {
        for (prefix, name, expected) in [
            ("", "linux", "linux"),
            ("a/b", "linux", "a/b/linux"),
            ("a", "/x//y", "a/x/y"),
            ("a", "x/../y", "a/y"),
            ("a", "%2e%2e/x", "a/%2e%2e/x"),
            ("a", "b c~d*?#%", "a/b c~d*?#%"),
            ("a", "...", "a/..."),
        ] {
            assert_eq!(key(prefix, name).as_deref(), Ok(expected), "{prefix} {name}");
        }
        for name in ["a\tb", "a\r\nb", &"x".repeat(1025)] {
            assert_eq!(key("", name), Err(ErrorCode::FILE_NOT_FOUND), "{name}");
        }
        assert!(Bucket::of(Arc::new(InMemory::new()), "a/../b").build().is_err());
    }
}
