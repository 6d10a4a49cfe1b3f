//! From a config to sub-layers: which tensors each is made of, under the names of the family.

use std::slice;

use taipan_kernels::{Attention, BufferId, Convolution, Element, Epilogue, Matrix, Mixer, Vector, selection};
use taipan_reference::{GateMode, Projection, sal};

use super::{
    AttentionLayer, Buffers, ConvLayer, ExpertsLayer, Layer, Mamba2Layer, MlpLayer, Part, Recipes, SalLayer, Shape,
    SharedBlock,
};
use crate::config::{
    Activation, AttentionConfig, Config, ExpertsConfig, LayerType, Mamba2Config, MlpConfig, Names, SalConfig,
};

/// Rows by which the keys and values of full attention grow at least.
pub(crate) const PAGE: usize = 64;

pub(super) struct Builder<'a> {
    pub(super) config: &'a Config,
    shape: Shape,
    pub(super) names: &'static Names,
    pub(super) prefix: String,
    pub(super) recipes: &'a mut Recipes,
    state: &'a mut Buffers,
    scratch: &'a mut Buffers,
    /// Those that layers share, as far as a layer has been built that has their weights.
    pub(super) blocks: Vec<SharedBlock>,
    pub(super) layers: Vec<Layer>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        config: &'a Config,
        shape: Shape,
        recipes: &'a mut Recipes,
        state: &'a mut Buffers,
        scratch: &'a mut Buffers,
    ) -> Self {
        let (names, prefix) = (config.family.names(), String::new());
        let (blocks, layers) = (Vec::new(), Vec::new());
        Self { config, shape, names, prefix, recipes, state, scratch, blocks, layers }
    }

    /// Adds the sub-layers of a layer of the checkpoint.
    pub(super) fn layer(&mut self, number: usize, kind: LayerType) {
        self.prefix = format!("{}{number}.", self.names.layer);
        let c = self.config;
        let layer = match (kind, &c.mamba2, &c.selective_attention, &c.attention) {
            (LayerType::Mamba2, Some(m), ..) => Layer::Mamba2(self.mamba2(m)),
            (LayerType::SelectiveAttention, _, Some(s), _) => Layer::SelectiveAttention(self.sal(s)),
            (LayerType::Attention, .., Some(a)) => Layer::Attention(self.attention(a)),
            (LayerType::Parallel, Some(m), _, Some(a)) => Layer::Parallel(self.mamba2(m), self.attention(a)),
            (LayerType::Mlp, ..) => {
                let m = c.mlp.as_ref().expect("a parsed config has the section of each of its layers");
                Layer::Mlp(self.mlp(m, self.names.norm))
            }
            (LayerType::Experts, ..) => {
                let e = c.experts.as_ref().expect("a parsed config has the section of each of its layers");
                Layer::Experts(self.experts(e, self.names.norm))
            }
            (LayerType::Shared, Some(m), _, Some(a)) => Layer::Shared(self.shared(number, m, a)),
            _ => unreachable!("a parsed config has the section of each of its layers"),
        };
        self.layers.push(layer);
        if let (LayerType::SelectiveAttention, Some(s)) = (kind, &c.selective_attention) {
            let mlp = self.mlp(&MlpConfig::gated(s.intermediate_size), self.names.mlp_norm);
            self.layers.push(Layer::Mlp(mlp));
        } else if let Some(m) = c.following_mlp() {
            let mlp = self.mlp(m, self.names.mlp_norm);
            self.layers.push(Layer::Mlp(mlp));
        } else if let Some(e) = c.following_experts() {
            let experts = self.experts(e, self.names.mlp_norm);
            self.layers.push(Layer::Experts(experts));
        }
    }

    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Matrix {
        let tensor = self.name(name);
        self.recipes.matrix(&[tensor], false, rows, cols)
    }

    pub(super) fn vector(&mut self, len: usize, names: &[&str]) -> Vector {
        let parts = names.iter().map(|n| Part::Tensor(self.name(n))).collect();
        self.recipes.vector(len, parts)
    }

    fn scaled(&mut self, len: usize, name: &str, factor: f32) -> Vector {
        let part = Part::Scaled(self.name(name), vec![(len, factor)]);
        self.recipes.vector(len, vec![part])
    }

    pub(super) fn state(&mut self, name: &str, rows: usize, cols: usize, element: Element) -> BufferId {
        let name = self.name(name);
        BufferId::State(self.state.add(name, rows, cols, element))
    }

    pub(super) fn table(&mut self, theta: f64, channels: usize) -> Vector {
        let words = taipan_reference::rotary_table(theta, channels);
        self.recipes.vector(words.len(), vec![Part::Words(words)])
    }

    pub(super) fn mamba2(&mut self, m: &Mamba2Config) -> Mamba2Layer {
        let d = self.config.hidden_size;
        let (inner, channels) = (m.d_inner(), m.conv_channels());
        let name = |name: &str| format!("{}{name}", self.names.mixer);
        let [in_proj, in_bias, out_proj, out_bias, norm] =
            ["in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias", "norm.weight"].map(name);
        let [conv, conv_bias, dt_bias, a_log, skip] =
            ["conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D"].map(name);
        let bias = if m.conv_bias { Part::Tensor(self.name(&conv_bias)) } else { Part::Zeros(channels) };
        // Factors of x, B and C are taken by the convolution, which is linear in them; a bias of in_proj is not to have
        // that of the input.
        let [z_scale, x_scale, b_scale, c_scale, dt_scale] = m.scales.projected.map(|scale| scale * m.scales.input);
        let shared = m.n_groups * m.d_state;
        let factors = [(inner, x_scale), (shared, b_scale), (shared, c_scale)].map(|(n, scale)| (n * m.d_conv, scale));
        let conv_parts = vec![Part::Scaled(self.name(&conv), factors.to_vec()), bias];
        let mixer = Mixer {
            heads: m.num_heads as u32,
            head_dim: m.head_dim as u32,
            groups: m.n_groups as u32,
            d_state: m.d_state as u32,
            taps: m.d_conv as u32,
            dt_limit: m.time_step_limit,
            z_scale,
            dt_scale,
            per_head: self.vector(3 * m.num_heads, &[&dt_bias, &a_log, &skip]),
            conv: self.recipes.vector(channels * (m.d_conv + 1), conv_parts),
        };
        Mamba2Layer {
            norm: self.vector(d, &[self.names.norm]),
            in_proj: self.matrix(&in_proj, m.in_proj_rows(), d),
            in_bias: m.in_bias.then(|| self.scaled(m.in_proj_rows(), &in_bias, m.scales.input.recip())),
            mixer,
            gate_mode: m.gate,
            gated_norm: (m.gate != GateMode::GateOnly).then(|| self.vector(inner, &[&norm])),
            gated_eps: m.norm_eps,
            out_proj: self.matrix(&out_proj, d, inner),
            out_bias: m.out_bias.then(|| self.vector(d, &[&out_bias])),
            out_scale: m.scales.output,
            conv_state: self.state("conv", m.d_conv, channels, Element::F32),
            ssm: self.state("ssm", inner, m.d_state, Element::F32),
        }
    }

    fn sal(&mut self, s: &SalConfig) -> SalLayer {
        let d = self.config.hidden_size;
        let attention = Attention {
            heads: s.num_heads as u32,
            kv_heads: s.num_key_value_heads as u32,
            head_dim: s.head_dim as u32,
            window: s.window as u32,
            scale: (s.head_dim as f32).sqrt().recip(),
        };
        let table = s.rope_theta.map(|theta| self.table(theta, s.head_dim));
        let name = self.name("selection");
        let selection = self.scratch.add(name, 1, selection::len(self.shape.segment), Element::U32);
        let [kv_proj, q_proj, o_proj] = self.projections([s.kv_width(), s.q_width()]);
        SalLayer {
            gate: self.vector(3 * d + 2, &[self.names.norm, "gate.weight", "gate.bias"]),
            attention,
            table,
            kv_proj,
            q_proj,
            o_proj,
            ring: self.state("window", s.window, 2 * s.kv_width(), Element::F32),
            sal: self.state("sal", 1, sal::LEN, Element::U32),
            selection: BufferId::Scratch(selection),
        }
    }

    /// Keys and values, queries, output; of keys (or values) and of queries there are so many channels.
    fn projections(&mut self, [kv, q]: [usize; 2]) -> [Matrix; 3] {
        let (d, names) = (self.config.hidden_size, self.names);
        let tensors: Vec<String> = names.qkv.iter().map(|name| self.attention_name(name)).collect();
        // In one tensor the rows of the queries come first.
        let (q_tensors, kv_tensors, skip) = match &tensors[..] {
            [all] => (slice::from_ref(all), slice::from_ref(all), q),
            parts => (&parts[..1], &parts[1..], 0),
        };
        let kv_proj = self.recipes.matrix(kv_tensors, false, 2 * kv, d);
        self.recipes.matrices[kv_proj.id as usize].skip = skip;
        let q_proj = self.recipes.matrix(q_tensors, false, q, d);
        [kv_proj, q_proj, self.recipes.matrix(&[self.attention_name(names.attended)], false, d, q)]
    }

    pub(super) fn attention_name(&self, name: &str) -> String {
        format!("{}{}{name}", self.prefix, self.names.attention)
    }

    fn attention(&mut self, a: &AttentionConfig) -> AttentionLayer {
        let (d, q, kv) = (self.config.hidden_size, a.q_width(), a.kv_width());
        let attention = Attention {
            heads: a.num_heads as u32,
            kv_heads: a.num_key_value_heads as u32,
            head_dim: a.head_dim as u32,
            window: Attention::EVERYTHING,
            scale: a.scale * a.in_scale * a.in_scale,
        };
        // A factor s of the input: q = s·(W u + b / s), the same for k and v. Scores take s², what is attended to s.
        let (input, less) = (a.in_scale, a.in_scale.recip());
        let [kv_proj, q_proj, o_proj] = self.projections([kv, q]);
        let norm = self.vector(d, &[self.names.norm]);
        let [kv_bias, q_bias] = self.qkv_biases([kv, q], less);
        let o_bias = self.attention_name(self.names.attended).replace(".weight", ".bias");
        AttentionLayer {
            norm,
            attention,
            table: a.rope.as_ref().map(|rope| self.table(rope.theta, rope.channels)),
            kv_proj,
            kv_bias: a.bias.then(|| self.recipes.vector(2 * kv, kv_bias)),
            q_proj,
            q_bias: a.bias.then(|| self.recipes.vector(q, q_bias)),
            o_proj,
            o_bias: a.out_bias.then(|| self.recipes.vector(d, vec![Part::Slice(o_bias, 0..d, less)])),
            convs: a.conv.map(|taps| self.attention_convs(taps, [kv, q])),
            out_scale: a.out_scale * input,
            cache: self.state("keys and values", PAGE, 2 * kv, Element::F32),
        }
    }

    /// Biases of keys and values, and of queries, times a factor.
    fn qkv_biases(&self, [kv, q]: [usize; 2], factor: f32) -> [Vec<Part>; 2] {
        let names = self.names.qkv.iter().map(|name| self.attention_name(name).replace(".weight", ".bias"));
        match &names.collect::<Vec<_>>()[..] {
            [all] => [q..q + 2 * kv, 0..q].map(|range| vec![Part::Slice(all.clone(), range, factor)]),
            parts => {
                let part = |(name, len): (&String, usize)| Part::Slice(name.clone(), 0..len, factor);
                [parts[1..].iter().zip([kv, kv]).map(part).collect(), vec![part((&parts[0], q))]]
            }
        }
    }

    /// The convolutions of keys and values, and of queries, which come first in its tensors.
    fn attention_convs(&mut self, taps: usize, [kv, q]: [usize; 2]) -> [ConvLayer; 2] {
        let [weight, bias] = ["conv1d.weight", "conv1d.bias"].map(|name| self.attention_name(name));
        [("conv of keys and values", q, 2 * kv), ("conv of queries", 0, q)].map(|(name, from, channels)| {
            let slice = |name: &String, width| Part::Slice(name.clone(), from * width..(from + channels) * width, 1.0);
            let weights = vec![slice(&weight, taps), slice(&bias, 1)];
            let weights = self.recipes.vector(channels * (taps + 1), weights);
            let conv = Convolution { channels: channels as u32, taps: taps as u32, at: 0, weights, silu: false };
            ConvLayer { conv, state: self.state(name, taps, channels, Element::F32) }
        })
    }

    fn mlp(&mut self, m: &MlpConfig, norm: &str) -> MlpLayer {
        let norm = self.vector(self.config.hidden_size, &[norm]);
        self.mlp_of(m, norm, (self.names.gate_up, self.names.down))
    }

    pub(super) fn mlp_of(&mut self, m: &MlpConfig, norm: Vector, (up, down): (&[&str], &str)) -> MlpLayer {
        let (d, inner) = (self.config.hidden_size, m.intermediate_size);
        let bias = |name: &str| self.name(&name.replace(".weight", ".bias"));
        let tensors: Vec<String> = up.iter().map(|n| self.name(n)).collect();
        let up_bias = match up {
            [gate, up] => Part::InTurn(bias(gate), bias(up)),
            [both] if m.activation != Activation::Relu2 => Part::Halves(bias(both)),
            names => Part::Tensor(bias(names[0])),
        };
        let (gated, rows) = (m.activation != Activation::Relu2, m.up_rows());
        let down_bias = bias(down);
        let matrix = self.recipes.matrix(&tensors, gated, rows, d);
        self.recipes.matrices[matrix.id as usize].lower_first = self.names.gate_below;
        MlpLayer {
            norm,
            up: matrix,
            up_bias: m.bias.then(|| self.recipes.vector(rows, vec![up_bias])),
            activation: if gated { Epilogue::Swiglu(m.gate_scale) } else { Epilogue::Relu2 },
            down: self.matrix(down, d, inner),
            down_bias: m.bias.then(|| self.recipes.vector(d, vec![Part::Tensor(down_bias)])),
            out_scale: m.out_scale,
        }
    }

    fn experts(&mut self, e: &ExpertsConfig, norm: &str) -> ExpertsLayer {
        let (d, names, count) = (self.config.hidden_size, &self.names.experts, e.routing.experts);
        let (width, gated) = (e.latent.unwrap_or(d), e.expert.activation == Activation::SiluGated);
        let norm = self.vector(d, &[norm]);
        let up = self.expert_tensors(names.up, count);
        let down = self.expert_tensors(names.down, count);
        let up = self.recipes.matrix(&up, gated, count * e.expert.up_rows(), width);
        self.recipes.matrices[up.id as usize].blocks = count;
        ExpertsLayer {
            norm,
            router: self.matrix(names.router, count, d),
            routing: e.routing,
            correction: e.routing.sigmoid.then(|| self.vector(count, &[names.correction])),
            latent: e.latent.map(|z| [self.matrix(names.latent[0], z, d), self.matrix(names.latent[1], d, z)]),
            up,
            activation: if gated { Projection::Swiglu } else { Projection::Relu2 },
            down: self.recipes.matrix(&down, false, count * width, e.expert.intermediate_size),
            shared: e.shared.as_ref().map(|m| self.mlp_of(m, norm, (names.shared_up, names.shared_down))),
        }
    }

    /// Tensors that hold the experts one upon the other.
    fn expert_tensors(&self, name: &str, count: usize) -> Vec<String> {
        let numbers = if name.contains('#') { count } else { 1 };
        (0..numbers).map(|i| self.name(&name.replace('#', &i.to_string()))).collect()
    }
}
