//! Moves a segment's keys and values into the window.

use taipan_shaders::{KV_APPEND, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, read, write};

/// `window[position % window] = kv[t]` for the last `window` tokens. Shapes: kv `[tokens, kv.cols]`, window `[window, kv.cols]`.
#[derive(Clone, Copy, Debug)]
pub struct KvAppend {
    /// Keys and values of the segment.
    pub kv: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Rows of the ring.
    pub window: u32,
    /// The ring.
    pub ring: BufferId,
}

static DECL: Decl = Decl {
    name: "kv_append",
    body: KV_APPEND,
    shared: &[Shared::Rows, Shared::Control],
    matrix: false,
    bindings: &[read("kv"), read("control"), write("window")],
    workgroup: [64, 1, 1],
};

impl Kernel for KvAppend {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![("cols", self.kv.cols.into()), ("window", self.window.into())],
            vectors: vec![],
            buffers: vec![Some(self.kv.buffer), Some(self.control), Some(self.ring)],
            grid: Grid::Tokens { x: self.kv.cols.div_ceil(256), per_group: 4, z: 1 },
        }
    }
}
