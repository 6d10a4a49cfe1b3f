//! One token through whole blocks.

use taipan_shaders::{MIXER_STEP, Shared};

use crate::launch::SYNC;
use crate::{
    BufferId, Call, Decl, Epilogue, Grid, Launch, Matrix, Matvec, MixerUpdate, Norm, Rows, Vector, WeightFormat, read,
    weight, write,
};

/// `x ← x + scale·out_proj(RMSNorm(mixer(in_proj(RMSNorm(x)))))` for one token, for consecutive blocks in one dispatch: what
/// stands for a [`Matvec`], a [`MixerUpdate`] and a [`Matvec`] each on a device whose workgroups can wait for each other
/// (arXiv 2405.21060, the recurrent form). Its twin is those calls. This is one of the blocks.
#[derive(Clone, Copy, Debug)]
pub struct MixerStep {
    in_proj: Matvec,
    norm: Norm,
    update: MixerUpdate,
    out_proj: Matvec,
    gated_norm: Norm,
}

static DECL: Decl = Decl {
    name: "mixer_step",
    body: if cfg!(target_arch = "wasm32") { "" } else { MIXER_STEP }, // a page has no use for it, and need not load it
    shared: &[Shared::Lanes, Shared::Rows, Shared::Activation, Shared::Control],
    matrix: true,
    bindings: &[
        weight("out_weight"),
        weight("norm"),
        weight("gated_norm"),
        weight("conv"),
        weight("per_head"),
        write(SYNC),
        read("control"),
        write("x"),
        write("conv_state"),
        write("ssm"),
    ],
    workgroup: [256, 1, 1],
};

impl MixerStep {
    /// Calls that it stands for.
    pub const CALLS: usize = 3;

    /// Words of its buffer `sync` for so many workgroups, all zero before it runs for the first time: four,
    /// [`MixerStep::GAVE_UP`] and how many rounds are over among them, and numbers that workgroups give each other, B, C and dt,
    /// x and y.
    #[must_use]
    pub const fn sync(&self, workgroups: u32) -> usize {
        let all = (256 + self.update.mixer.heads).div_ceil(workgroups).next_multiple_of(8);
        (4 + workgroups * all + 24 * self.width()) as usize
    }

    /// Blocks that one dispatch goes through at most. A power of two.
    pub const MOST_BLOCKS: usize = 16;

    /// The word of `sync` that is not zero once a workgroup has waited in vain; x is then no number.
    pub const GAVE_UP: usize = 1;

    const MOST_HEADS: u32 = 256;

    /// Rounds that a workgroup waits: a second or so, where microseconds are usual.
    pub const PATIENCE: u32 = 1 << 21;

    /// The same in a trial: some milliseconds.
    const TRIAL: u32 = 1 << 14;

    /// What stands for the first calls of a list, if they are such a block and of a shape that it is written for.
    #[must_use]
    pub fn of(calls: &[Call]) -> Option<Self> {
        let [Call::Matvec(in_proj), Call::MixerUpdate(update), Call::Matvec(out_proj), ..] = *calls else {
            return None;
        };
        let (m, dim) = (update.mixer, in_proj.weight.cols);
        let one = |v: &Matvec| v.bias.is_none() && v.selection.is_none() && v.norm.is_some_and(|n| n.groups == 1);
        let fits = one(&in_proj)
            && one(&out_proj)
            && in_proj.epilogue == Epilogue::Store
            && matches!(out_proj.epilogue, Epilogue::Add(_))
            && update.gate
            && (m.groups, m.d_state, m.taps) == (1, 128, 4)
            && m.heads <= Self::MOST_HEADS
            && dim.is_multiple_of(256)
            && m.inner() == 2 * dim
            && (in_proj.weight.rows, out_proj.weight.cols, out_proj.weight.rows) == (m.projected(), 2 * dim, dim)
            && in_proj.x == out_proj.y
            && (in_proj.y, update.y) == (update.projected, out_proj.x);
        let (norm, gated_norm) = (in_proj.norm?, out_proj.norm?);
        fits.then_some(Self { in_proj, norm, update, out_proj, gated_norm })
    }

    /// The blocks that a list of calls begins with, as far as they are alike: one dispatch can go through them if what they
    /// have of their own lies in rows of equal buffers.
    pub fn row(calls: &[Call]) -> impl Iterator<Item = Self> {
        let steps = calls.chunks(Self::CALLS).map_while(Self::of);
        let mut first = None;
        steps.take_while(move |step| step.like(first.get_or_insert(*step)))
    }

    pub(crate) fn like(&self, other: &Self) -> bool {
        let buffers = |step: &Self| (step.in_proj.x, step.update.y, step.update.control);
        let (a, b) = (self.launch(1, 1), other.launch(1, 1));
        buffers(self) == buffers(other) && (a.overrides, a.params) == (b.overrides, b.params)
    }

