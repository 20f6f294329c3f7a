use std::sync::Mutex;

use futures_lite::future::block_on;

use super::*;
use crate::{
    ErrorCode, Source,
    handler::{Answer, read},
    handlers::{Memory, Ruled},
    options::OptionName,
    packet::{self, Mode},
};

fn request(name: &str) -> Request {
    request_of(name.as_bytes())
}

fn rules(rules: impl IntoIterator<Item = Rule>) -> Rules {
    Rules::new(rules.into_iter().collect()).unwrap()
}

fn rule(name: &str) -> Rule {
    Rule::new(name).name(name).unwrap()
}

fn request_of(name: &[u8]) -> Request {
    let packet = packet::Request::new(name);
    Request::new(([10, 0, 0, 5], 1069).into(), ([10, 0, 0, 1], 69).into(), packet).unwrap()
}

/// A handler that returns the name of the request.
fn echo(base: &str) -> Result<impl Handler + use<>, Error> {
    let base = base.to_owned();
    Ok(read(async move |request: Request| {
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{base}|{}{query}", request.path())
    }))
}

fn paths(rules: &Rules, name: &str) -> Vec<String> {
    let verdict = rules.decide(&request(name), Direction::Read, &Machine::default()).unwrap();
    verdict.candidates().iter().map(|candidate| candidate.request().path().to_owned()).collect()
}

