//! The text of a target: fixed text, groups of the regular expression, and facts about the client.

use std::{borrow::Cow, fmt, net::IpAddr};

use percent_encoding::{percent_decode_str, percent_encode};
use regex_lite::{Captures, Regex};

use super::{
    Machine,
    spelling::{SPELLINGS, Spelling},
};
use crate::{Error, Refusal, name};

/// A text with `$1`, `${group}`, `${variable}` and `${variable:spelling}` in it.
#[derive(Clone, Debug)]
pub(super) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Value(What, Vec<Spelling>),
}

#[derive(Clone, Debug)]
enum What {
    Group(usize),
    /// The name of a group or a variable; the regular expression shows which one it is.
    Name(String),
    Variable(Variable),
}

/// A variable with a fact about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Arch,
    Client,
    Mac,
    Path,
    Serial,
    Server,
    Uuid,
}

pub(super) const VARIABLES: [(&str, Variable); 7] = [
    ("arch", Variable::Arch),
    ("client", Variable::Client),
    ("mac", Variable::Mac),
    ("path", Variable::Path),
    ("serial", Variable::Serial),
    ("server", Variable::Server),
    ("uuid", Variable::Uuid),
];

impl Variable {
    pub(super) fn named(name: &str) -> Option<Self> {
        VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable)
    }

    /// Whether this is a fact about a machine.
    fn is_of_machine(self) -> bool {
        matches!(self, Self::Arch | Self::Mac | Self::Serial | Self::Uuid)
    }
}

/// The values for the parts of a template.
pub(super) struct Values<'a> {
    pub(super) groups: Option<&'a Captures<'a>>,
    pub(super) path: &'a str,
    pub(super) client: IpAddr,
    pub(super) server: IpAddr,
    pub(super) machine: &'a Machine,
}

impl<'a> Values<'a> {
    /// The value; `None` if it is unknown for this machine.
    pub(super) fn of(&self, variable: Variable) -> Option<Cow<'a, str>> {
        let machine = self.machine;
        match variable {
            Variable::Arch => machine.arch.as_deref().map(Into::into),
            Variable::Client => Some(self.client.to_string().into()),
            Variable::Mac => machine.mac.map(|mac| mac.to_string().into()),
            Variable::Path => Some(self.path.into()),
            Variable::Serial => machine.serial.as_deref().map(Into::into),
            Variable::Server => Some(self.server.to_string().into()),
            Variable::Uuid => machine.uuid.map(|uuid| uuid.to_string().into()),
        }
    }
}

