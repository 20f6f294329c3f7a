//! Rules that rewrite file names and set limits, by client and by name.
//!
//! [`Rules`] stand in front of a handler, as a [`Ruled`](crate::handlers::Ruled). They are tried in order, and **the
//! first rule that matches a request decides**. Later rules are tried only if that rule [goes on](Rule::go_on). If
//! several rules match, each setting (the target, the source, the blksize, ...) comes from the last matching rule that
//! gives it. A refusal ends the search.
//!
//! A target is the whole new name; it does not replace only the match of the regular expression. It is looked up in the
//! files of the rule's source, or of the server's. If a file is missing there, the next target of the same rule is
//! tried. If no target is left, the answer is that of a [`Chain`](crate::handlers::Chain). Without a target the name
//! stays unchanged.
//!
//! A client cannot leave the root by the names that it sends, nor the part of a URL's path before the first `$` of the
//! target: a name with `..` in it is refused with [`Refusal::denied`].
//!
//! # Template files
//! With the feature `templates`, a target that ends with `.j2` is a template in the Jinja language. It is read from the
//! same sources, and [minijinja](https://docs.rs/minijinja) renders it for each request. So a boot menu for each
//! machine needs no program:
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
//! A template has the variables of [targets](Rule::target), the values of [`set`](Rule::set), the named groups of the
//! rule's regular expression, and all groups as the list `groups`. The spellings are filters. An unknown fact about a
//! machine is `none`: a template can compare it and give it a `default`, but to print it is an error. Nothing is
//! escaped automatically; for XML there is the filter `e`. A line with only `{% %}` leaves no line behind. A template
//! cannot include other files.
//!
//! A client that requests a template by its own name gets the source of the template, unless a rule refuses that. A
//! client that may upload templates can read every value that the rule has.
//!
//! The size of the result is known, for `tsize`. A template may have 64 KiB and its result 1 MiB, and the work of
//! rendering is bounded. If a template fails, the peer gets [`Refusal::internal`] (ERROR 0), no other target is tried,
//! and the log has the file and the line.
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
#[cfg(feature = "templates")]
mod line_ends;
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
pub use machine::{ARCHES, Machine, Uuid};
pub use machines::Machines;
pub use rule::{Mismatch, Rule};
pub use target::is_url;

#[cfg(target_os = "linux")]
pub(crate) use neighbours::Neighbours;

use crate::{
    Error, Handler, Refusal, Request, Source,
    options::{Direction, Limits},
};
use rule::Effects;
use template::Values;

/// Rules, in the order in which they are tried.
///
/// ```
/// use tuffet::{Request, handlers::Memory, options::Direction, packet, rules::{Machine, Rule, Rules}};
///
/// let rules = Rules::new(vec![Rule::new("menus").name("^menu$")?.target("menus/${client}")?.target("menu")?])?;
///
/// let packet = packet::Request::new("menu");
/// let request = Request::new("192.0.2.7:1069".parse()?, "192.0.2.1:69".parse()?, packet)?;
/// let mut tried = Vec::new();
/// let verdict = rules.explain(&request, Direction::Read, &Machine::default(), |rule, result| {
///     tried.push(format!("{}: {}", rule.title(), result.map_or_else(|why| why.to_string(), |()| "yes".into())));
/// })?;
/// assert_eq!(tried, ["menus: yes"]);
/// let paths: Vec<_> = verdict.candidates().iter().map(|candidate| candidate.request().path()).collect();
/// assert_eq!(paths, ["menus/192.0.2.7", "menu"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    needs_machine: bool,
}

/// The decision of the [rules](Rules) on a request.
///
/// ```
/// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
///
#[doc = include_str!("example.md")]
/// let rule = Rule::new("menus").name("^menu$")?.target("menus/${client}")?.windowsize(4);
/// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
/// assert_eq!(verdict.candidates()[0].request().path(), "menus/10.0.0.7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Verdict {
    candidates: Vec<Candidate>,
    /// The effects of all rules that match the request.
    effects: Effects,
}

