//! `taipan bench`: speed, in rows or kernel by kernel; the work is in the crate of that name.

use std::path::PathBuf;

use taipan::Device;
use taipan_bench::native::{self, BenchArgs, Error};

use crate::failure::{Failure, Result};
use crate::fetch::{self, Use};
use crate::settings::Target;

/// Runs the benchmark on the devices of a list.
pub(super) async fn run(target: &Target, mut args: BenchArgs, devices: &str, yes: bool) -> Result<()> {
    let cpu = Device::cpu();
    let folder = |model: PathBuf| fetch::folder(&model, &Use::anyhow(&cpu, yes));
    args.model = args.model.map(folder).transpose()?;
    args.vs_model = args.model_of_vs().map_err(failure)?.map(folder).transpose()?;
    let Target { backends, cooperative, persistent, .. } = *target;
    let on =
        native::On { devices: devices.to_owned(), backends, tuning: target.tuning.clone(), cooperative, persistent };
    native::run(&args, &on).await.map_err(failure)
}

fn failure(error: Error) -> Failure {
    let hint = error.hint().unwrap_or_default();
    match error {
        Error::Usage { message, hint } => Failure::usage(message, hint),
        Error::Library(error @ taipan::Error::NoAdapter { .. }) => Failure::NoGpu(error),
        Error::Library(error) => Failure::Library(error),
        Error::Io { action: "read", path, source } => Failure::read(path, source),
        Error::Io { source, .. } => Failure::Stream { name: "the result", source },
        Error::Mismatch { .. } => Failure::Mismatch,
        other => Failure::Input { message: other.to_string(), hint },
    }
}