    /// The constant part. The workgroup is one of many sizes: [`MixerStep::width`].
    #[must_use]
    pub fn decl() -> &'static Decl {
        &DECL
    }

    /// Formats that its matrices may have; both have the same.
    #[must_use]
    pub fn reads(format: WeightFormat) -> bool {
        !matches!(format, WeightFormat::F32)
    }

    /// in_proj and out_proj.
    #[must_use]
    pub const fn matrices(&self) -> [Matrix; 2] {
        [self.in_proj.weight, self.out_proj.weight]
    }

    /// The residual stream.
    #[must_use]
    pub const fn x(&self) -> Rows {
        self.in_proj.x
    }

    pub(crate) const fn control(&self) -> BufferId {
        self.update.control
    }

    pub(crate) const fn eps(&self) -> f32 {
        self.norm.eps
    }

    /// Invocations of a team, one for each eight of x.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.in_proj.weight.cols / 8
    }

    /// Teams of a workgroup, as measured: more where rows are short.
    pub(crate) const fn teams(width: u32) -> u32 {
        match width {
            0..=64 => 8,
            65..=512 => 2,
            _ => 1,
        }
    }

    /// Quads of rows that an invocation has on their way, as measured: wider workgroups have no registers for more.
    pub(crate) const fn slots(width: u32) -> u32 {
        if width <= 256 { 4 } else { 3 }
    }

    /// Invocations of a workgroup.
    #[must_use]
    pub const fn threads(&self) -> u32 {
        self.width() * Self::teams(self.width())
    }

    /// Bytes of workgroup memory with so many workgroups and lanes of a subgroup; sums of what each subgroup has of a row
    /// are most of it.
    #[must_use]
    pub const fn memory(&self, workgroups: u32, lanes: u32) -> u32 {
        self.memory_with(workgroups, lanes, 0)
    }

    pub(crate) const fn memory_with(&self, workgroups: u32, lanes: u32, sums: u32) -> u32 {
        Self::memory_of(self.width(), self.update.mixer.heads, workgroups, lanes, sums)
    }

    /// The same for a width and a number of heads, where so many sums are kept of what is not a block.
    #[must_use]
    pub const fn memory_of(width: u32, heads: u32, workgroups: u32, lanes: u32, sums: u32) -> u32 {
        let teams = Self::teams(width);
        let (own, all) = ((16 * width).div_ceil(workgroups), (256 + heads).div_ceil(workgroups).div_ceil(4 * teams));
        let (slots, out_rows) = (Self::slots(width), (8 * width).div_ceil(workgroups));
        let stages = [all + own.div_ceil(2 * teams), out_rows.div_ceil(2 * teams)];
        let (a, b) = (stages[0].div_ceil(slots), stages[1].div_ceil(slots));
        let most = 4 * slots * if a > b { a } else { b };
        let partial = (if most > sums { most } else { sums } + 4) * (width * teams / lanes);
        let steps = 3 * (width * teams / if lanes < 16 { lanes } else { 16 });
        4 * (partial + 2 * (256 + own) + out_rows + steps + 2 * 128)
    }

    /// The vectors of which every block has its own.
    #[must_use]
    pub const fn vectors(&self) -> [Vector; 4] {
        [self.norm.weight, self.gated_norm.weight, self.update.mixer.conv, self.update.mixer.per_head]
    }

    /// The state, of which every block has its own.
    #[must_use]
    pub const fn states(&self) -> [BufferId; 2] {
        [self.update.conv_state, self.update.ssm]
    }

    /// The most workgroups that it can have: each gives something to the others in each half of a block, or they would not know
    /// that it has what they gave.
    #[must_use]
    pub const fn most_workgroups(&self) -> u32 {
        let (for_all, out) = (256 + self.update.mixer.heads, self.out_proj.weight.rows);
        if for_all < out { for_all } else { out }
    }

    /// The dispatch that goes through so many blocks, of which this is the first, with so many workgroups, which have to run
    /// at the same time. The vectors lack out_proj, and the buffers `sync`, which come first.
    #[must_use]
    pub fn launch(&self, workgroups: u32, blocks: u32) -> Launch {
        self.dispatch(workgroups, blocks, Self::PATIENCE, false)
    }

    /// A dispatch of the same pipeline that does nothing but wait once: whether so many workgroups run at the same time.
    #[must_use]
    pub fn trial(&self, workgroups: u32, blocks: u32) -> Launch {
        self.dispatch(workgroups, blocks, Self::TRIAL, true)
    }

    fn dispatch(&self, workgroups: u32, blocks: u32, patience: u32, dry: bool) -> Launch {
        let (u, m) = (&self.update, &self.update.mixer);
        let mut params = vec![
            ("cols", self.in_proj.weight.cols.into()),
            ("rows", self.in_proj.weight.rows.into()),
            ("eps", self.norm.eps.into()),
            ("gated_eps", self.gated_norm.eps.into()),
            ("scale", self.out_proj.epilogue.scale().into()),
            ("z_scale", m.z_scale.into()),
        ];
        params.extend(m.dt_words());
        params.extend([("patience", patience.into()), ("dry", u32::from(dry).into())]);
        Launch {
            overrides: vec![
                ("WIDTH", self.width().into()),
                ("TEAMS", Self::teams(self.width()).into()),
                ("WORKGROUPS", workgroups.into()),
                ("BLOCKS", blocks.into()),
                ("SLOTS", Self::slots(self.width()).into()),
                ("HEADS", m.heads.into()),
                ("HEAD_DIM", m.head_dim.into()),
            ],
            params,
            vectors: self.vectors().map(Some).to_vec(),
            buffers: vec![Some(u.control), Some(self.in_proj.x.buffer), Some(u.conv_state), Some(u.ssm)],
            grid: Grid::Fixed([workgroups, 1, 1]),
        }
    }
}