fn get(ruled: &Ruled, name: &str) -> Result<String, Refusal> {
    let bytes = block_on(async { ruled.read(&request(name)).await?.collect(1000).await })?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[test]
fn the_first_that_is_for_it_decides() {
    let rules = rules([
        rule("^a").target("first").unwrap(),
        rule("^(.)b").target("second/$1").unwrap(),
        Rule::new("rest").target("third/${path}").unwrap(),
    ]);
    assert_eq!(paths(&rules, "ab"), ["first"]);
    assert_eq!(paths(&rules, "cb"), ["second/c"]);
    assert_eq!(paths(&rules, r"C:\x\y"), ["third/x/y"]);
    assert_eq!(paths(&Rules::default(), "x"), ["x"]);
}

#[test]
fn rules_see_bytes_that_are_not_utf8_and_keep_them() {
    for (regex, target, name, expected) in [
        (r"^(.*)\xff$", "$1", &b"boot/x.efi\xff"[..], &b"boot/x.efi"[..]),
        (r"^(.*?)\xFF+$", "$1", b"boot/x.efi\xff\xff", b"boot/x.efi"),
        (r"^caf\xe9/(.*)", "$1", b"caf\xe9/menu", b"menu"),
        (r"^caf\xe9/(.*)", "$1", "caf\u{e9}/menu".as_bytes(), b"menu"),
        (r"^[^\]]*\xe9/(.*)", "$1", b"caf\xe9/menu", b"menu"),
        ("^a/(.*)", "b/$1", b"a/\xeaonboard", b"b/\xeaonboard"),
        ("^menu$", r"caf\xe9/menu", b"menu", b"caf\xe9/menu"),
    ] {
        let rules = rules([rule(regex).target(target).unwrap()]);
        let verdict = rules.decide(&request_of(name), Direction::Read, &Machine::default()).unwrap();
        assert_eq!(verdict.candidates()[0].request().path_bytes(), expected, "{regex} {target}");
    }
}

#[test]
fn a_rule_that_goes_on_leaves_its_name_to_the_next() {
    let rules = rules([
        rule("^old/(.*)").target("new/$1").unwrap().windowsize(4).blksize(1024).go_on(true),
        Rule::new("no card is known").target("${mac}").unwrap().go_on(true),
        rule("^new/(.*)").target("$1").unwrap().windowsize(8),
    ]);
    assert_eq!(paths(&rules, "old/x"), ["x"]);
    let verdict = rules.decide(&request("old/x"), Direction::Read, &Machine::default()).unwrap();
    let mut limits = Limits::default();
    verdict.limit(&mut limits);
    assert_eq!((limits.blksize, limits.windowsize), (1024, 8), "the last that said something");
    let mut limits = Limits { windowsize: 2, ..Limits::default() };
    verdict.limit(&mut limits);
    assert_eq!(limits.windowsize, 2, "no more than the server allows");
}

#[test]
fn the_limits_come_with_the_files() {
    let own = read(async |request: Request| {
        request.limit(|limits| limits.blksize = 600);
        request.path().to_owned()
    });
    let limited = [rule("^old/(.*)").target("$1").unwrap().options([OptionName::Tsize]).windowsize(8).source(own)];
    let (handler, request) = (Ruled::new(rules(limited), Memory::new()), request("old/x"));
    assert_eq!(request.limits(), Limits::default());
    block_on(handler.read(&request)).unwrap();
    let limits = request.limits();
    assert_eq!((limits.windowsize, limits.blksize, limits.only.as_deref()), (8, 600, Some(&[OptionName::Tsize][..])));
}

#[test]
fn conditions_are_all_met() {
    let rule = Rule::new("all").client("10.0.0.0/24".parse().unwrap()).name("^x").unwrap();
    let rule = rule.mode(Mode::Octet).direction(Direction::Write);
    let nobody = Machine::default();
    let matches = |name: &str, direction| rule.matches(&request(name), direction, (None, &nobody), name).map(|_| ());
    assert_eq!(matches("x", Direction::Write), Ok(()));
    assert_eq!(matches("y", Direction::Write), Err(Mismatch::Name));
    assert_eq!(matches("x", Direction::Read), Err(Mismatch::Direction));
    let elsewhere = rule.clone().mode(Mode::Netascii);
    assert_eq!(elsewhere.matches(&request("x"), Direction::Write, (None, &nobody), "x").err(), Some(Mismatch::Mode));
    let others = Rule::new("others").client("10.0.1.0/24".parse().unwrap());
    assert_eq!(others.matches(&request("x"), Direction::Read, (None, &nobody), "x").err(), Some(Mismatch::Client));
    let cards = Rule::new("cards").client("52:54:00".parse().unwrap());
    assert!(cards.needs_machine() && !others.needs_machine());
    assert_eq!(cards.matches(&request("x"), Direction::Read, (None, &nobody), "x").err(), Some(Mismatch::Mac(None)));
    assert!(cards.matches(&request("x"), Direction::Read, (Some(Mac([0x52, 0x54, 0, 1, 2, 3])), &nobody), "x").is_ok());
}

/// A client may send any name, so facts in names fill in targets, but meet no condition.
#[test]
fn a_mac_address_in_a_name_does_not_match_a_client() {
    let rules = rules([
        Rule::new("cards").client("52:54:00".parse().unwrap()).target("secret").unwrap(),
        Rule::new("rest").target("${mac}").unwrap().target("none").unwrap(),
    ]);
    let (mac, other) = (Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), Mac([1; 6]));
    let paths = |mac| {
        let machine = Machine { mac, ..Machine::default() };
        let verdict = rules.decide(&request("x/01-52-54-00-12-34-56"), Direction::Read, &machine).unwrap();
        verdict.candidates().iter().map(|candidate| candidate.request().path().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(None), [mac.to_string().as_str(), "none"]);
    assert_eq!(paths(Some(other)), [other.to_string().as_str(), "none"], "what is known counts more");
    assert_eq!(paths(Some(mac)), ["secret"]);
}

#[test]
fn a_refusal_ends_the_search() {
    let rules = rules([
        rule("^s").refuse(Refusal::denied()),
        rule("^q").refuse(Refusal::silent()),
        Rule::new("rest").target("x").unwrap(),
    ]);
    let decide = |name: &str| rules.decide(&request(name), Direction::Read, &Machine::default()).err();
    assert_eq!(decide("s").unwrap().code(), ErrorCode::ACCESS_VIOLATION);
    assert!(decide("q").unwrap().packet().is_none());
    assert_eq!(decide("x"), None);
}

#[test]
fn targets_are_tried_in_their_order() {
    let memory = Memory::new();
    memory.insert("10.0.0.5/own", "own").unwrap();
    memory.insert("own", "all").unwrap();
    memory.insert("common", "common").unwrap();
    let rule = Rule::new("own first").target("${mac}/${path}").unwrap();
    let rule = rule.target("${client}/${path}").unwrap().target("${path}").unwrap();
    let ruled = Ruled::new(rules([rule]), memory);
    assert_eq!(get(&ruled, "own").unwrap(), "own");
    assert_eq!(get(&ruled, "common").unwrap(), "common");
    assert_eq!(get(&ruled, "none").unwrap_err().code(), ErrorCode::FILE_NOT_FOUND);
    let only_mac = Ruled::new(rules([Rule::new("mac").target("${mac}").unwrap()]), Memory::new());
    assert_eq!(get(&only_mac, "x").unwrap_err().code(), ErrorCode::FILE_NOT_FOUND);
}

#[test]
fn after_any_refusal_the_next_target_is_tried() {
    let sick = |_: &str| Ok::<_, Error>(read(async |_| Err::<String, _>(Refusal::denied().because("answered 403"))));
    let rule = rule("^menu").url("http://h/${path}", sick).unwrap().target("fallback").unwrap();
    let memory = Memory::new();
    let ruled = Ruled::new(rules([rule]), memory.clone());
    let refusal = get(&ruled, "menu").unwrap_err();
    assert_eq!(refusal, Refusal::denied(), "what the first said");
    memory.insert("fallback", "fallback").unwrap();
    assert_eq!(get(&ruled, "menu").unwrap(), "fallback");
}

#[test]
fn the_refusal_of_a_rule_ends_the_search_of_a_chain() {
    let refusing = Ruled::new(rules([rule("^s").refuse(Refusal::denied())]), Memory::new());
    let chain = refusing.or(echo("behind").unwrap());
    let get = |name: &str| block_on(async { chain.read(&request(name)).await?.collect(1000).await });
    assert_eq!(get("secret"), Err(Refusal::denied()));
    assert_eq!(get("x").unwrap(), b"behind|x");
}

#[test]
fn rules_may_have_sources_of_their_own() {
    let rules = rules([
        rule("^lab/(.*)").source(echo("lab").unwrap()).target("$1").unwrap(),
        rule("^menu-(.*)").url("http://u:secret@h:81/a/b%20c/m-$1.php?mac=${1}&from=${client}", echo).unwrap(),
        rule("^fixed$").url("http://h/fixed.bin", echo).unwrap(),
        rule("^else$").source(echo("else").unwrap()),
    ]);
    let ruled = Ruled::new(rules, echo("server").unwrap());
    for (name, expected) in [
        ("lab/x", "lab|x"),
        ("menu-7", "http://u:secret@h:81/a/b%20c/|m-7.php?mac=7&from=10.0.0.5"),
        ("fixed", "http://h/|fixed.bin"),
        ("else", "else|else"),
        ("other", "server|other"),
    ] {
        assert_eq!(get(&ruled, name).unwrap(), expected);
    }
}

/// A handler that takes uploads, and records their names.
struct Sink(Arc<Mutex<Vec<String>>>);

impl Handler for Sink {
    fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Err(Refusal::not_found()) })
    }

    fn write<'a>(&'a self, request: &'a Request, _: Source) -> Answer<'a, ()> {
        self.0.lock().unwrap().push(request.path().to_owned());
        Box::pin(async { Ok(()) })
    }

    fn takes_writes(&self) -> bool {
        true
    }
}

