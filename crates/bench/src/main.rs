//! The benchmark as a program of its own; `taipan bench` is the same.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    use std::process::ExitCode;
    use taipan_bench::native;

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

// A browser has no command line; it uses the library.
#[cfg(target_arch = "wasm32")]
fn main() {}
