//! Which tensors a config calls for, and how many numbers they hold.

use taipan_reference::GateMode;

use super::{
    AttentionConfig, Config, ExpertNames, ExpertsConfig, HEAD, LayerType, Mamba2Config, MlpConfig, Names, SalConfig,
};

type Named = (String, Vec<usize>);

/// Where a layer that shares a block finds it.
pub(crate) struct SharedPlace {
    /// The layer's number among those that share.
    pub(crate) ordinal: usize,
    /// The block.
    pub(crate) block: usize,
    /// The layer that has the block's weights.
    pub(crate) home: usize,
}

impl Config {
    /// Names and shapes of all tensors of the checkpoint, in layer order.
    pub fn expected_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, names) = (self.hidden_size, self.family.names());
        let mut out = vec![(names.embedding.to_owned(), vec![self.vocab_size, d])];
        for (i, layer) in self.layer_types.iter().enumerate() {
            let prefix = format!("{}{i}.", names.layer);
            let attention_prefix = format!("{prefix}{}", names.attention);
            if *layer == LayerType::Shared {
                self.shared_layer(&mut out, i);
                continue;
            }
            out.push((format!("{prefix}{}", names.norm), vec![d]));
            match (layer, &self.mamba2, &self.selective_attention, &self.attention) {
                (LayerType::Mamba2, Some(m), ..) => mamba2(&mut out, &format!("{prefix}{}", names.mixer), m, d),
                (LayerType::SelectiveAttention, _, Some(s), _) => {
                    out.push((format!("{prefix}gate.weight"), vec![2, d]));
                    out.push((format!("{prefix}gate.bias"), vec![2]));
                    attention(&mut out, &attention_prefix, names, &s.projections(), [d, d]);
                    out.push((format!("{prefix}{}", names.mlp_norm), vec![d]));
                    mlp(&mut out, &prefix, (names.gate_up, names.down), &MlpConfig::gated(s.intermediate_size), d);
                }
                (LayerType::Attention, .., Some(a)) => {
                    attention(&mut out, &attention_prefix, names, a, [d, d]);
                }
                (LayerType::Parallel, Some(m), _, Some(a)) => {
                    mamba2(&mut out, &format!("{prefix}{}", names.mixer), m, d);
                    attention(&mut out, &attention_prefix, names, a, [d, d]);
                }
                // A parsed config has the section of each of its layers; one built by hand may lack it.
                _ => {}
            }
            if let Some(m) = self.following_mlp() {
                out.push((format!("{prefix}{}", names.mlp_norm), vec![d]));
                mlp(&mut out, &prefix, (names.gate_up, names.down), m, d);
            } else if let Some(e) = self.following_experts() {
                out.push((format!("{prefix}{}", names.mlp_norm), vec![d]));
                experts(&mut out, &prefix, &names.experts, e, d);
            }
            match (layer, &self.mlp, &self.experts) {
                (LayerType::Mlp, Some(m), _) => mlp(&mut out, &prefix, (names.gate_up, names.down), m, d),
                (LayerType::Experts, _, Some(e)) => experts(&mut out, &prefix, &names.experts, e, d),
                _ => {}
            }
        }
        out.push((names.final_norm.to_owned(), vec![d]));
        if !self.tie_word_embeddings {
            out.push((HEAD.to_owned(), vec![self.vocab_size, d]));
        }
        out
    }

    /// Which of the blocks that layers share this layer's number stands for, and the number of the layer that has its weights.
    pub(crate) fn shared_block(&self, layer: usize) -> Option<SharedPlace> {
        let shared = self.shared.as_ref().filter(|_| self.layer_types[layer] == LayerType::Shared)?;
        let sharing = |(i, kind): (usize, &LayerType)| (*kind == LayerType::Shared).then_some(i);
        let layers: Vec<usize> = self.layer_types.iter().enumerate().filter_map(sharing).collect();
        let ordinal = layers.iter().position(|i| *i == layer)?;
        let block = ordinal % shared.blocks;
        Some(SharedPlace { ordinal, block, home: layers[block] })
    }

    fn shared_layer(&self, out: &mut Vec<Named>, layer: usize) {
        let (d, names, own) = (self.hidden_size, self.family.names(), &self.family.names().shared);
        let (Some(m), Some(a), Some(mlp_config), Some(shared)) =
            (&self.mamba2, &self.attention, &self.mlp, &self.shared)
        else {
            return;
        };
        let Some(place) = self.shared_block(layer) else { return };
        let prefix = format!("{}{layer}.", names.layer);
        out.push((format!("{prefix}{}{}", own.own, names.norm), vec![d]));
        mamba2(out, &format!("{prefix}{}{}", own.own, names.mixer), m, d);
        out.push((format!("{prefix}{}", own.out), vec![d, d]));
        let block = format!("{}{}.{}", names.layer, place.home, own.block);
        if place.home == layer {
            out.push((format!("{block}{}", names.norm), vec![2 * d]));
            attention(out, &format!("{block}{}", names.attention), names, a, [2 * d, d]);
            out.push((format!("{block}{}", names.mlp_norm), vec![d]));
            mlp(out, &block, (names.gate_up, names.down), mlp_config, d);
        }
        let mut adapter = |[into, back]: [&str; 2], rows: usize, cols: usize| {
            let rank = shared.adapter_rank;
            for (name, shape) in [(into, vec![rank, cols]), (back, vec![rows, rank])] {
                out.push((format!("{block}{}", name.replace('#', &place.ordinal.to_string())), shape));
            }
        };
        if shared.attention_adapters {
            let rows = [a.q_width(), a.kv_width(), a.kv_width()];
            own.qkv_adapters.iter().zip(rows).for_each(|(names, rows)| adapter(*names, rows, 2 * d));
        }
        adapter(own.up_adapter, mlp_config.up_rows(), d);
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let elements = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
        self.expected_tensors().iter().map(|(_, shape)| elements(shape)).sum()
    }
}

