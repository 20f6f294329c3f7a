//! The tables `[[rule]]`.

use toml::de::{DeTable, DeValue};
use tuffet::{
    Error, Refusal,
    options::Direction,
    packet::Mode,
    rules::{Clients, Rule},
};

use super::{
    super::{rules::Planned, sources::Source},
    file::{Reader, Value},
};

const KEYS: [&str; 14] = [
    "title",
    "client",
    "name",
    "mode",
    "kind",
    "target",
    "root",
    "ignore-case",
    "options",
    "blksize",
    "windowsize",
    "upload",
    "refuse",
    "go-on",
];

/// Those that make sense; what does not is noted.
pub fn read_all(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Planned> {
    let DeValue::Array(tables) = value.get_ref() else {
        reader.wrong(value.span().start, "rule: a rule begins with [[rule]]");
        return Vec::new();
    };
    tables.iter().filter_map(|table| read(reader, table)).collect()
}

fn read(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Planned> {
    let at = value.span().start;
    let DeValue::Table(table) = value.get_ref() else {
        return reader.none(value, "rule: a rule begins with [[rule]]".into());
    };
    let errors = reader.errors.len();
    let mut planned = Planned { rule: Rule::new(title(reader, table, at)), targets: Vec::new(), root: None };
    for (key, value) in table {
        let name: &str = key.get_ref();
        if KEYS.contains(&name) {
            apply(reader, &mut planned, name, value);
        } else {
            reader.unknown(key.span().start, name, KEYS.into_iter());
        }
    }
    if reader.errors.len() == errors
        && let Err(why) = planned.check()
    {
        reader.wrong(at, format!("rule: {why}"));
    }
    (reader.errors.len() == errors).then_some(planned)
}

/// Where it stands, and how it is called.
fn title(reader: &Reader<'_>, table: &DeTable<'_>, at: usize) -> String {
    let place = reader.line(at);
    let title = table.iter().find(|(key, _)| *key.get_ref() == "title");
    match title.and_then(|(_, title)| title.get_ref().as_str()) {
        Some(title) => format!("{place} ({title})"),
        None => place,
    }
}

fn apply(reader: &mut Reader<'_>, planned: &mut Planned, key: &str, value: &Value<'_>) {
    let rule = planned.rule.clone();
    let result = match key {
        "title" => text(value).map(|_| rule),
        "client" => {
            let clients = texts(value).and_then(|clients| {
                clients
                    .into_iter()
                    .map(|client| client.parse::<Clients>().map_err(|why| format!("{client:?} is {why}")))
                    .collect::<Result<Vec<_>, _>>()
            });
            clients.and_then(|clients| match clients.is_empty() {
                true => Err("a list without clients would be for all; leave it out, or name some".into()),
                false => Ok(clients.into_iter().fold(rule, Rule::client)),
            })
        }
        "name" => text(value).and_then(|regex| said(rule.name(regex))),
        "mode" => one_of(value, &[("octet", Mode::Octet), ("netascii", Mode::Netascii)]).map(|mode| rule.mode(mode)),
        "kind" => one_of(value, &[("read", Direction::Read), ("write", Direction::Write)])
            .map(|direction| rule.direction(direction)),
        "target" => texts(value).map(|targets| {
            planned.targets = targets.into_iter().map(Into::into).collect();
            rule
        }),
        "root" => text(value).and_then(|root| {
            planned.root = Some(Source::try_from(std::ffi::OsString::from(root))?);
            Ok(rule)
        }),
        "ignore-case" => truth(value).map(|yes| rule.ignore_case(yes)),
        "options" => texts(value).and_then(|names| said(rule.options(names))),
        "blksize" => number(value, 8..=65464).map(|most| rule.blksize(most)),
        "windowsize" => number(value, 1..=65535).map(|most| rule.windowsize(most)),
        "upload" => truth(value).map(|yes| rule.upload(yes)),
        "refuse" => one_of(
            value,
            &[("denied", Refusal::denied()), ("not-found", Refusal::not_found()), ("silent", Refusal::silent())],
        )
        .map(|refusal| rule.refuse(refusal)),
        _ => truth(value).map(|yes| rule.go_on(yes)),
    };
    match result {
        Ok(rule) => planned.rule = rule,
        Err(why) => reader.wrong(value.span().start, format!("{key}: {why}")),
    }
}

fn said<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, String> {
    value.get_ref().as_str().ok_or_else(|| format!("it is a string, and no {}", value.get_ref().type_str()))
}

/// One string, or a list of them.
fn texts<'v>(value: &'v Value<'_>) -> Result<Vec<&'v str>, String> {
    match value.get_ref() {
        DeValue::Array(values) => values.iter().map(text).collect(),
        _ => text(value).map(|one| vec![one]),
    }
}

fn truth(value: &Value<'_>) -> Result<bool, String> {
    value.get_ref().as_bool().ok_or_else(|| "it is true or false".into())
}

fn number(value: &Value<'_>, range: std::ops::RangeInclusive<u16>) -> Result<u16, String> {
    let number =
        value.get_ref().as_integer().and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
    let why = || format!("it is a number from {} to {}", range.start(), range.end());
    number.filter(|number| range.contains(number)).ok_or_else(why)
}

fn one_of<T: Clone>(value: &Value<'_>, known: &[(&str, T)]) -> Result<T, String> {
    let name = value.get_ref().as_str();
    let found = known.iter().find(|(known, _)| Some(*known) == name);
    let names = || known.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| value.clone()).ok_or_else(|| format!("it is one of {}", names()))
}