#[test]
fn uploads_obey() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let rules = rules([
        rule("^no").upload(false),
        rule("^web").url("http://h/${path}", echo).unwrap(),
        rule("^both").url("http://h/${path}", echo).unwrap().target("kept/${path}").unwrap(),
        rule("^silent").direction(Direction::Write).refuse(Refusal::silent()),
        rule("^in").target("out").unwrap(),
    ]);
    let ruled = Ruled::new(rules, Sink(written.clone()));
    let put = |name: &str| block_on(ruled.write(&request(name), Source::from("")));
    assert_eq!(put("no"), Err(Refusal::denied()));
    assert_eq!(put("web"), Err(Refusal::denied()));
    assert_eq!(put("silent"), Err(Refusal::silent()));
    assert_eq!((put("both"), put("in"), put("x")), (Ok(()), Ok(()), Ok(())));
    assert_eq!(*written.lock().unwrap(), ["kept/both", "out", "x"]);
}

#[test]
fn options_are_granted_to_some_only() {
    let rules = rules([rule("^none").options([]), rule("^size").options([OptionName::Tsize])]);
    let only = |name: &str| {
        let mut limits = Limits::default();
        rules.decide(&request(name), Direction::Read, &Machine::default()).unwrap().limit(&mut limits);
        limits.only.map(|only| only.to_vec())
    };
    assert_eq!((only("none"), only("size"), only("x")), (Some(vec![]), Some(vec![OptionName::Tsize]), None));
}

