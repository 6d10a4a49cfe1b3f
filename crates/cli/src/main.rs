//! The `taipan` command: generates text, and checks, measures and describes models and devices.
//!
//! Raw flags ([`args`]) become checked settings ([`settings`]), and a command ([`commands`]) does the work. Data goes to
//! stdout, everything else to stderr.

#![forbid(unsafe_code)]

mod args;
mod ask;
mod commands;
mod embedded;
mod failure;
mod fetch;
mod fit;
mod interrupt;
mod output;
mod progress;
mod settings;
mod target;
mod text;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => refuse(&error),
    };
    let json = args.json();
    let result = settings::Settings::try_from(args).and_then(|settings| pollster::block_on(commands::run(settings)));
    failure::exit_code(result, json)
}

/// Ends the program as clap does, with help or with what it finds wrong, of which a reader of JSON gets an object.
fn refuse(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default();
        failure::print_json_error("usage", message.strip_prefix("error: ").unwrap_or(message), Some("see --help"));
    }
    error.exit()
}
