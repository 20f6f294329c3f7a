//! The target of a rule: another name, or a file of a web server.

use std::{fmt, sync::Arc};

use super::template::{Template, Values};
use crate::{Error, Handler, Refusal, Request, shown::without_password};

/// The ending of template files.
const TEMPLATE: &str = ".j2";

#[derive(Clone)]
pub(super) struct Target {
    text: String,
    /// The source of the file, if it is not the rule's or the server's own.
    pub(super) source: Option<Arc<dyn Handler>>,
    name: Template,
    query: Option<Template>,
}

impl Target {
    /// A name.
    pub(super) fn name(text: &str) -> Result<Self, Error> {
        let name = Template::parse(text)?;
        if name.climbs() {
            return Err(not_a_target(text, "it has `..` in it"));
        }
        if text.trim_matches(['/', '\\']).is_empty() {
            return Err(not_a_target(text, "it names no file"));
        }
        Ok(Self { text: text.into(), source: None, name, query: None })
    }

    /// A file of the handler that `open` makes for the URL's directory, which ends with the last slash before the first
    /// variable part. So a client can change neither the scheme, nor the host, nor that directory.
    pub(super) fn url<H: Handler>(text: &str, open: impl FnOnce(&str) -> Result<H, Error>) -> Result<Self, Error> {
        let no = |why| Err(not_a_target(text, why));
        let Some((_, rest)) = text.split_once("://") else { return no("it is no URL") };
        let fixed = &text[..text.find(['$', '?']).unwrap_or(text.len())];
        let authority = text.len() - rest.len();
        let Some(slash) = fixed.get(authority..).and_then(|fixed| fixed.rfind('/')) else {
            return no("its host must stand there as it is, with a `/` behind it");
        };
        let (base, rest) = text.split_at(authority + slash + 1);
        if rest.contains('#') {
            return no("it has a `#` in it");
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(Template::parse(query)?)),
            None => (rest, None),
        };
        if path.is_empty() {
            return no("it names no file; `${path}` at its end is the name that was asked for");
        }
        let name = Template::parse(path)?.decoded()?;
        if name.climbs() {
            return no("it has `..` in it");
        }
        Ok(Self { text: text.into(), source: Some(Arc::new(open(base)?)), name, query })
    }

    pub(super) fn resolve(&mut self, name: Option<&regex_lite::Regex>) -> Result<(), Error> {
        self.name.resolve(name)?;
        self.query.as_mut().map_or(Ok(()), |query| query.resolve(name))
    }

    /// The request for the target; `None` if a value for it is unknown for this client.
    pub(super) fn request(&self, request: &Request, values: &Values<'_>) -> Result<Option<Request>, Refusal> {
        let Some(name) = self.name.name(values)? else { return Ok(None) };
        let renamed = request.with_text(&name)?;
        let Some(query) = &self.query else { return Ok(Some(renamed)) };
        Ok(query.query(values).map(|query| renamed.with_query(&query)))
    }

    /// Whether this is a template file, to be rendered. Only the rule's own text decides that, not the client's.
    pub(super) fn is_template(&self) -> bool {
        cfg!(feature = "templates") && self.name.ends_with(TEMPLATE)
    }

    pub(super) fn needs_machine(&self) -> bool {
        self.is_template() || self.name.needs_machine() || self.query.as_ref().is_some_and(Template::needs_machine)
    }
}

/// Whether a target is a URL instead of a name.
///
/// ```
/// use tuffet::rules::is_url;
///
/// assert!(is_url("http://mirror/linux") && !is_url("boot/linux"));
/// ```
pub fn is_url(target: &str) -> bool {
    let scheme = target.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !scheme.contains(['/', '$']))
}

fn not_a_target(text: &str, why: &str) -> Error {
    Error::Config(format!("{:?} is not a target: {why}", without_password(text)))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(_) => f.write_str(&without_password(&self.text)),
            None => f.write_str(&self.text),
        }
    }
}
