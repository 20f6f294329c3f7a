//! Rules that give files other names and set limits, by client and by name.
//!
//! [`Rules`] stand in front of a handler, as a [`Ruled`](crate::handlers::Ruled). They are tried in their order, and
//! **the first that is for a request decides**; those behind it are tried only if it [goes on](Rule::go_on). Where
//! several have been for a request, the last of them that said something about a matter (the target, the source, the
//! blksize, ...) is the one that counts for it. A refusal ends the search.
//!
//! A target is the whole new name, not a replacement for what the regular expression found. It is tried on the files of
//! the rule's source, or of the server's; where it cannot be had the next target of the same rule is tried, and when
//! there is none left the answer is that of the first. Without a target the name stays as it is.
//!
//! What a client sends cannot climb out of the root, and not out of what stands in a target before the first `$` of a
//! URL's path either: a name with `..` in it is refused with [`Refusal::denied`].
//!
//! ```
//! use tuffet::{Refusal, handlers::{Memory, Ruled}, rules::{Rule, Rules}};
//!
//! let rules = Rules::new(vec![
//!     Rule::new("no secrets").name("^secret/")?.refuse(Refusal::denied()),
//!     Rule::new("old firmware").client("10.9.0.0/16".parse()?).options([]).go_on(true),
//!     Rule::new("its own file first").target("${client}/${path}")?.target("${path}")?,
//! ])?;
//! let handler = Ruled::new(rules, Memory::new());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
#[cfg(target_os = "linux")]
mod neighbours;
mod rule;
mod target;
mod template;

use std::{fmt, sync::Arc};

pub use client::{Clients, Mac, MacPrefix};
pub use rule::{Mismatch, Rule};
pub use target::is_url;

#[cfg(target_os = "linux")]
pub(crate) use neighbours::Neighbours;

use crate::{
    Error, Handler, Refusal, Request,
    options::{Direction, Limits, OptionName},
};
use rule::Effects;
use template::Values;

/// Rules, in the order in which they are tried.
#[derive(Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    needs_mac: bool,
}

/// What the rules make of a request.
#[derive(Clone)]
pub struct Verdict {
    candidates: Vec<Candidate>,
    upload: Option<bool>,
    only: Option<Arc<[OptionName]>>,
    blksize: Option<u16>,
    windowsize: Option<u16>,
}

/// A file that may be the one that is served.
#[derive(Clone)]
pub struct Candidate {
    source: Option<Arc<dyn Handler>>,
    request: Request,
}

impl Rules {
    /// These rules, the first one tried first.
    ///
    /// # Errors
    /// [`Error::Config`] if a target has a group or a variable that is not there, if a rule goes on and has more than one
    /// name as its target, or if a blksize or a windowsize is none.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, Error> {
        rules.iter_mut().try_for_each(Rule::check)?;
        let needs_mac = rules.iter().any(Rule::needs_mac);
        Ok(Self { rules, needs_mac })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the client's MAC address matters.
    pub fn needs_mac(&self) -> bool {
        self.needs_mac
    }

    /// What they make of this request.
    ///
    /// # Errors
    /// The refusal that the peer is told.
    pub fn decide(&self, request: &Request, direction: Direction, mac: Option<Mac>) -> Result<Verdict, Refusal> {
        self.explain(request, direction, mac, |_, _| {})
    }

    /// As [`decide`](Self::decide), telling of each rule that is tried whether it is for this request.
    ///
    /// # Errors
    /// The refusal that the peer is told.
    pub fn explain(
        &self,
        request: &Request,
        direction: Direction,
        mac: Option<Mac>,
        mut tried: impl FnMut(&Rule, Result<(), Mismatch>),
    ) -> Result<Verdict, Refusal> {
        let mut said = Effects::default();
        let mut requests = vec![(None, request.clone())];
        for rule in &self.rules {
            // A rule that goes on has one plain name at most.
            let path = requests.first().map_or(request, |(_, request)| request).text().into_owned();
            let groups = match rule.matches(request, direction, mac, &path) {
                Ok(groups) => groups,
                Err(mismatch) => {
                    tried(rule, Err(mismatch));
                    continue;
                }
            };
            tried(rule, Ok(()));
            if let Some(refusal) = &rule.effects.refuse {
                return Err(refusal.clone().because(format_args!("rule {:?}", rule.title())));
            }
            if !rule.effects.targets.is_empty() {
                let values = Values {
                    groups: groups.as_ref(),
                    client: request.peer().ip().to_canonical().to_string(),
                    mac: mac.map(|mac| mac.to_string()),
                    path: &path,
                    server: request.local().ip().to_canonical().to_string(),
                };
                let mut found = Vec::new();
                for target in &rule.effects.targets {
                    found.extend(target.request(request, &values)?.map(|request| (target.source.clone(), request)));
                }
                // What a rule that goes on cannot fill in, it leaves.
                if !(found.is_empty() && rule.goes_on) {
                    requests = found;
                }
            }
            said.hear(&rule.effects);
            if !rule.goes_on {
                break;
            }
        }
        let ignores_case = said.ignore_case.unwrap_or(request.ignores_case());
        let candidates = requests.into_iter().map(|(source, request)| Candidate {
            source: source.or_else(|| said.source.clone()),
            request: request.ignoring_case(ignores_case),
        });
        let Effects { only, blksize, windowsize, upload, .. } = said;
        Ok(Verdict { candidates: candidates.collect(), upload, only, blksize, windowsize })
    }

    /// Whatever files come from besides the handler behind the rules.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &dyn Handler> {
        let effects = self.rules.iter().map(|rule| &rule.effects);
        let of_targets =
            effects.clone().flat_map(|effects| &effects.targets).filter_map(|target| target.source.as_deref());
        of_targets.chain(effects.filter_map(|effects| effects.source.as_deref()))
    }
}

impl Effects {
    /// What is said later counts.
    fn hear(&mut self, later: &Self) {
        self.source = later.source.clone().or(self.source.take());
        self.ignore_case = later.ignore_case.or(self.ignore_case);
        self.only = later.only.clone().or(self.only.take());
        self.blksize = later.blksize.or(self.blksize);
        self.windowsize = later.windowsize.or(self.windowsize);
        self.upload = later.upload.or(self.upload);
    }
}

impl Verdict {
    /// What may be served, the first that is there. None if no target could be filled in.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether uploads are taken, if a rule says so.
    pub fn upload(&self) -> Option<bool> {
        self.upload
    }

    /// Lowers the limits to what the rules allow.
    pub fn limit(&self, limits: &mut Limits) {
        limits.blksize = limits.blksize.min(self.blksize.unwrap_or(u16::MAX));
        limits.windowsize = limits.windowsize.min(self.windowsize.unwrap_or(u16::MAX));
        if let Some(only) = &self.only {
            limits.only = Some(match &limits.only {
                Some(before) => only.iter().copied().filter(|name| before.contains(name)).collect(),
                None => only.clone(),
            });
        }
    }
}

impl Candidate {
    /// What has it, if not the server's own source.
    pub fn source(&self) -> Option<&Arc<dyn Handler>> {
        self.source.as_ref()
    }

    /// The request for it.
    pub fn request(&self) -> &Request {
        &self.request
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.candidates).finish()
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.request.shown())?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " of {}", source.describe()))
    }
}

#[cfg(test)]
mod tests;
