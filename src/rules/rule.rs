//! One rule: its conditions, and its effects.

use std::{fmt, sync::Arc};

use regex_lite::{Captures, Regex, RegexBuilder};

use super::{
    client::{Clients, Mac},
    machine::{Machine, Uuid},
    target::Target,
    template::{self, Variable},
};
use crate::{
    Error, Handler, Refusal, Request, name,
    options::{BLKSIZE, Direction, OptionName, WINDOWSIZE, wide},
    packet::Mode,
};

/// Conditions, and the effects on the requests that meet them.
///
/// A rule matches a request that meets all of its conditions. A rule without conditions matches every request. A
/// setting that the rule does not give stays unchanged.
///
/// ```
/// use tuffet::rules::Rule;
///
/// let rule = Rule::new("by architecture").client("10.0.0.0/8".parse()?).name("^(x64|arm64)/(.*)$")?;
/// let rule = rule.target("$1/new/$2")?.target("$1/$2")?.windowsize(8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Rule {
    title: String,
    clients: Vec<Clients>,
    arches: Vec<String>,
    uuids: Vec<Uuid>,
    serials: Vec<String>,
    pub(super) name: Option<Regex>,
    mode: Option<Mode>,
    direction: Option<Direction>,
    /// Names and values.
    pub(super) set: Vec<(String, String)>,
    pub(super) goes_on: bool,
    pub(super) effects: Effects,
}

/// The effects of a rule.
#[derive(Clone, Default)]
pub(super) struct Effects {
    pub(super) targets: Vec<Target>,
    pub(super) source: Option<Arc<dyn Handler>>,
    pub(super) ignore_case: Option<bool>,
    pub(super) only: Option<Arc<[OptionName]>>,
    pub(super) blksize: Option<u16>,
    pub(super) windowsize: Option<u16>,
    pub(super) upload: Option<bool>,
    pub(super) refuse: Option<Refusal>,
}

/// The condition that a request did not meet, see [`Rules::explain`](super::Rules::explain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The rule is for other clients.
    Client,
    /// The rule is for other MAC addresses, or the client's MAC address is unknown.
    Mac(Option<Mac>),
    /// The rule is for other architectures, or that of the machine is unknown.
    Arch,
    /// The rule is for other UUIDs, or that of the machine is unknown.
    Uuid,
    /// The rule is for other serial numbers, or that of the machine is unknown.
    Serial,
    /// The rule is for other names.
    Name,
    /// The rule is for the other transfer mode.
    Mode,
    /// The rule is for the other kind of request.
    Direction,
}

