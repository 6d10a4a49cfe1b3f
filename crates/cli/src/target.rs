//! From settings to an open device and an open model.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use taipan::{Device, GpuRequest, LoadOptions, Model, SessionOptions};

use crate::failure::{Failure, Result};
use crate::progress::{Progress, Unit};
use crate::settings::{Choice, ModelChoice, Target};
use crate::{embedded, interrupt, output};

/// Opens the device that was asked for. The note says why `auto` took the CPU, where it did.
///
/// # Errors
/// `NoGpu` if an adapter was demanded and cannot be had.
pub(crate) async fn find_device(target: &Target) -> Result<(Device, Option<String>)> {
    let select = match &target.choice {
        Choice::Auto => return Ok(Device::auto(target.backends).await),
        Choice::Cpu => return Ok((Device::cpu(), None)),
        Choice::Gpu(select) => select.clone(),
    };
    let request = GpuRequest { backends: target.backends, select, ..GpuRequest::default() };
    Ok((Device::gpu(&request).await.map_err(Failure::NoGpu)?, None))
}

/// Opens the device to compute on. Where `auto` finds no real GPU, one line on stderr says so.
///
/// # Errors
/// As [`find_device`].
pub(crate) async fn open_device(target: &Target) -> Result<Device> {
    let (device, note) = find_device(target).await?;
    if let Some(note) = note {
        output::note(&note);
    }
    Ok(device)
}

/// An open model and how long that took.
pub(crate) struct Opened {
    pub(crate) model: Model,
    pub(crate) options: SessionOptions,
    pub(crate) load_time: Duration,
}

/// Opens a model on the chosen device.
///
/// # Errors
/// As [`open_device`] and [`Model::open`]; `Interrupted` if Ctrl-C was pressed meanwhile.
pub(crate) async fn open_model(target: &Target, choice: &ModelChoice) -> Result<Opened> {
    let start = Instant::now();
    let device = open_device(target).await?;
    let progress = Progress::new("loading", Unit::Bytes);
    let progress = Box::new(move |done, total| progress.set(done, total));
    let options = LoadOptions { dtype: choice.dtype, progress: Some(progress), ..LoadOptions::default() };
    let open = async {
        match &choice.dir {
            Some(dir) => Model::open(dir, &device, options).await,
            None => Model::from_bytes(embedded::files(), &device, options).await,
        }
    };
    let model = interrupt::unless(open).await.ok_or(Failure::Interrupted)??;
    let options = SessionOptions { attention_bound: choice.bound, context: choice.context };
    Ok(Opened { model, options, load_time: start.elapsed() })
}

/// What a model is called in messages and JSON.
pub(crate) fn model_name(dir: Option<&PathBuf>) -> String {
    dir.map_or_else(|| embedded::NAME.to_owned(), |dir| dir.display().to_string())
}
