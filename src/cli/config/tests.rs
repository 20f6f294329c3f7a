use super::*;
use crate::cli::args::Serve;

fn errors(text: &str) -> Vec<String> {
    File::parse("f", text).errors.iter().map(ToString::to_string).collect()
}

fn serve(text: &str, line: &str) -> Serve {
    let file = File::parse("f", text);
    assert!(file.errors.is_empty(), "{:?}", file.errors);
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, text).unwrap();
    let words = ["tuffet", "serve"].into_iter().chain(line.split_whitespace());
    match merged(Some(path.path()), words).unwrap().unwrap().0.command {
        Command::Serve(serve) => *serve,
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_are_defaults() {
    let text = "
        sources = ['/a', 'http://b/']
        listen = ':6969'
        upload = true
        overwrite = false
        windowsize = 0x10
        blksize = 1_024
        patience = 2.5
        max-upload = '64M'
        upload-names = ['*.cfg', 'b*']
        verbose = 2
    ";
    let args = serve(text, "");
    assert_eq!((args.sources.len(), args.listen.len(), args.upload, args.overwrite), (2, 1, true, false));
    assert_eq!((args.windowsize, args.blksize, args.max_upload.0), (Some(16), Some(1024), 64 << 20));
    assert_eq!((args.patience.as_millis(), args.output.verbose), (2500, 2));
    assert_eq!(args.uploads.upload_names, ["*.cfg", "b*"]);
    let args = serve(text, "/c --windowsize 8 --listen 10.0.0.1 --upload-names x");
    assert_eq!((args.sources.len(), args.windowsize, args.blksize), (1, Some(8), Some(1024)));
    assert_eq!(args.listen[0].0[0].to_string(), "10.0.0.1:69");
    assert_eq!(args.uploads.upload_names, ["x"]);
}

/// Each option can be set in a file, and none of them is forgotten.
#[test]
fn every_option_is_a_key() {
    let program = Arguments::command();
    for option in program.find_subcommand("serve").unwrap().get_arguments() {
        let key = option.get_long().unwrap_or(option.get_id().as_str());
        let found = errors(&format!("{key} = {{}}"));
        assert_eq!(found.len(), 1, "{key}");
        assert_eq!(found[0].contains("unknown key"), ["help", "config"].contains(&key), "{found:?}");
    }
}

#[test]
fn all_errors_have_their_places() {
    let text = "windowsize = 0\nsorces = 'x'\n\n  blksize = [512]\nupload = 'yes'\nlisten = [':69', 'localhost']\n\
        max_upload = 5\nport-range = 1979-05-27\nzzz = 1\nverbose = 999\nwindow size = 3\n";
    let found = errors(text);
    for (i, (place, what)) in [
        ("f:1:14: ", "windowsize: invalid value \"0\": not a number from 1 to 65535"),
        ("f:2:1: ", "did you mean sources?"),
        ("f:4:13: ", "blksize takes one value"),
        ("f:5:10: ", "upload must be true or false"),
        ("f:6:18: ", "listen: invalid value \"localhost\": not an address"),
        ("f:7:1: ", "did you mean max-upload?"),
        ("f:8:14: ", "port-range must be a string or a number"),
        ("f:9:1: ", "zzz: unknown key; the keys are the names of the options"),
        ("f:10:11: ", "verbose must be a number from 0 to 255"),
        ("f:11:", ""),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(found[i].starts_with(place) && found[i].contains(what), "{what}: {found:#?}");
    }
    assert!(found.iter().all(|error| !error.contains('\n')));
}

#[test]
fn the_keys_of_a_rule_are_told() {
    let found = errors("[[rule]]\nmac = '52:54:00'\ntraget = 'x'\n");
    assert!(found[0].starts_with("f:2:1: mac: unknown key; the keys here are title, client, arch,"), "{found:#?}");
    assert!(found[1].ends_with("did you mean target?"), "{found:#?}");
}

#[test]
fn a_setting_of_the_server_below_a_rule_is_told_its_place() {
    let found = errors("[[rule]]\nrefuse = 'silent'\nmax-transfers = 5\n[[boot]]\nfile = 'x'\nlisten = ':69'\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    for (error, place) in found.iter().zip(["f:3:1: max-transfers", "f:6:1: listen"]) {
        assert!(error.starts_with(place) && error.ends_with("put it above the first [[rule]] or [[boot]]"), "{error}");
    }
}

#[test]
fn rules() {
    let text = "
        map = ['^a=>b']
        [[rule]]
        title = 'all of it'
        client = ['10.0.0.0/8', '52:54:00']
        name = '^(?<x>.)'
        mode = 'octet'
        kind = 'read'
        target = ['${x}', 'http://h/${x}?a=${mac}']
        root = 'memory:'
        ignore-case = true
        options = ['tsize']
        blksize = 1024
        windowsize = 4
        upload = false
        [[rule]]
        name = '^x'
        target = 'y'
        go-on = true
        [[rule]]
        refuse = 'silent'
    ";
    let args = serve(text, "--map c=>d");
    assert_eq!((args.names.maps.len(), args.names.rules.len()), (1, 3));
    assert!(args.names.rules[0].rule.title().ends_with(":3 (all of it)"), "{:?}", args.names.rules[0].rule);
}

#[test]
fn wrong_rules_are_reported_with_their_places() {
    for (text, place, what) in [
        ("rule = 3", "f:1:8: ", "[[rule]]"),
        ("rule = [3]", "f:1:9: ", "[[rule]]"),
        ("[[rule]]\nnmae = 'x'", "f:2:1: ", "did you mean name?"),
        ("[[rule]]\nname = '('", "f:2:8: ", "regular expression"),
        ("[[rule]]\nname = 5", "f:2:8: ", "it must be a string"),
        ("[[rule]]\nclient = '10.0.0.0/40'", "f:2:10: ", "\"10.0.0.0/40\" is not a network"),
        ("[[rule]]\nclient = []", "f:2:10: ", "would match all"),
        ("[[rule]]\n\n[[rule]]\nname = '(a)'\ntarget = '$2'", "f:3:1: ", "no group 2"),
        ("[[rule]]\ntarget = 'http://$0/'", "f:1:1: ", "host"),
        ("[[rule]]\ntarget = ['a', 'b']\ngo-on = true", "f:1:1: ", "with `go-on`"),
        ("[[rule]]\nroot = 'ftp://h/'", "f:2:8: ", "http://"),
        ("[[rule]]\nrefuse = 'no'", "f:2:10: ", "\"silent\""),
        ("[[rule]]\nblksize = 7", "f:2:11: ", "8 to 65464"),
        ("[[rule]]\noptions = ['size']", "f:2:11: ", "not an option"),
        ("[[rule]]\nupload = 1", "f:2:10: ", "true or false"),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(place) && found[0].contains(what), "{text}: {found:?}");
    }
}

