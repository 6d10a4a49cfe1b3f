//! All checks, in the order that finds a mistake soonest; the last is `cargo test`.
//!
//! Everything that runs is built once, in cargo's dev profile, by the step `build`. The page, whose tests keep little more
//! than one core at work, is built and tested beside that and what follows.

mod beside;

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, ensure};

use beside::Beside;

use crate::{
    build_web::build_web,
    golden,
    process::{cargo, run, run_watched, succeeds},
    project::Project,
    readme, setup, shaders, tidy, training,
};

/// What a step had to leave out, in words; empty when it did all of its work.
type Skipped = Vec<String>;

struct Step {
    name: &'static str,
    work: fn(&Project) -> Result<Skipped>,
}

const STEPS: [Step; 15] = [
    Step { name: "setup", work: setup::setup },
    Step { name: "tidy", work: |project| done(tidy::tidy(project)) },
    Step { name: "fmt", work: |_| done(run(&mut cargo(&["fmt", "--all", "--", "--check"]))) },
    Step { name: "clippy", work: |_| done(clippy(&["--workspace", "--all-targets"])) },
    Step { name: "clippy-wasm", work: |_| done(clippy_wasm()) },
    Step { name: "doc", work: |_| done(doc()) },
    Step { name: "foreign", work: |_| foreign() },
    Step { name: "web", work: web },
    Step { name: "build", work: |_| done(build()) },
    Step { name: "fuzz", work: |project| done(fuzz(project)) },
    Step { name: "shaders", work: shaders::shaders },
    Step { name: "readme", work: |project| done(readme::help_knows_the_commands(project)) },
    Step { name: "examples", work: |project| done(examples(project)) },
    Step { name: "training", work: |project| done(training::training(project)) },
    Step { name: "test", work: |project| done(test(project)) },
];

/// The names of the steps, which may be given to run only some of them.
pub(crate) fn step_names() -> [&'static str; STEPS.len()] {
    STEPS.map(|step| step.name)
}

/// Runs all steps, or those named.
pub(crate) fn ci(project: &Project, only: &[String]) -> Result<()> {
    let chosen = STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name));
    run_steps(project, &chosen.collect::<Vec<_>>())
}

/// The step that is a process of its own beside those behind it.
const BESIDE: &str = "web";

fn run_steps(project: &Project, steps: &[&Step]) -> Result<()> {
    let start = Instant::now();
    let (mut skipped, mut beside) = (Vec::new(), None);
    let mut all = || -> Result<()> {
        for (index, step) in steps.iter().enumerate() {
            if beside.as_mut().is_some_and(Beside::has_failed) {
                return Ok(()); // which is told below
            }
            println!("\n=== {} ({} of {}) ===", step.name, index + 1, steps.len());
            if step.name == BESIDE && index + 1 < steps.len() {
                beside = Some(Beside::start(project, step.name)?);
                continue;
            }
            let began = Instant::now();
            skipped.extend((step.work)(project).with_context(|| failed(step.name))?);
            println!("--- {}: {:.0} s", step.name, began.elapsed().as_secs_f64());
        }
        Ok(())
    };
    let found = all();
    // Nothing is left running, whatever went wrong; of two failures the first is told.
    let aside = beside.map(|beside| beside.end().with_context(|| failed(BESIDE)));
    found?;
    skipped.extend(aside.transpose()?.into_iter().flatten());
    println!(
        "\nci: {} steps passed in {:.1} min, {} checks skipped",
        steps.len(),
        start.elapsed().as_secs_f64() / 60.0,
        skipped.len()
    );
    for what in skipped {
        println!("{}{what}", beside::SKIPPED);
    }
    Ok(())
}

fn failed(step: &str) -> String {
    format!("ci: step {step} failed; to run it alone: cargo xtask ci {step}")
}

fn done(result: Result<()>) -> Result<Skipped> {
    result.map(|()| Vec::new())
}

fn clippy(what: &[&str]) -> Result<()> {
    run(cargo(&["clippy"]).args(what).args(["--", "-D", "warnings"]))
}

/// One by one: together they would share features, and be others than those that the page loads.
fn clippy_wasm() -> Result<()> {
    clippy(&["--package=taipan", "--package=taipan-wasm", "--target", setup::WASM])?;
    clippy(&["--package=taipan-wasm-lab", "--target", setup::WASM])
}

