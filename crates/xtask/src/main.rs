//! The tasks of the workspace that are more than one plain cargo command: `cargo xtask --help` lists them.
//!
//! `cargo xtask ci` is what continuous integration runs and what a contributor runs before sending a change;
//! the other tasks are its parts, to be run alone.

mod build_web;
mod ci;
mod golden;
mod process;
mod project;
mod readme;
mod setup;
mod shaders;
mod tidy;
mod training;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use project::Project;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Tasks of the Taipan workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the checks need and runs all of them, stopping at the first failure
    Ci {
        /// Run only these steps, in their usual order
        #[arg(value_parser = ci::step_names())]
        steps: Vec<String>,
    },
    /// Installs what the checks need: system packages (Debian, as root), wasm32, numpy, Dawn
    Setup,
    /// Checks what compilers do not: file lengths, left-overs, one name per kernel, README commands
    Tidy,
    /// Computes golden files with numpy or transformers, for `taipan validate` and the tests
    Golden {
        /// Those of the published Mamba-2 family, by transformers
        #[arg(long)]
        family: bool,
        /// Smaller models, as those of tests/golden/taipan, which the demo page fetches
        #[arg(long, conflicts_with = "family")]
        small: bool,
        /// Seed of the weights and prompts
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Folder for the cases; by default where the tests look, under target/golden
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Compiles every permutation of every shader with Dawn
    Shaders,
    /// Builds the npm package (web/dist) and the page with the embedded model (web/site)
    BuildWeb,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let from = std::env::current_dir()?; // what a relative path on the command line is relative to
    let project = Project::load()?;
    match task {
        Task::Ci { steps } => ci::ci(&project, &steps),
        Task::Setup => setup::setup(&project).map(drop),
        Task::Tidy => tidy::tidy(&project),
        Task::Golden { family, small, seed, out } => {
            let make = match (family, small) {
                (true, _) => golden::family,
                (_, true) => golden::small,
                _ => golden::golden,
            };
            make(&project, seed, out.map(|out| from.join(out)))
        }
        Task::Shaders => shaders::shaders(&project).map(drop),
        Task::BuildWeb => build_web::build_web(&project),
    }
}

/// The names of all tasks, for the check that the README mentions none that does not exist.
fn task_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|task| task.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(task_names().contains(&"ci".to_owned()));
    }
}