impl SalConfig {
    /// What its projections have in common with those of full attention.
    fn projections(&self) -> AttentionConfig {
        AttentionConfig::plain([self.num_heads, self.num_key_value_heads, self.head_dim])
    }
}

fn mamba2(out: &mut Vec<Named>, prefix: &str, m: &Mamba2Config, d: usize) {
    let (inner, channels) = (m.d_inner(), m.conv_channels());
    let mut add = |name: &str, shape: &[usize]| out.push((format!("{prefix}{name}"), shape.to_vec()));
    add("in_proj.weight", &[m.in_proj_rows(), d]);
    if m.in_bias {
        add("in_proj.bias", &[m.in_proj_rows()]);
    }
    add("conv1d.weight", &[channels, 1, m.d_conv]);
    if m.conv_bias {
        add("conv1d.bias", &[channels]);
    }
    for name in ["dt_bias", "A_log", "D"] {
        add(name, &[m.num_heads]);
    }
    if m.gate != GateMode::GateOnly {
        add("norm.weight", &[inner]);
    }
    add("out_proj.weight", &[d, inner]);
    if m.out_bias {
        add("out_proj.bias", &[d]);
    }
}

/// Of an input and an output of these widths.
fn attention(out: &mut Vec<Named>, prefix: &str, names: &Names, a: &AttentionConfig, [d, back]: [usize; 2]) {
    let mut add = |name: &str, rows: usize, cols: usize, bias: bool| {
        out.push((format!("{prefix}{name}"), vec![rows, cols]));
        if bias {
            out.push((format!("{prefix}{}", name.replace(".weight", ".bias")), vec![rows]));
        }
    };
    match names.qkv {
        [all] => add(all, a.q_width() + 2 * a.kv_width(), d, a.bias),
        parts => {
            let rows = [a.q_width(), a.kv_width(), a.kv_width()];
            parts.iter().zip(rows).for_each(|(name, rows)| add(name, rows, d, a.bias));
        }
    }
    add(names.attended, back, a.q_width(), a.out_bias);
    if let Some(taps) = a.conv {
        let channels = a.q_width() + 2 * a.kv_width();
        out.push((format!("{prefix}conv1d.weight"), vec![channels, 1, taps]));
        out.push((format!("{prefix}conv1d.bias"), vec![channels]));
    }
}

fn mlp(out: &mut Vec<Named>, prefix: &str, (up, down): (&[&str], &str), m: &MlpConfig, d: usize) {
    // Gate and up lie in one tensor, or in one each.
    let rows = m.up_rows() / up.len();
    let up = up.iter().map(|name| (*name, rows, d));
    for (name, rows, cols) in up.chain([(down, d, m.intermediate_size)]) {
        out.push((format!("{prefix}{name}"), vec![rows, cols]));
        if m.bias {
            out.push((format!("{prefix}{}", name.replace(".weight", ".bias")), vec![rows]));
        }
    }
}

fn experts(out: &mut Vec<Named>, prefix: &str, names: &ExpertNames, e: &ExpertsConfig, d: usize) {
    let (count, width) = (e.routing.experts, e.latent.unwrap_or(d));
    let mut add = |name: &str, shape: &[usize]| out.push((format!("{prefix}{name}"), shape.to_vec()));
    add(names.router, &[count, d]);
    if e.routing.sigmoid {
        add(names.correction, &[count]);
    }
    for (name, rows, cols) in [(names.up, e.expert.up_rows(), width), (names.down, width, e.expert.intermediate_size)] {
        if name.contains('#') {
            (0..count).for_each(|i| add(&name.replace('#', &i.to_string()), &[rows, cols]));
        } else {
            add(name, &[count, rows, cols]);
        }
    }
    if e.latent.is_some() {
        add(names.latent[0], &[width, d]);
        add(names.latent[1], &[d, width]);
    }
    if let Some(shared) = &e.shared {
        mlp(out, prefix, (names.shared_up, names.shared_down), shared, d);
    }
}
