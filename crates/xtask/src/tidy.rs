//! Rules that no compiler checks. Each is a function from text to complaints, so that a test can see it fail.

mod kernels;

use std::fs;

use anyhow::{Result, ensure};

use crate::{project::Project, readme};

/// Longest file that people are asked to read.
const MAX_LINES: usize = 500;

/// Largest file that a clone should have to fetch.
const MAX_BYTES: u64 = 20_000_000;

/// Golden files that are made elsewhere and kept: how much a clone fetches for them altogether.
const GOLDEN: (&str, u64) = ("tests/golden/", 20_000_000);

/// Endings of the files written by hand in a programming language.
const CODE: [&str; 8] = [".rs", ".wgsl", ".ts", ".js", ".mjs", ".py", ".sh", ".html"];

/// Marks of unfinished work. They are put together here so that this file does not trip over itself.
const LEFT_OVERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];

/// First parts of absolute paths that exist on one person's machine only.
const PERSONAL: [&str; 6] = ["home", "root", "Users", "work", "mnt", "media"];

/// A folder that some machines have beside the repository; only continuous integration may look whether it is there.
const BESIDE: &str = concat!("..", "/shared");

/// A file of the repository; `text` is empty where it is not UTF-8 (weights, images).
struct File {
    path: String,
    bytes: u64,
    text: String,
}

/// Applies all rules to all files and prints every complaint.
pub(crate) fn tidy(project: &Project) -> Result<()> {
    let files = project.files()?.into_iter().map(|path| {
        let content = fs::read(project.root.join(&path))?;
        Ok(File { path, bytes: content.len() as u64, text: String::from_utf8(content).unwrap_or_default() })
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    ensure!(!files.is_empty(), "git lists no files, so nothing was checked");

    let mut complaints: Vec<String> = files.iter().flat_map(complaints_about).collect();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    complaints.extend(kernels::complaints(&paths));
    complaints.extend(readme::complaints(project));
    complaints.extend(one_test_command(&files));
    complaints.extend(much_golden(&files));

    for complaint in &complaints {
        println!("{complaint}");
    }
    println!("{} files checked", files.len());
    ensure!(complaints.is_empty(), "tidy: {} complaints", complaints.len());
    Ok(())
}

/// The rules that look at one file alone.
fn complaints_about(file: &File) -> Vec<String> {
    [too_long(file), too_large(file), left_overs(file), personal_paths(file), paths_beside(file)].concat()
}

fn is_code(file: &File) -> bool {
    CODE.iter().any(|ending| file.path.ends_with(ending)) || file.path == ".ci/run"
}

fn too_long(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let long = is_code(file) && lines > MAX_LINES;
    if long { vec![format!("{}: {lines} lines, more than {MAX_LINES}: split it", file.path)] } else { Vec::new() }
}

fn too_large(file: &File) -> Vec<String> {
    let large = file.bytes > MAX_BYTES;
    if large { vec![format!("{}: {} bytes, more than {MAX_BYTES}", file.path, file.bytes)] } else { Vec::new() }
}

/// Golden files together, which a look at one alone does not tell.
fn much_golden(files: &[File]) -> Vec<String> {
    let (folder, most) = GOLDEN;
    let bytes: u64 = files.iter().filter(|file| file.path.starts_with(folder)).map(|file| file.bytes).sum();
    if bytes > most { vec![format!("{folder}: {bytes} bytes, more than {most}")] } else { Vec::new() }
}

fn left_overs(file: &File) -> Vec<String> {
    if !is_code(file) {
        return Vec::new();
    }
    numbered(file, |line| LEFT_OVERS.iter().find(|mark| has_word(line, mark)).map(|mark| format!("left-over {mark}")))
}

fn personal_paths(file: &File) -> Vec<String> {
    numbered(file, |line| {
        PERSONAL
            .iter()
            .find(|part| has_absolute_path(line, part))
            .map(|part| format!("path of one machine under /{part}"))
    })
}

fn paths_beside(file: &File) -> Vec<String> {
    if file.path == ".ci/run" {
        return Vec::new();
    }
    numbered(file, |line| line.contains(BESIDE).then(|| format!("{BESIDE} is not part of the repository")))
}

/// A complaint for every line about which `rule` has something to say.
fn numbered(file: &File, rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    lines.filter_map(|(index, line)| Some(format!("{}:{}: {}", file.path, index + 1, rule(line)?))).collect()
}

/// Whether `mark` occurs without being the end or the beginning of a longer word.
fn has_word(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + mark.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && (mark.ends_with('(') || !joins(after))
    })
}

