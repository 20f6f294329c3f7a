//! Buckets of object stores, with settings from the environment.

use std::{ffi::OsStr, path::PathBuf};

use tuffet::Handler;

use super::{Kind, Opened, Result, Serve, Uploads};

pub struct Bucket;

/// Other schemes for the same stores.
const ALIASES: [&str; 5] = ["s3a", "azure", "adl", "abfs", "abfss"];

impl Kind for Bucket {
    fn name(&self) -> &'static str {
        "a bucket"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["s3", "gs", "az"]
    }

    fn is(&self, _: &OsStr, scheme: Option<&str>) -> bool {
        scheme.is_some_and(|scheme| self.schemes().contains(&scheme) || ALIASES.contains(&scheme))
    }

    #[cfg(feature = "object-store")]
    fn open(&self, text: &OsStr, args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
        let (uploads, overwrite) = (args.upload, args.overwrite);
        opened.keep(format!("{} {uploads} {overwrite}", super::web::key(text, args)), || {
            let bucket = tuffet::handlers::Bucket::builder(&text.to_string_lossy());
            Ok(super::web::set_up!(bucket.uploads(uploads).overwrite(overwrite), args, opened))
        })
    }

    #[cfg(not(feature = "object-store"))]
    fn open(&self, text: &OsStr, _: &Serve, _: &Opened) -> Result<Box<dyn Handler>> {
        super::not_built(text, "object stores", "object-store")
    }

    fn takes_uploads(&self) -> Uploads {
        Uploads::Allowed
    }

    /// Any server is asked over HTTPS.
    fn url<'a>(&self, _: &'a OsStr) -> Option<&'a str> {
        Some("https://")
    }

    /// Files with tokens, and endpoints.
    fn settings(&self) -> (Vec<PathBuf>, Vec<String>) {
        let is_setting = |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix));
        let (mut files, mut urls) = (Vec::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            let (Some(name), Ok(value)) = (name.to_str(), value.into_string()) else { continue };
            if is_setting(name) && value.contains("://") {
                urls.push(value);
            } else if is_setting(name) && name.ends_with("_FILE") {
                files.push(value.into());
            }
        }
        (files, urls)
    }
}
