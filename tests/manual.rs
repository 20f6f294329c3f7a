//! The completions and the manual that the program writes of itself.
#![cfg(all(unix, feature = "full"))]

use std::{fs, process::Command};

fn tuffet(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tuffet")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The faults that a checker reports. There should be none.
fn faults(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!("{}{}", if output.status.success() { "" } else { "failed\n" }, String::from_utf8_lossy(&said))
}

#[test]
fn each_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = tuffet(&["completions", shell]);
        assert!(script.contains("single-port"), "{shell}");
    }
}

#[test]
fn each_command_has_a_page() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("man/man1");
    assert_eq!(tuffet(&["man", "--dir", dir.to_str().unwrap()]), "");
    let manual = tuffet(&["man"]);
    for command in ["get", "put", "serve"] {
        let page = fs::read_to_string(dir.join(format!("tuffet-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH TUFFET-{} 1 \"\" ", command.to_uppercase())), "{page}");
        assert!(page.contains("\\-\\-blksize") && page.contains(".SH NOTES"), "{page}");
        assert!(manual.contains(&page), "{command}");
    }
    assert!(manual.starts_with(&fs::read_to_string(dir.join("tuffet.1")).unwrap()));
}

/// A line that is too long is cut into words by the terminal.
#[test]
fn help_and_manual_fit_80_columns() {
    let commands =
        ["", "serve", "get", "put", "boot", "demo", "explain", "check-config", "probe", "completions", "man"];
    for command in commands {
        let words = [command, "--help"];
        let help = Command::new(env!("CARGO_BIN_EXE_tuffet"))
            .args(words.into_iter().filter(|word| !word.is_empty()))
            .env("COLUMNS", "80")
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("Usage: tuffet"), "{help}");
        let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{command}: {long:#?}");
    }
    // The page has a margin of 7 columns.
    let manual = tuffet(&["man"]);
    let examples = manual.split(".nf\n").skip(1).flat_map(|rest| rest.split(".fi\n").next().unwrap().lines());
    let long: Vec<_> =
        examples.map(|line| line.replace("\\&", "").replace("\\-", "-")).filter(|l| l.len() > 73).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
#[ignore = "needs bash, fish, zsh, mandoc and man"]
fn shells_and_man_find_no_fault() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for shell in ["bash", "fish", "zsh"] {
        fs::write(path(shell), tuffet(&["completions", shell])).unwrap();
        assert_eq!(faults(shell, &["-n", &path(shell)]), "");
    }
    tuffet(&["man", "--dir", &path("man")]);
    for page in fs::read_dir(path("man")).unwrap() {
        let page = page.unwrap().path();
        let page = page.to_str().unwrap();
        let found = faults("mandoc", &["-T", "lint", "-W", "warning", page]);
        let faults_of = |found: &str| {
            found
                .lines()
                .filter(|line| line.contains("WARNING") || line.contains("ERROR"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let left: Vec<_> = faults_of(&found).into_iter().filter(|line| !line.contains("missing date")).collect();
        assert!(left.is_empty(), "{left:?}");
        let shown = faults("man", &["--warnings", "-l", page]);
        assert!(shown.contains("NAME") && !shown.contains("warning") && !shown.contains("failed\n"), "{shown}");
    }
}
