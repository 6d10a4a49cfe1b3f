//! Picks the next token.

use taipan_shaders::{SAMPLE, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, LogitMaxima, Piece, Rows, read, write};

/// llama.cpp's samplers in its order, with a counter-based generator; the result goes to `ids[0]`. Of a vocabulary for which
/// [`LogitMaxima`] pays it goes on from what that left in `candidates` and `adjusted`.
///
/// Shapes: logits `[1, vocab]`, never changed; candidates and adjusted `[vocab]` scratch; options see [`crate::sampler`].
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Logits.
    pub logits: Rows,
    /// Ring of recent ids.
    pub recent: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// Sampling options.
    pub options: BufferId,
    /// Scratch words, as many as the vocabulary.
    pub candidates: BufferId,
    /// Scratch for a penalised copy of the logits.
    pub adjusted: BufferId,
    /// Output.
    pub ids: BufferId,
}

static DECL: Decl = Decl {
    name: "sample",
    body: SAMPLE,
    shared: &[Shared::Control, Shared::Random],
    matrix: false,
    bindings: &[
        read("source"),
        read("recent"),
        read("control"),
        read("options"),
        write("candidates"),
        write("adjusted"),
        write("ids"),
    ],
    workgroup: [256, 1, 1],
};

impl Kernel for Sample {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![("MAXIMA", u8::from(LogitMaxima::pays(self.logits.cols)).into())],
            params: vec![("vocab", self.logits.cols.into()), ("recent", (taipan_reference::RECENT as u32).into())],
            vectors: vec![],
            buffers: vec![
                Some(self.logits.buffer),
                Some(self.recent),
                Some(self.control),
                Some(self.options),
                Some(self.candidates),
                Some(self.adjusted),
                Some(self.ids),
            ],
            grid: Grid::Fixed([1, 1, 1]),
        }
    }
}
