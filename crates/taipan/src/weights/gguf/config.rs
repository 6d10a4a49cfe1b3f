//! The config.json that the metadata of a GGUF file stands for.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::header::{Header, Value, problem};
use super::keys;
use super::{flag, further_layers, integer, text};
use crate::error::Error;
use crate::weights::WeightsProblem as Problem;

/// Why there is none: the file is damaged, or nobody here knows its model.
pub(super) enum Failure {
    Problem(Problem),
    Architecture(String),
}

impl Failure {
    pub(super) fn at(self, file: &str) -> Error {
        match self {
            Self::Problem(problem) => Error::weights(file, problem),
            Self::Architecture(model_type) => Error::UnsupportedModel { file: file.to_owned(), model_type },
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Nemotron-H with layers of experts.
pub(super) const NEMOTRON_MOE: &str = "nemotron_h_moe";

/// Metadata below the name of the architecture, and what the tensors say by being there.
struct Model<'h, 'a> {
    header: &'h Header<'a>,
    arch: &'a str,
}

pub(super) fn json(header: &Header<'_>) -> std::result::Result<Json, Failure> {
    let arch = text(header, "general.architecture").ok_or_else(|| problem("it names no general.architecture"))?;
    let m = Model { header, arch };
    keys::whole(header)?;
    let mut config = match arch {
        "mamba2" => m.mamba2()?,
        "granitehybrid" => m.granite()?,
        "falcon-h1" => m.falcon()?,
        "nemotron_h" | NEMOTRON_MOE => m.nemotron()?,
        _ => return Err(Failure::Architecture(format!("{arch} (GGUF)"))),
    };
    keys::known(header, arch)?;
    m.common(&mut config)?;
    Ok(Json::Object(config))
}

impl Model<'_, '_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn size(&self, name: &str) -> std::result::Result<u64, Failure> {
        let key = self.key(name);
        Ok(integer(self.header, &key).ok_or_else(|| problem(format!("{key} is missing or no number")))?)
    }

    fn number(&self, name: &str) -> Option<f64> {
        match self.header.metadata.get(self.key(name).as_str()) {
            Some(Value::Float(x)) => Some(*x),
            Some(Value::Integer(n)) => Some(*n as f64),
            _ => None,
        }
    }

    /// A factor, of which 0 says that there is none.
    fn scale(&self, name: &str, default: f64) -> f64 {
        self.number(name).filter(|x| *x != 0.0).unwrap_or(default)
    }

    /// A number for each layer, where the file may have one for all.
    fn per_layer(&self, name: &str, layers: u64) -> std::result::Result<Vec<u64>, Failure> {
        let key = self.key(name);
        let layers = usize::try_from(layers).ok().filter(|layers| *layers <= 1 << 16);
        let layers = layers.ok_or_else(|| problem("it has too many layers"))?;
        let number = |value: Value<'_>| match value {
            Value::Integer(n) => u64::try_from(n).ok(),
            _ => None,
        };
        let numbers: Option<Vec<u64>> = match self.header.metadata.get(key.as_str()) {
            Some(list @ Value::Numbers(..)) => list.numbers().and_then(|numbers| numbers.map(number).collect()),
            Some(one) => number(one.clone()).map(|n| vec![n; layers]),
            None => return Err(problem(format!("{key} is missing")).into()),
        };
        let numbers = numbers.filter(|numbers| numbers.len() == layers);
        Ok(numbers.ok_or_else(|| problem(format!("{key} is neither a number nor a list of {layers} of them")))?)
    }

    /// The first dimension of the first tensor of this name in any layer.
    fn rows(&self, name: &str) -> Option<usize> {
        let ends = |t: &&super::header::Entry<'_>| {
            let layer = t.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            layer.is_some_and(|(_, rest)| rest == name)
        };
        let tensor = self.header.tensors.iter().find(ends)?;
        tensor.shape.len().checked_sub(2).map(|i| tensor.shape[i])
    }

    fn has(&self, name: &str) -> bool {
        self.header.tensors.iter().any(|t| t.name == name || t.name.ends_with(&format!(".{name}")))
    }

