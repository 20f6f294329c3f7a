//! The configuration file: read, and checked as far as possible without serving.

use std::{fmt, io, path::Path};

use clap::{Arg, ArgAction, Command, CommandFactory, builder::Resettable};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    super::{Result, args::Arguments, files, rules::Planned},
    boot, rule,
};

/// The most keys that an error lists.
const FEW: usize = 20;

/// The content of a file.
#[derive(Debug, Default)]
pub struct File {
    /// The identifiers of options, and their values.
    settings: Vec<(String, Vec<String>)>,
    pub rules: Vec<Planned>,
    pub boots: Vec<tuffet::dhcp::Rule>,
    pub errors: Vec<Mistake>,
}

/// An error in a file, and its place.
#[derive(Debug)]
pub struct Mistake {
    path: String,
    line: usize,
    column: usize,
    text: String,
}

/// Reads a file, and notes the errors in it.
pub struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    pub errors: Vec<Mistake>,
}

pub type Value<'i> = Spanned<DeValue<'i>>;

impl File {
    pub fn read(path: &Path) -> Result<Self> {
        let explain = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => format!("cannot read {}: {error}; save it as UTF-8", path.display()),
            _ => format!("cannot read {}: {error}; --config takes the path of a TOML file", path.display()),
        };
        let text = files::read_once(path).map_err(explain)?;
        Ok(Self::parse(&path.display().to_string(), &text))
    }

    pub fn parse(path: &str, text: &str) -> Self {
        let mut reader = Reader { path, text, errors: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.wrong(error.span().map_or(0, |span| span.start), error.message());
        }
        let mut file = Self::default();
        let program = Arguments::command();
        let options = Options(program.find_subcommand("serve").into_iter().flat_map(Command::get_arguments).collect());
        for (key, value) in table.get_ref() {
            let name: &str = key.get_ref();
            match options.find(name) {
                _ if name == "rule" => file.rules = rule::read_all(&mut reader, value),
                _ if name == "boot" => file.boots = boot::read_all(&mut reader, value),
                Some(option) => file.settings.extend(reader.setting(name, option, value)),
                None => {
                    let names = options.0.iter().filter_map(|option| key_of(option)).chain(["rule", "boot"]);
                    reader.unknown(key.span().start, name, names);
                }
            }
        }
        file.errors = reader.errors;
        file.errors.sort_by_key(|wrong| (wrong.line, wrong.column));
        file
    }

    /// The command, with the file's values as the defaults of its options.
    pub fn defaults(&self, command: Command) -> Command {
        self.settings
            .iter()
            .fold(command, |command, (id, values)| command.mut_arg(id, |option| option.default_values(values)))
    }
}

/// The options of `serve`.
struct Options<'a>(Vec<&'a Arg>);

impl Options<'_> {
    fn find(&self, name: &str) -> Option<&Arg> {
        self.0.iter().find(|option| key_of(option) == Some(name)).copied()
    }
}

/// The key of an option in a file: its long name, or the name of its position.
fn key_of(option: &Arg) -> Option<&str> {
    let key = option.get_long().or(option.is_positional().then(|| option.get_id().as_str()));
    key.filter(|key| !["config", "help", "version"].contains(key))
}

impl Reader<'_> {
    pub fn wrong(&mut self, at: usize, text: impl Into<String>) {
        let before = self.before(at);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        self.errors.push(Mistake { path: self.path.into(), line, column, text: text.into() });
    }

    pub fn line(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.before(at).matches('\n').count() + 1)
    }

    fn before(&self, at: usize) -> &str {
        self.text.get(..at).unwrap_or(self.text)
    }

    /// Notes an unknown key, and proposes a similar one.
    pub fn unknown<'n>(&mut self, at: usize, name: &str, names: impl Iterator<Item = &'n str>) {
        let program = Arguments::command();
        let options = program.find_subcommand("serve").into_iter().flat_map(Command::get_arguments);
        if options.filter_map(key_of).any(|option| option == name) {
            return self
                .wrong(at, format!("{name}: a setting of the server: put it above the first [[rule]] or [[boot]]"));
        }
        let likeness = |known: &str| strsim::jaro_winkler(&name.to_lowercase().replace('_', "-"), known);
        let names: Vec<&str> = names.collect();
        let meant = names.iter().map(|known| (likeness(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
        self.wrong(
            at,
            match meant.filter(|(likeness, _)| *likeness > 0.8) {
                Some((_, meant)) => format!("{name}: unknown key; did you mean {meant}?"),
                None if names.len() > FEW => {
                    format!("{name}: unknown key; the keys are the names of the options of `tuffet serve`")
                }
                None => format!("{name}: unknown key; the keys here are {}", names.join(", ")),
            },
        );
    }

    /// The value of an option, if it is valid.
    fn setting(&mut self, name: &str, option: &Arg, value: &Value<'_>) -> Option<(String, Vec<String>)> {
        let errors = self.errors.len();
        let values = match (option.get_action(), value.get_ref()) {
            (ArgAction::SetTrue, DeValue::Boolean(on)) => vec![on.to_string()],
            (ArgAction::SetTrue, _) => return self.none(value, format!("{name} must be true or false")),
            (ArgAction::Append, DeValue::Array(values)) => {
                values.iter().filter_map(|value| self.text(name, value)).collect()
            }
            (_, DeValue::Array(_)) => return self.none(value, format!("{name} takes one value, not a list")),
            (ArgAction::Count, count) if !is_count(count) => {
                return self.none(value, format!("{name} must be a number from 0 to 255"));
            }
            _ => vec![self.text(name, value)?],
        };
        if !matches!(option.get_action(), ArgAction::SetTrue | ArgAction::Count) {
            let places: Vec<usize> = match value.get_ref() {
                DeValue::Array(values) => values.iter().map(|value| value.span().start).collect(),
                _ => vec![value.span().start],
            };
            for (text, at) in values.iter().zip(places) {
                if let Err(why) = try_value(option, text) {
                    self.wrong(at, format!("{name}: {why}"));
                }
            }
        }
        (self.errors.len() == errors).then(|| (option.get_id().to_string(), values))
    }

    /// A value as it would be written on the command line.
    fn text(&mut self, name: &str, value: &Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
            }
            DeValue::Float(number) => Some(number.as_str().replace('_', "")),
            other => {
                let kind = other.type_str();
                self.none(value, format!("{name} must be a string or a number, not of type {kind}"))
            }
        }
    }

    pub fn none<T>(&mut self, value: &Value<'_>, text: String) -> Option<T> {
        self.wrong(value.span().start, text);
        None
    }
}

/// Whether this is a valid count of a flag.
fn is_count(value: &DeValue<'_>) -> bool {
    value.as_integer().is_some_and(|number| u8::from_str_radix(number.as_str(), number.radix()).is_ok())
}

/// The error of the option's own parser for a value.
fn try_value(option: &Arg, value: &str) -> std::result::Result<(), String> {
    let alone = option.clone().env(Resettable::Reset).requires(Resettable::Reset).conflicts_with(Resettable::Reset);
    let words = match alone.get_long() {
        Some(long) => vec![format!("--{long}={value}")],
        None => vec!["--".into(), value.into()],
    };
    let command = Command::new("tuffet").no_binary_name(true).arg(alone.required(false));
    match command.try_get_matches_from(words) {
        Ok(_) => Ok(()),
        Err(error) => Err(match std::error::Error::source(&error) {
            Some(source) => format!("invalid value {value:?}: {source}"),
            None => {
                let text = error.to_string();
                text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        }),
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.text.replace('\n', " "))
    }
}
