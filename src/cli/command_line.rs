//! The command line and the environment: read, with errors in one line.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, ArgMatches, Command, CommandFactory, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ErrorKind},
};

use super::args::Arguments;

/// The prefix of all variables.
const PREFIX: &str = "TUFFET_";
/// The variables that Kubernetes sets in every container if a service is called `tuffet`.
const OF_KUBERNETES: [&str; 2] = ["TUFFET_PORT", "TUFFET_SERVICE_"];
/// The exit code for a wrong command line.
const USAGE_ERROR: i32 = 2;

/// Parses the words of a command line, and the environment.
pub fn parse(
    program: Command,
    words: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<(Arguments, ArgMatches), clap::Error> {
    let program = environment(program);
    let words = joined(&program, words.into_iter().map(Into::into));
    let matches = program.try_get_matches_from(words)?;
    Ok((Arguments::from_arg_matches(&matches)?, matches))
}

/// Adds the values from the environment that clap would read differently.
fn environment(program: Command) -> Command {
    let names: Vec<String> = program.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(program, |program, name| program.mut_subcommand(name, |command| command.mut_args(variable)))
}

/// The words of the command line. A value that begins with `-` is joined to its option by `=`, because clap takes the
/// second word of `--timeout -5s` for an option, and not for a wrong value.
fn joined(program: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in words {
        let command = joined.get(1).and_then(|name| program.find_subcommand(name));
        let are_options_over = joined.iter().any(|word| word == "--");
        let before = joined.last_mut().filter(|before| {
            let takes_it = |command| takes_value(command, before) && is_negative(command, &word);
            !are_options_over && command.is_some_and(takes_it)
        });
        match before {
            Some(before) => {
                before.push("=");
                before.push(word);
            }
            None => joined.push(word),
        }
    }
    joined
}

/// Whether this word is an option, and the next word its value.
fn takes_value(command: &Command, word: &OsStr) -> bool {
    let is_named = |option: &&Arg| {
        let long = option.get_long().is_some_and(|long| word.to_str() == Some(&format!("--{long}")));
        long || option.get_short().is_some_and(|short| word.to_str() == Some(&format!("-{short}")))
    };
    command.get_arguments().find(is_named).is_some_and(|option| option.get_action().takes_values())
}

/// Whether this word begins with `-`, but with no option.
fn is_negative(command: &Command, word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let first = word.strip_prefix('-').and_then(|rest| rest.chars().next());
    first.is_some_and(|first| first != '-' && !command.get_arguments().any(|option| option.get_short() == Some(first)))
}

/// The value of a variable, or the values of a list in it, without the spaces around them: files with variables may
/// have the line ends of Windows. An empty variable sets nothing: containers have empty variables for options that are
/// not used. In a variable, commas also separate arguments; on the command line a comma is part of a name.
fn variable(arg: Arg) -> Arg {
    let is_list = arg.is_positional() && matches!(arg.get_action(), clap::ArgAction::Append);
    let delimiter = if is_list { Some(',') } else { arg.get_value_delimiter() };
    let set = arg.get_env().and_then(env::var_os);
    // A flag has a parser of its own.
    if set.as_ref().is_some_and(|set| set.is_empty()) && !matches!(arg.get_action(), clap::ArgAction::SetTrue) {
        return arg.env(Resettable::Reset);
    }
    let Some(set) = set.filter(|_| arg.get_action().takes_values()) else { return arg };
    let list: Vec<OsString> = match set.to_str() {
        Some(text) if delimiter.is_some() || text.trim() != text => {
            let values = text.split(|char| Some(char) == delimiter).map(str::trim);
            values.filter(|one| !one.is_empty()).map(OsString::from).collect()
        }
        None if delimiter.is_some() => vec![set],
        _ => return arg,
    };
    let arg = arg.env(Resettable::Reset);
    // A small program is without reloads, and without the parser's owned texts.
    #[cfg(not(feature = "full"))]
    let list: Vec<&std::ffi::OsStr> = list.into_iter().map(|one| &*Box::leak(one.into_boxed_os_str())).collect();
    if list.is_empty() { arg } else { arg.default_values(list) }
}

/// The command line and the environment. If they are wrong, the program ends.
pub fn read() -> (Arguments, ArgMatches) {
    parse(Arguments::command(), env::args_os()).unwrap_or_else(|error| end(&error))
}

/// Prints the help if it was asked for, or otherwise the error in one line, and ends the program.
pub fn end(error: &clap::Error) -> ! {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let words: Vec<String> = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    usage_error(&explain(error, &words))
}

/// Prints a message in one line: a path, for example, may hold control characters.
pub fn say(message: impl std::fmt::Display) {
    let message = message.to_string();
    let shown = message.chars().fold(String::new(), |mut shown, char| {
        match char.is_control() {
            true => shown.extend(char.escape_debug()),
            false => shown.push(char),
        }
        shown
    });
    eprintln!("tuffet: {shown}");
}

/// Ends the program as [`end`] does, for errors that the parser cannot see.
pub fn usage_error(message: &str) -> ! {
    say(message);
    std::process::exit(USAGE_ERROR)
}

/// The error, and a correct form.
fn explain(error: &clap::Error, words: &[String]) -> String {
    let said = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    let command = words.first().filter(|word| !word.starts_with('-'));
    if let Some((word, long)) = command.and_then(|command| with_one_hyphen(command, &words[1..])) {
        return format!("unknown option {word}; did you mean --{long}?");
    }
    let help = command.map_or("`tuffet --help`".into(), |command| format!("`tuffet {command} --help`"));
    let meant = |kind, otherwise: String| match said(kind) {
        Some(meant) => format!("did you mean {meant}?"),
        None => otherwise,
    };
    let arg = said(ContextKind::InvalidArg).unwrap_or_default();
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string);
    match (error.kind(), value) {
        (ErrorKind::InvalidSubcommand, _) => {
            let name = said(ContextKind::InvalidSubcommand).unwrap_or_default();
            let meant = meant(ContextKind::SuggestedSubcommand, "`tuffet --help` lists them".into());
            format!("unknown command {name}; {meant}")
        }
        (ErrorKind::UnknownArgument, _) if arg.starts_with('-') && elsewhere(&arg, command).is_some() => {
            format!("unknown option {arg}; {}", elsewhere(&arg, command).unwrap_or_default())
        }
        (ErrorKind::UnknownArgument, _) if arg.starts_with('-') => {
            format!("unknown option {arg}; {}", meant(ContextKind::SuggestedArg, format!("{help} lists them")))
        }
        (ErrorKind::UnknownArgument, _) => format!("{arg} is one argument too many; {help} shows the usage"),
        (ErrorKind::MissingRequiredArgument, _) => {
            let usage = said(ContextKind::Usage).unwrap_or_default();
            let missing: Vec<_> = arg.split(", ").map(bare).collect();
            let are = if missing.len() == 1 { "is" } else { "are" };
            format!("{} {are} missing; {}", missing.join(" and "), usage.trim().replace("Usage: ", "it is "))
        }
        (ErrorKind::InvalidValue, None) => format!("{} needs a value; it is {arg}", bare(&arg)),
        (ErrorKind::InvalidValue, Some(value)) if value.is_empty() => {
            format!("{} needs a value; it is {arg}", bare(&arg))
        }
        (ErrorKind::InvalidValue, Some(value)) => {
            let known = said(ContextKind::ValidValue).unwrap_or_default();
            format!("{}: use one of {known}", place(&arg, &value, words))
        }
        (ErrorKind::ValueValidation, Some(value)) => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let is_quoted =
                ['"', '\''].iter().any(|mark| value.len() > 1 && value.starts_with(*mark) && value.ends_with(*mark));
            let quotes = if is_quoted { "; the quotation marks are a part of this value: leave them out" } else { "" };
            format!("{}: {why}{quotes}", place(&arg, &value, words))
        }
        _ => {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            format!("{}; {help} says more", first.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

/// A long option with one hyphen, which would be a short one with a value. Returns it as it was typed, and its name.
fn with_one_hyphen<'a>(command: &str, words: &'a [String]) -> Option<(&'a str, String)> {
    let program = Arguments::command();
    let command = program.find_subcommand(command)?;
    words.iter().take_while(|word| *word != "--").find_map(|word| {
        let name = word.strip_prefix('-')?.split('=').next().filter(|name| name.len() > 2)?;
        let long = command.get_arguments().filter_map(Arg::get_long).find(|long| *long == name)?;
        Some((word.as_str(), long.to_owned()))
    })
}

/// The option of this program for one that other servers and clients have.
fn elsewhere(arg: &str, command: Option<&String>) -> Option<&'static str> {
    match (command?.as_str(), arg) {
        (
            "serve" | "explain",
            "--port" | "-p" | "--address" | "-a" | "--host" | "--bind" | "--bind-address" | "--ip-address",
        ) => Some("use --listen ADDR:PORT or --listen :PORT"),
        ("serve", "--ipv4" | "-4") => Some("use --listen 0.0.0.0:69 for IPv4 alone"),
        ("serve", "--ipv6" | "-6") => Some("use --listen [::]:69 for IPv6 alone"),
        ("serve", "--tftp-port-range" | "-R") => Some("use --port-range LOW-HIGH"),
        ("serve", "--tftp-max" | "--maxthread" | "--max-clients") => Some("use --max-transfers NUMBER"),
        ("serve", "--retransmit" | "--retry-timeout" | "-T") => Some("use --timeout TIME"),
        ("serve", "--retries" | "--max-retries") => {
            Some("there is no number of retries; --patience TIME ends a transfer whose client is silent")
        }
        ("serve" | "explain", "--map-file" | "--pcre" | "-m") => {
            Some("use --map REGEX=>TARGET, or rules in the file of --config")
        }
        ("serve" | "explain", "--tftp-unique-root") => Some("use --map '.*=>${client}/${path}=>${path}'"),
        ("serve", "--group" | "--chroot") => Some("use --user USER:GROUP; clients cannot leave DIR anyway"),
        ("serve", "--max-size" | "--max-file-size") => Some("use --max-upload SIZE"),
        ("serve", "--read-only" | "--readonly" | "--no-upload") => Some("clients can only read, without --upload"),
        ("serve", "--log-level" | "--debug") => Some("use -v or -vv to log more, -q to log errors only"),
        ("serve", "--daemon" | "--foreground" | "--no-fork" | "-L" | "--pidfile" | "--pid-file" | "-P") => {
            Some("it stays in the foreground; a service manager runs it in the background")
        }
        (
            "serve" | "explain",
            "--root" | "--dir" | "--directory" | "-d" | "--source" | "-s" | "--secure" | "--tftp-root",
        ) => Some("name the directory as an argument: tuffet serve DIR"),
        ("serve" | "explain", "--mtu" | "--tftp-mtu" | "--blocksize" | "-B") => Some("use --blksize BYTES"),
        ("serve" | "explain", "--tftp-lowercase" | "--lowercase") => Some("use --ignore-case"),
        ("serve" | "explain", "--create" | "-c" | "--write" | "--writable" | "--allow-write" | "-w") => {
            Some("use --upload to allow uploads")
        }
        ("get" | "put" | "probe", "--port" | "-p") => Some("write the port after the host: HOST:PORT"),
        ("get" | "put", "--mode" | "-m") => Some("octet is the default mode; --netascii changes it"),
        ("get", "--output" | "-o" | "-O") => {
            Some("name the local file as the last argument: tuffet get HOST NAME FILE")
        }
        _ => None,
    }
}

/// `--patience` of `--patience <TIME>`, `SOURCE` of `[SOURCE]...`.
fn bare(arg: &str) -> &str {
    let arg = arg.strip_suffix("...").unwrap_or(arg);
    let inner = arg.strip_prefix('<').and_then(|arg| arg.strip_suffix('>'));
    let inner = inner.or_else(|| arg.strip_prefix('[').and_then(|arg| arg.strip_suffix(']')));
    inner.unwrap_or(arg.split([' ', '=']).next().unwrap_or(arg))
}

/// The place of a value: the command line, or the environment.
fn place(arg: &str, value: &str, words: &[String]) -> String {
    let name = bare(arg);
    let variable = format!("{PREFIX}{}", name.trim_start_matches('-').to_uppercase().replace('-', "_"));
    // Another option may have the same value, so an option is recognized by its name, and an argument by its value.
    let is_typed = words.iter().any(|word| match name.strip_prefix("--") {
        Some(long) => word.split('=').next() == Some(name) || word.starts_with(&format!("-{}", &long[..1])),
        None => word == value,
    });
    match is_typed {
        false if env::var_os(&variable).is_some() => format!("{variable}={value}"),
        _ => format!("{name} {value:?}"),
    }
}

/// Unknown variables, which would otherwise hide a typing error.
pub fn unknown_variables() -> Vec<String> {
    let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    set.filter(|name| name.starts_with(PREFIX)).filter_map(|name| unknown_variable(&name)).collect()
}

fn unknown_variable(name: &str) -> Option<String> {
    let program = Arguments::command();
    let options = program.get_subcommands().flat_map(Command::get_arguments);
    let known: Vec<&str> = options.filter_map(|option| option.get_env()?.to_str()).collect();
    if known.contains(&name) || OF_KUBERNETES.iter().any(|theirs| name.starts_with(theirs)) {
        return None;
    }
    let likeness = |known: &&str| strsim::jaro_winkler(&name[PREFIX.len()..], &known[PREFIX.len()..]);
    let meant = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|meant| likeness(meant) > 0.8);
    let meant =
        meant.map_or("`tuffet serve --help` lists the options".into(), |meant| format!("did you mean {meant}?"));
    Some(format!("unknown variable {name}; {meant}"))
}