    fn eps(&self) -> std::result::Result<f64, Failure> {
        let key = "attention.layer_norm_rms_epsilon";
        Ok(self.number(key).ok_or_else(|| problem(format!("{} is missing", self.key(key))))?)
    }

    /// Vocabulary, head, and tokens that begin and end a text.
    fn common(&self, config: &mut Map<String, Json>) -> std::result::Result<(), Failure> {
        let embedding = self.header.tensors.iter().find(|t| t.name == "token_embd.weight");
        let shape = embedding.map(|t| &t.shape[..]);
        let Some([vocab, _]) = shape else { return Err(problem("token_embd.weight is missing or no matrix").into()) };
        if let Ok(tokens) = super::tokenizer::texts(self.header, "tokenizer.ggml.tokens")
            && tokens.len() > *vocab
        {
            return Err(problem(format!("{} tokens, and rows of the embedding for {vocab}", tokens.len())).into());
        }
        let token = |name: &str| {
            let id = integer(self.header, &format!("tokenizer.ggml.{name}"));
            id.filter(|id| *id < *vocab as u64)
        };
        let ends = ["eos_token_id", "eot_token_id", "eom_token_id"].iter().filter_map(|name| token(name));
        let ends = ends.chain(super::tokenizer::ends(self.header)).filter(|id| *id < *vocab as u64);
        let ends: BTreeSet<u64> = ends.collect();
        config.insert("vocab_size".into(), json!(vocab));
        config.insert("tie_word_embeddings".into(), json!(!self.has("output.weight")));
        config.insert("bos_token_id".into(), json!(token("bos_token_id")));
        if !ends.is_empty() {
            config.insert("eos_token_id".into(), json!(ends));
        }
        if let Some(context) = integer(self.header, &self.key("context_length")).filter(|n| *n < 1 << 20) {
            config.insert("max_position_embeddings".into(), json!(context));
        }
        config.insert("hidden_size".into(), json!(self.size("embedding_length")?));
        config.insert("num_hidden_layers".into(), json!(self.layers()?));
        Ok(())
    }

    /// Layers, but for those that predict further tokens.
    fn layers(&self) -> std::result::Result<u64, Failure> {
        let all = self.size("block_count")?;
        let layers = all.checked_sub(further_layers(self.header) as u64);
        Ok(layers.ok_or_else(|| problem(format!("{all} layers, and more than that predict further tokens")))?)
    }

    /// Rotary positions of heads of so many channels.
    fn rope(&self, head_dim: u64) -> std::result::Result<Json, Failure> {
        let rotated = integer(self.header, &self.key("rope.dimension_count")).unwrap_or(head_dim);
        if rotated > head_dim {
            return Err(problem(format!("{rotated} of {head_dim} channels of a head rotate")).into());
        }
        // Half a channel more, since it is rounded down.
        let share = if rotated == head_dim { 1.0 } else { (rotated as f64 + 0.5) / head_dim as f64 };
        Ok(json!({ "rope_theta": self.number("rope.freq_base").unwrap_or(10_000.0), "partial_rotary_factor": share }))
    }

    /// The width of a head of attention, where there is a width of all and one of each.
    fn head_dim(&self, heads: u64) -> std::result::Result<u64, Failure> {
        let [key, value] =
            ["key", "value"].map(|name| integer(self.header, &self.key(&format!("attention.{name}_length"))));
        let width = self.size("embedding_length")? / heads.max(1);
        let [key, value] = [key, value].map(|length| length.unwrap_or(width));
        if key != value {
            return Err(problem(format!("keys of {key} channels and values of {value}; expected as many")).into());
        }
        Ok(key)
    }

    /// Heads of the mixer, channels of a head, and the inner width.
    fn heads(&self) -> std::result::Result<[u64; 3], Failure> {
        let (heads, inner) = (self.size("ssm.time_step_rank")?, self.size("ssm.inner_size")?);
        if heads == 0 || !inner.is_multiple_of(heads) {
            return Err(problem(format!("{heads} heads of a mixer of width {inner}")).into());
        }
        Ok([heads, inner / heads, inner])
    }

