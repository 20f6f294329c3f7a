//! What a name is made of: text, groups of the regular expression, and what is known of the client.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use regex_lite::{Captures, Regex};

use crate::{Error, Refusal, name};

/// All but RFC 3986's unreserved characters: what a client sends is one value of a query, whatever is in it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text with `$1`, `${group}` and `${variable}` in it.
#[derive(Clone, Debug)]
pub(super) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Group(usize),
    /// A group's name or a variable's; which one is known with the regular expression.
    Name(String),
    Variable(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Client,
    Mac,
    Path,
    Server,
}

const VARIABLES: [(&str, Variable); 4] =
    [("client", Variable::Client), ("mac", Variable::Mac), ("path", Variable::Path), ("server", Variable::Server)];

/// What the parts of a template stand for.
pub(super) struct Values<'a> {
    pub(super) groups: Option<&'a Captures<'a>>,
    pub(super) client: String,
    pub(super) mac: Option<String>,
    pub(super) path: &'a str,
    pub(super) server: String,
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
                let (name, after) = after.split_once('}').ok_or_else(|| no("a `${` has no `}`"))?;
                rest = after;
                name.parse().map_or_else(|_| Part::Name(name.into()), Part::Group)
            } else {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let number = rest[..digits].parse();
                rest = &rest[digits..];
                Part::Group(number.map_err(|_| no("`$` is followed by a number, `{` or another `$`"))?)
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

    /// Tells groups from variables, and finds what is neither.
    pub(super) fn resolve(&mut self, name: Option<&Regex>) -> Result<(), Error> {
        let no = |why: String| Err(Error::Config(format!("{:?} is not a target here: {why}", self.text)));
        let groups = name.map_or(1, Regex::captures_len);
        for part in &mut self.parts {
            match part {
                Part::Group(number) if *number >= groups => {
                    return no(format!("there is no group {number}; `$0` is the whole match"));
                }
                Part::Name(name_of_part) => {
                    let is_group = name.is_some_and(|name| name.capture_names().any(|n| n == Some(name_of_part)));
                    let variable = VARIABLES.iter().find(|(name, _)| name == name_of_part);
                    match variable {
                        _ if is_group => {}
                        Some((_, variable)) => *part = Part::Variable(*variable),
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

    /// Undoes the percent-encoding of what stands there, for a part of a URL that will be encoded.
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

    /// A name; `None` if something in it is not known of this client. It does not climb.
    pub(super) fn name(&self, values: &Values<'_>) -> Result<Option<String>, Refusal> {
        let Some(name) = self.expand(values, |text, out| out.push_str(text)) else { return Ok(None) };
        // No part of a normalised name is `..`, but two groups beside each other can make one.
        if name.split(['/', '\\']).any(|part| part == "..") {
            return Err(Refusal::denied().because(format_args!("{} becomes {name:?}", self.text)));
        }
        Ok(Some(name))
    }

    /// A query, in which the parts are percent-encoded and the text between them is not.
    pub(super) fn query(&self, values: &Values<'_>) -> Option<String> {
        self.expand(values, |text, out| out.extend(percent_encode(&name::bytes(text), ENCODED)))
    }

    fn expand(&self, values: &Values<'_>, put: impl Fn(&str, &mut String)) -> Option<String> {
        let mut out = String::new();
        let group = |found: Option<regex_lite::Match<'_>>, out: &mut String| {
            put(found.map_or("", |found| found.as_str()), out);
        };
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                // Without a regular expression the whole name matches.
                Part::Group(number) => match values.groups {
                    Some(groups) => group(groups.get(*number), &mut out),
                    None => put(values.path, &mut out),
                },
                Part::Name(name) => group(values.groups.and_then(|groups| groups.name(name)), &mut out),
                Part::Variable(Variable::Client) => put(&values.client, &mut out),
                Part::Variable(Variable::Mac) => put(values.mac.as_deref()?, &mut out),
                Part::Variable(Variable::Path) => put(values.path, &mut out),
                Part::Variable(Variable::Server) => put(&values.server, &mut out),
            }
        }
        Some(out)
    }

    pub(super) fn needs_mac(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Variable(Variable::Mac)))
    }

    /// Whether the text that stands there climbs.
    pub(super) fn climbs(&self) -> bool {
        let has_dots = |text: &String| text.split(['/', '\\']).any(|part| part == "..");
        self.parts.iter().any(|part| matches!(part, Part::Literal(text) if has_dots(text)))
    }
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
        let values = Values {
            groups: Some(&groups),
            client: "10.0.0.5".into(),
            mac: mac.map(Into::into),
            path,
            server: "10.0.0.1".into(),
        };
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
            ("$3", ""),
        ] {
            let (name, _) = expand(text, r"^(\w+)/(?<rest>\w+)(z?)", "ab/cd.x", None);
            assert_eq!(name.unwrap().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_part_that_is_not_known_makes_no_name() {
        assert_eq!(expand("${mac}/x", "x", "x", None).0, Ok(None));
        assert_eq!(expand("${mac}/x", "x", "x", Some("52-54")).0, Ok(Some("52-54/x".into())));
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
    fn what_is_no_template() {
        for bad in ["$", "$x", "${1", "$99999999999999999999", "$2", "${nobody}", "${}"] {
            assert!(template(bad, "(a)").is_err(), "{bad}");
        }
        assert!(template("../$1", "(a)").unwrap().climbs());
    }
}