impl Rule {
    /// A rule without conditions and effects. The title is for people: the rule's place and purpose.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            clients: Vec::new(),
            arches: Vec::new(),
            uuids: Vec::new(),
            serials: Vec::new(),
            name: None,
            mode: None,
            direction: None,
            set: Vec::new(),
            goes_on: false,
            effects: Effects::default(),
        }
    }

    /// Matches only these clients. Call it again for more clients. Defaults to all.
    #[must_use]
    pub fn client(mut self, clients: Clients) -> Self {
        self.clients.push(clients);
        self
    }

    /// Matches only machines of this [architecture](super::ARCHES), in either case. Call it again for more of them.
    /// Defaults to all.
    ///
    /// The architecture, the UUID and the serial number come from the [table of machines](super::Machines), or else
    /// from [the requested name](super::Machine::in_name). A machine without the fact does not match. None of the three
    /// is proven: a client may send any packet and any name.
    #[must_use]
    pub fn arch(mut self, arch: impl Into<String>) -> Self {
        self.arches.push(arch.into());
        self
    }

    /// Matches only the machine with this UUID, with either byte order of its first three groups. Call it again for
    /// more machines. Defaults to all. See also [`arch`](Self::arch).
    #[must_use]
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.uuids.push(uuid);
        self
    }

    /// Matches only the machine with this serial number, in either case. Call it again for more machines. Defaults to
    /// all. See also [`arch`](Self::arch).
    #[must_use]
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serials.push(serial.into());
        self
    }

    /// Matches only names in which this regular expression finds a match, with the syntax of
    /// [regex-lite](https://docs.rs/regex-lite), where `.` matches any character. The name is the
    /// [normalised](Request::path) one, or the target of an earlier rule that [goes on](Self::go_on). Bytes that are
    /// not UTF-8 are matched by `\x80` to `\xff`, as the log shows them, but not in brackets. Defaults to all.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not a regular expression.
    pub fn name(mut self, regex: &str) -> Result<Self, Error> {
        // A name may have any character but NUL.
        let regex = RegexBuilder::new(&with_bytes(regex))
            .dot_matches_new_line(true)
            .build()
            .map_err(|error| Error::Config(format!("{regex:?} is not a regular expression: {error}")))?;
        self.name = Some(regex);
        Ok(self)
    }

    /// Matches only this transfer mode. Defaults to both.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Matches only reads, or only writes. Defaults to both.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Defines a variable for the targets that are given after this call: `${name}` is the value, also in the host of a
    /// URL. Template files have it too. Defaults to none.
    ///
    /// ```
    /// use tuffet::rules::Rule;
    ///
    /// let rule = Rule::new("site").set("site", "lab")?.target("${site}/${path}")?;
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the name has other characters than letters, digits and `_`, or is one of the variables of
    /// [`target`](Self::target).
    pub fn set(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let no = |why| Err(Error::Config(format!("{name:?} cannot be set: {why}")));
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(is_word) {
            return no("a name has letters, digits and `_`");
        }
        if Variable::named(name).is_some() {
            return no("it is a variable of every request");
        }
        self.set.retain(|(known, _)| known != name);
        self.set.push((name.into(), value.into()));
        Ok(self)
    }

    /// The text with the [set](Self::set) values filled in, as [`target`](Self::target) and [`url`](Self::url) take it.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        template::fill(text, &self.set)
    }

    /// Serves this file. The name may have `$1` or `${group}` for groups of the regular expression, `$0` for its whole
    /// match, `$$` for a `$`, and variables:
    ///
    /// | variable | |
    /// |---|---|
    /// | `${path}` | the whole name |
    /// | `${client}`, `${server}` | addresses |
    /// | `${mac}` | MAC address of the client, `52-54-00-12-34-56` |
    /// | `${uuid}`, `${serial}`, `${arch}` | UUID, serial number and architecture of the machine |
    ///
    /// The facts of the last two lines come from the [table of machines](super::Machines), or else from [the requested
    /// name](super::Machine::in_name). A `:` and a word after a variable or a group change its spelling. Several words
    /// apply one after another:
    ///
    /// | spelling | `${mac}` | `${client}` |
    /// |---|---|---|
    /// | `:hexhyp` | `52-54-00-ab-cd-ef` | `c0-a8-02-5b` |
    /// | `:hex` | `52:54:00:ab:cd:ef` | `c0:a8:02:5b` |
    /// | `:hexraw` | `525400abcdef` | `c0a8025b` |
    /// | `:hexraw:upper` | `525400ABCDEF` | `C0A8025B`, as PXELINUX asks |
    /// | `:upper`, `:lower` | `52-54-00-AB-CD-EF` | |
    ///
    /// `${uuid:guid}` has the bytes of each of its first three groups reversed.
    ///
    /// Call it again for further targets: the first file that exists is served. A target with an unknown variable is
    /// skipped. An upload goes to the first target whose source takes writes.
    ///
    /// With the feature `templates`, a target that ends with `.j2` in the rule's own text is a template file. It is
    /// rendered for each request; see [the module](super#template-files).
    ///
    /// # Errors
    /// [`Error::Config`] if the name is invalid, or has `..` in it.
    pub fn target(mut self, name: &str) -> Result<Self, Error> {
        let name = self.fill(name);
        self.effects.targets.push(Target::name(&name)?);
        Ok(self)
    }

    /// As [`target`](Self::target), for a file of a web server. The path and the query may have groups and variables.
    /// `open` makes a handler for the directory before the first of them, such as
    /// [`Http::new`](crate::handlers::Http::new).
    ///
    /// A client can change only the path below that directory and the values of the query.
    ///
    /// ```
    /// use tuffet::{Error, Refusal, read, rules::Rule};
    ///
    /// # let open = |base: &str| Ok::<_, Error>(read(async |_| Err::<&str, _>(Refusal::not_found())));
    /// // let open = Http::new;
    /// let rule = Rule::new("menus").name("^grub.cfg-(.*)")?.url("http://10.0.0.1/menu?mac=$1", open)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the URL is invalid, and the errors of `open`.
    pub fn url<H: Handler>(mut self, url: &str, open: impl FnOnce(&str) -> Result<H, Error>) -> Result<Self, Error> {
        let url = self.fill(url);
        self.effects.targets.push(Target::url(&url, open)?);
        Ok(self)
    }

    /// Serves the files of this handler instead of those of the server.
    #[must_use]
    pub fn source(mut self, source: impl Handler) -> Self {
        self.effects.source = Some(Arc::new(source));
        self
    }

    /// Whether a name that differs only in upper and lower case finds a file, see [`Request::ignores_case`]. It has no
    /// effect on URLs.
    #[must_use]
    pub fn ignore_case(mut self, ignore_case: bool) -> Self {
        self.effects.ignore_case = Some(ignore_case);
        self
    }

    /// Grants only these options. An empty list grants none, as some firmware needs.
    #[must_use]
    pub fn options(mut self, only: impl IntoIterator<Item = OptionName>) -> Self {
        self.effects.only = Some(only.into_iter().collect());
        self
    }

    /// The largest blksize that is granted, in bytes, 8 to 65464. It cannot exceed the server's limit.
    #[must_use]
    pub fn blksize(mut self, most: u16) -> Self {
        self.effects.blksize = Some(most);
        self
    }

    /// The largest windowsize that is granted, in blocks, 1 or more. It cannot exceed the server's limit.
    #[must_use]
    pub fn windowsize(mut self, most: u16) -> Self {
        self.effects.windowsize = Some(most);
        self
    }

    /// Whether uploads are allowed, if the source takes any.
    #[must_use]
    pub fn upload(mut self, upload: bool) -> Self {
        self.effects.upload = Some(upload);
        self
    }

    /// Refuses the request; with [`Refusal::silent`] the server sends no answer.
    #[must_use]
    pub fn refuse(mut self, refusal: Refusal) -> Self {
        self.effects.refuse = Some(refusal);
        self
    }

    /// Also tries the rules after this one, on the name that this one has made. Defaults to no.
    #[must_use]
    pub fn go_on(mut self, goes_on: bool) -> Self {
        self.goes_on = goes_on;
        self
    }

    /// The title of the rule.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Checks what depends on the finished rule.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let name = self.name.as_ref();
        let mut targets = self.effects.targets.iter_mut();
        let result = targets.try_for_each(|target| target.resolve(name));
        let is_plain = |target: &Target| target.source.is_none() && !target.is_template();
        let can_go_on =
            matches!(&*self.effects.targets, []) || matches!(&*self.effects.targets, [one] if is_plain(one));
        let sizes = [("blksize", self.effects.blksize, BLKSIZE), ("windowsize", self.effects.windowsize, WINDOWSIZE)];
        let mut sizes = sizes.into_iter().filter_map(|(name, size, bounds)| Some((name, size?, bounds)));
        result
            .and_then(|()| {
                sizes.try_for_each(|(name, size, bounds)| Error::check_setting(name, size.into(), wide(bounds)))
            })
            .map_err(|error| error.to_string())
            .and_then(|()| {
                let mut groups = name.iter().flat_map(|name| name.capture_names()).flatten();
                match groups.find(|group| self.set.iter().any(|(name, _)| name == group)) {
                    Some(both) => Err(format!("`{both}` is set, and a group of the regular expression")),
                    None => Ok(()),
                }
            })
            .and_then(|()| match self.goes_on && !can_go_on {
                true => Err("with `go-on` its target must be one name, and it can do nothing else".into()),
                false => Ok(()),
            })
            .map_err(|error| Error::Config(format!("{}: {error}", self.title)))
    }

    /// The groups of the name's match, if the rule matches the request. `known` may have facts that only the name
    /// shows, and `mac` is from elsewhere.
    pub(super) fn matches<'n>(
        &self,
        request: &Request,
        direction: Direction,
        (mac, known): (Option<Mac>, &Machine),
        name: &'n str,
    ) -> Result<Option<Captures<'n>>, Mismatch> {
        if self.direction.is_some_and(|wanted| wanted != direction) {
            return Err(Mismatch::Direction);
        }
        if self.mode.is_some_and(|wanted| wanted != request.mode()) {
            return Err(Mismatch::Mode);
        }
        let ip = request.peer().ip();
        if !self.clients.is_empty() && !self.clients.iter().any(|clients| clients.contains(ip, mac)) {
            let by_card = self.clients.iter().any(|clients| matches!(clients, Clients::Card(_)));
            return Err(if by_card { Mismatch::Mac(mac) } else { Mismatch::Client });
        }
        let is_one_of = |all: &[String], fact: &Option<String>| {
            all.is_empty() || fact.as_ref().is_some_and(|fact| all.iter().any(|one| one.eq_ignore_ascii_case(fact)))
        };
        let is_uuid = |uuid: Uuid| self.uuids.iter().any(|one| one.is_same(uuid));
        match () {
            () if !is_one_of(&self.arches, &known.arch) => return Err(Mismatch::Arch),
            () if !(self.uuids.is_empty() || known.uuid.is_some_and(is_uuid)) => return Err(Mismatch::Uuid),
            () if !is_one_of(&self.serials, &known.serial) => return Err(Mismatch::Serial),
            () => {}
        }
        match &self.name {
            Some(regex) => regex.captures(name).map(Some).ok_or(Mismatch::Name),
            None => Ok(None),
        }
    }

    pub(super) fn needs_machine(&self) -> bool {
        self.clients.iter().any(|clients| matches!(clients, Clients::Card(_)))
            || !(self.arches.is_empty() && self.uuids.is_empty() && self.serials.is_empty())
            || self.effects.targets.iter().any(Target::needs_machine)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("title", &self.title).finish_non_exhaustive()
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("it is for other clients"),
            Self::Mac(Some(mac)) => write!(f, "it is for other clients than {mac}"),
            Self::Mac(None) => f.write_str("it is for other clients, and the MAC address of this one is not known"),
            Self::Arch => f.write_str("it is for another architecture, or that of this machine is not known"),
            Self::Uuid => f.write_str("it is for another UUID, or that of this machine is not known"),
            Self::Serial => f.write_str("it is for another serial number, or that of this machine is not known"),
            Self::Name => f.write_str("it is for other names"),
            Self::Mode => f.write_str("it is for the other mode"),
            Self::Direction => f.write_str("it is for the other kind of request"),
        }
    }
}

/// The regular expression in which `\xff` also matches that byte, which has four characters in the text of a name.
fn with_bytes(regex: &str) -> String {
    let (mut out, mut rest, mut in_brackets) = (String::new(), regex, false);
    while let Some(first) = rest.chars().next() {
        let length = match name::escape(rest).filter(|_| !in_brackets) {
            Some(byte) => {
                out += &format!("(?:\\\\x{byte:02x}|\\x{byte:02x})");
                4
            }
            // An escaped character is taken together with its `\`.
            None => {
                let length = first.len_utf8()
                    + if first == '\\' { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
                in_brackets = if in_brackets { first != ']' } else { first == '[' };
                out += &rest[..length];
                length
            }
        };
        rest = &rest[length..];
    }
    out
}
