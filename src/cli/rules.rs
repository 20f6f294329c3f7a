//! `--map`, and the rules that it makes.

use std::{ffi::OsString, str::FromStr};

use clap::{ArgAction, Args};
use tuffet::{
    Error, Handler,
    handlers::Ruled,
    rules::{ARCHES, Clients, Rule, Rules, is_url},
};

use super::{
    Result,
    args::Serve,
    sources::{Opened, Source},
    values,
};

/// How names become those of files.
#[derive(Args, Debug)]
pub struct Names {
    /// Serve TARGET for matching names: `[CLIENTS ]REGEX=>TARGET`; the first match counts
    #[arg(long = "map", value_name = "RULE", env = "TUFFET_MAP", value_delimiter = '\n')]
    #[arg(help_heading = "Names")]
    pub maps: Vec<Planned>,

    /// The rules of the configuration file, which come after those of `--map`.
    #[arg(skip)]
    pub rules: Vec<Planned>,

    /// Find files of directories that differ in upper and lower case only
    #[arg(long, env = "TUFFET_IGNORE_CASE", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Names")]
    pub ignore_case: bool,
}

/// A rule whose sources are not opened yet.
#[derive(Clone, Debug)]
pub struct Planned {
    pub rule: Rule,
    pub targets: Vec<String>,
    pub root: Option<Source>,
}

impl Names {
    pub fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    fn all(&self) -> impl Iterator<Item = &Planned> {
        self.maps.iter().chain(&self.rules)
    }

    /// The sources of its files: directories, and what is opened of URLs.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        let source = |url: String| Source::try_from(OsString::from(url)).ok();
        self.all().flat_map(move |planned| planned.root.clone().into_iter().chain(planned.bases().filter_map(source)))
    }
}

/// `10.0.0.0/8,52:54:00,arch=x64 ^x64/(.*)=>http://mirror/$1=>x64/default`: the clients, the names, and the targets,
/// tried in order.
impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut parts = text.split("=>").map(str::trim);
        let pattern = parts.next().unwrap_or_default();
        let targets: Vec<String> = parts.map(Into::into).collect();
        if targets.is_empty() {
            return Err("not REGEX=>TARGET".into());
        }
        let mut rule = Rule::new(title(pattern, &targets));
        let regex = match pattern.split_once(' ') {
            Some((first, regex)) if is_of_clients(first) => {
                rule = first.split(',').try_fold(rule, of_client)?;
                regex.trim_start()
            }
            None if pattern.contains(['/', ':', '=']) && is_of_clients(pattern) => {
                return Err(format!(
                    "{pattern} are the clients; a REGEX goes behind them: '{pattern} .*=>{}'",
                    targets[0]
                ));
            }
            _ => pattern,
        };
        rule = rule.name(regex).map_err(|error| error.to_string())?;
        let map = Self { rule, targets, root: None };
        map.check()?;
        Ok(map)
    }
}

impl Planned {
    /// All errors of the rule, except those of its sources.
    pub fn check(&self) -> std::result::Result<(), String> {
        let rule = self.rule(|_| Ok(tuffet::handlers::Memory::new()));
        let checked = rule.and_then(|rule| Rules::new(vec![rule]));
        checked.map(|_| ()).map_err(|error| {
            let error = error.to_string();
            error.strip_prefix(&format!("{}: ", self.rule.title())).unwrap_or(&error).to_owned()
        })
    }

    /// The URLs without what a client can change in them.
    fn bases(&self) -> impl Iterator<Item = String> {
        let base = |target: &String| {
            let mut base = None;
            let open = |url: &str| {
                base = Some(url.to_owned());
                Ok(tuffet::handlers::Memory::new())
            };
            // An error is reported when the rule is made.
            _ = self.rule.clone().url(target, open);
            base
        };
        self.targets.iter().filter(|target| is_url(target)).filter_map(base)
    }

    fn rule<H: Handler>(
        &self,
        open: impl Fn(&Source) -> std::result::Result<H, Error>,
    ) -> std::result::Result<Rule, Error> {
        let url = |base: &str| {
            let source = Source::try_from(OsString::from(base)).map_err(Error::Config)?;
            open(&source)
        };
        let rule = match &self.root {
            Some(root) => self.rule.clone().source(open(root)?),
            None => self.rule.clone(),
        };
        self.targets.iter().try_fold(rule, |rule, target| match is_url(target) {
            true => rule.url(target, url),
            false => rule.target(target),
        })
    }
}

