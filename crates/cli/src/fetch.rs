//! From what `-m` says to a folder: one that is here, one in the cache, or one that is downloaded after asking.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use taipan::{Config, Device, Dtype, FileStart, Gguf, GgufDescription, Headers, WeightDtype, WeightsProblem};
use taipan_hub::{Cache, Error, Event, Hub, ModelId, Plan, Pulled, RemoteFile, Settings};

use crate::failure::{Failure, Result};
use crate::fit::{Obstacle, Sized, stored_dtype};
use crate::interrupt::AtOnce;
use crate::progress::{Progress, Unit};
use crate::{ask, output};

/// Where a model is.
pub(crate) enum Place {
    /// In this folder, or nowhere.
    Here(PathBuf),
    /// On the hub only.
    Hub(Box<Hub>, ModelId),
}

/// Looks for a model without asking the network. A folder goes before a name.
///
/// # Errors
/// Settings of no use.
pub(crate) fn look(model: &Path) -> Result<Place> {
    let here = |dir: &Path| Ok(Place::Here(Gguf::find(dir)?.unwrap_or_else(|| dir.to_owned())));
    let id = model.to_str().and_then(|text| text.parse::<ModelId>().ok());
    let is_name = |id: &ModelId| !model.exists() && (id.file().is_some() || !Gguf::is(model));
    let Some(id) = id.filter(is_name) else { return here(model) };
    let settings = Settings::from_env()?;
    match Cache::new(settings.cache.clone()).find(&id) {
        Some(dir) => here(&dir),
        None => Ok(Place::Hub(Box::new(Hub::new(settings)), id)),
    }
}

/// How a model is to be run once it is here.
pub(crate) struct Use<'a> {
    pub(crate) device: &'a Device,
    pub(crate) dtype: WeightDtype,
    pub(crate) context: Option<usize>,
    /// Not to ask.
    pub(crate) yes: bool,
}

impl Use<'_> {
    /// Somewhere that does not depend on the device.
    pub(crate) fn anyhow(device: &Device, yes: bool) -> Use<'_> {
        Use { device, dtype: WeightDtype::Auto, context: None, yes }
    }
}

/// The folder or the GGUF file of a model, which is downloaded where it is not here and somebody agrees.
///
/// # Errors
/// Nobody agrees, or what the hub says.
pub(crate) fn folder(model: &Path, purpose: &Use<'_>) -> Result<PathBuf> {
    let (hub, id) = match look(model)? {
        Place::Here(dir) => return Ok(dir),
        Place::Hub(hub, id) => (hub, id),
    };
    let refusal = || Failure::Input {
        message: format!("{id} is no folder, and not in the cache"),
        hint: format!("`taipan pull {id}` downloads it; --yes does so without asking"),
    };
    if !purpose.yes && !ask::is_possible() {
        return Err(refusal());
    }
    let plan = hub.plan(&id)?;
    check(&hub, &plan, purpose)?;
    let (size, place) = (output::bytes(plan.bytes()), hub.cache().root().display());
    if !purpose.yes && !ask::confirm(&format!("{id} is not in the cache. Download {size} to {place}?"))? {
        return Err(refusal());
    }
    Ok(pull(&hub, &plan)?.path)
}

/// Says before the work begins that a model is none that runs, or does not fit.
///
/// # Errors
/// It does not run, or what the hub says.
pub(crate) fn check(hub: &Hub, plan: &Plan, purpose: &Use<'_>) -> Result<()> {
    hub.check_space(plan)?;
    let (config, headers) = describe(hub, plan)?;
    let stored = headers.as_ref().map_or_else(|| stored_in(&config, plan), |headers| stored_dtype(&config, headers));
    let model = Sized { config: &config, stored, headers: headers.as_ref(), context: purpose.context };
    consider(model.obstacle(&plan.id.to_string(), purpose.device, purpose.dtype), purpose.yes)
}

