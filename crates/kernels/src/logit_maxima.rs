//! What the sampler starts from where there are many logits.

use taipan_shaders::{LOGIT_MAXIMA, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, read, write};

/// Of each few logits, after the repeat penalty (llama.cpp's), the largest and the lowest id that has it: many workgroups do
/// for [`crate::Sample`] what takes one too long.
///
/// Shapes: logits `[1, vocab]`, never changed; maxima `[2, parts]`, keys that order as the floats do, then ids; adjusted
/// `[vocab]`, written where there is a penalty; options see [`crate::sampler`].
#[derive(Clone, Copy, Debug)]
pub struct LogitMaxima {
    /// Logits.
    pub logits: Rows,
    /// Ring of recent ids.
    pub recent: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// Sampling options.
    pub options: BufferId,
    /// Output.
    pub maxima: BufferId,
    /// Output: a penalised copy of the logits.
    pub adjusted: BufferId,
}

impl LogitMaxima {
    /// Invocations of a workgroup: parts lie so many fours apart.
    pub const WIDTH: u32 = 128;

    /// Logits of a part.
    pub const LOGITS: u32 = 32;

    /// The largest vocabulary that one workgroup can look at in one go; a larger one is looked at in parts.
    const ALONE: u32 = 8192;

    /// Whether a vocabulary is looked at in parts.
    #[must_use]
    pub const fn pays(vocab: u32) -> bool {
        vocab > Self::ALONE
    }

    /// Parts of a vocabulary.
    #[must_use]
    pub const fn parts(vocab: u32) -> u32 {
        vocab.div_ceil(Self::LOGITS * Self::WIDTH) * Self::WIDTH
    }
}

static DECL: Decl = Decl {
    name: "logit_maxima",
    body: LOGIT_MAXIMA,
    shared: &[Shared::Control],
    matrix: false,
    bindings: &[read("source"), read("recent"), read("control"), read("options"), write("maxima"), write("adjusted")],
    workgroup: [LogitMaxima::WIDTH, 1, 1],
};

impl Kernel for LogitMaxima {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![("vocab", self.logits.cols.into()), ("recent", (taipan_reference::RECENT as u32).into())],
            vectors: vec![],
            buffers: vec![
                Some(self.logits.buffer),
                Some(self.recent),
                Some(self.control),
                Some(self.options),
                Some(self.maxima),
                Some(self.adjusted),
            ],
            grid: Grid::Fixed([Self::parts(self.logits.cols) / Self::WIDTH, 1, 1]),
        }
    }
}
