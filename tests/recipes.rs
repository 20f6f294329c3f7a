//! The recipes of docs/recipes: each configuration is loaded and served as it is printed, with other directories, and
//! clients fetch from it.
#![cfg(all(unix, feature = "full"))]

#[path = "common/program.rs"]
mod program;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use program::{Server, run, text};

/// Long enough for the slowest machine; only a defect waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A recipe, and a directory in the place of the root of the file system.
struct Recipe {
    text: String,
    place: tempfile::TempDir,
}

impl Recipe {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/recipes").join(name);
        Self { text: fs::read_to_string(path).unwrap(), place: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> String {
        self.place.path().join(path.trim_start_matches('/')).to_str().unwrap().to_owned()
    }

    fn write(&self, path: &str, text: &str) -> String {
        let path = PathBuf::from(self.path(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The first block of this language, with the directories of the test.
    fn block(&self, language: &str) -> String {
        let (_, block) = self.text.split_once(&format!("```{language}\n")).unwrap();
        self.moved(block.split_once("```").unwrap().0)
    }

    fn moved(&self, text: &str) -> String {
        let roots = ["/srv/", "/var/lib/", "/usr/local/bin/", "/etc/tuffet/"];
        roots.iter().fold(text.to_owned(), |text, root| text.replace(root, &(self.path(root) + "/").replace("//", "/")))
    }

    /// Its configuration, which must be accepted.
    fn config(&self) -> String {
        let config = self.write("/etc/tuffet/tuffet.toml", &self.block("toml"));
        let checked = run(&["check-config", &config]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        config
    }

    fn explain(&self, client: &str, name: &str) -> String {
        text(&run(&["explain", client, name, "--config", &self.path("/etc/tuffet/tuffet.toml")]).stdout)
    }
}

/// The text that a client gets, if there is a file.
fn get(server: &Server, name: &str) -> Option<String> {
    let got = run(&["get", "-q", &server.address, name, "-"]);
    got.status.success().then(|| text(&got.stdout))
}

#[test]
fn configurations_of_switches_become_commits() {
    let recipe = Recipe::new("switches.md");
    fs::create_dir_all(recipe.path("/srv/configs")).unwrap();
    let script = recipe.write("/usr/local/bin/commit-config", &recipe.block("sh"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let repository = format!("--git-dir={}", recipe.path("/var/lib/configs.git"));
    let git = |args: &[&str]| {
        let done = Command::new("git").arg(&repository).args(args).output().unwrap();
        text(&done.stdout)
    };
    fs::create_dir_all(recipe.path("/var/lib")).unwrap();
    assert!(
        Command::new("git")
            .args(["init", "-q", "--bare", &recipe.path("/var/lib/configs.git")])
            .status()
            .unwrap()
            .success()
    );
    let server = Server::start(&["--config", &recipe.config()]);
    let put = |text: &str, name: &str| {
        let file = recipe.write("sent", text);
        run(&["put", "-q", &server.address, &file, name]).status.success()
    };
    let commits = |count: &str| {
        let begun = Instant::now();
        while git(&["rev-list", "--count", "HEAD"]).trim() != count {
            assert!(begun.elapsed() < LONG, "{}", git(&["log", "-p"]));
            thread::sleep(Duration::from_millis(50));
        }
    };
    assert!(put("hostname core1\nvlan 1\n", "core1.cfg"));
    commits("1");
    // The same once more is no commit.
    assert!(put("hostname core1\nvlan 1\n", "core1.cfg"));
    assert!(put("hostname core1\nvlan 2\n", "core1.cfg"));
    commits("2");
    let log = git(&["log", "-1", "-p"]);
    assert!(log.contains("core1.cfg from 127.0.0.1\n") && log.contains("\n-vlan 1\n+vlan 2\n"), "{log}");
    for name in [".git/hooks/post-commit.cfg", ".gitattributes", "core1.sh", "a/.x.cfg"] {
        assert!(!put("x", name), "{name}");
    }
    let said = server.stop("-TERM");
    assert!(!said.contains("--on-upload"), "{said}");
}

#[test]
fn each_machine_gets_its_own_menu() {
    let recipe = Recipe::new("menus.md");
    let template = recipe.write("/srv/tftp/boot.ipxe.j2", &recipe.block("jinja"));
    recipe.write("/srv/tftp/grub.cfg.j2", "# {{ mac }}\n");
    recipe.write("/srv/tftp/machines/525400123456.cfg", "by MAC address");
    recipe.write("/srv/tftp/machines/7F000001.cfg", "by address");
    recipe.write("/srv/tftp/pxelinux.cfg/default", "default");
    let server = Server::start(&["--config", &recipe.config()]);
    let script = "#!ipxe\nkernel http://mirror.example/netboot/kiosk-2026.11/vmlinuz hostname=kiosk ip=dhcp\n\
                  initrd http://mirror.example/netboot/kiosk-2026.11/initrd\nboot\n";
    assert_eq!(get(&server, "boot.ipxe/52-54-00-12-34-56").as_deref(), Some(script));
    let unknown = get(&server, "boot.ipxe").unwrap();
    assert!(
        unknown
            .contains("\n# 127.0.0.1, MAC address not known\nkernel http://mirror.example/netboot/installer/vmlinuz\n")
    );
    let mac = "52-54-00-12-34-56";
    assert_eq!(get(&server, &format!("/boot/grub/grub.cfg-01-{mac}")), Some(format!("# {mac}\n")));
    assert_eq!(get(&server, &format!("pxelinux.cfg/01-{mac}")).as_deref(), Some("by MAC address"));
    assert_eq!(get(&server, "pxelinux.cfg/default").as_deref(), Some("by address"));
    assert!(recipe.explain("10.0.0.5", "pxelinux.cfg/default").contains("pxelinux.cfg/default, 7 "));
    // The log reports a misspelt variable as the page says.
    fs::write(&template, "#!ipxe\n\nkernel {{ miror }}/vmlinuz\n").unwrap();
    assert_eq!(get(&server, "boot.ipxe"), None);
    let (said, shown) = (server.stop("-TERM"), recipe.block("text"));
    assert!(said.contains(shown.trim()), "{said}");
}

#[test]
fn shim_finds_its_second_stage() {
    let recipe = Recipe::new("secure-boot.md");
    for (vendor, file) in ["debian", "fedora"]
        .into_iter()
        .flat_map(|vendor| ["shimx64.efi", "grubx64.efi", "grub.cfg"].map(|file| (vendor, file)))
    {
        recipe.write(&format!("/srv/tftp/{vendor}/{file}"), vendor);
    }
    let config = recipe.config();
    for (client, vendor) in [("10.9.0.7", "fedora"), ("10.8.0.7", "debian")] {
        for name in ["shimx64.efi", "/grubx64.efi", "grub.cfg"] {
            let said = recipe.explain(client, name);
            assert!(said.contains(&format!("tftp/{vendor}/{}", name.trim_start_matches('/'))), "{said}");
        }
    }
    let server = Server::start(&["--config", &config]);
    assert_eq!(get(&server, "shimx64.efi").as_deref(), Some("debian"));
    // A file that need not exist is "File not found" and no failure.
    let missing = [
        "revocations.efi",
        "revocations_sku.efi",
        "shim_certificate_0.efi",
        "debian-installer/amd64revocations_sku.efi",
    ];
    for name in missing {
        let got = run(&["get", "-q", &server.address, name, "-"]);
        assert!(text(&got.stderr).contains("ERROR 1 File not found"), "{name}: {}", text(&got.stderr));
    }
    assert_eq!(get(&server, "grubx64.efi").as_deref(), Some("debian"));
    let said = server.stop("-TERM");
    let shown = recipe.block("text");
    let (_, line) = shown.trim().split_once(" read ").unwrap();
    assert!(said.contains(&format!(" read {line}")), "{line}: {said}");
    assert!(
        missing.iter().all(|name| said.contains(&format!(" read {name} refused: ERROR 1 File not found"))),
        "{said}"
    );
    assert!(!said.contains(" failed"), "{said}");
}

#[test]
fn raspberry_pis_have_files_of_their_own_and_a_default() {
    let recipe = Recipe::new("raspberry-pi.md");
    recipe.write("/srv/pi/1a2b3c4d/config.txt", "own");
    recipe.write("/srv/pi/dc-a6-32-01-36-c2/cmdline.txt", "own line");
    recipe.write("/srv/pi/default/config.txt", "default");
    recipe.write("/srv/pi/default/start4.elf", "firmware");
    recipe.write("/srv/pi/cmdline.txt.j2", &recipe.block("jinja"));
    let server = Server::start(&["--config", &recipe.config()]);
    let root = |own: &str| {
        let line = "console=serial0,115200 root=/dev/nfs nfsroot=127.0.0.1:ROOT/root/OWN,vers=3 rw ip=dhcp rootwait\n";
        line.replace("ROOT", &recipe.path("/srv")).replace("OWN", own)
    };
    for (name, expected) in [
        ("1a2b3c4d/config.txt", Some("own".to_owned())),
        ("1a2b3c4d/start4.elf", Some("firmware".into())),
        ("1a2b3c4d/cmdline.txt", Some(root("1a2b3c4d"))),
        ("dc-a6-32-01-36-c2/config.txt", Some("default".into())),
        ("dc-a6-32-01-36-c2/cmdline.txt", Some("own line".into())),
        ("ffffffff/cmdline.txt", Some(root("ffffffff"))),
        ("config.txt", Some("default".into())),
        ("1a2b3c4d/missing", None),
    ] {
        assert_eq!(get(&server, name), expected, "{name}");
    }
}

#[test]
fn phones_get_their_settings() {
    let recipe = Recipe::new("phones.md");
    recipe.write("/srv/phones/own/aabbccddeeff.xml", "own");
    recipe.write("/srv/phones/own/0004f2001122.cfg", "own");
    recipe.write("/srv/phones/cisco.xml.j2", &recipe.block("jinja"));
    recipe.write("/srv/phones/sip.cfg.j2", "<id>{{ id }}</id>");
    let server = Server::start(&["--config", &recipe.config()]);
    assert_eq!(get(&server, "SEPAABBCCDDEEFF.cnf.xml").as_deref(), Some("own"));
    let kitchen = get(&server, "SEP001122334456.cnf.xml").unwrap();
    assert!(kitchen.contains("<phoneLabel>Kitchen &amp; Bar</phoneLabel>\n"), "{kitchen}");
    assert!(kitchen.starts_with("<device>\n") && kitchen.contains("<processNodeName>127.0.0.1<"), "{kitchen}");
    assert!(get(&server, "SEPABCDEF012345.cnf.xml").unwrap().contains("<phoneLabel>ABCDEF012345<"));
    assert_eq!(get(&server, "0004f2001122.cfg").as_deref(), Some("own"));
    assert_eq!(get(&server, "0004f2001123.cfg").as_deref(), Some("<id>0004f2001123</id>"));
    let put = |name: &str| run(&["put", "-q", &server.address, &recipe.write("sent", "log"), name]).status.success();
    assert!(put("0004f2001122-app.log") && put("0004f2001122-app.log"));
    assert!(!put("0004f2001122.cfg") && !put("cisco.xml.j2"));
}

#[test]
fn windows_boot_manager_finds_its_files() {
    let recipe = Recipe::new("windows.md");
    recipe.write("/srv/windows/winpe/Boot/BCD", "bcd");
    recipe.write("/srv/windows/winpe/Boot/Fonts/wgl4_boot.ttf", "font");
    recipe.write("/srv/windows/winpe/sources/boot.wim", "wim");
    recipe.write("/srv/windows/bootmgfw.efi", "manager");
    recipe.write("/srv/windows/boot/wdsnbp.com", "at the root");
    let server = Server::start(&["--config", &recipe.config()]);
    for (name, expected) in [
        ("bootmgfw.efi", Some("manager")),
        ("BOOTMGFW.EFI", Some("manager")),
        (r"\Boot\BCD", Some("bcd")),
        (r"\boot\bcd", Some("bcd")),
        (r"C:\BOOT\BCD", Some("bcd")),
        (r"\Boot\fonts\WGL4_Boot.ttf", Some("font")),
        (r"\sources\BOOT.WIM", Some("wim")),
        (r"boot\wdsnbp.com", Some("at the root")),
        (r"\Boot\..\..\secret", None),
        (r"\boot\missing", None),
    ] {
        assert_eq!(get(&server, name).as_deref(), expected, "{name}");
    }
}

/// The text behind `key: |` of the manifest.
fn block_of(manifest: &str, key: &str) -> String {
    let (before, block) = manifest.split_once(&format!("{key}: |\n")).unwrap();
    let indent = before.rsplit('\n').next().unwrap().len() + 2;
    let lines = block.lines().take_while(|line| line.starts_with(&" ".repeat(indent)));
    lines.map(|line| format!("{}\n", &line[indent..])).collect()
}

#[test]
fn kubernetes_runs_what_the_manifest_says_and_finds_it_well() {
    let recipe = Recipe::new("kubernetes.yaml");
    recipe.write("/etc/tuffet/served/health", &block_of(&recipe.text, "health"));
    let config = recipe.moved(&block_of(&recipe.text, "tuffet.toml"));
    // Ports that are free here, and a mirror that is not there.
    let config =
        config.replace(":6969", ":0").replace(":9069", ":0").replace("mirror.netboot.svc.cluster.local", "127.0.0.1:1");
    let config = recipe.write("/etc/tuffet/tuffet.toml", &config);
    let args = "args: [\"serve\", \"--config\", \"/etc/tuffet/tuffet.toml\"]";
    assert!(recipe.text.contains(args) && recipe.text.contains("name: TUFFET_SOURCE\n              value: \"\""));
    let server = Server::start_with(&["--config", &config], |command| _ = command.env("TUFFET_SOURCE", ""));
    // The health checks, as the manifest has them.
    let (_, probe) = recipe.text.split_once("command: [\"/tuffet\", ").unwrap();
    let words: Vec<&str> = probe.split_once(']').unwrap().0.split(", ").map(|word| word.trim_matches('"')).collect();
    let words: Vec<&str> =
        words.iter().map(|word| if *word == "127.0.0.1:6969" { &server.address } else { *word }).collect();
    let ready = run(&words);
    assert!(ready.status.success() && text(&ready.stdout) == "ok\n", "{}", text(&ready.stderr));
    let said = server.stop("-TERM");
    // JSON, and the status page where the cluster reaches it.
    let page = said.split_once("status at http://").and_then(|(_, rest)| rest.split_once('/')).map(|(page, _)| page);
    assert!(
        page.is_some_and(|page| page.starts_with("0.0.0.0:")) && said.lines().all(|line| line.starts_with('{')),
        "{said}"
    );
}

/// By `pip install kubernetes-validate`, which brings the schemas.
#[test]
#[ignore = "needs kubernetes-validate"]
fn the_manifest_is_what_kubernetes_takes() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes/kubernetes.yaml");
    let checked = Command::new("kubernetes-validate").args(["--strict", manifest]).output().unwrap();
    let said = text(&checked.stdout) + &text(&checked.stderr);
    assert!(checked.status.success() && said.matches(" passed ").count() == 3, "{said}");
}

/// Each page of the recipes is in their list.
#[test]
fn every_recipe_is_listed() {
    let recipes = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/recipes");
    let list = fs::read_to_string(recipes.join("README.md")).unwrap();
    for page in fs::read_dir(&recipes).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".md") || name == "README.md" || list.contains(&format!("({name})")), "{name}");
    }
}

/// A command with an old name of a test would run no test, and report success.
#[test]
fn commands_in_texts_name_tests_that_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let files = |dir| fs::read_dir(root.join(dir)).unwrap().map(|file| file.unwrap().path());
    let is_text = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "md" || kind == "rs");
    let (option, mut found) = (["--", "test "].concat(), 0);
    for path in ["", "docs", "docs/recipes", "fuzz", "tests"].into_iter().flat_map(files).filter(is_text) {
        for command in fs::read_to_string(&path).unwrap().split(&option).skip(1) {
            let mut words = command.split(['`', '\n']).next().unwrap().split(' ');
            let (name, filter) = (words.next().unwrap(), words.next().filter(|word| !word.starts_with('-')));
            let source = fs::read_to_string(root.join(format!("tests/{name}.rs"))).expect(name);
            let functions = source.split("fn ").skip(1).filter_map(|after| after.split('(').next());
            let is_there = filter.is_none_or(|filter| functions.into_iter().any(|name| name.contains(filter)));
            assert!(is_there, "{}: no test of {name} is named {filter:?}", path.display());
            found += 1;
        }
    }
    assert!(found > 5, "{found}");
}
