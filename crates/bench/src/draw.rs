//! Models drawn on the device that will run them.

use taipan::description::Description;
use taipan::run::gpu::{self, MatrixBuffers, upload_vector};
use taipan::{Config, Device, DeviceWeights, LoadOptions, Model, Result, SessionOptions, WeightDtype, matrix_pieces};
use taipan_gpu::Gpu;
use taipan_kernels::{WeightFormat, spread};

use crate::random::{Drawn, matrix_scale, matrix_seed};
use crate::shader::{FILL, prepare};

/// Share of tokens that gates are calibrated to select if nobody says otherwise.
pub const SELECTED: f64 = 0.15;

/// How a drawn model is stored and cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Storage of matrices; `Auto` is f16.
    pub dtype: WeightDtype,
    /// As in [`LoadOptions`].
    pub segment: Option<usize>,
    /// As in [`LoadOptions`].
    pub chunk: Option<usize>,
    /// As in [`LoadOptions`].
    pub recurrent: Option<usize>,
}

impl Storage {
    pub(crate) fn options(self) -> LoadOptions {
        let Self { dtype, segment, chunk, recurrent } = self;
        LoadOptions { dtype, segment, chunk, recurrent, ..LoadOptions::default() }
    }

    /// The format of matrices on a GPU.
    ///
    /// # Errors
    /// `Unsupported` for a format that does not hold the drawn numbers exactly.
    pub fn format(self) -> Result<WeightFormat> {
        match self.dtype {
            WeightDtype::Auto | WeightDtype::F16 => Ok(WeightFormat::F16),
            WeightDtype::F32 => Ok(WeightFormat::F32),
            WeightDtype::Q8 => Ok(WeightFormat::Q8),
            WeightDtype::Q4 => Ok(WeightFormat::Q4),
            other => Err(taipan::Error::Unsupported {
                what: format!("drawn weights as {other:?}: they are f32, f16, q8 or q4"),
            }),
        }
    }
}

/// Draws one matrix on a GPU; one of integers is drawn and quantised on the CPU, which alone can.
///
/// # Errors
/// `LimitTooSmall`.
pub fn matrix(gpu: &Gpu, drawn: &Drawn, d: &Description, index: usize, format: WeightFormat) -> Result<MatrixBuffers> {
    let recipe = &d.recipes.matrices[index];
    let planned = matrix_pieces(gpu, recipe, format)?;
    if format.is_quantised() {
        let most = planned.first().map_or(recipe.rows, |piece| piece.rows as usize);
        return Ok(MatrixBuffers::upload(gpu, &drawn.matrix(index, recipe), recipe.cols, format, most));
    }
    let mut pieces = Vec::new();
    for piece in planned {
        let words = u64::from(piece.rows) * (format.row_bytes(recipe.cols) / 4) as u64;
        let buffer = gpu.buffer("weight matrix", 4 * words);
        let params = vec![
            ("seed", matrix_seed(drawn.seed, index).into()),
            ("first", (piece.first_row * recipe.cols as u32).into()),
            ("rows", piece.rows.into()),
            ("cols", (recipe.cols as u32).into()),
            ("scale", matrix_scale(recipe).into()),
        ];
        let half = vec![("HALF", f64::from(u8::from(format == WeightFormat::F16)))];
        let groups = spread(words.div_ceil(256) as u32);
        let (prepared, bound) = prepare(gpu, &FILL, half, params, groups, &[&buffer]);
        let mut encoder = gpu.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&taipan_gpu::ComputePassDescriptor::default());
            prepared.encode(&bound, &mut pass, 1);
        }
        gpu.submit(encoder);
        pieces.push((piece, buffer));
    }
    Ok(MatrixBuffers { format, pieces })
}

/// All weights of a description on a GPU.
///
/// # Errors
/// `LimitTooSmall`.
pub fn gpu_weights(gpu: &Gpu, drawn: &Drawn, d: &Description, format: WeightFormat) -> Result<gpu::Weights> {
    let matrices = (0..d.recipes.matrices.len()).map(|i| matrix(gpu, drawn, d, i, format)).collect::<Result<_>>()?;
    Ok(gpu::Weights { matrices, vectors: drawn.vectors(d).iter().map(|v| upload_vector(gpu, v)).collect() })
}

/// The model on a device.
///
/// # Errors
/// A model that does not fit the device, or a storage that does not hold it.
pub async fn model(drawn: &Drawn, device: &Device, storage: Storage) -> Result<Model> {
    let format = storage.format()?;
    let make = |d: &Description| match device.as_gpu() {
        None => Ok(DeviceWeights::Cpu(drawn.cpu_weights(d, format))),
        Some(gpu) => Ok(DeviceWeights::Gpu(gpu_weights(gpu, drawn, d, format)?)),
    };
    Model::from_device_weights(&drawn.config, device, storage.options(), make).await
}

/// Token ids that look like a text to the embedding: no pattern, the same for every device.
#[must_use]
pub fn ids(config: &Config, n: usize, from: usize) -> Vec<u32> {
    let vocab = config.vocab_size as u64;
    (from..from + n).map(|i| ((u64::from(hash(i as u32)) * vocab) >> 32) as u32).collect()
}

fn hash(i: u32) -> u32 {
    (taipan_reference::uniform(0x7a19, i) * 4_294_967_296.0) as u32
}

/// Sets the gates' biases so that about `share` of `tokens` tokens are selected: a layer's margins with bias 0 give the bias.
/// Layers depend on those before them, so it is done twice. Biases are rounded to 1/16, so that devices agree.
///
/// # Errors
/// As [`model`], and device errors.
pub async fn calibrate(drawn: &mut Drawn, device: &Device, storage: Storage, tokens: usize, share: f64) -> Result<()> {
    if drawn.config.selective_attention.is_none() {
        return Ok(());
    }
    for _ in 0..2 {
        let model = model(drawn, device, storage).await?;
        let mut session = model.session(SessionOptions::default())?;
        session.prefill_rows(&ids(&drawn.config, tokens, 0), |_| Ok(())).await?;
        let found = session.gates().alpha.iter().enumerate().map(|(layer, alphas)| {
            let before = drawn.gate_bias.get(layer).copied().unwrap_or(0.0);
            let mut margins: Vec<f32> = alphas.iter().map(|a| (a / (1.0 - a)).ln()).collect();
            margins.sort_by(f32::total_cmp);
            let at = ((1.0 - share) * (margins.len() - 1) as f64).round() as usize;
            let bias = before - margins.get(at).copied().unwrap_or(0.0);
            (bias * 16.0).round() / 16.0
        });
        drawn.gate_bias = found.collect();
    }
    Ok(())
}
