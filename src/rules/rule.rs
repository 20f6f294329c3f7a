//! One rule: its conditions, and its effects.

mod settings;

use std::{fmt, sync::Arc};

use regex_lite::{Captures, Regex};

use super::{
    client::{Clients, Mac},
    machine::{Machine, Uuid},
    target::Target,
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
#[must_use]
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
///
/// ```
/// use tuffet::rules::Mismatch;
///
/// assert_eq!(Mismatch::Name.to_string(), "it is for other names");
/// ```
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
    ///
    /// ```
    /// assert_eq!(tuffet::rules::Rule::new("old menus").title(), "old menus");
    /// ```
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

    /// The title of the rule.
    ///
    /// ```
    /// assert_eq!(tuffet::rules::Rule::new("rule 3 of tuffet.toml").title(), "rule 3 of tuffet.toml");
    /// ```
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Checks the parts that depend on the finished rule.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        self.check_parts().map_err(|error| Error::Config(format!("{}: {error}", self.title)))
    }

    fn check_parts(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let Effects { targets, blksize, windowsize, .. } = &mut self.effects;
        targets.iter_mut().try_for_each(|target| target.resolve(self.name.as_ref()))?;
        for (name, size, bounds) in [("blksize", *blksize, BLKSIZE), ("windowsize", *windowsize, WINDOWSIZE)] {
            size.map_or(Ok(()), |size| Error::check_setting(name, size.into(), wide(bounds)))?;
        }
        let mut groups = self.name.iter().flat_map(|name| name.capture_names()).flatten();
        if let Some(both) = groups.find(|group| self.set.iter().any(|(name, _)| name == group)) {
            return Err(format!("`{both}` is set, and a group of the regular expression").into());
        }
        let can_go_on = match &**targets {
            [] => true,
            [one] => one.source.is_none() && !one.is_template(),
            _ => false,
        };
        if self.goes_on && !can_go_on {
            return Err("with `go-on` its target must be one name, and it can do nothing else".into());
        }
        Ok(())
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
        if !is_one_of(&self.arches, &known.arch) {
            return Err(Mismatch::Arch);
        }
        if !self.uuids.is_empty() && !known.uuid.is_some_and(is_uuid) {
            return Err(Mismatch::Uuid);
        }
        if !is_one_of(&self.serials, &known.serial) {
            return Err(Mismatch::Serial);
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
