//! One token through Mamba-2 blocks and layers of selective attention.

use taipan_shaders::{Shared, TOKEN_STEP};

use crate::launch::SYNC;
use crate::{
    BufferId, Call, Decl, Epilogue, Launch, Matrix, Matvec, MixerStep, TokenAttention, TokenGateKv, Vector, read,
    weight, write,
};

/// Consecutive blocks and the layer of selective attention with its MLP that comes behind them, for one token; one dispatch
/// goes through several such groups. What stands for a [`MixerStep`]'s calls of each block, and for a [`TokenGateKv`], a
/// [`Matvec`], a [`TokenAttention`] and three [`Matvec`] of the layer (arXiv 2410.18572), on a device whose workgroups can wait
/// for each other. Its twin is those calls. This is one of the groups.
#[derive(Clone, Copy, Debug)]
pub struct TokenStep {
    block: MixerStep,
    /// Blocks.
    period: usize,
    gate_kv: TokenGateKv,
    q: Matvec,
    attend: TokenAttention,
    o: Matvec,
    up: Matvec,
    down: Matvec,
}

static DECL: Decl = Decl {
    name: "token_step",
    body: if cfg!(target_arch = "wasm32") { "" } else { TOKEN_STEP }, // a page has no use for it, and need not load it
    shared: &[Shared::Lanes, Shared::Rows, Shared::Activation, Shared::Selection, Shared::Bucket, Shared::Control],
    matrix: true,
    bindings: &[
        weight("out_weight"),
        weight("norm"),
        weight("gated_norm"),
        weight("conv"),
        weight("per_head"),
        weight("layer_weight"),
        weight("gate"),
        weight("mlp_norm"),
        write(SYNC),
        read("control"),
        write("x"),
        write("conv_state"),
        write("ssm"),
        write("window"),
        write("sal"),
        write("selection"),
    ],
    workgroup: [256, 1, 1],
};

/// Channels of a head that the shader is written for.
const HEAD_DIM: u32 = 64;

/// Numbers that a part of a head's positions comes to, in whole sectors of the cache.
const PART: u32 = 72;

impl TokenStep {
    /// Calls of the layer.
    const LAYER_CALLS: usize = 6;

    /// Calls that a group stands for.
    #[must_use]
    pub const fn calls(&self) -> usize {
        MixerStep::CALLS * self.period + Self::LAYER_CALLS
    }

    /// The group that a list of calls begins with, if it does and it is of a shape that the shader is written for.
    #[must_use]
    pub fn of(calls: &[Call]) -> Option<Self> {
        let period = MixerStep::row(calls).count();
        let block = MixerStep::of(calls)?;
        let [
            Call::TokenGateKv(gate_kv),
            Call::Matvec(q),
            Call::TokenAttention(attend),
            Call::Matvec(o),
            Call::Matvec(up),
            Call::Matvec(down),
            ..,
        ] = calls[MixerStep::CALLS * period..]
        else {
            return None;
        };
        let step = Self { block, period, gate_kv, q, attend, o, up, down };
        step.fits().then_some(step)
    }

    fn fits(&self) -> bool {
        let Self { block, gate_kv, q, attend, o, up, down, .. } = self;
        let (dim, eps, a) = (8 * block.width(), block.eps(), &gate_kv.attention);
        let shape = |m: &Matvec| (m.weight.rows, m.weight.cols);
        let (x, mlp) = (gate_kv.hidden, down.weight.cols);
        gate_kv.table.is_none()
            && attend.table.is_none()
            && attend.kv.is_none()
            && a.head_dim == HEAD_DIM
            && [q, o, up, down].iter().all(|m| m.bias.is_none())
            && [o, down].iter().all(|m| m.norm.is_none() && m.y == x)
            && (q.only_selected, o.only_selected, up.only_selected, down.only_selected) == (true, true, false, false)
            && (q.epilogue, o.epilogue) == (Epilogue::Store, Epilogue::Mix)
            && matches!((up.epilogue, down.epilogue), (Epilogue::Swiglu(_), Epilogue::Add(_)))
            && (q.norm.is_some_and(|n| n.weight == gate_kv.gate && n.eps == eps && n.groups == 1))
            && up.norm.is_some_and(|n| n.eps == eps && n.groups == 1)
            && gate_kv.eps == eps
            && (shape(q), shape(o)) == ((dim, dim), (dim, dim))
            && (shape(up), shape(down)) == ((2 * mlp, dim), (dim, mlp))
            && (gate_kv.weight.rows, gate_kv.weight.cols) == (a.kv_cols(), dim)
            && a.q_cols() == dim
            && mlp.is_multiple_of(64)
            && mlp > 2 * dim
            && mlp <= 3 * dim
            && (block.x(), q.x, up.x) == (x, x, x)
            && (attend.q, o.x, down.x) == (q.y, attend.out, up.y)
            && (attend.ring, attend.attention) == (gate_kv.ring, gate_kv.attention)
            && [q.selection, o.selection, attend.selection] == [Some(gate_kv.selection); 3]
            && [gate_kv.control, attend.control] == [block.control(); 2]
    }

    /// The groups that a list of calls begins with, as far as they are alike.
    pub fn groups(calls: &[Call]) -> impl Iterator<Item = Self> {
        let mut first: Option<Self> = None;
        let mut rest = calls;
        std::iter::from_fn(move || {
            let step = Self::of(rest)?;
            rest = &rest[step.calls()..];
            step.like(first.get_or_insert(step)).then_some(step)
        })
    }

