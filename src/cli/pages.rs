//! Tests that the commands in README and docs are valid, and that their links have targets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser as _;

use super::args::Arguments;

/// The words of a shell line, without quotes, up to a comment, a pipe or an `&`.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (quote, c) {
            (None, '#' | '|' | '&') if words.last().is_some_and(String::is_empty) => break,
            (None, ' ') => words.push(String::new()),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The README and the pages of docs and of the recipes, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["docs", "docs/recipes"].into_iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let files = folders.map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root.join("README.md")]).map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_command_that_the_pages_name_is_one() {
    let mut count = 0;
    for (path, page) in pages() {
        let page = page.replace("\\\n", " ");
        for line in page.split("```sh\n").skip(1).flat_map(|rest| rest.split("```").next().unwrap().lines()) {
            let words = words(line);
            // The command begins with `tuffet`, after its environment, or with the `--` of `cargo run`.
            let is_cargo = words.starts_with(&["cargo".into(), "run".into()]);
            let before = |word: &&String| if is_cargo { *word != "--" } else { word.contains('=') };
            let ours: Vec<_> = words.iter().skip_while(before).collect();
            if ours.first().is_none_or(|first| *first != "tuffet" && *first != "--") {
                continue;
            }
            count += 1;
            let has_bucket = words.iter().any(|word| word.starts_with("s3://"));
            if let Err(error) = Arguments::try_parse_from(ours) {
                assert!(has_bucket && cfg!(not(feature = "object-store")), "{}: {line}\n{error}", path.display());
            }
        }
    }
    assert!(count > 10, "{count} commands");
}

/// Checks the links of the pages to files and to headings.
#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let anchor = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
    };
    for (path, page) in pages() {
        for link in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(is_there, "{}: {link}", path.display());
            }
        }
    }
}