#[test]
fn invalid_rules_are_errors() {
    for rule in [Rule::new("x").blksize(7), Rule::new("x").blksize(65465), Rule::new("x").windowsize(0)] {
        assert!(Rules::new(vec![rule]).unwrap_err().to_string().starts_with("x: "));
    }
    for target in ["", "/", "../x", "a/../x", "$", "${a"] {
        assert!(Rule::new("x").target(target).is_err(), "{target}");
    }
    for url in [
        "http://h",
        "http://h/",
        "http://$1/x",
        "http://h$1/x",
        "http://h:$1/x",
        "http://u:$1@h/x",
        "http://h?$1",
        "http://h/a/$1#x",
        "http://h/$1/../x",
        "http://h/$1/%2e%2e/x",
        "http://h/%2f$1",
        "http://h/%5c$1",
        "http://h/%ff$1",
        "http://h/dir/",
    ] {
        assert!(Rule::new("x").url(url, echo).is_err(), "{url}");
    }
    let text = Rule::new("x").url("http://u:secret@h", echo).unwrap_err().to_string();
    assert!(!text.contains("secret"), "{text}");
    assert!(Rule::new("x").name("(").is_err());
    let check = |rule: Rule| Rules::new(vec![rule]).err().map(|error| error.to_string());
    for (rule, why) in [
        (rule("(a)").target("$2").unwrap(), "there is no group 2"),
        (rule("(a)").target("${b}").unwrap(), "there is no group `b`"),
        (Rule::new("x").target("$1").unwrap(), "there is no group 1"),
        (rule("a").target("b").unwrap().target("c").unwrap().go_on(true), "with `go-on`"),
        (rule("a").url("http://h/a", echo).unwrap().go_on(true), "with `go-on`"),
    ] {
        let text = check(rule).unwrap();
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(check(rule("(?<b>a)").target("${b}$0").unwrap()), None);
}

/// Whatever a client requests, the URL stays in the rule's directory, and the query has one value from the client.
#[test]
fn clients_do_not_leave_what_is_fixed() {
    let opened = Arc::new(Mutex::new(Vec::new()));
    let open = |base: &str| {
        opened.lock().unwrap().push(base.to_owned());
        echo(base)
    };
    let rules = rules([
        rule("^q(?<rest>.*)").url("http://u@h:80/dir/x$1?a=${rest}&z=1", open).unwrap(),
        rule("^(.)(.)(.*)").target("dir/$1/$2$3").unwrap().go_on(true),
        rule("(.*)").url("https://h/dir/$1", open).unwrap(),
    ]);
    let ruled = Ruled::new(rules, echo("none").unwrap());
    assert_eq!(*opened.lock().unwrap(), ["http://u@h:80/dir/", "https://h/dir/"]);
    let pieces = [
        "..",
        ".",
        "/",
        "//",
        "\\",
        "@",
        "?",
        "#",
        "%2e",
        "%2f",
        "&",
        "=",
        ":",
        "http://evil",
        "\t",
        "\n",
        "a",
        "ü",
        "$1",
        "q",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let (mut refused, mut served) = (0, 0);
    for _ in 0..20_000 {
        let name: String = (0..random.usize(1..8)).map(|_| pieces[random.usize(..pieces.len())]).collect();
        let packet = packet::Request::new(name.clone());
        let any = ([10, 0, 0, 5], 1069).into();
        let Ok(request) = Request::new(any, any, packet) else { continue };
        match block_on(async { ruled.read(&request).await?.collect(10_000).await }) {
            Err(refusal) => {
                assert_eq!(refusal.code(), ErrorCode::ACCESS_VIOLATION, "{name:?}");
                refused += 1;
            }
            Ok(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                let (base, rest) = text.split_once('|').unwrap();
                assert!(["http://u@h:80/dir/", "https://h/dir/"].contains(&base), "{name:?}: {text}");
                // Only the first has a query, and there the client's part is one value.
                let (path, query) = match base.starts_with("http:") {
                    true => rest.rsplit_once('?').unwrap(),
                    false => (rest, "a=&z=1"),
                };
                assert!(!path.starts_with('/') && path.split('/').all(|part| !["", ".", ".."].contains(&part)));
                let value = query.strip_prefix("a=").and_then(|query| query.strip_suffix("&z=1")).unwrap();
                assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)), "{name:?}: {text}");
                served += 1;
            }
        }
    }
    assert!(refused > 100 && served > 10_000, "{refused} {served}");
}

