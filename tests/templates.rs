//! Template files as targets of rules, from outside: the file of a machine, the words of `explain`, and the log line of
//! a template that fails.
#![cfg(all(unix, feature = "full"))]

#[path = "common/program.rs"]
mod program;

use std::fs;

use program::{Server, run, text};

const MENU: &str = "\
#!ipxe
{% set hosts = {'52-54-00-12-34-56': 'kiosk'} %}
{% if mac in hosts %}
kernel {{ mirror }}/vmlinuz host={{ hosts[mac] }} site={{ SITE }}
{% else %}
kernel {{ mirror }}/installer ip={{ client | hexraw | upper }}
{% endif %}
boot
";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("tftp")).unwrap();
        fs::write(place.path("tftp/menu.ipxe.j2"), MENU).unwrap();
        fs::write(place.path("tftp/broken.j2"), "#!ipxe\n\nkernel {{ kernal }}\n").unwrap();
        let config = format!(
            "sources = [{:?}]\n\
             [[rule]]\nname = '^broken$'\ntarget = ['broken.j2', 'menu.ipxe.j2']\n\
             [[rule]]\nname = '^menu'\nset = {{ mirror = 'http://m' }}\nenv = 'SITE'\ntarget = 'menu.ipxe.j2'\n",
            place.path("tftp")
        );
        fs::write(place.path("tuffet.toml"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn a_machine_gets_its_own_menu_and_its_size() {
    let place = Place::new();
    let server =
        Server::start_with(&["--config", &place.path("tuffet.toml")], |command| _ = command.env("SITE", "lab"));
    let get = |name: &str| text(&run(&["get", "-q", &server.address, name, "-"]).stdout);
    let expected = "#!ipxe\nkernel http://m/vmlinuz host=kiosk site=lab\nboot\n";
    assert_eq!(get("menu/01-52-54-00-12-34-56"), expected);
    let other = "#!ipxe\nkernel http://m/installer ip=7F000001\nboot\n";
    assert_eq!(get("menu"), other);
    // EDK2 requests the size first, and pxelinux requests it with the file.
    let probed = run(&["probe", &server.address, "menu", "--as", "edk2"]);
    let said = text(&probed.stdout);
    assert!(probed.status.success() && said.contains(&format!("tsize={}", other.len())), "{said}");
}

#[test]
fn a_template_that_fails_is_told_with_file_and_line() {
    let place = Place::new();
    let server =
        Server::start_with(&["--config", &place.path("tuffet.toml")], |command| _ = command.env("SITE", "lab"));
    let got = run(&["get", "-q", &server.address, "broken", "-"]);
    assert!(!got.status.success() && text(&got.stderr).contains("Internal error"), "{}", text(&got.stderr));
    assert_eq!(text(&got.stdout), "");
    let said = server.stop("-TERM");
    let line = said.lines().find(|line| line.contains("read broken failed")).expect(&said);
    assert!(line.contains(&format!("{}:3: undefined value", place.path("tftp/broken.j2"))), "{line}");
}

#[test]
fn explain_shows_what_a_machine_would_get() {
    let place = Place::new();
    let explain = |more: &[&str]| {
        let words = ["explain", "10.0.0.5", "--config", &place.path("tuffet.toml")].map(str::to_owned);
        let mut command =
            program::tuffet(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>());
        let output = command.env("SITE", "lab").output().unwrap();
        (output.status.success(), text(&output.stdout))
    };
    let (served, said) = explain(&["menu", "--mac", "52:54:00:12:34:56"]);
    assert!(served && said.contains("mac      52-54-00-12-34-56\n"), "{said}");
    assert!(
        said.contains("menu.ipxe.j2, 56 B, rendered") || said.contains("menu.ipxe.j2, 56 bytes, rendered"),
        "{said}"
    );
    assert!(said.contains("         kernel http://m/vmlinuz host=kiosk site=lab\n"), "{said}");
    let (served, said) = explain(&["menu/1a2b3c4d"]);
    assert!(served && said.contains("ip=0A000005") && said.contains("mac      unknown\n"), "{said}");
    let (served, said) = explain(&["menu/01-52-54-00-12-34-56"]);
    assert!(served && said.contains("mac      52-54-00-12-34-56, from the file name\n"), "{said}");
    let (served, said) = explain(&["broken"]);
    assert!(!served && said.contains("broken.j2:3: undefined value"), "{said}");
}

#[test]
fn a_rule_says_what_is_wrong_with_its_values() {
    let place = Place::new();
    for (rule, why) in [
        ("set = { mac = 'x' }", "it is a variable of every request"),
        ("set = { 'a-b' = 'x' }", "letters, digits"),
        ("set = 'x'", "it must be a table"),
        ("env = 'TUFFET_NOT_THERE_AT_ALL'", "TUFFET_NOT_THERE_AT_ALL: environment variable not found"),
        ("set = { a = 'x' }\nname = '(?<a>x)'\ntarget = '$1'", "`a` is set, and a group"),
        ("target = 'a.j2'\ngo-on = true", "with `go-on`"),
        ("target = '${mac:hexa}'", "`:hexa` is no spelling"),
    ] {
        let config = place.path("wrong.toml");
        fs::write(&config, format!("[[rule]]\n{rule}\n")).unwrap();
        let checked = run(&["check-config", &config]);
        let said = text(&checked.stderr);
        assert!(!checked.status.success() && said.contains(why), "{rule}: {said}");
    }
}
