//! Web servers.

use std::ffi::OsStr;
#[cfg(feature = "http")]
use std::path::Path;

use tuffet::Handler;

#[cfg(feature = "http")]
use super::super::files;
use super::{Kind, Opened, Result, Serve, Uploads};

pub struct Web;

impl Kind for Web {
    fn name(&self) -> &'static str {
        "a web server"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["http", "https"]
    }

    #[cfg(feature = "http")]
    fn open(&self, text: &OsStr, args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
        opened.keep(key(text, args), || {
            let mut http = tuffet::handlers::Http::builder(&text.to_string_lossy()).identify(args.web.identify);
            for super::super::values::Header(name, value) in &args.web.headers {
                http = http.header(name, value)?;
            }
            Ok(set_up!(http, args, opened))
        })
    }

    #[cfg(not(feature = "http"))]
    fn open(&self, text: &OsStr, _: &Serve, _: &Opened) -> Result<Box<dyn Handler>> {
        super::not_built(text, "HTTP", "http")
    }

    fn takes_uploads(&self) -> Uploads {
        Uploads::Never
    }

    fn url<'a>(&self, text: &'a OsStr) -> Option<&'a str> {
        text.to_str()
    }
}

/// The key of an open source: its text, and the settings of its requests, with the present content of the certificates,
/// because a file of the same name may have changed.
#[cfg(feature = "http")]
pub fn key(text: &OsStr, args: &Serve) -> String {
    let certificates = args.web.ca.as_deref().map(files::read);
    format!("{text:?} {:?} {:?}", args.web, certificates.and_then(|pem| pem.ok()))
}

/// The settings that all HTTP requests share, and the question whether the server is up.
#[cfg(feature = "http")]
macro_rules! set_up {
    ($builder:expr, $args:expr, $opened:expr) => {{
        let web = &$args.web;
        let mut builder = $builder
            .cache(usize::try_from(web.cache.0).unwrap_or(usize::MAX))
            .upstream_timeout(web.upstream_timeout.into())
            .connect_timeout(web.connect_timeout.into())
            .stale_if_error(web.stale);
        if let Some(path) = &web.ca {
            let pem = $crate::cli::sources::web::certificates(path)?;
            let explain = |error| format!("--ca {}: {error}", path.display());
            builder = builder.root_certificates(&pem).map_err(explain)?;
        }
        let handler = std::sync::Arc::new(builder.build()?);
        let asked = handler.clone();
        $opened.ask(handler.describe(), async move { asked.ask_base().await });
        handler
    }};
}
#[cfg(feature = "http")]
pub(super) use set_up;

#[cfg(feature = "http")]
pub fn certificates(path: &Path) -> Result<Vec<u8>> {
    Ok(files::read(path).map_err(|error| format!("--ca {}: {error}", path.display()))?)
}
