//! The settings that all upstreams share.

use std::time::Duration;

use async_compat::Compat;

use super::{gateway::GatewaySettings, silence};
use crate::{Refusal, within::within};

/// The default size of the cache, in bytes: small enough for a router, and enough for machines that boot together to
/// share a fetch.
pub(in crate::handlers) const CACHE: usize = 2 << 20;
pub(in crate::handlers) const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(20);
pub(in crate::handlers) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Set by the methods of [`common_settings`].
pub(in crate::handlers) struct Common {
    pub(in crate::handlers) gateway_settings: GatewaySettings,
    pub(in crate::handlers) connect_timeout: Duration,
    /// If more than the system's certificates are trusted.
    pub(in crate::handlers) tls: Option<rustls::ClientConfig>,
}

impl Default for Common {
    fn default() -> Self {
        Self { gateway_settings: GatewaySettings::default(), connect_timeout: CONNECT_TIMEOUT, tls: None }
    }
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self { cache: CACHE, misses: Duration::from_secs(5), stale_if_error: false, upstream_timeout: UPSTREAM_TIMEOUT }
    }
}

/// The setters of a builder that has a [`Common`] in its field `common`.
macro_rules! common_settings {
    () => {
        /// How many bytes of files are kept to be shared. With less than 32 KiB nothing is shared, and each RRQ makes
        /// its own GET. Defaults to 2 MiB, which a router can spare. A larger cache costs the upstream less if many
        /// transfers of one file begin within seconds, until the whole file fits.
        ///
        /// ```
        /// use tuffet::handlers::Http;
        ///
        /// assert!(Http::builder("http://mirror/netboot").cache(64 << 20).build().is_ok());
        /// ```
        pub fn cache(mut self, bytes: usize) -> Self {
            self.common.gateway_settings.cache = bytes;
            self
        }

        /// How long a missing file is remembered. Boot loaders ask for many names that do not exist. Defaults to 5 s.
        ///
        /// ```
        /// use tuffet::handlers::Http;
        ///
        /// assert!(Http::builder("http://mirror/netboot").remember_misses(std::time::Duration::ZERO).build().is_ok());
        /// ```
        pub fn remember_misses(mut self, time: Duration) -> Self {
            self.common.gateway_settings.misses = time;
            self
        }

        /// Serves the cached answer, as far as the cache still has it, if the upstream does not answer or answers 500
        /// to 599. Defaults to no.
        ///
        /// ```
        /// use tuffet::handlers::Http;
        ///
        /// assert!(Http::builder("http://mirror/netboot").stale_if_error(true).build().is_ok());
        /// ```
        pub fn stale_if_error(mut self, yes: bool) -> Self {
            self.common.gateway_settings.stale_if_error = yes;
            self
        }

        /// How long the upstream may be silent: before the head of its answer, and between two pieces of the body. Time
        /// in which the client takes no data does not count. Defaults to 20 s.
        ///
        /// ```
        /// use std::time::Duration;
        /// use tuffet::handlers::Http;
        ///
        /// assert!(Http::builder("http://mirror/netboot").upstream_timeout(Duration::from_secs(5)).build().is_ok());
        /// ```
        pub fn upstream_timeout(mut self, limit: Duration) -> Self {
            self.common.gateway_settings.upstream_timeout = limit;
            self
        }

        /// The time limit for a new connection, name resolution and TLS included. Defaults to 5 s.
        ///
        /// ```
        /// use std::time::Duration;
        /// use tuffet::handlers::Http;
        ///
        /// assert!(Http::builder("http://mirror/netboot").connect_timeout(Duration::from_secs(2)).build().is_ok());
        /// ```
        pub fn connect_timeout(mut self, limit: Duration) -> Self {
            self.common.connect_timeout = limit;
            self
        }

        /// Also trusts the certificates of this PEM file: those of authorities, and those of servers that sign
        /// themselves. By default only those of the system are trusted.
        ///
        /// ```
        /// use tuffet::handlers::Http;
        ///
        /// assert!(Http::builder("https://mirror/netboot").root_certificates(b"no certificate").is_err());
        /// ```
        ///
        /// # Errors
        /// [`Error::Config`] if the file has no certificate, or one that cannot be used.
        pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, Error> {
            self.common.tls = Some($crate::handlers::http::tls::with_roots(pem)?);
            Ok(self)
        }
    };
}
pub(in crate::handlers) use common_settings;

/// The result of this question to an upstream, in a tokio context, within this time.
pub(in crate::handlers) async fn answered(
    limit: Duration,
    question: impl Future<Output = Result<String, Refusal>>,
) -> Result<String, Refusal> {
    within(limit, Compat::new(question)).await.unwrap_or_else(|| Err(silence(limit)))
}
