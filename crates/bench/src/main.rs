//! The benchmark as a program of its own; `taipan bench` is the same.

use std::process::ExitCode;

use clap::Parser;
use taipan_bench::native;

fn main() -> ExitCode {
    match pollster::block_on(native::Line::parse().run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("\nhint: {hint}");
            }
            ExitCode::from(if matches!(error, native::Error::Mismatch { .. }) { 4 } else { 1 })
        }
    }
}