/// With examples, so that dependencies have the features that the other steps check them with, and are not checked anew.
fn doc() -> Result<()> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--lib", "--examples"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Type-checks the library and the program for the systems this machine is not.
fn foreign() -> Result<Skipped> {
    let (there, missing): (Vec<&str>, Vec<&str>) =
        setup::FOREIGN.into_iter().partition(|target| setup::has_target(target));
    if !there.is_empty() {
        let targets = there.iter().flat_map(|target| ["--target", target]);
        run(cargo(&["check", "--package=taipan", "--package=taipan-cli"]).args(targets))?;
    }
    let skipped = |target| format!("cargo check for {target}: its standard library is not installed");
    Ok(missing.into_iter().map(skipped).collect())
}

/// All but this program: what it depends on was made when it was, and would be made again with other features.
const PRODUCT: [&str; 2] = ["--workspace", "--exclude=xtask"];

fn build() -> Result<()> {
    run(cargo(&["build"]).args(PRODUCT).args(["--lib", "--bins", "--examples", "--tests"]))
}

/// Runs every example without arguments, as the documentation tells people to.
fn examples(project: &Project) -> Result<()> {
    let package = project.packages.iter().find(|package| package.name == "taipan-examples");
    let examples = &package.context("there is no package taipan-examples")?.examples;
    ensure!(!examples.is_empty(), "the package taipan-examples has no examples");
    for example in examples {
        run(&mut project.built(&format!("examples/{example}")))
            .with_context(|| format!("to run it alone: cargo run --package taipan-examples --example {example}"))?;
    }
    println!("{} examples ran", examples.len());
    Ok(())
}

/// Type-checks the fuzz targets, which have a workspace of their own because running them takes a nightly toolchain. What
/// they call is an ordinary test as well.
fn fuzz(project: &Project) -> Result<()> {
    // The versions of the workspace, so that its dependencies, made already, are not made again in others.
    std::fs::copy("Cargo.lock", "crates/taipan/fuzz/Cargo.lock")?;
    let mut check = cargo(&["check", "--manifest-path=crates/taipan/fuzz/Cargo.toml", "--target-dir"]);
    // Nothing is linked, so the fuzzer's own library, which is C++, need not be compiled.
    run(check.arg(&project.target).env("CUSTOM_LIBFUZZER_PATH", "none/libnone.a"))
}

/// Builds the page and runs it in a browser, on a software adapter.
fn web(project: &Project) -> Result<Skipped> {
    build_web(project)?;
    // The test knows where it looks for a browser.
    let find = "import { findBrowser } from './tests/browser.mjs'; console.log(findBrowser())";
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", find]).current_dir("web");
    if !succeeds(&mut node) {
        let hint = "install Chromium or Google Chrome, or set CHROME_PATH";
        return Ok(vec![format!("npm --prefix web test: there is no browser; {hint}")]);
    }
    done(run(setup::npm().args(["--prefix", "web", "test"])))
}

/// All tests, doc tests included, on golden files made for this run.
fn test(project: &Project) -> Result<()> {
    golden::for_tests(project)?;
    let mut total = Tests::default();
    for what in [&PRODUCT[..], &["--package=xtask"]] {
        run_watched(cargo(&["test"]).args(what), |line| total.add(line))?;
    }
    println!("\n{} tests passed, {} ignored", total.passed, total.ignored);
    ensure!(total.passed > 0, "no test ran");
    Ok(())
}

/// Sums over the `test result:` lines of all test programs.
#[derive(Default, Debug, PartialEq, Eq)]
struct Tests {
    passed: u64,
    ignored: u64,
}

impl Tests {
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse::<u64>().unwrap_or(0),
                Some((count, "ignored")) => self.ignored += count.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn nowhere() -> Project {
        Project { root: "nowhere".into(), target: "nowhere".into(), packages: Vec::new() }
    }

    #[test]
    fn the_first_failure_ends_the_run_and_says_how_to_repeat_it() {
        let first = Step { name: "first", work: |_| Ok(vec!["something".to_owned()]) };
        let second = Step { name: "second", work: |_| bail!("`tool --flag` failed") };
        let third = Step { name: "third", work: |_| panic!("must not run") };
        let error = run_steps(&nowhere(), &[&first, &second, &third]).expect_err("the second step fails");
        let text = format!("{error:#}");
        assert!(text.contains("cargo xtask ci second") && text.contains("`tool --flag` failed"), "{text}");
        run_steps(&nowhere(), &[&first]).expect("a skipped check is not a failure");
    }

    #[test]
    fn a_package_without_examples_fails() {
        assert!(examples(&nowhere()).is_err());
    }

    #[test]
    fn test_results_are_summed() {
        let mut total = Tests::default();
        for line in [
            "running 2 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            total.add(line);
        }
        assert_eq!(total, Tests { passed: 15, ignored: 3 });
    }
}