/// Options without effect, because of other options: those of uploads without uploads, for example.
pub fn without_effect(matches: &ArgMatches, takes_uploads: bool, has_web: bool) -> Vec<String> {
    let Some(matches) = matches.subcommand_matches("serve") else { return Vec::new() };
    let program = Arguments::command();
    let options = program.find_subcommand("serve").into_iter().flat_map(Command::get_arguments);
    // The small program lacks some of these options.
    let is_on = |id| matches.try_get_one::<bool>(id).ok().flatten().is_some_and(|on| *on);
    let reason = |option: &Arg| match (option.get_help_heading(), option.get_id().as_str()) {
        (Some("Uploads"), _) | (_, "on_upload") if !takes_uploads => Some("without --upload"),
        (Some("Web servers"), _) if !has_web => Some("without a web server or bucket to serve"),
        (_, "dhcp_interface" | "dhcp_boot") if !is_on("dhcp") => Some("without --dhcp"),
        (_, "port_range") if is_on("single_port") => Some("with --single-port"),
        _ => None,
    };
    let said = options.filter_map(|option| {
        let reason = reason(option)?;
        let values: Vec<_> = matches.get_raw(option.get_id().as_str())?.collect();
        let defaults: Vec<_> = option.get_default_values().iter().map(|value| value.as_os_str()).collect();
        // The configuration file and the environment set defaults too, so an option is set if it differs from the
        // program's own default.
        let off = ["false".into(), "0".into(), OsString::new()];
        let is_set = values != defaults && !off.iter().any(|off| values == [off.as_os_str()]);
        is_set.then(|| format!("--{} has no effect {reason}", option.get_long().unwrap_or_default()))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(Into::into).collect();
        let parsed = parse(Arguments::command(), std::iter::once("tuffet").chain(line.split(' ')));
        explain(&parsed.err().unwrap_or_else(|| panic!("{line}")), &words)
    }

    #[test]
    fn a_wrong_line_is_one_line_that_says_what_is_right() {
        for (line, right) in [
            ("serv", if cfg!(feature = "full") { "did you mean serve?" } else { "`tuffet --help`" }),
            ("bake", "`tuffet --help`"),
            ("serve --lisen :6969", "unknown option --lisen; "),
            ("serve --zzz", "`tuffet serve --help`"),
            ("serve --listen", "--listen needs a value"),
            ("serve --patience foo", "--patience \"foo\": not a time, such as 500ms"),
            ("serve --patience -1", "--patience \"-1\": not a time"),
            ("serve --timeout -5s", "--timeout \"-5s\": not a time"),
            ("get --patience -1.5m h x", "--patience \"-1.5m\": not a time"),
            ("serve --max-upload -5M", "--max-upload \"-5M\": not a size"),
            ("serve --listen -10.0.0.1:69", "--listen \"-10.0.0.1:69\": not an address"),
            ("serve -l -10.0.0.1", "--listen \"-10.0.0.1\": not an address"),
            ("serve --port-range -5-9", "--port-range \"-5-9\": not two ports"),
            ("serve --listen -v", "--listen needs a value"),
            ("serve --listen --upload", "--listen needs a value"),
            (
                "serve --listen --uplaod",
                if cfg!(feature = "full") { "did you mean" } else { "unknown option --uplaod" },
            ),
            ("serve -5s", "unknown option -5"),
            ("serve -upload", "did you mean --upload?"),
            ("serve -listen :6969", "unknown option -listen; did you mean --listen?"),
            ("serve -max-upload=5M -u", "unknown option -max-upload=5M; did you mean --max-upload?"),
            ("serve --listen *:6969", "all addresses are :6969"),
            ("serve --listen 224.0.0.1:69", ":69 for all of them"),
            ("serve --listen ff02::1", ":69 for all of them"),
            ("serve --listen 255.255.255.255", ":69 for all of them"),
            ("serve --listen :::6969", "all addresses are :6969"),
            ("serve --max-upload '5M'", "leave them out"),
            ("serve --drain 9999999999999y", "100 years"),
            ("serve --drain 99999999999999999999999y", "100 years"),
            ("get --timeout foo h x", "--timeout \"foo\": not a time"),
            ("serve --max-upload 5X", "--max-upload \"5X\": not a size, such as"),
            ("serve --min-free -1", "not a size"),
            ("serve --listen :70000", "from 0 to 65535"),
            ("serve --listen 6969", ":6969"),
            ("serve --listen localhost:69", "not an address"),
            ("serve --blksize 7", "a number from 8 to 65464"),
            ("get --blksize big h x", "a number from 8 to 65464"),
            ("serve --windowsize 0", "a number from 1 to 65535"),
            ("serve --shards many", "a number from 1"),
            ("serve --max-transfers 0", "a number from 1"),
            ("serve --max-requests-per-client -5", "a number from 0"),
            ("serve --keep-versions x", "a number from 0"),
            ("serve --log-format xml", "use one of text"),
            ("serve ftp://h/", "SOURCE \"ftp://h/\": a URL begins with"),
            ("get", "HOST[:PORT] is missing; it is tuffet get"),
            ("get h:70000 x", "from 0 to 65535"),
            ("put h:0 x", "no server has port 0"),
            ("serve --port 6969", "--listen :PORT"),
            ("serve -p 6969", "--listen :PORT"),
            ("serve --root /srv", "tuffet serve DIR"),
            ("serve --tftp-root=/srv", "tuffet serve DIR"),
            ("serve --tftp-mtu 1400", "--blksize BYTES"),
            ("serve --tftp-lowercase", "use --ignore-case"),
            ("serve --daemon", "service manager"),
            ("serve -L -s /srv", "service manager"),
            ("serve --pid-file x", "service manager"),
            ("serve --bind-address ::1", "--listen ADDR:PORT"),
            ("serve -4", "--listen 0.0.0.0:69"),
            ("serve --tftp-max=50", "--max-transfers"),
            ("serve --retries 3", "--patience"),
            ("serve --retry-timeout 3", "--timeout TIME"),
            ("serve -m /etc/map", "--map REGEX"),
            ("serve --tftp-unique-root=mac", "${client}/${path}"),
            ("serve --chroot /srv", "--user USER:GROUP"),
            ("serve --max-size 5M", "--max-upload"),
            ("serve --allow-write", "--upload"),
            ("serve --no-upload", "without --upload"),
            ("serve --debug", "-v"),
            ("get h x --mode octet", "--netascii"),
            ("get -o y h x", "tuffet get HOST NAME FILE"),
            ("get --port 70 h x", "HOST:PORT"),
            ("serve --listen localhost", "127.0.0.1"),
            ("serve --port-range 50000-70000", "from 1 to 65535"),
            ("get tftp://[::1/x", "both brackets"),
            ("explain", "CLIENT and NAME are missing"),
            ("get a b c d", "d is one argument too many"),
        ] {
            let said = said(line);
            assert!(said.contains(right) && !said.contains('\n'), "{line}: {said}");
        }
    }

    #[test]
    fn unknown_variables_are_reported() {
        assert_eq!(unknown_variable("TUFFET_LISTEN"), None);
        assert_eq!(unknown_variable("TUFFET_SERVICE_HOST"), None);
        assert!(unknown_variable("TUFFET_LISTN").unwrap().ends_with("did you mean TUFFET_LISTEN?"));
        assert!(unknown_variable("TUFFET_ZZZ").unwrap().contains("TUFFET_ZZZ"));
    }

    #[test]
    fn options_without_effect_are_reported() {
        let said = |line: &str, uploads, web| {
            let words = ["tuffet", "serve"].into_iter().chain(line.split_whitespace());
            without_effect(&parse(Arguments::command(), words).unwrap().1, uploads, web)
        };
        assert_eq!(said("", false, false), [""; 0]);
        assert_eq!(said("--overwrite", false, true), ["--overwrite has no effect without --upload"]);
        assert_eq!(said("--mkdir --max-upload 1M --upload-names a,b --keep-versions 2", false, true).len(), 4);
        assert_eq!(said("--overwrite --upload", true, true), [""; 0]);
        let ports = "--port-range has no effect with --single-port";
        assert_eq!(said("--single-port --port-range 5000-5009", true, true), [ports]);
        assert_eq!(said("--port-range 5000-5009", true, true), [""; 0]);
        #[cfg(feature = "full")]
        {
            let set = "--dhcp-interface eth0 --dhcp-boot arch=x64=>grub.efi --on-upload true";
            assert_eq!(said(set, false, true).len(), 3);
            assert_eq!(said(&format!("--dhcp {set}"), true, true), [""; 0]);
        }
        #[cfg(feature = "http")]
        assert_eq!(said("--stale --cache 1M", true, false).len(), 2);
    }
}
