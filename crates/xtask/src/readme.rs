//! Commands in the README and its neighbours: they must name tasks, packages, examples and options that exist.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};

use crate::{process::output_of, project::Project};

const DOCUMENTS: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

/// The program that `cargo run` starts, by its package and by its name.
const PROGRAM: (&str, &str) = ("taipan-cli", "taipan");

/// What can be said without building anything.
pub(crate) fn complaints(project: &Project) -> Vec<String> {
    let mut found = Vec::new();
    for document in DOCUMENTS {
        let Ok(text) = fs::read_to_string(project.root.join(document)) else {
            found.push(format!("{document}: missing"));
            continue;
        };
        let commands = commands(&text);
        if commands.is_empty() {
            found.push(format!("{document}: no command in a fenced block"));
        }
        let wrong = commands
            .iter()
            .filter_map(|words| Some(format!("{document}: `{}`: {}", words.join(" "), problem(project, words)?)));
        found.extend(wrong);
    }
    found
}

/// Asks the built program for the help of every subcommand that the documents use, and looks for the options in it.
pub(crate) fn help_knows_the_commands(project: &Project) -> Result<()> {
    let mut uses = BTreeSet::new();
    for document in DOCUMENTS {
        let text =
            fs::read_to_string(project.root.join(document)).with_context(|| format!("cannot read {document}"))?;
        uses.extend(commands(&text).iter().filter_map(|words| program_arguments(words)));
    }
    ensure!(!uses.is_empty(), "no command of the documents runs {}", PROGRAM.1);
    for arguments in &uses {
        let help =
            output_of(project.built(PROGRAM.1).args(arguments.first().filter(|word| !is_option(word))).arg("--help"))
                .with_context(|| format!("used in the documents: {} {}", PROGRAM.1, arguments.join(" ")))?;
        for option in arguments.iter().filter(|word| is_option(word)) {
            let option = option.split('=').next().unwrap_or(option);
            ensure!(knows(&help, option), "`{} {}`: --help does not mention {option}", PROGRAM.1, arguments.join(" "));
        }
    }
    println!("{} commands of the documents known to {}", uses.len(), PROGRAM.1);
    Ok(())
}

/// Whether a word is an option rather than a value, which may be a negative number or `-` for standard input.
fn is_option(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_alphabetic()))
}

/// Whether a help text has the option as a word of its own.
fn knows(help: &str, option: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || ",=[]<>`".contains(c)).any(|word| word == option)
}

/// The cargo commands and calls of the program in fenced blocks, split into words; `$ ` in front is a prompt.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            let words = words(line);
            if words.first().is_some_and(|word| word == "cargo" || word == PROGRAM.1) {
                found.push(words);
            }
        }
    }
    found
}

/// Splits as a shell would, as far as a README needs it: quotes, and nothing after a pipe, redirection or comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '|' | '>' | '<' | '&' | ';' | '#') if word.is_none() => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What is wrong with a command, if anything.
fn problem(project: &Project, words: &[String]) -> Option<String> {
    if words[0] != "cargo" {
        return None; // the program's own arguments are checked against its help, once it is built
    }
    let own: Vec<&str> = words[1..].iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let task = own.first()?;
    if *task == "xtask" {
        let name = own.get(1).copied().unwrap_or("--help");
        let known = name.starts_with('-') || crate::task_names().iter().any(|task| task == name);
        return (!known).then(|| format!("there is no task {name}"));
    }
    if !["add", "bench", "build", "check", "clippy", "doc", "fmt", "fuzz", "install", "run", "test"].contains(task) {
        return Some(format!("is `cargo {task}` a command?"));
    }
    let package = value(&own, "-p").or_else(|| value(&own, "--package"));
    if let Some(name) = package
        && !project.packages.iter().any(|package| package.name == name)
    {
        return Some(format!("there is no package {name}"));
    }
    let example = value(&own, "--example")?;
    let known = project.packages.iter().any(|package| package.examples.iter().any(|name| name == example));
    (!known).then(|| format!("there is no example {example}"))
}

fn value<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == option).and_then(|at| words.get(at + 1).copied())
}

/// The arguments that a command gives to the program, or nothing if it runs something else.
fn program_arguments(words: &[String]) -> Option<Vec<String>> {
    if words[0] == PROGRAM.1 {
        return Some(words[1..].to_vec());
    }
    let own: Vec<&str> = words[1..].iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let package = value(&own, "-p").or_else(|| value(&own, "--package")).unwrap_or(PROGRAM.0);
    let runs_it = own.first() == Some(&"run") && package == PROGRAM.0 && value(&own, "--example").is_none();
    let rest = words.iter().skip_while(|word| *word != "--").skip(1).cloned();
    runs_it.then(|| rest.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Package;

    fn project() -> Project {
        let package = |name: &str, examples: &[&str]| Package {
            name: name.to_owned(),
            examples: examples.iter().map(|name| (*name).to_owned()).collect(),
        };
        let packages = vec![package("taipan-cli", &[]), package("taipan-examples", &["generate"])];
        Project { root: "nowhere".into(), target: "nowhere".into(), packages }
    }

    fn problem_of(line: &str) -> Option<String> {
        problem(&project(), &words(line))
    }

    #[test]
    fn commands_are_found_in_fenced_blocks_only() {
        let text = "cargo not this\n```sh\n$ cargo run -- generate \"Once upon\" | less\ntaipan info # note\nls\n```\ncargo nor this";
        assert_eq!(commands(text), [vec!["cargo", "run", "--", "generate", "Once upon"], vec!["taipan", "info"]]);
    }

    #[test]
    fn commands_that_exist_pass() {
        for line in [
            "cargo run --release -- generate x",
            "cargo xtask ci",
            "cargo xtask --help",
            "cargo test --workspace",
            "cargo run -p taipan-examples --example generate",
            "cargo install taipan-cli",
        ] {
            assert_eq!(problem_of(line), None, "{line}");
        }
    }

    #[test]
    fn commands_that_do_not_exist_are_complaints() {
        for line in [
            "cargo xtask dance",
            "cargo dance",
            "cargo run -p taipan-nothing",
            "cargo run --package taipan-examples --example nothing",
        ] {
            assert!(problem_of(line).is_some(), "{line}");
        }
        assert_eq!(complaints(&project()).len(), DOCUMENTS.len(), "documents that are missing");
    }

    #[test]
    fn arguments_of_the_program_are_told_from_those_of_cargo() {
        let of = |line: &str| program_arguments(&words(line));
        assert_eq!(of("cargo run --release -- info --json"), Some(vec!["info".to_owned(), "--json".to_owned()]));
        assert_eq!(of("taipan devices"), Some(vec!["devices".to_owned()]));
        assert_eq!(of("cargo run -p taipan-examples --example generate -- x"), None);
        assert_eq!(of("cargo test"), None);
    }

    #[test]
    fn an_option_must_be_a_word_of_the_help() {
        let help = "  -n, --predict <N>  tokens\n      --top-k <K>";
        assert!(knows(help, "-n") && knows(help, "--top-k"));
        assert!(!knows(help, "--top") && !knows(help, "-k"));
        assert!(is_option("-n") && is_option("--top-k") && !is_option("-1") && !is_option("-"));
    }
}