impl What {
    fn value<'a>(&self, values: &Values<'a>) -> Option<Cow<'a, str>> {
        let group = |found: Option<regex_lite::Match<'a>>| Some(found.map_or("", |found| found.as_str()).into());
        match self {
            // Without a regular expression the whole name is the match.
            Self::Group(number) => values.groups.map_or(Some(values.path.into()), |groups| group(groups.get(*number))),
            Self::Name(name) => group(values.groups.and_then(|groups| groups.name(name))),
            Self::Variable(variable) => values.of(*variable),
        }
    }
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let no = |why: &str| Error::Config(format!("{text:?} is not a target: {why}"));
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            literal += &rest[..at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                (literal, rest) = (literal + "$", after);
                continue;
            }
            let part = if let Some(after) = rest.strip_prefix('{') {
                let (inner, after) = after.split_once('}').ok_or_else(|| no("a `${` has no `}`"))?;
                rest = after;
                let mut words = inner.split(':');
                let name = words.next().unwrap_or_default();
                let spellings = words.map(|word| Spelling::named(word).ok_or_else(|| no(&not_a_spelling(word))));
                let what = name.parse().map_or_else(|_| What::Name(name.into()), What::Group);
                Part::Value(what, spellings.collect::<Result<_, _>>()?)
            } else {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let number = rest[..digits].parse();
                rest = &rest[digits..];
                let number = number.map_err(|_| no("`$` is followed by a number, `{` or another `$`"))?;
                Part::Value(What::Group(number), Vec::new())
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
        }
        literal += rest;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.into(), parts })
    }

    /// Tells groups from variables, and reports other names as errors.
    pub(super) fn resolve(&mut self, name: Option<&Regex>) -> Result<(), Error> {
        let no = |why: String| Err(Error::Config(format!("{:?} is not a target here: {why}", self.text)));
        let groups = name.map_or(1, Regex::captures_len);
        for part in &mut self.parts {
            let Part::Value(what, _) = part else { continue };
            match what {
                What::Group(number) if *number >= groups => {
                    return no(format!("there is no group {number}; `$0` is the whole match"));
                }
                What::Name(name_of_part) => {
                    let is_group = name.is_some_and(|name| name.capture_names().any(|n| n == Some(name_of_part)));
                    match Variable::named(name_of_part) {
                        _ if is_group => {}
                        Some(variable) => *what = What::Variable(variable),
                        None => {
                            let known = VARIABLES.map(|(name, _)| format!("${{{name}}}")).join(", ");
                            return no(format!("there is no group `{name_of_part}`, and the variables are {known}"));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Decodes the percent-encoding of the fixed text, for a part of a URL that will be encoded.
    pub(super) fn decoded(mut self) -> Result<Self, Error> {
        for part in &mut self.parts {
            if let Part::Literal(literal) = part {
                let decoded =
                    percent_decode_str(literal).decode_utf8().ok().filter(|text| !text.contains(['\0', '\\']));
                let decoded = decoded.filter(|text| text.matches('/').count() == literal.matches('/').count());
                let error = || Error::Config(format!("{:?} is not a target: it is encoded wrongly", self.text));
                *literal = decoded.ok_or_else(error)?.into_owned();
            }
        }
        Ok(self)
    }

    /// The name; `None` if a value is unknown for this client. A name with `..` is refused.
    pub(super) fn name(&self, values: &Values<'_>) -> Result<Option<String>, Refusal> {
        let Some(name) = self.expand(values, |text, out| out.push_str(text)) else { return Ok(None) };
        // A normalised name has no part `..`, but two adjacent groups can make one.
        if name.split(['/', '\\']).any(|part| part == "..") {
            return Err(Refusal::denied().because(format_args!("{} becomes {name:?}", self.text)));
        }
        Ok(Some(name))
    }

    /// The query. The values are percent-encoded, so that a client's text is always one value. The text between
    /// them is not encoded.
    pub(super) fn query(&self, values: &Values<'_>) -> Option<String> {
        self.expand(values, |text, out| out.extend(percent_encode(&name::bytes(text), &name::ENCODED)))
    }

    fn expand(&self, values: &Values<'_>, put: impl Fn(&str, &mut String)) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(what, spellings) => {
                    let value = what.value(values)?;
                    let spelled = spellings.iter().try_fold(value, |text, spelling| spelling.of(&text).map(Cow::Owned));
                    put(&spelled?, &mut out);
                }
            }
        }
        Some(out)
    }

    /// Whether the text has a fact about a machine.
    pub(super) fn needs_machine(&self) -> bool {
        let is_of_machine = |variable: &Variable| variable.is_of_machine();
        self.parts.iter().any(|part| matches!(part, Part::Value(What::Variable(v), _) if is_of_machine(v)))
    }

    /// Whether the fixed text after all variables ends so.
    pub(super) fn ends_with(&self, end: &str) -> bool {
        matches!(self.parts.last(), Some(Part::Literal(text)) if text.ends_with(end))
    }

    /// Whether the fixed text has a part `..`.
    pub(super) fn climbs(&self) -> bool {
        let has_dots = |text: &String| text.split(['/', '\\']).any(|part| part == "..");
        self.parts.iter().any(|part| matches!(part, Part::Literal(text) if has_dots(text)))
    }
}

/// The text with these values filled in, before there is a request.
pub(super) fn fill(text: &str, set: &[(String, String)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at..]);
        out += before;
        let filled = after.strip_prefix("${").and_then(|inner| inner.split_once('}')).and_then(|(inner, behind)| {
            let mut words = inner.split(':');
            let name = words.next()?;
            let (_, value) = set.iter().find(|(known, _)| known == name)?;
            let spelled = words.try_fold(value.clone(), |text, word| Spelling::named(word)?.of(&text))?;
            Some((spelled, behind))
        });
        match filled {
            Some((value, behind)) => {
                out += &value.replace('$', "$$");
                rest = behind;
            }
            None => {
                let length = if after.starts_with("$$") { 2 } else { 1 };
                out += &after[..length];
                rest = &after[length..];
            }
        }
    }
    out + rest
}

