//! Which keys of the metadata are understood. One that is not could change what a model computes, so it is an error.

use super::header::{Header, Value, problem};
use super::{flag, integer, text};
use crate::weights::WeightsProblem as Problem;

/// Keys below the name of every architecture: read, or without effect here.
const COMMON: &[&str] = &[
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "block_count",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "ssm.group_count",
    "ssm.dt_b_c_rms",
    "expert_count",
    "expert_used_count",
];
const GRANITE: &[&str] = &[
    "rope.scaling.finetuned",
    "attention.scale",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_gating_func",
];
const NEMOTRON: &[&str] = &["rope.scaling.finetuned"];
const NEMOTRON_MOE: &[&str] = &[
    "rope.scaling.finetuned",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_shared_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "expert_group_count",
    "expert_group_used_count",
    "expert_gating_func",
    "moe_latent_size",
    "nextn_predict_layers",
];

/// Refuses a part of a model that was split over several files, and what is no model.
pub(super) fn whole(header: &Header<'_>) -> Result<(), Problem> {
    if let Some(parts) = integer(header, "split.count").filter(|parts| *parts > 1) {
        return Err(problem(format!("it is one of {parts} parts of a model; join them with llama-gguf-split --merge")));
    }
    match text(header, "general.type") {
        None | Some("model") => Ok(()),
        Some(other) => Err(problem(format!("it holds no model but a part of one: general.type is {other}"))),
    }
}

/// Refuses keys that are not known, and values that nothing here computes.
pub(super) fn known(header: &Header<'_>, arch: &str) -> Result<(), Problem> {
    let own = match arch {
        "granitehybrid" => GRANITE,
        "nemotron_h" => NEMOTRON,
        super::config::NEMOTRON_MOE => NEMOTRON_MOE,
        _ => &[],
    };
    let below = |key: &&str| key.strip_prefix(arch)?.strip_prefix('.').map(str::to_owned);
    let mut keys: Vec<String> = header.metadata.keys().filter_map(below).collect();
    keys.sort_unstable();
    if let Some(key) = keys.iter().find(|key| !COMMON.contains(&&key[..]) && !own.contains(&&key[..])) {
        return Err(problem(format!("this build does not know what {arch}.{key} means")));
    }
    let key = |name: &str| format!("{arch}.{name}");
    let refuse = |name: &str, what: &str| Err(problem(format!("{arch}.{name}: {what}")));
    if let Some(kind) = text(header, &key("rope.scaling.type")).filter(|kind| *kind != "none") {
        return refuse("rope.scaling.type", &format!("positions are stretched ({kind}), which this build does not do"));
    }
    match header.metadata.get(&key("rope.scaling.factor")[..]) {
        None | Some(Value::Float(1.0 | 0.0)) => {}
        Some(_) => return refuse("rope.scaling.factor", "positions are stretched, which this build does not do"),
    }
    if flag(header, &key("ssm.dt_b_c_rms")) == Some(true) {
        return refuse("ssm.dt_b_c_rms", "norms inside the mixer, which Mamba-2 does not have");
    }
    // 1 is a softmax, 2 are sigmoids.
    let expected = if arch == "granitehybrid" { 1 } else { 2 };
    match integer(header, &key("expert_gating_func")) {
        None => Ok(()),
        Some(found) if found == expected || found == 0 => Ok(()),
        Some(found) => refuse("expert_gating_func", &format!("{found}, expected {expected}")),
    }
}
