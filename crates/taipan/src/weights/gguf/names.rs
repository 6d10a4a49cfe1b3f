//! The tensors of a GGUF file under the names that the same model has elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{Dtype, TensorInfo, WeightsProblem as Problem};
use super::blocks::{Block, Plain};
use super::header::{Entry, Header, problem};
use crate::config::{Config, Family, HEAD};
use crate::weights::ElementType;

/// Where a tensor of a checkpoint comes from.
enum Origin {
    /// This one.
    One(String),
    /// The first, or else the second.
    Either([String; 2]),
    /// A gate upon its projection up, for each of so many experts.
    Pair([String; 2], usize),
    /// Rows of queries or keys of so many heads, whose halves were put in turn.
    Heads(String, usize),
    /// `A = −exp(A_log)`.
    Decay(String),
}

/// Tensors, and the bytes of those that were converted: the data of file number 1, 2, … in a row.
pub(super) fn tensors(
    file: &str,
    header: &Header<'_>,
    bytes: &[u8],
    config: &Config,
) -> Result<(Vec<TensorInfo>, Vec<Vec<u8>>), Problem> {
    let by_name: HashMap<&str, &Entry<'_>> = header.tensors.iter().map(|t| (t.name, t)).collect();
    let mut table = Table { file: file.into(), by_name, bytes, used: 0, tensors: Vec::new(), converted: Vec::new() };
    let mut expected = config.expected_tensors();
    if config.tie_word_embeddings {
        expected.retain(|(name, _)| name != HEAD);
    }
    for (name, shape) in expected {
        let origin = origin(config, &name)
            .ok_or_else(|| problem(format!("nothing is known of how such a file names {name}")))?;
        table.add(name, shape, &origin)?;
    }
    // Tables that are computed from the config are let pass; anything else would be left out in silence.
    let harmless = |name: &str| name == "rope_freqs.weight";
    let known = table.used + header.tensors.iter().filter(|t| harmless(t.name)).count();
    if known != header.tensors.len() {
        let names: Vec<&str> = table.by_name.keys().copied().filter(|name| !harmless(name)).collect();
        let one = names.iter().min().copied().unwrap_or_default();
        return Err(problem(format!("{} tensors that this model does not have, {one} among them", names.len())));
    }
    Ok((table.tensors, table.converted))
}

/// Takes the spelling of a family apart.
fn origin(config: &Config, name: &str) -> Option<Origin> {
    let names = config.family.names();
    let one = |name: &str| Some(Origin::One(name.to_owned()));
    if name == names.embedding {
        return one("token_embd.weight");
    } else if name == names.final_norm {
        return one("output_norm.weight");
    } else if name == HEAD {
        return one("output.weight");
    }
    let (layer, rest) = name.strip_prefix(names.layer)?.split_once('.')?;
    let here = |name: &str| format!("blk.{layer}.{name}");
    let one = |name: &str| Some(Origin::One(here(name)));
    if rest == names.norm {
        return one("attn_norm.weight");
    } else if rest == names.mlp_norm {
        // Of some files the converter loses the ending.
        return Some(Origin::Either([here("ffn_norm.weight"), here("ffn_norm")]));
    }
    let bias = |tensor: &str| tensor.replace(".weight", ".bias");
    if let Some(a) = &config.attention
        && let Some(part) = rest.strip_prefix(names.attention)
    {
        let heads = [a.num_heads, a.num_key_value_heads];
        for (i, (ours, theirs)) in names.qkv.iter().zip(["attn_q.weight", "attn_k.weight", "attn_v.weight"]).enumerate()
        {
            let turned = config.family == Family::GraniteMoeHybrid && i < 2;
            for (ours, theirs) in [((*ours).to_owned(), theirs.to_owned()), (bias(ours), bias(theirs))] {
                match part == ours {
                    true if turned => return Some(Origin::Heads(here(&theirs), heads[i])),
                    true => return one(&theirs),
                    false => {}
                }
            }
        }
        if part == names.attended {
            return one("attn_output.weight");
        } else if part == bias(names.attended) {
            return one("attn_output.bias");
        }
    }
    if let Some(part) = rest.strip_prefix(names.mixer) {
        let theirs = match part {
            "in_proj.weight" => Some("ssm_in.weight"),
            "conv1d.weight" => Some("ssm_conv1d.weight"),
            "conv1d.bias" => Some("ssm_conv1d.bias"),
            "dt_bias" => Some("ssm_dt.bias"),
            "A_log" => return Some(Origin::Decay(here("ssm_a"))),
            "D" => Some("ssm_d"),
            "norm.weight" => Some("ssm_norm.weight"),
            "out_proj.weight" => Some("ssm_out.weight"),
            _ => None,
        };
        if let Some(theirs) = theirs {
            return one(theirs);
        }
    }
    mlp(config, rest, here)
}

