//! Reading a golden case: a checkpoint, `golden.json` and `golden.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use taipan::{AttentionBound, ElementType, LayerType, Model, Weights};

use crate::failure::{Failure, Result};

/// The file that makes a folder a case.
pub(super) const META: &str = "golden.json";
const NUMBERS: &str = "golden.safetensors";

/// A case.
pub(super) struct Case {
    path: PathBuf,
    pub(super) name: String,
    pub(super) bound: Option<AttentionBound>,
    /// By length.
    pub(super) prompts: Vec<Prompt>,
}

/// A prompt and what must come of it.
pub(super) struct Prompt {
    pub(super) name: String,
    pub(super) ids: Vec<u32>,
    pub(super) expected: Expected,
    /// What comes of it where no step size is clamped, in cases whose clamp makes a difference.
    unclamped: Option<Expected>,
}

/// Results of a prompt.
#[derive(Clone)]
pub(super) struct Expected {
    /// `[tokens, vocab]`.
    pub(super) logits: Vec<f32>,
    /// `[layers][tokens]`.
    pub(super) mask: Vec<Vec<u8>>,
    pub(super) alpha: Vec<Vec<f32>>,
    /// The tokens that follow greedily.
    pub(super) greedy: Vec<u32>,
    /// Positions whose numbers can be compared; after a decision that hangs by a hair two correct results may differ.
    pub(super) comparable: usize,
}

#[derive(Deserialize)]
struct Meta {
    options: Options,
    prompts: BTreeMap<String, MetaPrompt>,
}

#[derive(Deserialize)]
struct Options {
    attention_bound: Option<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    attention_budget: f64,
    burst: f64,
}

#[derive(Deserialize)]
struct MetaPrompt {
    length: usize,
    greedy: Vec<u32>,
}

/// The other form of golden.json, in which the numbers of a prompt are all in golden.safetensors.
#[derive(Deserialize)]
struct OtherMeta {
    cases: Vec<OtherPrompt>,
    /// Whether decoding did what the prefill did: the step sizes were not clamped in one of them alone.
    #[serde(default = "always")]
    decode_matches_prefill: bool,
}

fn always() -> bool {
    true
}

#[derive(Deserialize)]
struct OtherPrompt {
    name: String,
    prompt_len: usize,
}

/// Either form: the bound, and the prompts.
fn read_meta(json: Value, numbers: &Weights) -> Result<(Option<Bound>, Vec<Prompt>), String> {
    if json.get("cases").is_none() {
        let meta: Meta = serde_json::from_value(json).map_err(|e| e.to_string())?;
        let prompts = meta.prompts.into_iter().map(|(name, prompt)| read_prompt(numbers, name, prompt));
        return Ok((meta.options.attention_bound, prompts.collect::<Result<_, _>>()?));
    }
    let meta: OtherMeta = serde_json::from_value(json).map_err(|e| e.to_string())?;
    let prompt = |prompt: OtherPrompt| read_other_prompt(numbers, prompt, meta.decode_matches_prefill);
    Ok((None, meta.cases.into_iter().map(prompt).collect::<Result<_, _>>()?))
}

impl Case {
    /// Reads all but the checkpoint.
    ///
    /// # Errors
    /// A file is missing or malformed, or there is nothing in it to compare.
    pub(super) fn read(folder: &Path) -> Result<Case> {
        let path = folder.join(META);
        let bytes = std::fs::read(&path).map_err(|source| Failure::read(&path, source))?;
        let bad = |problem: String| Failure::Case { path: path.clone(), problem };
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        let numbers = Weights::open_file(&folder.join(NUMBERS))?;
        let (bound, mut prompts) = read_meta(json, &numbers).map_err(bad)?;
        if prompts.is_empty() {
            return Err(bad("it has no prompt".to_owned()));
        }
        let bound = bound.map(|b| AttentionBound::new(b.attention_budget, b.burst)).transpose();
        let bound = bound.map_err(|e| bad(e.to_string()))?;
        prompts.sort_by_key(|p| p.ids.len());
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Ok(Case { path: folder.join(NUMBERS), name, bound, prompts })
    }

