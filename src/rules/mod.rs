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
//! # Template files
//! With the feature `templates`, a target that ends with `.j2` is a template in the language of Jinja, read from the same
//! sources and rendered for each request by [minijinja](https://docs.rs/minijinja). So a boot menu for each machine needs
//! no program:
//!
//! ```jinja
//! #!ipxe
//! {% if serial in ["1a2b3c4d", "1a2b3c4e"] %}
//! kernel http://{{ server }}/{{ arch | default("x64") }}/vmlinuz host=kiosk-{{ serial }}
//! {% else %}
//! kernel http://{{ server }}/installer/vmlinuz mac={{ mac | default("000000000000") | hexraw }}
//! {% endif %}
//! boot
//! ```
//!
//! It has the variables of [targets](Rule::target), what the rule has [set](Rule::set), the named groups of its regular
//! expression, and all groups as the list `groups`; the spellings are filters. What is not known of a machine is
//! `none`: it can be compared and has a `default`, and to print it is an error. Nothing is escaped by itself; for XML
//! there is the filter `e`. Lines with nothing but `{% %}` leave none behind. A template includes no other file.
//!
//! A client that asks for a template by its own name gets it as it is, unless a rule refuses that; and who may upload
//! templates may have anything rendered that the rule knows.
//!
//! Its size is known, for `tsize`. It may be 256 KiB long and what is rendered 1 MiB; its work is bounded. One that fails
//! is [`Refusal::internal`] (ERROR 0) to the peer, no other target is tried, and the log has file and line.
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
mod machine;
mod machines;
#[cfg(target_os = "linux")]
mod neighbours;
#[cfg(feature = "templates")]
mod rendered;
mod rule;
mod spelling;
mod target;
mod template;

use std::{fmt, sync::Arc};

pub use client::{Clients, Mac, MacPrefix};
pub use machine::{Machine, Uuid};
pub use machines::Machines;
pub use rule::{Mismatch, Rule};
pub use target::is_url;

#[cfg(target_os = "linux")]
pub(crate) use neighbours::Neighbours;

use crate::{
    Error, Handler, Refusal, Request, Source,
    options::{Direction, Limits, OptionName},
};
use rule::Effects;
use template::Values;

/// Rules, in the order in which they are tried.
#[derive(Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    needs_machine: bool,
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
    /// What its template is rendered with, if it is one.
    #[cfg(feature = "templates")]
    context: Option<rendered::Context>,
}

impl Rules {
    /// These rules, the first one tried first.
    ///
    /// # Errors
    /// [`Error::Config`] if a target has a group or a variable that is not there, if a rule goes on and has more than one
    /// name as its target, or if a blksize or a windowsize is none.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, Error> {
        rules.iter_mut().try_for_each(Rule::check)?;
        let needs_machine = rules.iter().any(Rule::needs_machine);
        Ok(Self { rules, needs_machine })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether it matters what is known of a machine besides its address.
    pub fn needs_machine(&self) -> bool {
        self.needs_machine
    }

    /// What they make of this request of this machine.
    ///
    /// # Errors
    /// The refusal that the peer is told.
    pub fn decide(&self, request: &Request, direction: Direction, machine: &Machine) -> Result<Verdict, Refusal> {
        self.explain(request, direction, machine, |_, _| {})
    }

    /// As [`decide`](Self::decide), telling of each rule that is tried whether it is for this request.
    ///
    /// # Errors
    /// The refusal that the peer is told.
    pub fn explain(
        &self,
        request: &Request,
        direction: Direction,
        machine: &Machine,
        mut tried: impl FnMut(&Rule, Result<(), Mismatch>),
    ) -> Result<Verdict, Refusal> {
        let mut said = Effects::default();
        let mut candidates = vec![Candidate::plain(None, request.clone())];
        let told = if self.needs_machine { Machine::in_name(&request.text()) } else { Machine::default() };
        // In a name anybody may say anything, so the conditions of rules know nothing of that.
        let known = machine.clone().or(told);
        for rule in &self.rules {
            // A rule that goes on has one plain name at most.
            let path = candidates.first().map_or(request, Candidate::request).text().into_owned();
            let groups = match rule.matches(request, direction, machine.mac, &path) {
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
                    path: &path,
                    client: request.peer().ip().to_canonical(),
                    server: request.local().ip().to_canonical(),
                    machine: &known,
                };
                let mut found = Vec::new();
                for target in &rule.effects.targets {
                    let Some(request) = target.request(request, &values)? else { continue };
                    let candidate = Candidate::plain(target.source.clone(), request);
                    #[cfg(feature = "templates")]
                    let candidate = Candidate {
                        context: target.is_template().then(|| rendered::Context::new(&values, rule)),
                        ..candidate
                    };
                    found.push(candidate);
                }
                // What a rule that goes on cannot fill in, it leaves.
                if !(found.is_empty() && rule.goes_on) {
                    candidates = found;
                }
            }
            said.hear(&rule.effects);
            if !rule.goes_on {
                break;
            }
        }
        let ignores_case = said.ignore_case.unwrap_or(request.ignores_case());
        let candidates = candidates.into_iter().map(|candidate| Candidate {
            source: candidate.source.or_else(|| said.source.clone()),
            request: candidate.request.ignoring_case(ignores_case),
            ..candidate
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
    fn plain(source: Option<Arc<dyn Handler>>, request: Request) -> Self {
        Self {
            source,
            request,
            #[cfg(feature = "templates")]
            context: None,
        }
    }

    /// What this handler has of it, or its own [source](Self::source), if it has one. A template file is rendered.
    ///
    /// # Errors
    /// What the handler says; [`Refusal::internal`] that [ends the search](Refusal::ending_search), if a template fails.
    pub async fn read(&self, handler: &dyn Handler) -> Result<Source, Refusal> {
        let source = self.source.as_deref().unwrap_or(handler).read(&self.request).await?;
        #[cfg(feature = "templates")]
        if let Some(context) = &self.context {
            return rendered::render(source, &self.request, context).await.map_err(Refusal::ending_search);
        }
        Ok(source)
    }

    /// Whether it is a template file, which is rendered.
    pub fn is_template(&self) -> bool {
        #[cfg(feature = "templates")]
        return self.context.is_some();
        #[cfg(not(feature = "templates"))]
        return false;
    }

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
