//! How a kernel is declared, and what one dispatch of it needs.

use taipan_shaders::{Shared, Subgroups, WeightFormat, assemble};

use crate::ids::{BufferId, Matrix, Vector, row_stride};
use crate::{Call, Tuning};

/// Role of one binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A weight vector or table: group 0, read.
    Weight,
    /// A session or scratch buffer that is only read: group 1.
    Read,
    /// A session or scratch buffer that is written: group 1.
    Write,
}

/// One binding besides `params` (group 0, binding 0) and `weight` (group 0, binding 1, where a kernel reads a matrix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the variable in the shader.
    pub name: &'static str,
    /// Group and access.
    pub access: Access,
}

/// Shorthand for a [`Binding`] in a declaration.
#[must_use]
pub const fn weight(name: &'static str) -> Binding {
    Binding { name, access: Access::Weight }
}

/// Shorthand for a [`Binding`] in a declaration.
#[must_use]
pub const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read }
}

/// Shorthand for a [`Binding`] in a declaration.
#[must_use]
pub const fn write(name: &'static str) -> Binding {
    Binding { name, access: Access::Write }
}

/// The binding in which workgroups that wait for each other give each other numbers.
pub(crate) const SYNC: &str = "sync";

/// The constant part of a kernel.
#[derive(Debug)]
pub struct Decl {
    /// The kernel's name: of its shader file, its CPU twin and its cases too.
    pub name: &'static str,
    /// WGSL body.
    pub body: &'static str,
    /// Shared parts the body uses.
    pub shared: &'static [Shared],
    /// Whether it reads a weight matrix, and so exists once per [`WeightFormat`].
    pub matrix: bool,
    /// Bindings in order; numbers follow from it, group by group.
    pub bindings: &'static [Binding],
    /// Invocations of a workgroup, where tuning does not ask for others.
    pub workgroup: [u32; 3],
}

impl Decl {
    /// Whether its module is another one on a device with subgroups.
    #[must_use]
    pub fn uses_lanes(&self) -> bool {
        self.shared.contains(&Shared::Lanes)
    }

    /// Whether its workgroups wait for each other: it then has a module for devices with subgroups only.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.bindings.iter().any(|binding| binding.name == SYNC)
    }

    /// The whole WGSL module, for devices of the base tier.
    #[must_use]
    pub fn source(&self, format: Option<WeightFormat>) -> String {
        self.source_with(format, None)
    }

    /// The same for a device with subgroups: the module of a kernel that has no use for them is no other.
    #[must_use]
    pub fn source_with(&self, format: Option<WeightFormat>, subgroups: Option<Subgroups>) -> String {
        debug_assert_eq!(self.matrix, format.is_some(), "{}: a weight format exactly for a matrix kernel", self.name);
        assemble(format, self.shared, self.body, subgroups)
    }

    /// `(group, binding, name, access)` of every storage binding, `weight` included.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, u32, &'static str, Access)> + '_ {
        let matrix = self.matrix.then_some((0, 1, "weight", Access::Weight));
        let mut next = [1 + u32::from(self.matrix), 0];
        matrix.into_iter().chain(self.bindings.iter().map(move |b| {
            let group = usize::from(b.access != Access::Weight);
            next[group] += 1;
            (group as u32, next[group] - 1, b.name, b.access)
        }))
    }
}

/// One 32-bit member of `Params`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// An unsigned integer.
    U(u32),
    /// A float.
    F(f32),
}

impl Word {
    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::U(u) => u,
            Self::F(f) => f.to_bits(),
        }
    }
}

impl From<u32> for Word {
    fn from(u: u32) -> Self {
        Self::U(u)
    }
}

impl From<f32> for Word {
    fn from(f: f32) -> Self {
        Self::F(f)
    }
}