    /// Checks that there is a number for everything that the model computes, and for nothing else. Of two sets of numbers the
    /// one is taken that the model's own clamp leads to.
    ///
    /// # Errors
    /// `Case`.
    pub(super) fn settle(&mut self, model: &Model) -> Result<()> {
        let clamps = model.config().mamba2.as_ref().is_some_and(|m| m.time_step_limit != (0.0, f32::INFINITY));
        for prompt in &mut self.prompts {
            if let Some(unclamped) = prompt.unclamped.take().filter(|_| !clamps) {
                prompt.expected = unclamped;
            }
        }
        let (vocab, layers) = (model.config().vocab_size, model.config().count(LayerType::SelectiveAttention));
        for prompt in &self.prompts {
            let (len, e) = (prompt.ids.len(), &prompt.expected);
            let fits = e.logits.len() == len * vocab
                && e.mask.len() == layers
                && e.alpha.len() == layers
                && e.mask.iter().all(|l| l.len() == len)
                && e.alpha.iter().all(|l| l.len() == len);
            if !fits {
                let problem = format!("prompt {}: shapes are not those of {len} tokens of this model", prompt.name);
                return Err(Failure::Case { path: self.path.clone(), problem });
            }
        }
        Ok(())
    }
}

fn read_prompt(numbers: &Weights, name: String, meta: MetaPrompt) -> Result<Prompt, String> {
    let ids = read_ids(numbers, &format!("{name}.ids"))?;
    if ids.is_empty() || ids.len() != meta.length {
        return Err(format!("prompt {name}: {} ids, golden.json says {}", ids.len(), meta.length));
    }
    if meta.greedy.is_empty() {
        return Err(format!("prompt {name}: no greedy continuation"));
    }
    let logits = read_floats(numbers, &format!("{name}.logits"))?.0;
    let (mut mask, mut alpha) = (Vec::new(), Vec::new());
    if numbers.headers().get(&format!("{name}.mask")).is_ok() {
        mask = read_mask(numbers, &format!("{name}.mask"))?;
        let (floats, row) = read_floats(numbers, &format!("{name}.alpha"))?;
        alpha = floats.chunks(row.max(1)).map(<[f32]>::to_vec).collect();
    }
    let comparable = ids.len();
    let expected = Expected { logits, mask, alpha, greedy: meta.greedy, comparable };
    Ok(Prompt { name, ids, expected, unclamped: None })
}

fn read_other_prompt(numbers: &Weights, prompt: OtherPrompt, decode_matches: bool) -> Result<Prompt, String> {
    let OtherPrompt { name, prompt_len } = prompt;
    let ids = read_ids(numbers, &format!("{name}.input_ids"))?;
    if ids.is_empty() || ids.len() != prompt_len {
        return Err(format!("prompt {name}: {} ids, golden.json says {prompt_len}", ids.len()));
    }
    let results = |kind: &str| {
        let logits = read_floats(numbers, &format!("{name}.{kind}logits"))?.0;
        let greedy = read_ids(numbers, &format!("{name}.{kind}greedy_ids"))?;
        Ok::<_, String>(Expected { logits, mask: Vec::new(), alpha: Vec::new(), greedy, comparable: ids.len() })
    };
    let mut expected = results("")?;
    let there = numbers.headers().get(&format!("{name}.noclamp_logits")).is_ok();
    let unclamped = there.then(|| results("noclamp_")).transpose()?;
    if expected.greedy.is_empty() {
        return Err(format!("prompt {name}: no greedy continuation"));
    }
    if !decode_matches {
        // Nobody who clamps in both phases continues like that.
        expected.greedy.clear();
    }
    Ok(Prompt { name, ids, expected, unclamped })
}

/// The bytes of a tensor of this type, and the length of its rows.
fn raw<'a>(numbers: &'a Weights, name: &str, element: ElementType) -> Result<(&'a [u8], usize), String> {
    let (info, bytes) = numbers.get_raw(name).map_err(|e| e.to_string())?;
    if info.element != element {
        return Err(format!("tensor `{name}` is {}, expected {}", info.element.name(), element.name()));
    }
    Ok((bytes, info.shape.last().copied().unwrap_or(1)))
}

fn read_ids(numbers: &Weights, name: &str) -> Result<Vec<u32>, String> {
    let is_short = numbers.headers().get(name).is_ok_and(|info| info.element == ElementType::I32);
    let ids: Vec<i64> = if is_short {
        let (bytes, _) = raw(numbers, name, ElementType::I32)?;
        bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()
    } else {
        let (bytes, _) = raw(numbers, name, ElementType::I64)?;
        bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    };
    let ids = ids.into_iter().map(u32::try_from);
    ids.collect::<Result<_, _>>().map_err(|_| format!("tensor `{name}` holds a number that is no token id"))
}

fn read_floats(numbers: &Weights, name: &str) -> Result<(Vec<f32>, usize), String> {
    let (bytes, row) = raw(numbers, name, ElementType::F32)?;
    Ok((bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), row))
}

fn read_mask(numbers: &Weights, name: &str) -> Result<Vec<Vec<u8>>, String> {
    let (bytes, row) = raw(numbers, name, ElementType::U8)?;
    Ok(bytes.chunks(row.max(1)).map(<[u8]>::to_vec).collect())
}
