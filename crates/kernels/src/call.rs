//! The one enum of everything an executor can be asked to do.

use crate::{Cooperative, Decl, Kernel, Launch, Matrix, Piece, Tuning, WeightFormat};

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        /// A kernel with its arguments: one variant per kernel. A list of calls is a program; the CPU and the GPU executor
        /// are each one `match` (or its equivalent) over it.
        #[derive(Clone, Copy, Debug)]
        pub enum Call {
            $(
                #[doc = concat!("See [`crate::", stringify!($name), "`].")]
                $name(crate::$name),
            )*
        }

        impl Call {
            fn kernel(&self) -> &dyn Kernel {
                match self {
                    $(Self::$name(kernel) => kernel,)*
                }
            }
        }

        $(
            impl From<crate::$name> for Call {
                fn from(kernel: crate::$name) -> Self {
                    Self::$name(kernel)
                }
            }
        )*
    };
}

calls! {
    Embed, RmsNorm, RmsNormGated, Matvec, Matmul, CausalConv1d, ConvAppend, MixerUpdate, ChunkCumsum, BmmChunk,
    ChunkState, StatePassing, ChunkScan, TokenGate, TokenGateKv, Compact, Rotary, WindowAttention, TokenAttention, MergeAttention, KvAppend,
    Route, Experts, LogitMaxima, Sample, Concat, Geglu,
}

impl Kernel for Call {
    fn decl(&self) -> &'static Decl {
        self.kernel().decl()
    }

    fn cooperative(&self, format: Option<WeightFormat>, tuning: &Tuning) -> Option<Cooperative> {
        self.kernel().cooperative(format, tuning)
    }

    fn matrix(&self) -> Option<Matrix> {
        self.kernel().matrix()
    }

    fn launch(&self, piece: Piece) -> Launch {
        self.kernel().launch(piece)
    }

    fn rest(&self, tuning: &Tuning) -> Option<Self> {
        self.kernel().rest(tuning)
    }

    fn launch_tuned(&self, piece: Piece, tuning: &Tuning) -> Launch {
        self.kernel().launch_tuned(piece, tuning)
    }
}
