//! The `taipan` command: generates text, and checks, measures and describes models and devices.
//!
//! Raw flags ([`args`]) become checked settings ([`settings`]), and a command ([`commands`]) does the work. Data goes to
//! stdout, everything else to stderr.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod embedded;
mod failure;
mod interrupt;
mod output;
mod progress;
mod settings;
mod target;
mod text;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let result = settings::Settings::try_from(args).and_then(|settings| pollster::block_on(commands::run(settings)));
    failure::exit_code(result)
}
