//! The tensors of a GGUF file under the names that the same model has elsewhere.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::{Dtype, TensorInfo, WeightsProblem as Problem};
use super::blocks::Block;
use super::convert::{Made, Stored};
use super::header::{Entry, Header, problem};
use crate::config::{Config, ExpertNames, Family, HEAD};
use crate::quant::Quant;
use crate::weights::ElementType;

/// Factors of the frequencies of rotary positions.
const FREQUENCIES: &str = "rope_freqs.weight";

/// Where a tensor of a checkpoint comes from.
enum Origin {
    /// This one.
    One(String),
    /// The first, or else the second.
    Either([String; 2]),
    /// One of so many parts of this one.
    Part(String, [usize; 2]),
    /// A gate upon its projection up, for each of so many experts.
    Pair([String; 2], usize),
    /// Rows of queries or keys of so many heads, whose first channels, which rotate, are pairs.
    Heads(String, [usize; 2]),
    /// `A = −exp(A_log)`.
    Decay(String),
}

/// Tensors, and how those are made that do not lie in the file as they are. Their places are behind its end.
pub(super) struct Plan {
    pub(super) tensors: Vec<TensorInfo>,
    /// Each with its place.
    pub(super) made: Vec<(Range<u64>, Made)>,
}

/// Finds every tensor of a model in a file of this length.
pub(super) fn plan(file: &str, header: &Header<'_>, config: &Config, len: u64) -> Result<Plan, Problem> {
    let by_name: HashMap<&str, &Entry<'_>> = header.tensors.iter().map(|t| (t.name, t)).collect();
    let plan = Plan { tensors: Vec::new(), made: Vec::new() };
    let mut table = Table { file: file.into(), by_name, parts: HashMap::new(), end: len, plan };
    if config.attention.as_ref().is_none_or(|a| a.rope.is_none()) {
        table.by_name.remove(FREQUENCIES);
    }
    let mut expected = config.expected_tensors();
    if config.tie_word_embeddings {
        expected.retain(|(name, _)| name != HEAD);
    }
    for (name, shape) in expected {
        let origin = origin(config, &name)
            .ok_or_else(|| problem(format!("nothing is known of how such a file names {name}")))?;
        table.add(name, shape, &origin)?;
    }
    let layers = config.layer_types.len();
    table.nothing_left(layers..layers + super::further_layers(header))?;
    Ok(table.plan)
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
            // Without positions any order will do, as long as queries and keys agree.
            let rope = a.rope.filter(|_| config.family != Family::FalconH1 && i < 2);
            for (ours, theirs) in [((*ours).to_owned(), theirs.to_owned()), (bias(ours), bias(theirs))] {
                match (part == ours, rope) {
                    (true, Some(rope)) => return Some(Origin::Heads(here(&theirs), [heads[i], rope.channels])),
                    (true, None) => return one(&theirs),
                    (false, _) => {}
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
    if let Some(experts) = &config.experts
        && let Some(origin) = expert(e, experts.routing.experts, rest, &here)
    {
        return Some(origin);
    }
    match names.gate_up {
        _ if rest == names.down => one("ffn_down.weight"),
        [both] if rest == *both && config.family == Family::GraniteMoeHybrid => Some(pair("", 1, &here)),
        [up] if rest == *up => one("ffn_up.weight"),
        [gate, _] if rest == *gate => one("ffn_gate.weight"),
        [_, up] if rest == *up => one("ffn_up.weight"),
        _ => None,
    }
}

/// A gate upon its projection up.
fn pair(end: &str, count: usize, here: &impl Fn(&str) -> String) -> Origin {
    Origin::Pair(["gate", "up"].map(|part| here(&format!("ffn_{part}{end}.weight"))), count)
}

/// Tensors of experts: all in one in such a file, and elsewhere as well or each by itself.
fn expert(e: &ExpertNames, count: usize, rest: &str, here: &impl Fn(&str) -> String) -> Option<Origin> {
    let one = |name: &str| Some(Origin::One(here(name)));
    for (ours, theirs) in [(e.up, "ffn_up_exps.weight"), (e.down, "ffn_down_exps.weight")] {
        let number = ours.split_once('#').and_then(|(a, b)| rest.strip_prefix(a)?.strip_suffix(b)?.parse().ok());
        if let Some(number) = number {
            return Some(Origin::Part(here(theirs), [number, count]));
        }
    }
    match (rest, e.shared_up) {
        _ if rest == e.router => one("ffn_gate_inp.weight"),
        _ if rest == e.correction => one("exp_probs_b.bias"),
        _ if rest == e.latent[0] => one("ffn_latent_down.weight"),
        _ if rest == e.latent[1] => one("ffn_latent_up.weight"),
        _ if rest == e.up => Some(pair("_exps", count, here)),
        _ if rest == e.down => one("ffn_down_exps.weight"),
        (_, [up]) if rest == *up && e.correction.is_empty() => Some(pair("_shexp", 1, here)),
        (_, [up]) if rest == *up => one("ffn_up_shexp.weight"),
        _ if rest == e.shared_down => one("ffn_down_shexp.weight"),
        _ => None,
    }
}

struct Table<'h, 'a> {
    file: Arc<str>,
    /// Those that are not used yet.
    by_name: HashMap<&'h str, &'h Entry<'a>>,
    /// Those of which parts are used, and how many of how many.
    parts: HashMap<String, (&'h Entry<'a>, usize, usize)>,
    /// Where the next one that is made goes.
    end: u64,
    plan: Plan,
}

impl<'a, 'h> Table<'h, 'a> {
    fn take(&mut self, name: &str) -> Result<&'h Entry<'a>, Problem> {
        self.by_name.remove(name).ok_or_else(|| problem(format!("tensor {name} is missing")))
    }

    fn take_part(&mut self, name: &str, of: usize) -> Result<&'h Entry<'a>, Problem> {
        if !self.parts.contains_key(name) {
            let entry = self.take(name)?;
            self.parts.insert(name.to_owned(), (entry, 0, of));
        }
        let (entry, used, _) = self.parts.get_mut(name).expect("it was put there");
        *used += 1;
        Ok(entry)
    }

    fn add(&mut self, name: String, shape: Vec<usize>, origin: &Origin) -> Result<(), Problem> {
        match origin {
            Origin::Either([one, other]) => {
                let name_there = if self.by_name.contains_key(one.as_str()) { one } else { other };
                self.add(name, shape, &Origin::One(name_there.clone()))
            }
            Origin::One(theirs) => {
                let entry = self.take(theirs)?;
                fits(entry, &shape)?;
                self.stored(name, shape, Stored::all(entry));
                Ok(())
            }
            Origin::Part(theirs, [part, of]) => {
                let entry = self.take_part(theirs, *of)?;
                fits(entry, &[&[*of], &shape[..]].concat())?;
                self.stored(name, shape, Stored::part(entry, *part, *of));
                Ok(())
            }
            Origin::Heads(theirs, [heads, channels]) => {
                let entry = self.take(theirs)?;
                fits(entry, &shape)?;
                let (rows, cols) = (shape[0], shape.get(1).copied().unwrap_or(1));
                if !matches!(entry.block, Block::Float(_)) && shape.len() < 2 {
                    return Err(problem(format!("tensor {theirs} is a vector of {}", entry.block.name())));
                }
                let stored = Stored::all(entry);
                let made = Made::Heads { stored, rows, cols, head: rows / heads, channels: *channels };
                self.made(name, shape, made);
                Ok(())
            }
            Origin::Pair([gate, up], count) => {
                let parts = [self.take(gate)?, self.take(up)?];
                let mut half = shape.clone();
                let rows = half.len() - 2;
                half[rows] /= 2;
                for entry in parts {
                    fits(entry, &half)?;
                }
                self.made(name, shape, Made::Pair { parts: parts.map(Stored::all), count: *count });
                Ok(())
            }
            Origin::Decay(theirs) => {
                let entry = self.take(theirs)?;
                fits(entry, &shape)?;
                if !matches!(entry.block, Block::Float(_)) {
                    return Err(problem(format!("tensor {theirs} is stored as {}, expected F32", entry.block.name())));
                }
                self.made(name, shape, Made::Decay(Stored::all(entry)));
                Ok(())
            }
        }
    }

    /// Floats stay where they are; everything else is made.
    fn stored(&mut self, name: String, shape: Vec<usize>, stored: Stored) {
        match stored.block {
            Block::Float(dtype) => self.push(name, dtype, shape, stored.range, None),
            _ => self.made(name, shape, Made::Blocks(stored)),
        }
    }

    fn made(&mut self, name: String, shape: Vec<usize>, made: Made) {
        let (dtype, from, origin) = (made.dtype(), self.end, made.origin());
        let numbers: usize = shape.iter().product();
        let Some(quant) = Quant::of(dtype.format()) else {
            self.end += numbers as u64 * ElementType::from(dtype).bits() / 8;
            self.push(name, dtype, shape, from..self.end, Some(origin));
            return self.plan.made.push((from..self.end, made));
        };
        let groups = shape.last().copied().unwrap_or(1) / taipan_kernels::GROUP;
        let all = numbers / taipan_kernels::GROUP;
        let elements = from + (all * quant.group_bytes()) as u64;
        self.end = elements + 2 * all as u64;
        self.push(name, dtype, vec![all / groups.max(1), groups, quant.group_bytes()], from..elements, Some(origin));
        let info = self.plan.tensors.last_mut().expect("it was pushed");
        info.quantised = Some((quant, elements..self.end));
        self.plan.made.push((from..self.end, made));
    }

    fn push(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        range: Range<u64>,
        origin: Option<(&'static str, u64)>,
    ) {
        let (element, file) = (ElementType::from(dtype), self.file.clone());
        let info = TensorInfo { name, element, shape, file, file_index: 0, range, quantised: None, origin };
        self.plan.tensors.push(info);
    }

    /// What is not used would be left out in silence. Layers behind the last predict further tokens, and are not run.
    fn nothing_left(&self, further: Range<usize>) -> Result<(), Problem> {
        if let Some((entry, used, of)) = self.parts.values().find(|(_, used, of)| used != of) {
            return Err(problem(format!("of tensor {} {used} parts of {of} were expected", entry.name)));
        }
        let is_further = |name: &str| {
            let number = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            number.and_then(|(number, _)| number.parse().ok()).is_some_and(|number| further.contains(&number))
        };
        let mut names: Vec<&str> = self.by_name.keys().copied().filter(|name| !is_further(name)).collect();
        names.sort_unstable();
        match names.first() {
            None => Ok(()),
            Some(one) if *one == FREQUENCIES => {
                Err(problem(format!("tensor {one} stretches rotary positions, which this build does not do")))
            }
            Some(one) => {
                Err(problem(format!("{} tensors that this model does not have, {one} among them", names.len())))
            }
        }
    }
}

/// Whether a tensor has this shape, dimensions of one element aside; a vector may lie there as a matrix.
fn fits(entry: &Entry<'_>, shape: &[usize]) -> Result<(), Problem> {
    let long = |shape: &[usize]| shape.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
    let (found, expected) = (long(&entry.shape), long(shape));
    let elements = |shape: &[usize]| shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let same = found == expected || (expected.len() < 2 && elements(&found) == elements(&expected));
    let text = || format!("tensor {} has the shape {:?}; expected {shape:?}", entry.name, entry.shape);
    same.then_some(()).ok_or_else(|| problem(text()))
}