/// How many workgroups run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// Always the same.
    Fixed([u32; 3]),
    /// `[x, ceil(tokens / per_group), z]` for a segment of `tokens` tokens.
    Tokens {
        /// Workgroups along x.
        x: u32,
        /// Tokens of one workgroup row.
        per_group: u32,
        /// Workgroups along z.
        z: u32,
    },
    /// `[ceil((tokens - first) / 64), y, 1]`: tiles of tokens along x.
    TokenTiles {
        /// First token.
        first: u32,
        /// Most tokens that this dispatch covers.
        most: u32,
        /// Workgroups along y.
        y: u32,
    },
    /// Read from row `row` (four words each) of a buffer that an earlier kernel wrote.
    Indirect {
        /// The buffer.
        args: BufferId,
        /// Its row.
        row: u32,
    },
}

impl Grid {
    /// Workgroups for a segment of `tokens` tokens; `None` if only the GPU knows.
    #[must_use]
    pub fn groups(self, tokens: u32) -> Option<[u32; 3]> {
        match self {
            Self::Fixed(g) => Some(g),
            Self::Tokens { x, per_group, z } => Some([x, tokens.div_ceil(per_group), z]),
            Self::TokenTiles { first, most, y } => Some([tokens.saturating_sub(first).min(most).div_ceil(64), y, 1]),
            Self::Indirect { .. } => None,
        }
    }
}

/// A matrix too large for one binding is stored as several pieces of consecutive rows, each dispatched on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First row of the piece.
    pub first_row: u32,
    /// Rows of the piece.
    pub rows: u32,
}

/// Everything that one dispatch needs but the memory.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Values of WGSL overrides that differ from the shader's defaults.
    pub overrides: Vec<(&'static str, f64)>,
    /// Members of `Params`, in order.
    pub params: Vec<(&'static str, Word)>,
    /// Vectors of the `Access::Weight` bindings, in order; `None` where the switches make a binding unused.
    pub vectors: Vec<Option<Vector>>,
    /// Buffers of the group-1 bindings, in order; `None` where the switches make a binding unused.
    pub buffers: Vec<Option<BufferId>>,
    /// Workgroups.
    pub grid: Grid,
}

/// What stands for a kernel on a device with cooperative matrices (16 × 16 × 16, f16 to f32, subgroups of 32). Launches are
/// the same; where a tile is larger than the plain kernel's, workgroups for which none is left do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Cooperative {
    /// The shader.
    pub decl: &'static Decl,
    /// Another for segments from so many tokens on.
    pub many: Option<(u32, &'static Decl)>,
}

/// Browsers offer no such matrices, and so need no shaders for them.
pub(crate) const MAY_BE_COOPERATIVE: bool = cfg!(not(target_arch = "wasm32"));

/// A kernel with its arguments.
pub trait Kernel {
    /// The constant part.
    fn decl(&self) -> &'static Decl;

    /// The same kernel for a device with cooperative matrices, where there is one for its shape and the format of its matrix.
    fn cooperative(&self, format: Option<WeightFormat>, tuning: &Tuning) -> Option<Cooperative> {
        let _ = (format, tuning);
        None
    }

    /// The weight matrix it reads, if any.
    fn matrix(&self) -> Option<Matrix> {
        None
    }

    /// The dispatch over one piece of its matrix (or over everything, where it has none).
    fn launch(&self, piece: Piece) -> Launch;

    /// What a device has to run after [`Kernel::launch_tuned`], where that does a part of the work only.
    fn rest(&self, tuning: &Tuning) -> Option<Call> {
        let _ = tuning;
        None
    }

    /// The same dispatch as a device likes it best.
    fn launch_tuned(&self, piece: Piece, tuning: &Tuning) -> Launch {
        let _ = tuning;
        self.launch(piece)
    }
}

/// Lanes of a workgroup of `width` that share the products of a row: as many as have at least two loads each, so that short
/// rows do not leave lanes idle.
pub(crate) fn lanes_of_row(cols: u32, width: u32) -> u32 {
    let eights = row_stride(cols as usize) as u32 / 8;
    (eights / 2).next_power_of_two().clamp(8, width)
}

/// Spreads a count of workgroups over x and y, since no dimension may exceed 65 535.
#[must_use]
pub fn spread(groups: u32) -> [u32; 3] {
    const MOST: u32 = 65_535;
    let y = groups.div_ceil(MOST).max(1);
    [groups.div_ceil(y).max(1), y, 1]
}
