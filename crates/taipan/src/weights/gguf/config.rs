//! The config.json that the metadata of a GGUF file stands for.

use serde_json::{Map, Value as Json, json};

use super::header::{Header, Value, problem};
use super::{flag, integer, list, text};
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

/// Metadata below the name of the architecture, and what the tensors say by being there.
struct Model<'h, 'a> {
    header: &'h Header<'a>,
    arch: &'a str,
}

pub(super) fn json(header: &Header<'_>) -> std::result::Result<Json, Failure> {
    let arch = text(header, "general.architecture").ok_or_else(|| problem("it names no general.architecture"))?;
    let m = Model { header, arch };
    let mut config = match arch {
        "mamba2" => m.mamba2()?,
        "granitehybrid" => m.granite()?,
        "falcon-h1" => m.falcon()?,
        "nemotron_h" => m.nemotron()?,
        _ => return Err(Failure::Architecture(format!("{arch} (GGUF)"))),
    };
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

    /// A number for each layer, where the file may have one for all.
    fn per_layer(&self, name: &str, layers: u64) -> std::result::Result<Vec<u64>, Failure> {
        let key = self.key(name);
        let Some(list) = list(self.header, &key) else {
            let all = integer(self.header, &key).ok_or_else(|| problem(format!("{key} is missing or no number")))?;
            let layers = usize::try_from(layers).ok().filter(|layers| *layers <= 1 << 16);
            return Ok(vec![all; layers.ok_or_else(|| problem("it has too many layers"))?]);
        };
        let number = |value: &Value<'_>| match value {
            Value::Integer(n) => u64::try_from(*n).ok(),
            _ => None,
        };
        let numbers: Option<Vec<u64>> = list.iter().map(number).collect();
        let numbers = numbers.filter(|numbers| numbers.len() as u64 == layers);
        Ok(numbers.ok_or_else(|| problem(format!("{key} is no list of {layers} numbers")))?)
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
        let token = |name: &str| {
            let id = integer(self.header, &format!("tokenizer.ggml.{name}"));
            id.filter(|id| *id < *vocab as u64)
        };
        let ends: Vec<u64> = ["eos_token_id", "eot_token_id"].iter().filter_map(|name| token(name)).collect();
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
        config.insert("num_hidden_layers".into(), json!(self.size("block_count")?));
        Ok(())
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
        let layers = self.size("block_count")?;
        let kv = self.per_layer("attention.head_count_kv", layers)?;
        let heads = self.per_layer("attention.head_count", layers)?.into_iter().max().unwrap_or(0);
        let kinds: Vec<&str> = kv.iter().map(|n| if *n == 0 { "mamba" } else { "attention" }).collect();
        let head_dim = self.size("embedding_length")? / heads.max(1);
        let rotates = flag(self.header, &self.key("rope.scaling.finetuned")).unwrap_or(true);
        let rotated = integer(self.header, &self.key("rope.dimension_count")).unwrap_or(head_dim);
        if rotates && rotated != head_dim && kinds.contains(&"attention") {
            return Err(
                problem(format!("{rotated} of {head_dim} channels of a head rotate; expected all or none")).into()
            );
        }
        let root = (head_dim.max(1) as f64).sqrt().recip();
        // A scale of 0 says that there is none.
        let scale = |name: &str, default: f64| self.number(name).filter(|x| *x != 0.0).unwrap_or(default);
        let experts = self.rows("ffn_gate_inp.weight").unwrap_or(0);
        let shared = self.rows("ffn_gate_shexp.weight").or(self.rows("ffn_gate.weight"));
        config.extend(object(json!({
            "layer_types": kinds, "num_attention_heads": heads,
            "num_key_value_heads": kv.into_iter().max().filter(|n| *n > 0).unwrap_or(heads),
            "position_embedding_type": if rotates { "rope" } else { "nope" },
            "rope_theta": self.number("rope.freq_base").unwrap_or(10_000.0),
            "attention_multiplier": scale("attention.scale", root), "embedding_multiplier": scale("embedding_scale", 1.0),
            "residual_multiplier": scale("residual_scale", 1.0), "logits_scaling": scale("logit_scale", 1.0),
            "shared_intermediate_size": shared.ok_or_else(|| problem("it has no MLP"))?,
            "num_local_experts": experts, "attention_bias": self.has("attn_q.bias"),
        })));
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
        config.extend(object(json!({
            "mamba_d_ssm": self.size("ssm.inner_size")?, "mamba_rms_norm": self.has("ssm_norm.weight"),
            "mamba_norm_before_gate": false, "num_attention_heads": self.size("attention.head_count")?,
            "num_key_value_heads": self.size("attention.head_count_kv")?,
            "head_dim": self.size("attention.key_length")?,
            "intermediate_size": self.rows("ffn_gate.weight").ok_or_else(|| problem("ffn_gate.weight is missing"))?,
            "rope_theta": self.number("rope.freq_base").unwrap_or(10_000.0),
        })));
        Ok(config)
    }

    /// What a layer is shows in the numbers it has.
    fn nemotron(&self) -> std::result::Result<Map<String, Json>, Failure> {
        let [heads, head_dim, _] = self.heads()?;
        let layers = self.size("block_count")?;
        let kv = self.per_layer("attention.head_count_kv", layers)?;
        let inner = self.per_layer("feed_forward_length", layers)?;
        let kind = |(kv, inner): (&u64, &u64)| match (kv, inner) {
            (0, 0) => 'M',
            (0, _) => '-',
            _ => '*',
        };
        let pattern: String = kv.iter().zip(&inner).map(kind).collect();
        let q = self.per_layer("attention.head_count", layers)?.into_iter().max().unwrap_or(0);
        let mut config = object(json!({
            "model_type": "nemotron_h", "hybrid_override_pattern": pattern, "mamba_num_heads": heads,
            "mamba_head_dim": head_dim, "ssm_state_size": self.size("ssm.state_size")?,
            "n_groups": self.size("ssm.group_count")?, "conv_kernel": self.size("ssm.conv_kernel")?,
            "use_conv_bias": self.has("ssm_conv1d.bias"), "num_attention_heads": q,
            "num_key_value_heads": kv.into_iter().max().filter(|n| *n > 0).unwrap_or(q),
            "layer_norm_epsilon": self.eps()?,
        }));
        if let Some(length) = integer(self.header, &self.key("attention.key_length")) {
            config.insert("head_dim".into(), json!(length));
        }
        if let Some(inner) = inner.into_iter().max().filter(|n| *n > 0) {
            config.insert("intermediate_size".into(), json!(inner));
        }
        Ok(config)
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => unreachable!("an object was written"),
    }
}