/// Whether `/part/` begins a path, rather than being a piece of an address or of a relative path.
fn has_absolute_path(line: &str, part: &str) -> bool {
    line.match_indices(&format!("/{part}/")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}>)*".contains(c))
    })
}

/// The command that the README names is the one that continuous integration runs.
fn one_test_command(files: &[File]) -> Vec<String> {
    let says =
        |file: &File| file.text.lines().any(|line| line.trim().trim_start_matches("$ ").starts_with("cargo xtask ci"));
    let lacks = |path: &&str| !files.iter().any(|file| file.path == *path && says(file));
    let missing = ["README.md", ".ci/run"].into_iter().filter(lacks);
    missing
        .map(|path| format!("{path}: does not have the test command, cargo xtask ci, on a line of its own"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), bytes: text.len() as u64, text: text.to_owned() }
    }

    #[test]
    fn a_long_file_is_refused() {
        assert!(too_long(&file("a.rs", &"line\n".repeat(MAX_LINES))).is_empty());
        assert_eq!(too_long(&file("a.rs", &"line\n".repeat(MAX_LINES + 1))).len(), 1);
        assert!(too_long(&file("data.json", &"line\n".repeat(MAX_LINES + 1))).is_empty());
    }

    #[test]
    fn a_large_file_is_refused() {
        let of_size = |bytes| File { path: "weights".to_owned(), bytes, text: String::new() };
        assert!(too_large(&of_size(MAX_BYTES)).is_empty());
        assert_eq!(too_large(&of_size(MAX_BYTES + 1)).len(), 1);
    }

    #[test]
    fn golden_files_are_few_altogether() {
        let of_size = |path: &str, bytes| File { path: path.to_owned(), bytes, text: String::new() };
        let files = |more| [of_size("tests/golden/a", GOLDEN.1 - 1), of_size("tests/golden/b", more)];
        assert!(much_golden(&files(1)).is_empty());
        assert_eq!(much_golden(&files(2)), ["tests/golden/: 20000001 bytes, more than 20000000"]);
        assert!(much_golden(&[of_size("tests/goldens", 2 * GOLDEN.1)]).is_empty());
    }

    #[test]
    fn every_left_over_is_refused() {
        for mark in LEFT_OVERS {
            let found = left_overs(&file("a.wgsl", &format!("fine\n  // {mark} later")));
            assert_eq!(found.len(), 1, "{mark}");
            assert!(found[0].starts_with("a.wgsl:2: "), "{found:?}");
        }
        let words = format!("MAS{0}NS my_{1}x) fine", LEFT_OVERS[0], LEFT_OVERS[3]);
        assert!(left_overs(&file("a.rs", &words)).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_refused_everywhere() {
        for part in PERSONAL {
            for line in [format!("open(\"/{part}/x\")"), format!("see /{part}/x"), format!("PATH=/{part}/x")] {
                assert_eq!(personal_paths(&file("notes.md", &line)).len(), 1, "{line}");
            }
            for line in [
                format!("https://example.org/{part}/x"),
                format!("../{part}/x"),
                format!("a/{part}/x"),
                format!("/{part}"),
            ] {
                assert!(personal_paths(&file("notes.md", &line)).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_folder_beside_the_repository_is_refused() {
        let line = format!("let path = \"{BESIDE}/bin/tool\";");
        assert_eq!(complaints_about(&file("crates/a/src/lib.rs", &line)).len(), 1);
        assert_eq!(complaints_about(&file("notes.md", &format!("see {BESIDE}"))).len(), 1);
        assert!(complaints_about(&file(".ci/run", &line)).is_empty());
        assert!(complaints_about(&file("a.rs", "include_str!(\"shared/rows.wgsl\")")).is_empty());
    }

    #[test]
    fn the_test_command_is_the_same_in_both_places() {
        let good = [file("README.md", "text\n    cargo xtask ci\n"), file(".ci/run", "cargo xtask ci\n")];
        assert!(one_test_command(&good).is_empty());
        let bad = [file("README.md", "```\n$ cargo xtask ci\n```"), file(".ci/run", "# cargo xtask ci\ncargo test\n")];
        assert_eq!(one_test_command(&bad).len(), 1);
        assert_eq!(one_test_command(&[]).len(), 2);
    }
}
