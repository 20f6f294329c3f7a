//! The tables `[[rule]]`.

use toml::de::{DeTable, DeValue};
use tuffet::{
    Error, Refusal,
    options::{BLKSIZE, Direction, OptionName, WINDOWSIZE},
    packet::Mode,
    rules::{Clients, Rule},
};

use super::{
    super::{
        rules::{Planned, condition},
        sources::Source,
    },
    file::{Reader, Value},
};

type Name<'i> = toml::Spanned<std::borrow::Cow<'i, str>>;
/// Adds the value of a key to the rule.
type Key = fn(&mut Planned, &Value<'_>) -> Result<Rule, String>;

const KEYS: [(&str, Key); 19] = [
    ("title", |planned, value| text(value).map(|_| planned.rule.clone())),
    ("client", |planned, value| {
        let clients = texts(value)?.into_iter();
        let clients = clients.map(|client| client.parse::<Clients>().map_err(|why| format!("{client:?} is {why}")));
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        match clients.is_empty() {
            true => Err("an empty list would match all clients; leave the key out, or add a client".into()),
            false => Ok(clients.into_iter().fold(planned.rule.clone(), Rule::client)),
        }
    }),
    ("arch", |planned, value| conditions(planned, "arch", value)),
    ("uuid", |planned, value| conditions(planned, "uuid", value)),
    ("serial", |planned, value| conditions(planned, "serial", value)),
    ("name", |planned, value| in_words(planned.rule.clone().name(text(value)?))),
    ("mode", |planned, value| {
        let known = [("octet", Mode::Octet), ("netascii", Mode::Netascii)];
        Ok(planned.rule.clone().mode(one_of(value, &known)?))
    }),
    ("kind", |planned, value| {
        let known = [("read", Direction::Read), ("write", Direction::Write)];
        Ok(planned.rule.clone().direction(one_of(value, &known)?))
    }),
    ("target", |planned, value| {
        planned.targets = texts(value)?.into_iter().map(Into::into).collect();
        Ok(planned.rule.clone())
    }),
    ("root", |planned, value| {
        planned.root = Some(Source::try_from(std::ffi::OsString::from(text(value)?))?);
        Ok(planned.rule.clone())
    }),
    ("ignore-case", |planned, value| Ok(planned.rule.clone().ignore_case(truth(value)?))),
    ("options", |planned, value| {
        let only: Result<Vec<OptionName>, _> = texts(value)?.into_iter().map(str::parse).collect();
        Ok(planned.rule.clone().options(in_words(only)?))
    }),
    ("blksize", |planned, value| Ok(planned.rule.clone().blksize(number(value, BLKSIZE)?))),
    ("windowsize", |planned, value| Ok(planned.rule.clone().windowsize(number(value, WINDOWSIZE)?))),
    ("upload", |planned, value| Ok(planned.rule.clone().upload(truth(value)?))),
    ("refuse", |planned, value| {
        let known = [("denied", Refusal::denied()), ("not-found", Refusal::not_found()), ("silent", Refusal::silent())];
        Ok(planned.rule.clone().refuse(one_of(value, &known)?))
    }),
    ("set", |planned, value| {
        let DeValue::Table(table) = value.get_ref() else {
            return Err("it must be a table of names and values".into());
        };
        let set = |rule: Rule, (name, value): (&Name<'_>, &Value<'_>)| in_words(rule.set(name.get_ref(), text(value)?));
        table.iter().try_fold(planned.rule.clone(), set)
    }),
    ("env", |planned, value| {
        let set = |rule: Rule, name: &str| {
            let value = std::env::var(name).map_err(|error| format!("{name}: {error}"))?;
            in_words(rule.set(name, &value))
        };
        texts(value)?.into_iter().try_fold(planned.rule.clone(), set)
    }),
    ("go-on", |planned, value| Ok(planned.rule.clone().go_on(truth(value)?))),
];

/// The valid rules. Errors in the others are noted.
pub fn read_all(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Planned> {
    let DeValue::Array(tables) = value.get_ref() else {
        reader.wrong(value.span().start, "rule: write each rule as a table [[rule]]");
        return Vec::new();
    };
    tables.iter().filter_map(|table| read(reader, table)).collect()
}

fn read(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Planned> {
    let at = value.span().start;
    let DeValue::Table(table) = value.get_ref() else {
        return reader.none(value, "rule: write each rule as a table [[rule]]".into());
    };
    let errors = reader.errors.len();
    let mut planned = Planned { rule: Rule::new(title(reader, table, at)), targets: Vec::new(), root: None };
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some((_, apply)) = KEYS.iter().find(|(known, _)| *known == name) else {
            reader.unknown(key.span().start, name, KEYS.iter().map(|(known, _)| *known));
            continue;
        };
        match apply(&mut planned, value) {
            Ok(rule) => planned.rule = rule,
            Err(why) => reader.wrong(value.span().start, format!("{name}: {why}")),
        }
    }
    if reader.errors.len() == errors {
        planned.check().unwrap_or_else(|why| reader.wrong(at, format!("rule: {why}")));
    }
    (reader.errors.len() == errors).then_some(planned)
}

/// Adds the conditions of a key on the machine. The rule is for each of the named machines.
fn conditions(planned: &Planned, key: &str, value: &Value<'_>) -> Result<Rule, String> {
    let values = texts(value)?;
    if values.is_empty() {
        return Err("an empty list would be for all; leave it out, or name some".into());
    }
    values.into_iter().try_fold(planned.rule.clone(), |rule, value| condition(rule, key, value))
}

/// The place of the rule in the file, and its title.
pub(super) fn title(reader: &Reader<'_>, table: &DeTable<'_>, at: usize) -> String {
    let place = reader.line(at);
    let title = table.iter().find(|(key, _)| *key.get_ref() == "title");
    match title.and_then(|(_, title)| title.get_ref().as_str()) {
        Some(title) => format!("{place} ({title})"),
        None => place,
    }
}

/// The error as text.
fn in_words<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

pub(super) fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, String> {
    value.get_ref().as_str().ok_or_else(|| format!("it must be a string, not of type {}", value.get_ref().type_str()))
}

/// One string, or a list of them.
pub(super) fn texts<'v>(value: &'v Value<'_>) -> Result<Vec<&'v str>, String> {
    match value.get_ref() {
        DeValue::Array(values) => values.iter().map(text).collect(),
        _ => text(value).map(|one| vec![one]),
    }
}

pub(super) fn truth(value: &Value<'_>) -> Result<bool, String> {
    value.get_ref().as_bool().ok_or_else(|| "it must be true or false".into())
}

fn number(value: &Value<'_>, range: std::ops::RangeInclusive<u16>) -> Result<u16, String> {
    let number =
        value.get_ref().as_integer().and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
    let why = || format!("it must be a number from {} to {}", range.start(), range.end());
    number.filter(|number| range.contains(number)).ok_or_else(why)
}

fn one_of<T: Clone>(value: &Value<'_>, known: &[(&str, T)]) -> Result<T, String> {
    let name = value.get_ref().as_str();
    let found = known.iter().find(|(known, _)| Some(*known) == name);
    let names = || known.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| value.clone()).ok_or_else(|| format!("it must be one of {}", names()))
}