    fn like(&self, other: &Self) -> bool {
        let (a, b) = (self.launch(1, 1), other.launch(1, 1));
        let own = |step: &Self| (step.period, step.block.control(), step.block.x());
        own(self) == own(other) && self.block.like(&other.block) && (a.overrides, a.params) == (b.overrides, b.params)
    }

    /// The constant part. The workgroup is one of many sizes: [`MixerStep::width`].
    #[must_use]
    pub fn decl() -> &'static Decl {
        &DECL
    }

    /// The first of the blocks.
    #[must_use]
    pub const fn block(&self) -> &MixerStep {
        &self.block
    }

    /// Blocks of a group.
    #[must_use]
    pub const fn period(&self) -> usize {
        self.period
    }

    /// Matrices of the layer in the order in which they lie, each behind the other.
    #[must_use]
    pub const fn matrices(&self) -> [Matrix; 5] {
        [self.gate_kv.weight, self.q.weight, self.o.weight, self.up.weight, self.down.weight]
    }

    /// Vectors of the layer: norm and gate, and the norm of the MLP.
    #[must_use]
    pub fn vectors(&self) -> [Option<Vector>; 2] {
        [Some(self.gate_kv.gate), self.up.norm.map(|norm| norm.weight)]
    }

    /// The state of the layer: window, bucket and selection.
    #[must_use]
    pub const fn states(&self) -> [BufferId; 3] {
        [self.gate_kv.ring, self.gate_kv.sal, self.gate_kv.selection]
    }

    /// Parts of the positions that a head sees: as many as there are workgroups for.
    fn parts(&self, workgroups: u32) -> u32 {
        (workgroups / self.gate_kv.attention.heads).clamp(1, 8)
    }

    /// Words of its buffer `sync` for so many workgroups, as [`MixerStep::sync`] has them and then keys and values, queries,
    /// the MLP's outputs, and what parts come to.
    #[must_use]
    pub fn sync(&self, workgroups: u32) -> usize {
        let parts = self.gate_kv.attention.heads * self.parts(workgroups);
        let more = self.gate_kv.weight.rows + 8 * self.block.width() + self.down.weight.cols + PART * parts;
        self.block.sync(workgroups) + more as usize
    }

    /// Bytes of workgroup memory, as [`MixerStep::memory`] has them.
    #[must_use]
    pub fn memory(&self, workgroups: u32, lanes: u32) -> u32 {
        let more = Self::sums(self.block.width(), self.gate_kv.weight.rows, self.down.weight.cols, workgroups);
        self.block.memory_with(workgroups, lanes, more) + Self::OWN_MEMORY
    }

    /// Bytes of what the gate decided, of the bucket, and of what it is decided by.
    pub const OWN_MEMORY: u32 = 4 * (2 + 5 + 7);

    /// Sums that are kept of rows of the layer, for a width, rows of W_kv and outputs of the MLP.
    #[must_use]
    pub fn sums(width: u32, kv: u32, mlp: u32, workgroups: u32) -> u32 {
        let (teams, slots) = (MixerStep::teams(width), MixerStep::slots(width));
        let rows = (8 * width).div_ceil(workgroups);
        let kv_end = kv.div_ceil(workgroups).div_ceil(4 * teams).div_ceil(slots) * slots;
        let up_end = mlp.div_ceil(workgroups).div_ceil(2 * teams).div_ceil(slots) * slots;
        let down = rows.div_ceil(teams).div_ceil(slots) * slots + 3;
        (4 * (kv_end + up_end)).max(down).max(HEAD_DIM + 2)
    }

    /// Bytes of the window.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        4 * u64::from(self.gate_kv.attention.window) * u64::from(self.gate_kv.attention.kv_cols())
    }

    /// The most workgroups that it can have, see [`MixerStep::most_workgroups`].
    #[must_use]
    pub fn most_workgroups(&self) -> u32 {
        self.block.most_workgroups().min(self.gate_kv.weight.rows).min(self.down.weight.cols)
    }

    /// The dispatch that goes through so many groups, of which this is the first, see [`MixerStep::launch`]. Behind out_proj
    /// and the vectors of blocks come the layers' matrices, which the vectors lack too, and their vectors.
    #[must_use]
    pub fn launch(&self, workgroups: u32, groups: u32) -> Launch {
        self.with(self.block.launch(workgroups, groups * self.period as u32), workgroups)
    }

    /// A dispatch that does nothing but wait, see [`MixerStep::trial`].
    #[must_use]
    pub fn trial(&self, workgroups: u32, groups: u32) -> Launch {
        self.with(self.block.trial(workgroups, groups * self.period as u32), workgroups)
    }

    fn with(&self, mut launch: Launch, workgroups: u32) -> Launch {
        launch.overrides.extend([
            ("PERIOD", (self.period as u32).into()),
            ("KV", self.gate_kv.weight.rows.into()),
            ("MLP", self.down.weight.cols.into()),
            ("PARTS", self.parts(workgroups).into()),
        ]);
        launch.params.extend([
            ("window", self.gate_kv.attention.window.into()),
            ("capacity", self.gate_kv.capacity.into()),
            ("attention_scale", self.gate_kv.attention.scale.into()),
            ("up_scale", self.up.epilogue.scale().into()),
            ("down_scale", self.down.epilogue.scale().into()),
        ]);
        launch.vectors.extend(self.vectors());
        launch.buffers.extend(self.states().map(Some));
        launch
    }
}
