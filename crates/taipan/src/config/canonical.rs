//! One spelling of a config, for fingerprints.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use taipan_reference::Routing;

use super::{AttentionConfig, Config, ExpertsConfig, Family, Mamba2Config, MixerScales, MlpConfig, SalConfig};

impl Config {
    /// The same config in one fixed spelling: every key, sorted, floats exact. Equal configs give equal text, so it serves
    /// as input of a fingerprint. Of a Taipan's, [`Config::from_json`] gives this config back; other families spell their
    /// files in ways of their own.
    pub fn to_canonical_json(&self) -> String {
        let layers: Vec<&str> = self.layer_types.iter().map(|l| l.name()).collect();
        let mut keys = sorted(vec![
            ("model_type", json!(self.family.name())),
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
            ("rms_norm_eps", json!(f64::from(self.rms_norm_eps))),
            ("layer_types", json!(layers)),
            ("mamba2", json!(self.mamba2.as_ref().map(|m| m.keys(self)))),
            ("selective_attention", json!(self.selective_attention.as_ref().map(SalConfig::keys))),
            ("bos_token_id", json!(self.bos_token_id)),
            ("eos_token_id", json!(self.eos_token_ids)),
            ("max_trained_length", json!(self.max_trained_length)),
        ]);
        if self.family != Family::Taipan {
            keys.extend(self.more_keys());
        }
        json!(keys).to_string()
    }

    /// What a Taipan does not have.
    fn more_keys(&self) -> BTreeMap<&'static str, Value> {
        let scales = [self.scales.embedding, self.scales.residual, self.scales.logits];
        sorted(vec![
            ("attention", json!(self.attention.as_ref().map(AttentionConfig::keys))),
            ("mlp", json!(self.mlp.as_ref().map(MlpConfig::keys))),
            ("experts", json!(self.experts.as_ref().map(ExpertsConfig::keys))),
            ("shared", json!(self.shared.as_ref().map(|s| (s.blocks, s.adapter_rank, s.attention_adapters)))),
            ("scales", json!(scales.map(f64::from))),
        ])
    }
}

impl ExpertsConfig {
    fn keys(&self) -> BTreeMap<&'static str, Value> {
        let Routing { experts, top, sigmoid, groups, kept, normalise, scale } = self.routing;
        sorted(vec![
            ("routing", json!([experts, top, groups, kept])),
            ("rule", json!([sigmoid, normalise])),
            ("scale", json!(f64::from(scale))),
            ("expert", json!(self.expert.keys())),
            ("latent", json!(self.latent)),
            ("shared", json!(self.shared.as_ref().map(MlpConfig::keys))),
        ])
    }
}

impl AttentionConfig {
    fn keys(&self) -> BTreeMap<&'static str, Value> {
        sorted(vec![
            ("num_heads", json!(self.num_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("head_dim", json!(self.head_dim)),
            ("scale", json!(f64::from(self.scale))),
            ("rope", json!(self.rope.map(|rope| (rope.theta, rope.channels)))),
            ("bias", json!([self.bias, self.out_bias])),
            ("conv", json!(self.conv)),
            ("scales", json!([self.in_scale, self.out_scale].map(f64::from))),
        ])
    }
}

impl MlpConfig {
    fn keys(&self) -> BTreeMap<&'static str, Value> {
        sorted(vec![
            ("intermediate_size", json!(self.intermediate_size)),
            ("activation", json!(format!("{:?}", self.activation))),
            ("bias", json!(self.bias)),
            ("scales", json!([self.gate_scale, self.out_scale].map(f64::from))),
        ])
    }
}

/// Sorted here, because the order of serde_json's own map depends on a feature that any other crate can switch.
fn sorted(keys: Vec<(&'static str, Value)>) -> BTreeMap<&'static str, Value> {
    let mut sorted = BTreeMap::new(); // made of an iterator, it brings a sort of its own to the page
    sorted.extend(keys);
    sorted
}

impl Mamba2Config {
    fn keys(&self, config: &Config) -> BTreeMap<&'static str, Value> {
        let (lo, hi) = self.time_step_limit;
        // An infinite limit is null in config.json.
        let hi = hi.is_finite().then_some(f64::from(hi));
        let mut keys = sorted(vec![
            ("d_state", json!(self.d_state)),
            ("d_conv", json!(self.d_conv)),
            ("head_dim", json!(self.head_dim)),
            ("n_groups", json!(self.n_groups)),
            ("chunk_size", json!(self.chunk_size)),
            ("conv_bias", json!(self.conv_bias)),
            ("proj_bias", json!(self.in_bias)),
            ("time_step_limit", json!([Some(f64::from(lo)), hi])),
            ("norm_eps", json!(f64::from(self.norm_eps))),
        ]);
        // A Taipan has one flag for both biases, and always the same gate.
        if config.family == Family::Taipan {
            keys.insert("expand", json!(self.d_inner() / config.hidden_size));
        } else {
            keys.insert("num_heads", json!(self.num_heads));
            keys.insert("out_bias", json!(self.out_bias));
            keys.insert("gate", json!(format!("{:?}", self.gate)));
            let MixerScales { input, projected: [z, x, b, c, dt], output } = self.scales;
            keys.insert("scales", json!([input, z, x, b, c, dt, output].map(f64::from)));
        }
        keys
    }
}

impl SalConfig {
    fn keys(&self) -> BTreeMap<&'static str, Value> {
        sorted(vec![
            ("num_heads", json!(self.num_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("head_dim", json!(self.head_dim)),
            ("window", json!(self.window)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("rope_theta", json!(self.rope_theta)),
            ("attention_budget", json!(self.attention_budget)),
        ])
    }
}