    fn mamba2(&self) -> std::result::Result<Map<String, Json>, Failure> {
        let [heads, head_dim, inner] = self.heads()?;
        let hidden = self.size("embedding_length")?.max(1);
        Ok(object(json!({
            "model_type": "mamba2", "num_heads": heads, "head_dim": head_dim, "expand": inner / hidden,
            "state_size": self.size("ssm.state_size")?, "n_groups": self.size("ssm.group_count")?,
            "conv_kernel": self.size("ssm.conv_kernel")?, "use_conv_bias": self.has("ssm_conv1d.bias"),
            "layer_norm_epsilon": self.eps()?,
        })))
    }

    /// Mixers as families with attention spell them.
    fn hybrid(&self, model_type: &str) -> std::result::Result<Map<String, Json>, Failure> {
        let [heads, head_dim, inner] = self.heads()?;
        let hidden = self.size("embedding_length")?.max(1);
        Ok(object(json!({
            "model_type": model_type, "mamba_n_heads": heads, "mamba_d_head": head_dim, "mamba_expand": inner / hidden,
            "mamba_d_state": self.size("ssm.state_size")?, "mamba_n_groups": self.size("ssm.group_count")?,
            "mamba_d_conv": self.size("ssm.conv_kernel")?, "mamba_conv_bias": self.has("ssm_conv1d.bias"),
            "rms_norm_eps": self.eps()?,
        })))
    }

    fn granite(&self) -> std::result::Result<Map<String, Json>, Failure> {
        let mut config = self.hybrid("granitemoehybrid")?;
        let layers = self.layers()?;
        let kv = self.per_layer("attention.head_count_kv", layers)?;
        let heads = self.per_layer("attention.head_count", layers)?.into_iter().max().unwrap_or(0);
        let kinds: Vec<&str> = kv.iter().map(|n| if *n == 0 { "mamba" } else { "attention" }).collect();
        let head_dim = self.head_dim(heads)?;
        let rotates = flag(self.header, &self.key("rope.scaling.finetuned")).unwrap_or(true);
        let root = (head_dim.max(1) as f64).sqrt().recip();
        let experts = self.rows("ffn_gate_inp.weight").unwrap_or(0);
        let shared = self.rows("ffn_gate_shexp.weight").or(self.rows("ffn_gate.weight"));
        let shared = shared.ok_or_else(|| problem("it has no MLP"))?;
        let rope = self.rope(head_dim)?;
        config.extend(object(json!({
            "num_attention_heads": heads, "head_dim": head_dim, "attention_bias": self.has("attn_q.bias"),
            "num_key_value_heads": kv.into_iter().max().filter(|n| *n > 0).unwrap_or(heads),
        })));
        if rotates && kinds.contains(&"attention") && rope["partial_rotary_factor"] != 1.0 {
            // Of those that are converted to this architecture Bamba alone has heads of which a part rotates.
            let scales = ["attention.scale", "embedding_scale", "residual_scale", "logit_scale"];
            if let Some(name) = scales.iter().find(|name| self.scale(name, 1.0) != 1.0) {
                return Err(problem(format!("a part of a head rotates, and {} is not 1", self.key(name))).into());
            }
            let attending = kinds.iter().enumerate().filter(|(_, kind)| **kind == "attention").map(|(i, _)| i);
            config.extend(object(json!({
                "model_type": "bamba", "attn_layer_indices": attending.collect::<Vec<_>>(), "rope_parameters": rope,
                "intermediate_size": shared,
            })));
            return Ok(config);
        }
        config.extend(object(json!({
            "layer_types": kinds, "position_embedding_type": if rotates { "rope" } else { "nope" },
            "attention_multiplier": self.scale("attention.scale", root),
            "embedding_multiplier": self.scale("embedding_scale", 1.0),
            "residual_multiplier": self.scale("residual_scale", 1.0), "logits_scaling": self.scale("logit_scale", 1.0),
            "shared_intermediate_size": shared, "num_local_experts": experts,
        })));
        if rotates {
            config.insert("rope_parameters".into(), rope);
        }
        if experts > 0 {
            config.insert("num_experts_per_tok".into(), json!(self.size("expert_used_count")?));
            let inner = self.rows("ffn_gate_exps.weight").ok_or_else(|| problem("ffn_gate_exps.weight is missing"))?;
            config.insert("intermediate_size".into(), json!(inner));
        }
        Ok(config)
    }

