use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, path::Path,
};
use url::Url;

use super::connector::{Connector, Settings};
use crate::{Error, shown::without_password};

/// How often a write is tried again, within 3 s. Reads have tries of their own, see `shared`.
const RETRIES: usize = 5;

/// A bucket, and a prefix in it.
#[derive(Clone)]
pub(super) struct Place {
    url: Url,
    kind: Kind,
    prefix: Path,
}

#[derive(Clone, Copy)]
enum Kind {
    S3,
    Google,
    Azure,
}

/// Two clients of the same store.
pub(super) struct Stores {
    pub(super) reads: Arc<dyn ObjectStore>,
    /// This client retries by itself.
    pub(super) writes: Arc<dyn ObjectStore>,
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let shown = without_password(text);
        let no = |why: &str| Error::Config(format!("{shown:?} is not a place in an object store: {why}"));
        let url = Url::parse(text).map_err(|error| no(&error.to_string()))?;
        let kind = match url.scheme() {
            "s3" | "s3a" => Kind::S3,
            "gs" => Kind::Google,
            "az" | "azure" | "adl" | "abfs" | "abfss" => Kind::Azure,
            _ => return Err(no("it begins with none of s3://, gs:// and az://")),
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err(no("the bucket is missing"));
        }
        // In abfs://container@account, the user is the container.
        let user_is_container = matches!(kind, Kind::Azure);
        if url.password().is_some() || (!url.username().is_empty() && !user_is_container) {
            return Err(no("credentials are taken from the environment, such as AWS_ACCESS_KEY_ID"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(no("it has a query or a fragment"));
        }
        let prefix = Path::from_url_path(url.path()).map_err(|error| no(&error.to_string()))?;
        Ok(Self { url, kind, prefix })
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The bucket, with a slash at its end.
    pub(super) fn root(&self) -> String {
        let (scheme, host) = (self.url.scheme(), self.url.host_str().unwrap_or_default());
        match self.url.username() {
            "" => format!("{scheme}://{host}/"),
            container => format!("{scheme}://{container}@{host}/"),
        }
    }

    /// The store, with its settings from the environment. It sends nothing yet.
    pub(super) fn connect(&self, settings: &Settings) -> Result<Stores, String> {
        let connector = Connector::new(settings)?;
        let store = |retries| self.store(connector.clone(), retries).map_err(|error| error.to_string());
        Ok(Stores { reads: store(0)?, writes: store(RETRIES)? })
    }

    fn store(&self, connector: Connector, max_retries: usize) -> object_store::Result<Arc<dyn ObjectStore>> {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            ..BackoffConfig::default()
        };
        let retry = RetryConfig { backoff, max_retries, retry_timeout: Duration::from_secs(10) };
        let url = self.url.as_str();
        match self.kind {
            Kind::S3 => {
                let builder = AmazonS3Builder::from_env().with_url(url);
                builder.with_retry(retry).with_http_connector(connector).build().map(|store| Arc::new(store) as _)
            }
            Kind::Google => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url);
                builder.with_retry(retry).with_http_connector(connector).build().map(|store| Arc::new(store) as _)
            }
            Kind::Azure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url);
                builder.with_retry(retry).with_http_connector(connector).build().map(|store| Arc::new(store) as _)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root())?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "{}/", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (url, root, prefix, shown) in [
            ("s3://b", "s3://b/", "", "s3://b/"),
            ("s3://b/", "s3://b/", "", "s3://b/"),
            ("s3://b/x/y/", "s3://b/", "x/y", "s3://b/x/y/"),
            ("s3://b/x%20y", "s3://b/", "x y", "s3://b/x y/"),
            ("gs://my.bucket/x", "gs://my.bucket/", "x", "gs://my.bucket/x/"),
            ("az://container/x", "az://container/", "x", "az://container/x/"),
            ("abfs://c@account.dfs.core.windows.net/x", "abfs://c@account.dfs.core.windows.net/", "x", ""),
        ] {
            let place = Place::parse(url).unwrap();
            assert_eq!((place.root().as_str(), place.prefix().as_ref()), (root, prefix), "{url}");
            assert!(shown.is_empty() || place.to_string() == shown, "{url}");
        }
    }

    #[test]
    fn a_bad_place_is_explained_without_its_secrets() {
        for (url, why) in [
            ("s3:bucket", "the bucket is missing"),
            ("s3://", "the bucket is missing"),
            ("file:///srv/tftp", "none of s3://, gs:// and az://"),
            ("s3://key:secret@bucket/x", "credentials are taken from the environment"),
            ("s3://secret@bucket/x", "credentials are taken from the environment"),
            ("s3://bucket/x?versionId=1", "query or a fragment"),
            ("s3://bucket/a//b", "empty"),
        ] {
            let text = Place::parse(url).err().unwrap().to_string();
            assert!(text.contains(why) && !text.contains("secret"), "{url}: {text}");
        }
    }
}
