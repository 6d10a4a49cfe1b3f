//! `taipan info`: what a model is, how large it is, and whether it fits, from its config and headers alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use taipan::{Config, Device, Gguf, Headers, LayerType, Weights};
use taipan_hub::{Hub, ModelId};

use crate::failure::{Failure, Result};
use crate::fit::{Size, Sized, stored_dtype};
use crate::settings::{Info, Target};
use crate::target::{find_device, model_name};
use crate::{embedded, fetch, output};

/// Describes the model and judges whether it fits the chosen device.
pub(super) async fn run(target: &Target, task: Info) -> Result<()> {
    let (config, headers) = match &task.dir {
        Some(dir) => match fetch::look(dir)? {
            fetch::Place::Here(dir) => read(&dir)?,
            fetch::Place::Hub(hub, id) => remote(&hub, &id)?,
        },
        None => (Config::from_json(embedded::config())?, embedded_headers()?),
    };
    let (device, _) = find_device(target).await?;
    let report = Report::new(&task, &config, &headers, &device);
    if task.json { output::json(&report) } else { output::line(&report.table(&config)) }
}

fn read(dir: &Path) -> Result<(Config, Headers)> {
    if Gguf::is(dir) {
        let description = Gguf::open(dir)?.description;
        return Ok((Config::from_json(&description.config)?, description.headers));
    }
    // The headers first: they say whether this is a model folder at all.
    let headers = Weights::open_headers(dir)?;
    let path = dir.join("config.json");
    let config = std::fs::read(&path).map_err(|source| Failure::read(path, source))?;
    let config = Config::from_json(&config).map_err(|e| e.in_dir(dir))?;
    headers.check(&config).map_err(|e| e.in_dir(dir))?;
    Ok((config, headers))
}

/// What the hub's files say of themselves; nothing is kept.
fn remote(hub: &Hub, id: &ModelId) -> Result<(Config, Headers)> {
    let plan = hub.plan(id)?;
    let (config, headers) = fetch::describe(hub, &plan)?;
    let headers = headers.ok_or_else(|| Failure::Input {
        message: format!("{id} has a pytorch_model.bin, which can be described once it is here"),
        hint: format!("`taipan pull {id}` gets it"),
    })?;
    Ok((config, headers))
}

fn embedded_headers() -> Result<Headers> {
    Ok(Weights::from_bytes(embedded::weights())?.headers().clone())
}

#[derive(Serialize)]
struct Report {
    model: String,
    architecture: &'static str,
    /// Number of layers of each type.
    layers: BTreeMap<&'static str, usize>,
    config: serde_json::Value,
    parameters: u64,
    /// Bytes of the tensors in the files, by the type they are stored in.
    stored_bytes: BTreeMap<&'static str, u64>,
    state_bytes: u64,
    state_bytes_per_token: u64,
    scratch_bytes: u64,
    largest_buffer: Largest,
    decode_dispatches: usize,
    device: String,
    sizes: Vec<Size>,
}

/// The largest buffer that cannot be split.
#[derive(Serialize)]
struct Largest {
    name: String,
    bytes: u64,
}

impl Report {
    fn new(task: &Info, config: &Config, headers: &Headers, device: &Device) -> Report {
        // Only weights and dispatches depend on the type of the matrices.
        let stored = stored_dtype(config, headers);
        let model = Sized { config, stored, headers: Some(headers), context: task.context };
        let footprint = model.footprint(device, stored);
        let canonical = serde_json::from_str(&config.to_canonical_json());
        let mut stored_bytes = BTreeMap::new();
        for tensor in &headers.tensors {
            *stored_bytes.entry(tensor.stored_as()).or_default() += tensor.stored_bytes();
        }
        Report {
            model: model_name(task.dir.as_ref()),
            architecture: config.family.name(),
            layers: LayerType::ALL.iter().map(|kind| (kind.name(), config.count(*kind))).collect(),
            config: canonical.expect("the library writes valid JSON"),
            parameters: footprint.parameters,
            stored_bytes,
            state_bytes: model.state_bytes(&footprint),
            state_bytes_per_token: footprint.state_bytes_per_token,
            scratch_bytes: footprint.scratch_bytes,
            largest_buffer: Largest { name: footprint.largest_buffer.0.clone(), bytes: footprint.largest_buffer.1 },
            decode_dispatches: footprint.decode_dispatches,
            sizes: model.sizes(device),
            device: device.description(),
        }
    }

