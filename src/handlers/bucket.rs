//! Files of an object store: S3, Google Cloud Storage, Azure, and stores with the same protocols.

mod builder;
mod connector;
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
use super::shared::{self, Gateway, GatewaySettings};
use crate::{Error, Refusal, Request, Source, handler::Answer};

/// The smallest part of an object that S3 takes, except for the last part.
const LEAST_PART: usize = 5 << 20;

/// The longest key that S3 allows, in bytes.
const LONGEST_NAME: usize = 1024;

/// Reads the objects of a bucket as files, and takes uploads if they are allowed.
///
/// An RRQ becomes a GET of the object whose key is the prefix and [`Request::path`]. No name leads out of the prefix.
/// `tsize` is always known. The store's answers become:
///
/// | answer                                       | for the peer                                |
/// |----------------------------------------------|---------------------------------------------|
/// | the object                                   | the file                                    |
/// | there is none, or its key cannot be one      | [`Refusal::not_found`]                      |
/// | not allowed, or not with these credentials   | [`Refusal::denied`]                         |
/// | anything else, or no answer                  | [`Refusal::upstream`]                       |
///
/// If the credentials do not allow listing the bucket, S3 answers "not allowed" for an object that does not exist. So
/// allow `s3:ListBucket` beside `s3:GetObject`: boot loaders that try many names then get the right answer, and uploads
/// can see that a name is free.
///
/// # Shared, resumed, bounded
/// This works as with [`Http`](super::Http): with a [cache](BucketBuilder::cache), transfers of the same object share
/// one GET. The handler asks the store again (by the `ETag`) if its last question is more than 1 s old; see
/// [`fresh`](BucketBuilder::fresh). A GET that breaks or stalls resumes at the same position, by a range and the
/// condition that the `ETag` is still the same, or else the date and the size: old and new bytes are never mixed. The
/// same pauses, tries, bounds and breaker hold.
///
/// # Uploads
/// A WRQ becomes an object only when all of it has arrived. The last ACK is sent after that. An upload of up to one
/// part of 5 MiB is held in memory and put at once. A longer upload is put in parts. One part is sent while the next
/// one arrives, so an upload holds 10 MiB at most, and all uploads together [no more](BucketBuilder::upload_memory)
/// than 256 MiB. With 10000 parts the largest object on S3 has 48 GiB.
///
/// When the client goes away or sends an ERROR, or the server stops, the parts are aborted. The server waits for that
/// at its end, up to 5 s. If the process is killed, or the store does not answer then, invisible parts are left that
/// still cost money. A lifecycle rule that ends incomplete uploads after a day removes them.
///
/// An upload to an existing object is refused with ERROR 6, unless it may [replace](BucketBuilder::overwrite) objects.
/// This is checked before the first byte is taken. Up to 5 MiB the store itself decides (a conditional put): if two
/// clients upload the same new name at the same time, one is refused. For a larger upload, the handler looks the name
/// up once more before the parts become an object: if two uploads end within the same few milliseconds, both clients
/// see success, and the later object stays. The two are never mixed. A client that goes away while its last bytes are
/// committed may leave a whole object.
///
/// ```
/// use std::sync::Arc;
/// use tuffet::{Handler, handlers::{Bucket, object_store::memory::InMemory}};
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
    gateway_settings: GatewaySettings,
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
    /// The objects below this URL, for reading, with the defaults of [`builder`](Self::builder).
    ///
    /// ```
    /// assert!(tuffet::handlers::Bucket::new("s3://netboot/images").is_ok());
    /// assert!(tuffet::handlers::Bucket::new("s3://").is_err());
    /// ```
    ///
    /// # Errors
    /// As [`BucketBuilder::build`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// The objects below this URL: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    ///
    /// All other settings come from the environment. For S3 they are the variables `AWS_REGION`, `AWS_ENDPOINT_URL`
    /// (for other stores that speak S3), `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the credentials of the
    /// machine, the container or the web identity (the files in `~/.aws` are not read). `AWS_SKIP_SIGNATURE=true` is
    /// for public buckets. An endpoint may be `http://`. For the other stores they are `GOOGLE_*` and `AZURE_*`; see
    /// [`from_env`](object_store::aws::AmazonS3Builder::from_env) of the builders in `object_store`.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Bucket};
    ///
    /// assert_eq!(Bucket::builder("s3://netboot/images").build()?.describe(), "s3://netboot/images/");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn builder(url: &str) -> BucketBuilder {
        BucketBuilder::new(url)
    }

    /// The objects of this store whose keys begin with this prefix and a slash. With an empty prefix, all objects.
    ///
    /// The store is used in a tokio context. The store itself decides what it does after a failure (retries, timeouts);
    /// [`connect_timeout`](BucketBuilder::connect_timeout) and [`root_certificates`](BucketBuilder::root_certificates)
    /// have no effect.
    ///
    /// This is the one function with a type of `object_store`, whose versions are 0.x. A type of this crate in its
    /// place could be made of nothing but that crate's stores, and would change with them. So the trait stays, under
    /// the name [`object_store`](super::object_store), by which a program gets the version that fits. A new version of
    /// that crate is a breaking change of this function.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tuffet::handlers::{Bucket, object_store::memory::InMemory};
    ///
    /// let bucket = Bucket::of(Arc::new(InMemory::new()), "netboot").build()?;
    /// assert!(smol::block_on(bucket.ask_base()).is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> BucketBuilder {
        BucketBuilder::of(store, prefix)
    }

    /// Says in a few words whether the bucket can be listed, for the operator, before the first client comes. Objects
    /// may be readable although the bucket cannot be listed, so a failure is no reason not to serve.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tuffet::handlers::{Bucket, object_store::memory::InMemory};
    ///
    /// let bucket = Bucket::of(Arc::new(InMemory::new()), "netboot").build()?;
    /// println!("{}", smol::block_on(bucket.ask_base())?);
    /// assert_eq!(bucket.cached(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the store refuses, or does not answer within the [`upstream_timeout`](BucketBuilder::upstream_timeout). The
    /// refusal has the cause as its detail.
    pub async fn ask_base(&self) -> Result<String, Refusal> {
        let listed = async { objects::listed(&*self.reads, self.prefix()).await };
        shared::answered(self.gateway_settings.upstream_timeout, listed).await
    }

    /// The bytes in the cache now.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tuffet::handlers::{Bucket, object_store::memory::InMemory};
    ///
    /// let bucket = Bucket::of(Arc::new(InMemory::new()), "netboot").build()?;
    /// assert_eq!(bucket.cached(), 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn cached(&self) -> usize {
        self.gateway.cached()
    }

    /// The bytes that uploads hold in memory now.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tuffet::handlers::{Bucket, object_store::memory::InMemory};
    ///
    /// let bucket = Bucket::of(Arc::new(InMemory::new()), "netboot").build()?;
    /// assert_eq!(bucket.uploading(), 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn uploading(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn key(&self, request: &Request) -> Result<Key, Refusal> {
        let no = |why: &str| Refusal::not_found().because(why);
        let root = match &self.from {
            From::Url(place) => place.root(),
            From::Given(store, _) => format!("{store}/"),
        };
        // Not `Request::path`, because it maps different names that are not UTF-8 to the same text.
        let name = std::str::from_utf8(request.path_bytes()).map_err(|_| no("the name is not UTF-8"))?;
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
            return Err(Refusal::uploads_off());
        }
        let key = self.key(request)?;
        let uploads = Uploads {
            store: &self.writes,
            overwrite: self.overwrite && !request.must_be_new(),
            part: LEAST_PART,
            budget: self.budget,
            held: &self.held,
            aborts: &self.aborts,
        };
        uploads.take(&key, data).await?;
        self.gateway.forget(&key);
        request.note_target(key.to_string());
        Ok(())
    }
}

impl crate::Handler for Bucket {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        // The stores need a tokio context; `Compat` enters one at each poll and for the drop.
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
            .field("cache", &self.gateway_settings.cache)
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
