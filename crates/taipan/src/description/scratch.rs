//! Buffers that every session has, and those that all layers share.

use taipan_kernels::{BufferId, Element, MergeAttention, Rows, control, sampler};
use taipan_reference::RECENT;

use super::{Buffers, Common, Scratch, Shape, SharedScratch};
use crate::config::{AttentionConfig, Config, ExpertsConfig, LayerType, Mamba2Config, SalConfig};

impl Common {
    pub(super) fn new(state: &mut Buffers, vocab: usize, segment: usize) -> Self {
        let mut word = |name, n| BufferId::State(state.add(name, 1, n, Element::U32));
        let (control, ids) = (word("control", control::LEN), word("ids", segment));
        let (recent, options) = (word("recent", RECENT), word("options", sampler::LEN));
        let logits = state.add("logits", 1, vocab, Element::F32);
        let logits = Rows { buffer: BufferId::State(logits), cols: vocab as u32 };
        Self { control, ids, recent, options, logits }
    }
}

impl Scratch {
    pub(super) fn new(buffers: &mut Buffers, config: &Config, shape: Shape) -> Self {
        let (d, t, q) = (config.hidden_size, shape.segment, shape.chunk);
        let chunks = t.div_ceil(q);
        let mut rows = |name: &str, rows: usize, cols: usize| {
            let id = buffers.add(name, rows, cols, Element::F32);
            Rows { buffer: BufferId::Scratch(id), cols: cols as u32 }
        };
        // A model without layers of a kind keeps empty buffers of that kind: nothing refers to them.
        // A layer that shares a block has a mixer and attention as well.
        let shared = config.shared.as_ref().filter(|_| config.count(LayerType::Shared) > 0);
        let parallel = config.count(LayerType::Parallel) + config.count(LayerType::Shared);
        let m = config.mamba2.as_ref().filter(|_| config.count(LayerType::Mamba2) + parallel > 0);
        let with = |f: &dyn Fn(&Mamba2Config) -> usize| m.map_or(0, f);
        let (inner, heads) = (with(&|m| m.d_inner()), with(&|m| m.num_heads));
        let (groups, n) = (with(&|m| m.n_groups), with(&|m| m.d_state));
        let s = config.selective_attention.as_ref().filter(|_| config.count(LayerType::SelectiveAttention) > 0);
        let a = config.attention.as_ref().filter(|_| config.count(LayerType::Attention) + parallel > 0);
        let q_width = s.map_or(0, SalConfig::q_width).max(a.map_or(0, AttentionConfig::q_width));
        let kv_width = s.map_or(0, SalConfig::kv_width).max(a.map_or(0, AttentionConfig::kv_width));
        let q_heads = s.map_or(0, |s| s.num_heads).max(a.map_or(0, |a| a.num_heads));
        let parts = if q_heads > 0 { MergeAttention::MOST as usize } else { 0 };
        let convolved = a.filter(|a| a.conv.is_some()).map_or(0, |_| q_width.max(2 * kv_width));
        let mlp = s.map_or(0, |s| s.intermediate_size).max(config.mlp.as_ref().map_or(0, |m| m.intermediate_size));
        let e = config.experts.as_ref();
        let beside = e.and_then(|e| e.shared.as_ref()).map_or(0, |m| m.intermediate_size);
        let experts = |f: &dyn Fn(&ExpertsConfig) -> usize| e.map_or(0, f);
        let latent = experts(&|e| e.latent.unwrap_or(0));
        let of = |width: usize| if shared.is_some() { width } else { 0 };
        Self {
            hidden: rows("hidden", t, d),
            normed: rows("normed", t, d),
            projected: rows("projected", t, with(&|m| m.in_proj_rows()).max(convolved)),
            xbc: rows("xbc", t, with(&|m| m.conv_channels())),
            da: rows("da", t, 4 * heads),
            cb: rows("cb", chunks * groups * q, q),
            states: rows("states", chunks * inner, n),
            y: rows("y", t, inner),
            gated: rows("gated", t, inner),
            kv: rows("kv", t, 2 * kv_width),
            q: rows("q", t, q_width),
            attended: rows("attended", t, q_width),
            parts: rows("parts of attention", parts, q_width + 2 * q_heads),
            mlp: rows("mlp", t, mlp.max(beside)),
            scores: rows("scores of experts", t, experts(&|e| e.routing.experts)),
            latent: rows("input of experts", t, latent),
            expanded: rows("experts", t * experts(&|e| e.routing.top), experts(&|e| e.expert.intermediate_size)),
            combined: rows("output of experts", t, latent),
            shared: SharedScratch {
                embedded: rows("embedded", t, of(d)),
                joined: rows("stream and embedded", t, of(2 * d)),
                normed: rows("their norm", t, of(2 * d)),
                k: rows("keys", t, of(kv_width)),
                v: rows("values", t, of(kv_width)),
                branch: rows("shared block", t, of(d)),
                up: rows("gate and up", t, of(2 * mlp)),
                low: rows("adapter", t, shared.map_or(0, |s| s.adapter_rank)),
                stream: rows("stream and shared block", t, of(d)),
            },
            logits: rows("logit tile", shape.logit_rows, config.vocab_size),
            adjusted: rows("adjusted logits", 1, config.vocab_size).buffer,
            routes: BufferId::Scratch(buffers.add("routes", t, 2 * experts(&|e| e.routing.top), Element::U32)),
            args: BufferId::Scratch(buffers.add("indirect arguments", 3, 4, Element::U32)),
            candidates: BufferId::Scratch(buffers.add("candidates", 1, config.vocab_size, Element::U32)),
        }
    }
}
