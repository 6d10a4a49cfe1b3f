//! Names of the things that a call reads and writes. They carry shapes, never memory: an executor owns the memory.

/// A weight matrix `[rows, cols]` of the model's weight table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// Index in the weight table.
    pub id: u32,
    /// Rows (outputs).
    pub rows: u32,
    /// Columns (inputs).
    pub cols: u32,
}

/// An f32 weight vector of the model's weight table, possibly several tensors end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vector {
    /// Index in the weight table.
    pub id: u32,
    /// Elements.
    pub len: u32,
}

/// A buffer of a session or of the model's scratch space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferId {
    /// Lives as long as the session: recurrent states, windows, counters.
    State(u32),
    /// Shared by all sessions of a model, valid during one submission.
    Scratch(u32),
}

impl BufferId {
    /// Its number, if it is a session's.
    #[must_use]
    pub const fn of_state(&self) -> Option<u32> {
        match self {
            Self::State(i) => Some(*i),
            Self::Scratch(_) => None,
        }
    }

    /// Its number, if it is shared.
    #[must_use]
    pub const fn of_scratch(&self) -> Option<u32> {
        match self {
            Self::Scratch(i) => Some(*i),
            Self::State(_) => None,
        }
    }
}

/// An f32 matrix in a buffer. Dense on the CPU; on a GPU every row is padded with zeros to a multiple of 8 floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Where it lives.
    pub buffer: BufferId,
    /// Columns of a row.
    pub cols: u32,
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// f32 rows, padded on a GPU.
    F32,
    /// u32 words, never padded.
    U32,
}

/// Size and meaning of a buffer, so that an executor can allocate, read and write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferDesc {
    /// For error messages and traces.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// What it holds.
    pub element: Element,
}

impl BufferDesc {
    /// Elements of the dense form.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of a row as a GPU stores it.
    #[must_use]
    pub const fn stride(&self) -> usize {
        match self.element {
            Element::F32 => row_stride(self.cols),
            Element::U32 => self.cols,
        }
    }

    /// Bytes of the GPU form.
    #[must_use]
    pub const fn gpu_bytes(&self) -> u64 {
        4 * self.rows as u64 * self.stride() as u64
    }
}

/// Columns of an f32 row after padding to a multiple of 8 (the twin of `row_stride` in `shaders/shared/rows.wgsl`).
#[must_use]
pub const fn row_stride(cols: usize) -> usize {
    cols.next_multiple_of(8)
}

/// Words of the `control` buffer (`shaders/shared/control.wgsl`).
pub mod control {
    /// Tokens consumed, the current segment included.
    pub const CONSUMED: usize = 0;
    /// Tokens of the current segment.
    pub const TOKENS: usize = 1;
    /// Words in all.
    pub const LEN: usize = 4;
}

/// Layout of a layer's selection buffer of capacity T (`shaders/shared/selection.wgsl`).
pub mod selection {
    /// How many tokens are selected.
    pub const COUNT: usize = 0;
    /// Words before the alphas.
    pub const HEADER: usize = 8;

    /// Where the alphas start (f32 bits, one per token).
    #[must_use]
    pub const fn alphas() -> usize {
        HEADER
    }

    /// Where the masks start (0 or 1, one per token).
    #[must_use]
    pub const fn masks(capacity: usize) -> usize {
        HEADER + capacity
    }

    /// Where the indices of the selected tokens start.
    #[must_use]
    pub const fn indices(capacity: usize) -> usize {
        HEADER + 2 * capacity
    }

    /// Words in all.
    #[must_use]
    pub const fn len(capacity: usize) -> usize {
        HEADER + 3 * capacity
    }
}

/// Words of the `options` buffer that `sample` reads; f32 values as their bits.
pub mod sampler {
    /// Temperature; 0 or less is greedy.
    pub const TEMPERATURE: usize = 0;
    /// How many of the largest logits to keep; 0 = all.
    pub const TOP_K: usize = 1;
    /// Mass to keep.
    pub const TOP_P: usize = 2;
    /// Natural logarithm of min_p; hugely negative when off.
    pub const MIN_P_LOG: usize = 3;
    /// Repeat penalty.
    pub const PENALTY: usize = 4;
    /// How many recent tokens it looks at.
    pub const LAST_N: usize = 5;
    /// Lower word of the seed.
    pub const SEED_LO: usize = 6;
    /// Upper word of the seed.
    pub const SEED_HI: usize = 7;
    /// Words in all.
    pub const LEN: usize = 8;
}
