//! From settings to an open device and an open model.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use taipan::{Config, Device, Gguf, GpuRequest, LoadOptions, Model, SessionOptions, Tokenizer, Weights};

use crate::failure::{Failure, Result};
use crate::fetch::{self, Use};
use crate::fit::{Obstacle, Sized, stored_dtype};
use crate::progress::{Progress, Unit};
use crate::settings::{Choice, ModelChoice, Target};
use crate::{embedded, interrupt, output};

/// Opens the device that was asked for. The note says why `auto` took the CPU, where it did.
///
/// # Errors
/// `NoGpu` if an adapter was demanded and cannot be had.
pub(crate) async fn find_device(target: &Target) -> Result<(Device, Option<String>)> {
    let found = match &target.choice {
        Choice::Auto => Device::auto(target.backends).await,
        Choice::Cpu => (Device::cpu(), None),
        Choice::Gpu(select) => {
            let request = GpuRequest { backends: target.backends, select: select.clone(), ..GpuRequest::default() };
            (Device::gpu(&request).await.map_err(Failure::NoGpu)?, None)
        }
    };
    if let Some(gpu) = found.0.as_gpu().filter(|_| !target.cooperative) {
        gpu.without_cooperative();
    }
    if let (Some(gpu), Some(blocks)) = (found.0.as_gpu(), target.persistent) {
        gpu.run_blocks(blocks);
    }
    if let Some(table) = &target.tuning
        && !(found.0.is_cpu() || found.0.tune(table))
    {
        output::note(&format!("--tuning: the table has no entry for {}", found.0.description()));
    }
    Ok(found)
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
    /// Its folder or GGUF file; `None` is the embedded model.
    pub(crate) dir: Option<PathBuf>,
}

/// Opens a model on the chosen device.
///
/// # Errors
/// As [`open_device`] and [`Model::open`]; `Interrupted` if Ctrl-C was pressed meanwhile.
pub(crate) async fn open_model(target: &Target, choice: &ModelChoice) -> Result<Opened> {
    let start = Instant::now();
    let tokenizer = choice.tokenizer.as_deref().map(read_tokenizer).transpose()?;
    let device = open_device(target).await?;
    let before = start.elapsed();
    let purpose = Use { device: &device, dtype: choice.dtype, context: choice.context, yes: choice.yes };
    let dir = choice.dir.as_deref().map(|model| fetch::folder(model, &purpose)).transpose()?;
    if let Some(dir) = &dir {
        fetch::consider(obstacle(dir, &purpose), choice.yes)?;
    }
    let start = Instant::now();
    let progress = Progress::new("loading", Unit::Bytes);
    let progress = Box::new(move |done, total| progress.set(done, total));
    let options = LoadOptions { dtype: choice.dtype, tokenizer, progress: Some(progress), ..LoadOptions::default() };
    let open = async {
        match &dir {
            Some(dir) => Model::open(dir, &device, options).await,
            None => Model::from_bytes(embedded::files(), &device, options).await,
        }
    };
    let model = interrupt::unless(open).await.ok_or(Failure::Interrupted)??;
    let options = SessionOptions { attention_bound: choice.bound, context: choice.context };
    Ok(Opened { model, options, load_time: before + start.elapsed(), dir })
}

/// A tokenizer from its file, or from the folder that it is in.
fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    let inside = path.join("tokenizer.json");
    Ok(Tokenizer::from_file(if path.is_dir() { &inside } else { path })?)
}

/// Why a model that is here may not fit. What is wrong with its files is said when it is opened.
fn obstacle(dir: &Path, purpose: &Use<'_>) -> Option<Obstacle> {
    let (config, headers) = if Gguf::is(dir) {
        let description = Gguf::open(dir).ok()?.description;
        (description.config, description.headers)
    } else {
        (std::fs::read(dir.join("config.json")).ok()?, Weights::open_headers(dir).ok()?)
    };
    let config = Config::from_json(&config).ok()?;
    headers.check(&config).ok()?;
    let stored = stored_dtype(&config, &headers);
    let model = Sized { config: &config, stored, headers: Some(&headers), context: purpose.context };
    model.obstacle(&dir.display().to_string(), purpose.device, purpose.dtype)
}

/// What a model is called in messages and JSON.
pub(crate) fn model_name(dir: Option<&PathBuf>) -> String {
    dir.map_or_else(|| embedded::NAME.to_owned(), |dir| dir.display().to_string())
}