fn mlp(config: &Config, rest: &str, here: impl Fn(&str) -> String) -> Option<Origin> {
    let (names, e) = (config.family.names(), &config.family.names().experts);
    let one = |name: &str| Some(Origin::One(here(name)));
    let pair = |end: &str, count| {
        let [gate, up] = ["gate", "up"].map(|part| here(&format!("ffn_{part}{end}.weight")));
        Some(Origin::Pair([gate, up], count))
    };
    if let Some(experts) = &config.experts {
        return match rest {
            _ if rest == e.router => one("ffn_gate_inp.weight"),
            _ if rest == e.up => pair("_exps", experts.routing.experts),
            _ if rest == e.down => one("ffn_down_exps.weight"),
            _ if rest == e.shared_up[0] => pair("_shexp", 1),
            _ if rest == e.shared_down => one("ffn_down_shexp.weight"),
            _ => None,
        };
    }
    match names.gate_up {
        _ if rest == names.down => one("ffn_down.weight"),
        [both] if rest == *both && config.family == Family::GraniteMoeHybrid => pair("", 1),
        [up] if rest == *up => one("ffn_up.weight"),
        [gate, _] if rest == *gate => one("ffn_gate.weight"),
        [_, up] if rest == *up => one("ffn_up.weight"),
        _ => None,
    }
}

struct Table<'b, 'h, 'a> {
    file: Arc<str>,
    /// Those that are not used yet.
    by_name: HashMap<&'h str, &'h Entry<'a>>,
    bytes: &'b [u8],
    used: usize,
    tensors: Vec<TensorInfo>,
    converted: Vec<Vec<u8>>,
}