/// A file that may be served, according to a [`Verdict`].
///
/// ```
/// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
///
#[doc = include_str!("example.md")]
/// let rule = Rule::new("menus").target("menus/${client}")?.target("menu")?;
/// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
/// let paths: Vec<_> = verdict.candidates().iter().map(|candidate| candidate.request().path()).collect();
/// assert_eq!(paths, ["menus/10.0.0.7", "menu"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Candidate {
    source: Option<Arc<dyn Handler>>,
    request: Request,
    /// The values for its template, if it is one.
    #[cfg(feature = "templates")]
    context: Option<rendered::Context>,
}

impl Rules {
    /// These rules, the first one tried first.
    ///
    /// ```
    /// use tuffet::rules::{Rule, Rules};
    ///
    /// let typo = Rule::new("menus").target("${cleint}/menu")?;
    /// assert!(Rules::new(vec![typo]).is_err());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if a target has an unknown group or variable, if a rule goes on and has more than one name as
    /// its target, or if a blksize or a windowsize is out of range.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, Error> {
        rules.iter_mut().try_for_each(Rule::check)?;
        let needs_machine = rules.iter().any(Rule::needs_machine);
        Ok(Self { rules, needs_machine })
    }

    /// Whether there are no rules.
    ///
    /// ```
    /// assert!(tuffet::rules::Rules::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule uses facts about a machine besides its address.
    ///
    /// ```
    /// use tuffet::rules::{Rule, Rules};
    ///
    /// let by_card = Rule::new("menus").target("menus/${mac}")?;
    /// assert!(Rules::new(vec![by_card])?.needs_machine() && !Rules::default().needs_machine());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn needs_machine(&self) -> bool {
        self.needs_machine
    }

    /// The decision on this request of this machine.
    ///
    /// ```
    /// use tuffet::{Refusal, options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rules = Rules::new(vec![Rule::new("nothing here").refuse(Refusal::denied())])?;
    /// let refusal = rules.decide(&request, Direction::Read, &Machine::default()).unwrap_err();
    /// assert_eq!(refusal, Refusal::denied());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The refusal for the peer.
    pub fn decide(&self, request: &Request, direction: Direction, machine: &Machine) -> Result<Verdict, Refusal> {
        self.explain(request, direction, machine, |_, _| {})
    }

    /// As [`decide`](Self::decide), and reports for each tried rule whether it matches the request.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Mismatch, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rules = Rules::new(vec![Rule::new("kernels").name("^linux")?])?;
    /// let mut why = Vec::new();
    /// rules.explain(&request, Direction::Read, &Machine::default(), |_, result| why.push(result))?;
    /// assert_eq!(why, [Err(Mismatch::Name)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The refusal for the peer.
    pub fn explain(
        &self,
        request: &Request,
        direction: Direction,
        machine: &Machine,
        mut tried: impl FnMut(&Rule, Result<(), Mismatch>),
    ) -> Result<Verdict, Refusal> {
        let mut effects = Effects::default();
        let mut candidates = vec![Candidate::plain(None, request.clone())];
        let in_name = if self.needs_machine { Machine::in_name(&request.text()) } else { Machine::default() };
        // A client may send any name, so the conditions on MAC addresses, which the kernel knows, ignore names.
        let known = machine.clone().or(in_name);
        for rule in &self.rules {
            // A rule that goes on has at most one target, a plain name.
            let path = candidates.first().map_or(request, Candidate::request).text().into_owned();
            let groups = match rule.matches(request, direction, (machine.mac, &known), &path) {
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
                let found = rule.candidates(request, &values)?;
                // A rule that goes on keeps the old name if a value for its target is unknown.
                if !(found.is_empty() && rule.goes_on) {
                    candidates = found;
                }
            }
            effects.merge(&rule.effects);
            if !rule.goes_on {
                break;
            }
        }
        let ignores_case = effects.ignore_case.unwrap_or(request.ignores_case());
        let candidates = candidates.into_iter().map(|mut candidate| {
            candidate.source = candidate.source.or_else(|| effects.source.clone());
            candidate.request = candidate.request.ignoring_case(ignores_case);
            candidate
        });
        Ok(Verdict { candidates: candidates.collect(), effects })
    }

    /// The sources of files besides the handler behind the rules.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &dyn Handler> {
        let effects = self.rules.iter().map(|rule| &rule.effects);
        let of_targets =
            effects.clone().flat_map(|effects| &effects.targets).filter_map(|target| target.source.as_deref());
        of_targets.chain(effects.filter_map(|effects| effects.source.as_deref()))
    }
}

