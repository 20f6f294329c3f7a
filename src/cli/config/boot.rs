//! The tables `[[boot]]`: the boot files of machines.

use toml::de::DeValue;
use tuffet::dhcp::Rule;

use super::{
    super::dhcp::condition_of,
    file::{Reader, Value},
    rule::{text, texts, title, truth},
};

const KEYS: [&str; 6] = ["title", "file", "arch", "uuid", "mac", "ipxe"];

/// The valid rules. Errors in the others are noted.
pub fn read_all(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Rule> {
    let DeValue::Array(tables) = value.get_ref() else {
        reader.wrong(value.span().start, "boot: write each boot file as a table [[boot]]");
        return Vec::new();
    };
    tables.iter().filter_map(|table| read(reader, table)).collect()
}

fn read(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Rule> {
    let at = value.span().start;
    let DeValue::Table(table) = value.get_ref() else {
        return reader.none(value, "boot: write each boot file as a table [[boot]]".into());
    };
    let errors = reader.errors.len();
    let Some((_, file)) = table.iter().find(|(key, _)| *key.get_ref() == "file") else {
        return reader.none(value, "boot: file is missing; file = \"\" gives the machine no answer".into());
    };
    let file = text(file).unwrap_or_else(|why| {
        reader.wrong(file.span().start, format!("file: {why}"));
        ""
    });
    let mut rule = Rule::new(title(reader, table, at), file);
    for (key, value) in table {
        let name: &str = key.get_ref();
        let done = match name {
            "title" => text(value).map(|_| rule.clone()),
            "file" => continue,
            "ipxe" => truth(value).map(|ipxe| rule.clone().ipxe(ipxe)),
            _ if KEYS.contains(&name) => texts(value).and_then(|values| match values.is_empty() {
                true => Err("an empty list would match all machines; leave the key out, or add a value".into()),
                false => values.into_iter().try_fold(rule.clone(), |rule, value| condition_of(rule, name, value)),
            }),
            _ => {
                reader.unknown(key.span().start, name, KEYS.into_iter());
                continue;
            }
        };
        match done {
            Ok(done) => rule = done,
            Err(why) => reader.wrong(value.span().start, format!("{name}: {why}")),
        }
    }
    (reader.errors.len() == errors).then_some(rule)
}