#[test]
fn the_example_is_right() {
    let text = include_str!("../../../examples/tuffet.toml");
    assert_eq!(errors(text), Vec::<String>::new());
    let file = File::parse("f", text);
    assert_eq!((file.rules.len(), file.boots.len()), (6, 1));
    // The keys in the comments of rules and boot files are valid as well.
    let (rules, boots) = text.split_once("# Boot files").unwrap();
    let settings = |text: &'static str| {
        let shown = text.lines().filter_map(|line| line.strip_prefix("#   ")).filter(|line| line.contains(" = "));
        shown.map(|line| line.split("  ").next().unwrap()).collect::<Vec<_>>()
    };
    let (rules, boots) = (settings(rules), settings(boots));
    assert_eq!((rules.len(), boots.len()), (19, 6));
    for setting in rules {
        let found = errors(&format!("[[rule]]\n{setting}"));
        assert!(
            found.iter().all(|error| error.contains("no group 1") || error.contains("SITE: ")),
            "{setting}: {found:?}"
        );
    }
    for setting in boots {
        let file = if setting.starts_with("file") { "" } else { "file = 'x'\n" };
        assert_eq!(errors(&format!("[[boot]]\n{file}{setting}")), Vec::<String>::new(), "{setting}");
    }
}

#[test]
fn the_pages_on_boot_files_and_rules_are_right() {
    for page in [include_str!("../../../docs/dhcp.md"), include_str!("../../../docs/rules.md")] {
        let (_, rest) = page.split_once("```toml\n").unwrap();
        assert_eq!(errors(rest.split_once("```").unwrap().0), Vec::<String>::new());
    }
}

/// Each flag and key that a hint names is one of this program.
#[test]
fn the_advice_of_hints_can_be_followed() {
    use tuffet::hint::{self, Hint};
    hint::name_options();
    let hints = [
        Hint::NoOptions,
        Hint::SmallerBlocks { blksize: 1468, better: 1228 },
        Hint::NoRollover { needed: Some(1000), asked: true },
        Hint::SinglePort,
    ];
    for hint in hints {
        let text = hint.to_string();
        let advice = text.split('`').nth(1).unwrap_or_else(|| panic!("{text}"));
        match advice.starts_with("--") {
            true => drop(serve("", advice)),
            false => assert_eq!(errors(&format!("[[rule]]\n{advice}")), Vec::<String>::new(), "{text}"),
        }
    }
}