    fn table(&self, config: &Config) -> String {
        let layers: Vec<String> =
            self.layers.iter().filter(|(_, n)| **n > 0).map(|(k, n)| format!("{n} {k}")).collect();
        let stored: Vec<String> = self.stored_bytes.iter().map(|(t, n)| format!("{t} {}", output::bytes(*n))).collect();
        let head = if config.tie_word_embeddings { "tied to the embedding" } else { "a matrix of its own" };
        let growth = match self.state_bytes_per_token {
            0 => "whatever the length of the text".to_owned(),
            n => format!("and {} for each token of a longer text", output::bytes(n)),
        };
        let mut rows = vec![
            ("model", self.model.clone()),
            ("architecture", format!("{}: {}", self.architecture, layers.join(" + "))),
            ("width", format!("{}, vocabulary {}, head {head}", config.hidden_size, config.vocab_size)),
        ];
        rows.extend(mamba2_row(config));
        rows.extend(attention_row(config));
        rows.extend(full_attention_row(config));
        rows.extend(config.max_trained_length.map(|n| ("trained length", format!("{n} tokens"))));
        rows.extend([
            ("parameters", output::grouped(self.parameters)),
            ("stored", stored.join(" + ")),
            ("state per session", format!("{}, {}", output::bytes(self.state_bytes), growth)),
            ("scratch", output::bytes(self.scratch_bytes)),
            ("largest buffer", format!("{} ({})", output::bytes(self.largest_buffer.bytes), self.largest_buffer.name)),
        ]);
        if self.decode_dispatches > 0 {
            rows.push(("dispatches", format!("{} per decoded token", self.decode_dispatches)));
        }
        rows.push(("device", self.device.clone()));
        format!("{}\n\n{}", output::pairs(&rows), self.size_table())
    }

    fn size_table(&self) -> String {
        let rows: Vec<Vec<String>> = self.sizes.iter().map(row).collect();
        output::table(&["matrices", "weights", "with state and scratch", "fits", "because"], &[1, 2], &rows)
    }
}

fn mamba2_row(config: &Config) -> Option<(&'static str, String)> {
    let mixers = count(config, &[LayerType::Mamba2, LayerType::Parallel, LayerType::Shared]);
    let m = config.mamba2.as_ref().filter(|_| mixers > 0)?;
    let heads = m.num_heads;
    let text = format!(
        "{heads} heads of {}, state {}, {} groups, convolution {}",
        m.head_dim, m.d_state, m.n_groups, m.d_conv
    );
    Some(("mamba2", text))
}

fn count(config: &Config, kinds: &[LayerType]) -> usize {
    kinds.iter().map(|kind| config.count(*kind)).sum()
}

fn attention_row(config: &Config) -> Option<(&'static str, String)> {
    let s = config.selective_attention.as_ref().filter(|_| config.count(LayerType::SelectiveAttention) > 0)?;
    let heads = format!("{} heads of {} ({} for keys and values)", s.num_heads, s.head_dim, s.num_key_value_heads);
    let rotary = s.rope_theta.map_or_else(|| "no positions".to_owned(), |theta| format!("rotary, base {theta}"));
    let text = format!("{heads}, window {}, {rotary}, MLP {}", s.window, s.intermediate_size);
    Some(("selective_attention", text))
}

fn full_attention_row(config: &Config) -> Option<(&'static str, String)> {
    let layers = count(config, &[LayerType::Attention, LayerType::Parallel, LayerType::Shared]);
    let a = config.attention.as_ref().filter(|_| layers > 0)?;
    let heads = format!("{} heads of {} ({} for keys and values)", a.num_heads, a.head_dim, a.num_key_value_heads);
    let rotary = a.rope.map_or_else(|| "no positions".to_owned(), |rope| format!("rotary, base {}", rope.theta));
    Some(("attention", format!("{heads}, over the whole text, {rotary}")))
}

fn row(size: &Size) -> Vec<String> {
    vec![
        format!("{}{}", size.dtype, if size.stored { " (stored)" } else { "" }),
        output::bytes(size.weight_bytes),
        output::bytes(size.total_bytes),
        size.fit.fits.name().to_owned(),
        size.fit.limit.clone(),
    ]
}