fn not_a_spelling(word: &str) -> String {
    let known = SPELLINGS.map(|(name, _)| format!("`:{name}`")).join(", ");
    format!("`:{word}` is no spelling; they are {known}")
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str, regex: &str) -> Result<Template, Error> {
        let mut template = Template::parse(text)?;
        template.resolve(Some(&Regex::new(regex).unwrap())).map(|()| template)
    }

    fn expand(text: &str, regex: &str, path: &str, mac: Option<&str>) -> (Result<Option<String>, Refusal>, String) {
        let (template, regex) = (template(text, regex).unwrap(), Regex::new(regex).unwrap());
        let groups = regex.captures(path).unwrap();
        let machine = Machine { mac: mac.map(|mac| mac.parse().unwrap()), ..Machine::default() };
        let (client, server) = ([10, 0, 0, 5].into(), [10, 0, 0, 1].into());
        let values = Values { groups: Some(&groups), path, client, server, machine: &machine };
        (template.name(&values), template.query(&values).unwrap_or_default())
    }

    #[test]
    fn parts_are_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$1-$2", "ab-cd"),
            ("${1}0$0", "ab0ab/cd"),
            ("${rest}", "cd"),
            ("${client}/${server}/${path}", "10.0.0.5/10.0.0.1/ab/cd.x"),
            ("$$1", "$1"),
            ("${client:hexraw:upper}/${client:hexraw}", "0A000005/0a000005"),
            ("${rest:upper}", "CD"),
            ("${1:hex}", "ab"),
            ("$3", ""),
        ] {
            let (name, _) = expand(text, r"^(\w+)/(?<rest>\w+)(z?)", "ab/cd.x", None);
            assert_eq!(name.unwrap().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_part_that_is_not_known_makes_no_name() {
        assert_eq!(expand("${mac}/x", "x", "x", None).0, Ok(None));
        assert_eq!(expand("${mac}/x", "x", "x", Some("52:54:00:12:34:56")).0, Ok(Some("52-54-00-12-34-56/x".into())));
        assert_eq!(expand("${1:hexraw}/x", "(.*)", "x", None).0, Ok(None), "it cannot be spelled so");
    }

    #[test]
    fn groups_do_not_climb_and_stay_values() {
        assert_eq!(expand("$1$2/x", r"(\.)b(\.)", "a.b.", None).0, Err(Refusal::denied()));
        assert_eq!(expand("a/$1/x", r"a(\.+)", "a..", None).0, Err(Refusal::denied()));
        let (_, query) = expand("a=$1&b=1", "(.*)", "x&b=2#@/?ü", None);
        assert_eq!(query, "a=x%26b%3D2%23%40%2F%3F%C3%BC&b=1");
        let (_, query) = expand("a=$1", "(.*)", r"caf\xe9", None);
        assert_eq!(query, "a=caf%E9", "a byte that is not UTF-8");
    }

    #[test]
    fn values_that_are_set_are_plain_text() {
        let set = [("host".to_owned(), "web:81".to_owned()), ("price".to_owned(), "1$".to_owned())];
        for (text, expected) in [
            ("http://${host}/${path}?a=${host:upper}", "http://web:81/${path}?a=WEB:81"),
            ("$${host}/${price}", "$${host}/1$$"),
            ("${host:hex}", "${host:hex}"),
            ("${host", "${host"),
            ("$", "$"),
        ] {
            assert_eq!(fill(text, &set), expected);
            assert_eq!(fill(expected, &set), expected, "what is filled in stays");
        }
    }

    #[test]
    fn malformed_templates_are_errors() {
        for bad in
            ["$", "$x", "${1", "$99999999999999999999", "$2", "${nobody}", "${}", "${mac:x}", "${mac:}", "${rest:upper"]
        {
            assert!(template(bad, "(a)").is_err(), "{bad}");
        }
        assert!(template("../$1", "(a)").unwrap().climbs());
    }
}