/// The title of a rule, without the passwords of web servers, because logs show it.
fn title(pattern: &str, targets: &[String]) -> String {
    let shown = targets.iter().map(|target| match (is_url(target), target.rsplit_once('@')) {
        (true, Some((_, host))) => format!("=>...@{host}"),
        _ => format!("=>{target}"),
    });
    format!("--map '{pattern}{}'", shown.collect::<String>())
}

/// The facts about a machine that a rule may have as conditions.
const FACTS: [&str; 3] = ["arch", "uuid", "serial"];

/// Whether the text is `10.0.0.0/8,52:54:00,arch=x64`, and not the beginning of a regular expression.
fn is_of_clients(text: &str) -> bool {
    let is_fact = |client: &str| client.split_once('=').is_some_and(|(key, _)| FACTS.contains(&key));
    text.split(',').all(|client| is_fact(client) || client.parse::<Clients>().is_ok())
}

fn of_client(rule: Rule, client: &str) -> std::result::Result<Rule, String> {
    match client.split_once('=') {
        Some((key, value)) => condition(rule, key, value),
        None => client.parse().map(|clients| rule.client(clients)).map_err(|error: Error| error.to_string()),
    }
}

/// Adds a condition on one of the [`FACTS`] to a rule.
pub fn condition(rule: Rule, key: &str, value: &str) -> std::result::Result<Rule, String> {
    match key {
        "arch" if ARCHES.contains(&value) => Ok(rule.arch(value)),
        "arch" => Err(format!("{value:?} is not an architecture: it is one of {}", ARCHES.join(", "))),
        "uuid" => value.parse().map(|uuid| rule.uuid(uuid)).map_err(|why| format!("{value:?} is {why}")),
        "serial" if !value.is_empty() => Ok(rule.serial(value)),
        _ => Err(format!("{key}={value} is no condition; it is {}=...", FACTS.join("=..., "))),
    }
}

/// The rules of the command line, and then those of the configuration file.
pub fn rules(args: &Serve, opened: &Opened) -> Result<Rules> {
    let open = |source: &Source| source.open(args, opened).map_err(|error| Error::Config(error.to_string()));
    let rules = args.names.all().map(|planned| planned.rule(open));
    Ok(Rules::new(rules.collect::<std::result::Result<_, _>>()?)?)
}

/// The handler, behind the rules if there are any.
pub fn apply(args: &Serve, opened: &Opened, handler: impl Handler) -> Result<Box<dyn Handler>> {
    let rules = rules(args, opened)?;
    Ok(if rules.is_empty() {
        Box::new(handler)
    } else {
        Box::new(Ruled::new(rules, handler).machines(&opened.machines))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        for good in [
            "^a$=>b",
            "(.*) => ${client}/$1 => $1",
            "10.0.0.0/8 x=>y",
            "10.0.0.0/8,::1,52:54:00 ^(?<x>.)=>http://mirror/${x}?a=${mac}",
            "a b=>c",
            "arch=x64,serial=1a2b3c4d,10.0.0.0/8 x=>y",
            "uuid=01234567-89ab-cdef-0123-456789abcdef x=>y",
            "key=x64 x=>y",
            "key=x64=>y",
            "192.168.0.1=>y",
            "[a-z] b=>c",
            "=>one",
        ] {
            assert!(good.parse::<Planned>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("x", "not REGEX=>TARGET"),
            ("(=>x", "not a regular expression"),
            ("x=>", "names no file"),
            ("x=>$1", "there is no group 1"),
            ("x=>../y", "`..`"),
            ("x=>http://$0/", "host"),
            ("10.0.0.0/8=>x", "'10.0.0.0/8 .*=>x'"),
            ("arch=x64,52:54:00 =>x", "a REGEX goes behind them"),
            ("arch=amiga x=>y", "not an architecture: it is one of bios, ia32, x64"),
            ("uuid=7 x=>y", "not a UUID"),
            ("serial= x=>y", "serial= is no condition"),
        ] {
            let error = bad.parse::<Planned>().unwrap_err();
            assert!(error.contains(why) && !error.contains("--map"), "{bad}: {error}");
        }
        let secret: Planned = "x=>http://u:secret@h/x => y".parse().unwrap();
        assert_eq!(secret.rule.title(), "--map 'x=>...@h/x=>y'");
    }
}