impl Rule {
    /// The files of its targets whose values are known.
    fn candidates(&self, request: &Request, values: &Values<'_>) -> Result<Vec<Candidate>, Refusal> {
        let mut found = Vec::new();
        for target in &self.effects.targets {
            let Some(request) = target.request(request, values)? else { continue };
            let candidate = Candidate::plain(target.source.clone(), request);
            #[cfg(feature = "templates")]
            let candidate =
                Candidate { context: target.is_template().then(|| rendered::Context::new(values, self)), ..candidate };
            found.push(candidate);
        }
        Ok(found)
    }
}

impl Effects {
    /// Merges the effects of a later rule, which win.
    fn merge(&mut self, later: &Self) {
        self.source = later.source.clone().or(self.source.take());
        self.ignore_case = later.ignore_case.or(self.ignore_case);
        self.only = later.only.clone().or(self.only.take());
        self.blksize = later.blksize.or(self.blksize);
        self.windowsize = later.windowsize.or(self.windowsize);
        self.upload = later.upload.or(self.upload);
    }
}

impl Verdict {
    /// The files that may be served; the first that exists is served. Empty if no target has all its values.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("by card").target("menus/${mac}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert!(verdict.candidates().is_empty(), "the MAC address is not known");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether uploads are allowed, if a rule says so.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("backups").upload(true);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.upload(), Some(true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upload(&self) -> Option<bool> {
        self.effects.upload
    }

    /// Lowers the limits to what the rules allow.
    ///
    /// ```
    /// use tuffet::{options::{Direction, Limits}, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("old phones").blksize(512);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// let mut limits = Limits::default();
    /// verdict.limit(&mut limits);
    /// assert_eq!(limits.blksize, 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit(&self, limits: &mut Limits) {
        let Effects { only, blksize, windowsize, .. } = &self.effects;
        let [blksize, windowsize] = [blksize, windowsize].map(|most| most.unwrap_or(u16::MAX));
        *limits = Limits { blksize, windowsize, only: only.clone(), answer: true }.at_most(limits);
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

    /// The file from this handler, or from the candidate's own [source](Self::source), if it has one. A template file
    /// is rendered.
    ///
    /// ```
    /// use tuffet::{handlers::Memory, options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("menus").target("menus/${client}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// let files = Memory::new();
    /// files.insert("menus/10.0.0.7", "default linux\n")?;
    /// let source = smol::block_on(verdict.candidates()[0].read(&files))?;
    /// assert_eq!(source.size(), Some(14));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The handler's refusal; [`Refusal::internal`] that [ends the search](Refusal::ending_search), if a template
    /// fails.
    pub async fn read(&self, handler: &dyn Handler) -> Result<Source, Refusal> {
        let source = self.source.as_deref().unwrap_or(handler).read(&self.request).await?;
        #[cfg(feature = "templates")]
        if let Some(context) = &self.context {
            return rendered::render(source, &self.request, context).await.map_err(Refusal::ending_search);
        }
        Ok(source)
    }

    /// Whether this is a template file, which is rendered.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("menus").target("menu.j2")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].is_template(), cfg!(feature = "templates"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_template(&self) -> bool {
        #[cfg(feature = "templates")]
        return self.context.is_some();
        #[cfg(not(feature = "templates"))]
        return false;
    }

    /// The source of the file, if it is not the server's own.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("made up").source(tuffet::read(|_| "hello\n"));
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert!(verdict.candidates()[0].source().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn source(&self) -> Option<&Arc<dyn Handler>> {
        self.source.as_ref()
    }

    /// The request for the file.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("example.md")]
    /// let rule = Rule::new("menus").target("menus/${path}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// let request = verdict.candidates()[0].request();
    /// assert_eq!((request.path(), request.filename()), ("menus/menu", &b"menu"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
