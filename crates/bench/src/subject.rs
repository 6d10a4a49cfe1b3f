//! Everything about a model on a device that is not of one row, as far as it does not take an operating system.

use taipan::{Config, Device, Model, Result};

use crate::draw::{self, Storage};
use crate::presets::Preset;
use crate::quality::{self, Logits};
use crate::random::Drawn;
use crate::record::Quality;

/// A preset's model, its gates set on a device to select a share of tokens: by fewer tokens where the device is slow.
///
/// # Errors
/// Device errors.
pub async fn drawn(preset: &Preset, seed: u64, share: f64, device: &Device, storage: Storage) -> Result<Drawn> {
    let mut drawn = Drawn::new(preset.name, preset.config(), seed);
    let slow = device.is_cpu() || device.adapter().is_some_and(|a| a.software);
    draw::calibrate(&mut drawn, device, storage, if slow { 64 } else { 256 }, share).await?;
    Ok(drawn)
}

/// Agreement with the CPU, and the share of tokens that attended. `on_cpu` opens the same model there; the CPU itself is
/// compared with its recurrent form.
///
/// # Errors
/// Device errors, and those of `on_cpu`.
pub async fn agreement<E: From<taipan::Error>>(
    model: &Model,
    on_cpu: impl AsyncFnOnce(&Config) -> Result<Model, E>,
) -> Result<(Quality, Option<f64>), E> {
    let n = quality::tokens(model.config().parameters());
    let (found, share) = quality::mixed(model, n).await?;
    let (expected, reference): (Logits, _) = if model.device().is_cpu() {
        (quality::decoded(model, n).await?, "the CPU device's recurrent form")
    } else {
        let cpu = on_cpu(model.config()).await?;
        (quality::decoded(&cpu, n).await?, "the CPU device's recurrent form, same weights")
    };
    Ok((quality::compare(&found, &expected, reference), share))
}