#[test]
fn a_rule_is_for_machines() {
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let known = |arch: &str, uuid: Option<&str>| Machine {
        arch: Some(arch.into()),
        uuid: uuid.map(|uuid| uuid.parse().unwrap()),
        ..Machine::default()
    };
    let decide = |rule: Rule, name: &str, machine: &Machine| {
        let rules = rules([rule.target("matched").unwrap()]);
        assert!(rules.needs_machine());
        let mut why = None;
        let verdict = rules.explain(&request(name), Direction::Read, machine, |_, result| why = result.err()).unwrap();
        assert_eq!(verdict.candidates()[0].request().path() == "matched", why.is_none());
        why
    };
    let rule = || Rule::new("");
    let x64 = || rule().arch("arm64").arch("x64");
    assert_eq!(decide(x64(), "f", &known("x64", None)), None);
    assert_eq!(decide(x64(), "f", &known("bios", None)), Some(Mismatch::Arch));
    assert_eq!(decide(x64(), "f", &Machine::default()), Some(Mismatch::Arch));
    // The name shows it, unless more is known.
    assert_eq!(decide(x64(), "shimX64.efi", &Machine::default()), None);
    assert_eq!(decide(x64(), "shimx64.efi", &known("bios", None)), Some(Mismatch::Arch));
    let one = || rule().uuid(uuid.parse().unwrap());
    assert_eq!(decide(one(), "f", &known("x64", Some(uuid))), None);
    // In the byte order of the firmware, by which PXELINUX asks.
    assert_eq!(decide(one(), "pxelinux.cfg/67452301-ab89-efcd-0123-456789abcdef", &Machine::default()), None);
    assert_eq!(
        decide(one(), "pxelinux.cfg/67452301-ab89-efcd-0123-456789abcdee", &Machine::default()),
        Some(Mismatch::Uuid)
    );
    let pi = || rule().serial("1A2B3C4D");
    assert_eq!(decide(pi(), "1a2b3c4d/start4.elf", &Machine::default()), None);
    assert_eq!(decide(pi(), "1a2b3c4e/start4.elf", &Machine::default()), Some(Mismatch::Serial));
    // All kinds of facts have to match.
    assert_eq!(decide(x64().uuid(uuid.parse().unwrap()), "f", &known("x64", None)), Some(Mismatch::Uuid));
    assert_eq!(decide(x64().serial("7"), "1a2b3c4d/bootx64.efi", &Machine::default()), Some(Mismatch::Serial));
}
