use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use object_store::{ObjectStore, path::Path};

use super::{
    Bucket, From,
    connector::Settings,
    objects::Objects,
    place::{Place, Stores},
};
use crate::{
    Error,
    handlers::{
        http::tls,
        shared::{Common, Gateway, common_settings},
    },
};

/// Settings of a [`Bucket`]; see [`Bucket::builder`].
///
/// ```
/// use tuffet::handlers::Bucket;
///
/// let netboot = Bucket::builder("s3://netboot/images").cache(64 << 20).uploads(true).build()?;
/// assert_eq!(netboot.uploading(), 0);
/// assert!(Bucket::builder("s3://").build().is_err());
/// # Ok::<(), tuffet::Error>(())
/// ```
#[must_use = "there is no handler before `build`"]
pub struct BucketBuilder {
    from: Result<From, Error>,
    common: Common,
    fresh: Duration,
    uploads: bool,
    overwrite: bool,
    budget: usize,
}

impl BucketBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self::from(Place::parse(url).map(From::Url))
    }

    pub(super) fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let parsed = Path::parse(prefix).map_err(|error| Error::Config(format!("{prefix:?} is no prefix: {error}")));
        Self::from(parsed.map(|prefix| From::Given(store, prefix)))
    }

    fn from(from: Result<From, Error>) -> Self {
        Self {
            from,
            common: Common::default(),
            fresh: Duration::from_secs(1),
            uploads: false,
            overwrite: false,
            budget: 256 << 20,
        }
    }

    common_settings!();

    /// How long a cached object is served without asking whether it has changed. Defaults to 1 s, which is also the
    /// minimum.
    ///
    /// ```
    /// use tuffet::handlers::Bucket;
    ///
    /// assert!(Bucket::builder("s3://netboot/images").fresh(std::time::Duration::from_secs(60)).build().is_ok());
    /// ```
    pub fn fresh(mut self, time: Duration) -> Self {
        self.fresh = time;
        self
    }

    /// Allows uploads. Defaults to no.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Bucket};
    ///
    /// assert!(Bucket::builder("s3://netboot/images").uploads(true).build()?.takes_writes());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn uploads(mut self, yes: bool) -> Self {
        self.uploads = yes;
        self
    }

    /// Lets uploads replace objects. Defaults to no.
    ///
    /// ```
    /// use tuffet::handlers::Bucket;
    ///
    /// assert!(Bucket::builder("s3://netboot/images").uploads(true).overwrite(true).build().is_ok());
    /// ```
    pub fn overwrite(mut self, yes: bool) -> Self {
        self.overwrite = yes;
        self
    }

    /// How many bytes all uploads together may hold in memory. An upload that needs more is refused. Defaults to 256
    /// MiB.
    ///
    /// ```
    /// use tuffet::handlers::Bucket;
    ///
    /// assert!(Bucket::builder("s3://netboot/images").uploads(true).upload_memory(64 << 20).build().is_ok());
    /// ```
    pub fn upload_memory(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Builds the handler. It reads the settings in the environment, and sends nothing yet.
    ///
    /// ```
    /// use tuffet::{Error, handlers::Bucket};
    ///
    /// assert!(matches!(Bucket::builder("ftp://netboot").build(), Err(Error::Config(_))));
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the URL or the prefix is invalid, or the environment makes no sense.
    pub fn build(self) -> Result<Bucket, Error> {
        let Self { from, common, fresh, uploads, overwrite, budget } = self;
        let (from, Common { gateway_settings, connect_timeout, tls }) = (from?, common);
        let Stores { reads, writes } = match &from {
            From::Url(place) => {
                let settings = Settings { connect_timeout, tls: tls.unwrap_or_else(|| tls::system(true)) };
                place.connect(&settings).map_err(|why| Error::Config(format!("cannot use {place}: {why}")))?
            }
            From::Given(store, _) => Stores { reads: store.clone(), writes: store.clone() },
        };
        let gateway = Gateway::new(Objects { store: reads.clone(), fresh }, gateway_settings);
        let (held, aborts) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        Ok(Bucket { from, reads, writes, gateway, gateway_settings, uploads, overwrite, budget, held, aborts })
    }
}

impl fmt::Debug for BucketBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.from.as_ref().map(ToString::to_string);
        f.debug_struct("BucketBuilder").field("place", &place).finish_non_exhaustive()
    }
}