    /// All of its factors are in the weights.
    fn falcon(&self) -> std::result::Result<Map<String, Json>, Failure> {
        let mut config = self.hybrid("falcon_h1")?;
        let heads = self.size("attention.head_count")?;
        let head_dim = self.head_dim(heads)?;
        config.extend(object(json!({
            "mamba_d_ssm": self.size("ssm.inner_size")?, "mamba_rms_norm": self.has("ssm_norm.weight"),
            "mamba_norm_before_gate": false, "num_attention_heads": heads,
            "num_key_value_heads": self.size("attention.head_count_kv")?, "head_dim": head_dim,
            "intermediate_size": self.rows("ffn_gate.weight").ok_or_else(|| problem("ffn_gate.weight is missing"))?,
            "rope_parameters": self.rope(head_dim)?,
        })));
        Ok(config)
    }

    /// What a layer is shows in the numbers it has.
    fn nemotron(&self) -> std::result::Result<Map<String, Json>, Failure> {
        let [heads, head_dim, _] = self.heads()?;
        // Layers that predict further tokens are among those that have numbers of their own.
        let all = self.size("block_count")?;
        let kv = self.per_layer("attention.head_count_kv", all)?;
        let inner = self.per_layer("feed_forward_length", all)?;
        let experts = self.arch == NEMOTRON_MOE;
        let kind = |(kv, inner): (&u64, &u64)| match (kv, inner) {
            (0, 0) => 'M',
            (0, _) if experts => 'E',
            (0, _) => '-',
            _ => '*',
        };
        let pattern: String = kv.iter().zip(&inner).map(kind).take(self.layers()? as usize).collect();
        let q = self.per_layer("attention.head_count", all)?.into_iter().max().unwrap_or(0);
        let mut config = object(json!({
            "model_type": "nemotron_h", "hybrid_override_pattern": pattern, "mamba_num_heads": heads,
            "mamba_head_dim": head_dim, "ssm_state_size": self.size("ssm.state_size")?,
            "n_groups": self.size("ssm.group_count")?, "conv_kernel": self.size("ssm.conv_kernel")?,
            "use_conv_bias": self.has("ssm_conv1d.bias"), "num_attention_heads": q, "head_dim": self.head_dim(q)?,
            "num_key_value_heads": kv.into_iter().max().filter(|n| *n > 0).unwrap_or(q),
            "layer_norm_epsilon": self.eps()?, "mlp_bias": self.has("ffn_up.bias"),
        }));
        if experts {
            config.extend(self.routed()?);
        } else if let Some(inner) = inner.into_iter().max().filter(|n| *n > 0) {
            config.insert("intermediate_size".into(), json!(inner));
        }
        Ok(config)
    }

    /// Experts, and the MLP beside them.
    fn routed(&self) -> std::result::Result<Map<String, Json>, Failure> {
        let groups = integer(self.header, &self.key("expert_group_count")).unwrap_or(1).max(1);
        let kept = if groups > 1 { self.size("expert_group_used_count")? } else { 1 };
        Ok(object(json!({
            "n_routed_experts": self.size("expert_count")?, "num_experts_per_tok": self.size("expert_used_count")?,
            "n_group": groups, "topk_group": kept,
            "norm_topk_prob": flag(self.header, &self.key("expert_weights_norm")).unwrap_or(false),
            "routed_scaling_factor": self.scale("expert_weights_scale", 1.0),
            "moe_intermediate_size": self.size("expert_feed_forward_length")?,
            "moe_shared_expert_intermediate_size": self.size("expert_shared_feed_forward_length")?,
            "n_shared_experts": integer(self.header, &self.key("expert_shared_count")).unwrap_or(1),
            "moe_latent_size": integer(self.header, &self.key("moe_latent_size")).filter(|n| *n > 0),
        })))
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => unreachable!("an object was written"),
    }
}