impl<'a, 'h> Table<'_, 'h, 'a> {
    fn take(&mut self, name: &str) -> Result<&'h Entry<'a>, Problem> {
        self.used += 1;
        self.by_name.remove(name).ok_or_else(|| problem(format!("tensor {name} is missing")))
    }

    fn stored(&self, entry: &Entry<'_>) -> &[u8] {
        &self.bytes[entry.range.start as usize..entry.range.end as usize]
    }

    fn add(&mut self, name: String, shape: Vec<usize>, origin: &Origin) -> Result<(), Problem> {
        let elements = |shape: &[usize]| shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let fits = |entry: &Entry<'_>, parts: usize| {
            let (found, expected) = (elements(&entry.shape), elements(&shape));
            let fits = found.and_then(|n| n.checked_mul(parts)) == expected && expected.is_some();
            let text =
                format!("tensor {} has the shape {:?}; a part of {shape:?} was expected", entry.name, entry.shape);
            fits.then_some(()).ok_or_else(|| problem(text))
        };
        let cols = shape.last().copied().unwrap_or(1);
        match origin {
            Origin::Either([one, other]) => {
                let name_there = if self.by_name.contains_key(one.as_str()) { one } else { other };
                return self.add(name, shape, &Origin::One(name_there.clone()));
            }
            Origin::One(theirs) => {
                let entry = self.take(theirs)?;
                fits(entry, 1)?;
                // A convolution, or a vector, is nothing that a matrix of integers can be.
                match entry.block {
                    Block::Float(dtype) => self.push(name, dtype, shape, 0, entry.range.clone()),
                    block => {
                        rows_of(entry, cols)?;
                        let plain = Plain::of(block, self.stored(entry));
                        self.convert(name, shape, plain);
                    }
                }
            }
            Origin::Heads(theirs, heads) => {
                let entry = self.take(theirs)?;
                fits(entry, 1)?;
                let (rows, cols) = if shape.len() < 2 { (cols, 1) } else { (shape[0], cols) };
                rows_of(entry, if shape.len() < 2 { shape[0] } else { cols })?;
                let plain = Plain::of(entry.block, self.stored(entry));
                let size = rows / heads;
                let from = |row: usize| {
                    let (head, at) = (row / size, row % size);
                    head * size + at % (size / 2) * 2 + at / (size / 2)
                };
                let turned = if size % 2 == 0 { plain.rows(rows, cols, from) } else { plain };
                self.convert(name, shape, turned);
            }
            Origin::Pair([gate, up], count) => {
                let (gate, up) = (self.take(gate)?, self.take(up)?);
                for entry in [gate, up] {
                    fits(entry, 2)?;
                    rows_of(entry, cols)?;
                }
                let [a, b] = [gate, up].map(|entry| Plain::of(entry.block, self.stored(entry)));
                if a.dtype != b.dtype {
                    let text = format!("tensors {} and {} are stored in types of their own", gate.name, up.name);
                    return Err(problem(text));
                }
                self.convert(name, shape, a.stacked(&b, *count));
            }
            Origin::Decay(theirs) => {
                let entry = self.take(theirs)?;
                fits(entry, 1)?;
                let Block::Float(Dtype::F32) = entry.block else {
                    return Err(problem(format!("tensor {theirs} is not stored as F32")));
                };
                let numbers = self.stored(entry).as_chunks::<4>().0.iter().map(|x| (-f32::from_le_bytes(*x)).ln());
                let bytes = numbers.flat_map(f32::to_le_bytes).collect();
                self.convert(name, shape, Plain { dtype: Dtype::F32, bytes, scales: Vec::new() });
            }
        }
        Ok(())
    }

    fn convert(&mut self, name: String, shape: Vec<usize>, plain: Plain) {
        let (dtype, quant, Plain { mut bytes, scales, .. }) = (plain.dtype, plain.quant(), plain);
        let (elements, file) = (bytes.len() as u64, self.converted.len() + 1);
        bytes.extend_from_slice(&scales);
        let all = bytes.len() as u64;
        self.converted.push(bytes);
        let Some(quant) = quant else { return self.push(name, dtype, shape, file, 0..elements) };
        let groups = shape.last().copied().unwrap_or(1) / taipan_kernels::GROUP;
        let rows = shape[..shape.len() - 1].iter().product();
        self.push(name, dtype, vec![rows, groups, quant.group_bytes()], file, 0..elements);
        let info = self.tensors.last_mut().expect("it was pushed");
        info.quantised = Some((quant, elements..all));
    }

    fn push(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, file: usize, range: std::ops::Range<u64>) {
        let element = ElementType::from(dtype);
        let file_name = self.file.clone();
        self.tensors.push(TensorInfo {
            name,
            element,
            shape,
            file: file_name,
            file_index: file,
            range,
            quantised: None,
        });
    }
}

/// Rows must be as long as they are here: blocks, and pieces of rows, would mean other numbers.
fn rows_of(entry: &Entry<'_>, cols: usize) -> Result<(), Problem> {
    match entry.shape.last() {
        Some(found) if *found == cols => Ok(()),
        _ => {
            Err(problem(format!("tensor {} has the shape {:?}; rows of {cols} were expected", entry.name, entry.shape)))
        }
    }
}