/// Goes on in spite of what stands in the way where that may work out or somebody wants it.
///
/// # Errors
/// `Input` where it is certain and nobody does.
pub(crate) fn consider(obstacle: Option<Obstacle>, yes: bool) -> Result<()> {
    let Some(Obstacle { certain, problem, remedy }) = obstacle else { return Ok(()) };
    if !certain || yes {
        output::note(&format!("note: {problem}; {remedy}"));
        return Ok(());
    }
    let refused = Failure::Input { message: problem.clone(), hint: format!("{remedy}; --yes tries it as it is") };
    if !ask::is_possible() {
        return Err(refused);
    }
    if ask::confirm(&format!("{problem}; {remedy}. Go on as it is?"))? { Ok(()) } else { Err(refused) }
}

/// A GGUF file's config and headers, from as much of its beginning as that takes.
fn describe_gguf(hub: &Hub, plan: &Plan, file: &RemoteFile) -> Result<(Config, Headers)> {
    let within = |error| Failure::Within { what: plan.id.to_string(), error: Box::new(error) };
    let size = file.size.unwrap_or(u64::MAX);
    let mut count = 4 << 20;
    loop {
        let start = hub.beginning(plan, file, count)?;
        match GgufDescription::parse(&file.name, &start, size) {
            // Once more than there is, or than a header may have, is asked for, the error is another.
            Err(taipan::Error::Weights { problem, .. })
                if matches!(*problem, WeightsProblem::HeaderTruncated { .. }) && count < size =>
            {
                count = count.saturating_mul(4);
            }
            Err(error) => return Err(within(error)),
            Ok(d) => return Ok((Config::from_json(&d.config).map_err(within)?, d.headers)),
        }
    }
}

/// A model's config and the headers of its weights, from the hub; a `pytorch_model.bin` has its headers at its end.
///
/// # Errors
/// A model that Taipan does not run, or what the hub says.
pub(crate) fn describe(hub: &Hub, plan: &Plan) -> Result<(Config, Option<Headers>)> {
    let within = |error| Failure::Within { what: plan.id.to_string(), error: Box::new(error) };
    if let Some(file) = plan.gguf() {
        return describe_gguf(hub, plan, file).map(|(config, headers)| (config, Some(headers)));
    }
    let config = Config::from_json(&hub.read(plan, "config.json")?).map_err(within)?;
    let mut starts = Vec::new();
    for file in plan.weights() {
        if file.name.ends_with(".bin") {
            return Ok((config, None));
        }
        starts.push((file, hub.header(plan, file)?));
    }
    let len = |file: &RemoteFile, bytes: &[u8]| file.size.unwrap_or(bytes.len() as u64);
    let start = starts.iter().map(|(file, bytes)| FileStart { name: &file.name, bytes, len: len(file, bytes) });
    let files: Vec<_> = start.collect();
    let headers = Headers::parse(&files, plan.index.as_deref()).map_err(within)?;
    headers.check(&config).map_err(within)?;
    Ok((config, Some(headers)))
}

/// What the size of a file says about the type of what is in it.
fn stored_in(config: &Config, plan: &Plan) -> Dtype {
    let bytes: u64 = plan.weights().filter_map(|file| file.size).sum();
    if bytes < 3 * config.parameters() { Dtype::F16 } else { Dtype::F32 }
}

/// Downloads what is missing.
///
/// # Errors
/// What the hub, the network or the file system says.
pub(crate) fn pull(hub: &Hub, plan: &Plan) -> Result<Pulled> {
    // What came is on the disk at any time.
    let _at_once = AtOnce::new();
    let progress = Progress::new("downloading", Unit::Bytes);
    let (total, mut waiting) = (plan.bytes(), false);
    let pulled = hub.pull(plan, &mut |event| {
        match event {
            Event::Bytes { done } => progress.set(done, total.max(done)),
            Event::Waiting { file } if !std::mem::replace(&mut waiting, true) => {
                output::note(&format!("{file}: waiting for another program that downloads it"));
            }
            Event::Broken { file, reason } => output::note(&format!("{file}: {reason}; trying again")),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    Ok(pulled?)
}

/// The cache.
///
/// # Errors
/// Settings of no use.
pub(crate) fn cache() -> Result<Cache, Error> {
    Ok(Cache::new(Settings::from_env()?.cache))
}
