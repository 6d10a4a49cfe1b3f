//! Layers that share a block: which tensors block and layer are made of.

use taipan_kernels::{Attention, BufferId, Element, Matrix, Rows, Vector};

use super::Mamba2Layer;
use super::builder::{Builder, PAGE};
use crate::config::{AttentionConfig, Mamba2Config};

/// A projection with a low-rank product beside it, in two steps: into its width and back.
#[derive(Clone, Copy, Debug)]
pub struct Adapted {
    /// The projection.
    pub weight: Matrix,
    /// The product.
    pub adapter: Option<[Matrix; 2]>,
}

/// What the layers that share a block have in common.
#[derive(Clone, Copy, Debug)]
pub struct SharedBlock {
    /// Pre-norm, of the stream beside the embedded tokens.
    pub norm: Vector,
    /// Shapes.
    pub attention: Attention,
    /// Rotary frequencies.
    pub table: Option<Vector>,
    /// Projections of queries, keys and values.
    pub qkv: [Matrix; 3],
    /// Output projection, to the width of the stream.
    pub o_proj: Matrix,
    /// Norm in front of the MLP.
    pub mlp_norm: Vector,
    /// Gate and up projection, rows interleaved.
    pub up: Matrix,
    /// Its bias.
    pub up_bias: Option<Vector>,
    /// Down projection.
    pub down: Matrix,
    /// Its bias.
    pub down_bias: Option<Vector>,
}

/// A Mamba-2 block behind a block that other layers use as well.
#[derive(Clone, Copy, Debug)]
pub struct SharedLayer {
    /// The block.
    pub block: SharedBlock,
    /// Its projections of queries, keys and values with the adapters of this layer.
    pub qkv: [Adapted; 3],
    /// Its gate and up projection with the adapter of this layer.
    pub up: Adapted,
    /// From the block to the norm of the Mamba-2 block.
    pub out: Matrix,
    /// The Mamba-2 block.
    pub mixer: Mamba2Layer,
    /// Keys and values of every position so far; grows with the text.
    pub cache: BufferId,
}

/// Scratch buffers of layers that share a block.
#[derive(Clone, Copy, Debug)]
pub struct SharedScratch {
    /// The embedded tokens, kept for the whole pass.
    pub embedded: Rows,
    /// The stream, then the embedded tokens.
    pub joined: Rows,
    /// Their norm.
    pub normed: Rows,
    /// Keys.
    pub k: Rows,
    /// Values.
    pub v: Rows,
    /// What attention, then the MLP makes.
    pub branch: Rows,
    /// Gate and up projection.
    pub up: Rows,
    /// The inside of an adapter.
    pub low: Rows,
    /// The stream and what the block adds to it for the norm.
    pub stream: Rows,
}

impl Builder<'_> {
    pub(super) fn shared(&mut self, number: usize, m: &Mamba2Config, a: &AttentionConfig) -> SharedLayer {
        let (d, names) = (self.config.hidden_size, &self.names.shared);
        let place = self.config.shared_block(number).expect("a parsed config has the section of each of its layers");
        let layer = self.prefix.clone();
        let block_prefix = format!("{}{}.{}", self.names.layer, place.home, names.block);
        self.prefix.clone_from(&block_prefix);
        if place.block == self.blocks.len() {
            let block = self.shared_block(a);
            self.blocks.push(block);
        }
        let block = self.blocks[place.block];
        let shared = self.config.shared.as_ref().expect("a parsed config has the section of each of its layers");
        let ordinal = place.ordinal.to_string();
        let mut adapted = |weight: Matrix, names: Option<[&str; 2]>, halves: bool| {
            let (rank, rows, cols) = (shared.adapter_rank, weight.rows as usize, weight.cols as usize);
            let adapter = names.map(|names| names.map(|name| self.name(&name.replace('#', &ordinal))));
            let adapter = adapter.map(|[into, back]| {
                [self.recipes.matrix(&[into], false, rank, cols), self.recipes.matrix(&[back], halves, rows, rank)]
            });
            Adapted { weight, adapter }
        };
        let mut of =
            |i: usize| adapted(block.qkv[i], shared.attention_adapters.then_some(names.qkv_adapters[i]), false);
        let qkv = [of(0), of(1), of(2)];
        let up = adapted(block.up, Some(names.up_adapter), true);
        self.prefix.clone_from(&layer);
        let out = self.matrix(names.out, d, d);
        let cache = self.state("keys and values", PAGE, 2 * a.kv_width(), Element::F32);
        self.prefix = format!("{layer}{}", names.own);
        SharedLayer { block, qkv, up, out, mixer: self.mamba2(m), cache }
    }

    fn shared_block(&mut self, a: &AttentionConfig) -> SharedBlock {
        let (d, names) = (self.config.hidden_size, self.names);
        let mlp = self.config.mlp.as_ref().expect("a parsed config has the section of each of its layers");
        let rows = [a.q_width(), a.kv_width(), a.kv_width()];
        let mut projection = |i: usize| {
            let tensor = self.attention_name(names.qkv[i]);
            self.recipes.matrix(&[tensor], false, rows[i], 2 * d)
        };
        let qkv = [projection(0), projection(1), projection(2)];
        let o_proj = self.attention_name(names.attended);
        let mlp_norm = self.vector(d, &[names.mlp_norm]);
        let mlp = self.mlp_of(mlp, mlp_norm, (names.gate_up, names.down));
        SharedBlock {
            norm: self.vector(2 * d, &[names.norm]),
            attention: Attention {
                heads: a.num_heads as u32,
                kv_heads: a.num_key_value_heads as u32,
                head_dim: a.head_dim as u32,
                window: Attention::EVERYTHING,
                scale: a.scale,
            },
            table: a.rope.as_ref().map(|rope| self.table(rope.theta, rope.channels)),
            qkv,
            o_proj: self.recipes.matrix(&[o_proj], false, d, a.q_width()),
            mlp_norm,
            up: mlp.up,
            up_bias: mlp.up_bias,
            down: mlp.down,
            down_bias: mlp.down_bias,
        }
    }
}
