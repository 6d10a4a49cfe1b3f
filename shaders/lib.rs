//! The WGSL kernels of Taipan, one entry point per file, and how a file becomes a shader module.
//!
//! A module is `prelude + shared parts + body`, without comments and indentation; nothing is generated but the stages of a loop
//! over them: a prelude says how a weight matrix is stored, so that a body never names a dtype; the shared parts are small
//! functions; the body is one kernel, with what it has in common with its kin. Sizes and switches are WGSL `override` constants. `README.md` beside this file
//! defines the shape letters and the conventions.

#![forbid(unsafe_code)]

use std::borrow::Cow;

/// The code of files, one after another. Lines stay lines, so that what a compiler says of one is true of the file; what is
/// in a line for people is left out, because browsers download every byte.
macro_rules! wgsl {
    ($($path:literal),+) => {{
        const SOURCE: &[u8] = concat!($(include_str!($path)),+).as_bytes();
        const LEN: usize = strip(SOURCE, &mut []);
        const CODE: [u8; LEN] = {
            let mut code = [0; LEN];
            strip(SOURCE, &mut code);
            code
        };
        match std::str::from_utf8(&CODE) {
            Ok(code) => code,
            Err(_) => panic!("a shader that is not UTF-8"),
        }
    }};
}

/// Copies the code of a source to `out`, as far as there is room; its length.
const fn strip(source: &[u8], out: &mut [u8]) -> usize {
    let (mut at, mut len, mut end) = (0, 0, 0);
    let mut begun = false; // the line has code in it
    while at < source.len() {
        let byte = source[at];
        if byte == b'/' && at + 1 < source.len() && source[at + 1] == b'/' {
            while at < source.len() && source[at] != b'\n' {
                at += 1;
            }
            continue;
        }
        let newline = byte == b'\n';
        if newline {
            len = end; // without the spaces at the end of the line
        }
        if newline || begun || byte != b' ' {
            if len < out.len() {
                out[len] = byte;
            }
            len += 1;
        }
        begun = !newline && (begun || byte != b' ');
        if newline || byte != b' ' {
            end = len;
        }
        at += 1;
    }
    end
}

/// Columns of a quantised row that share a scale.
pub const GROUP: usize = 32;

/// How the elements of a weight matrix are stored on the GPU. `README.md` has the layout of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    /// Plain f32.
    F32,
    /// IEEE half precision, two to a u32.
    F16,
    /// bfloat16, two to a u32.
    Bf16,
    /// int8, four to a u32, and an f16 scale for each group of 32 columns.
    Q8,
    /// int4, eight to a u32, and an f16 scale for each group of 32 columns.
    Q4,
}

impl WeightFormat {
    /// Every format, in the order in which permutations are listed.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4];

    /// Short name: `f32`, `f16`, `bf16`, `q8`, `q4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Whether elements are small integers times the scale of their group.
    #[must_use]
    pub const fn is_quantised(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }

    /// Bytes of a row of `cols` columns, its padding and its scales included.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> usize {
        let groups = cols.div_ceil(GROUP);
        match self {
            Self::F32 => 4 * cols.next_multiple_of(8),
            Self::F16 | Self::Bf16 => 2 * cols.next_multiple_of(8),
            Self::Q8 => groups * (GROUP + 2),
            Self::Q4 => groups * (GROUP / 2 + 2),
        }
    }

    const fn prelude(self) -> [&'static str; 2] {
        const FLOAT: &str = wgsl!("shared/weight_float.wgsl");
        const GROUPS: &str = wgsl!("shared/weight_groups.wgsl");
        match self {
            Self::F32 => [wgsl!("shared/weight_f32.wgsl"), FLOAT],
            Self::F16 => [wgsl!("shared/weight_f16.wgsl"), FLOAT],
            Self::Bf16 => [wgsl!("shared/weight_bf16.wgsl"), FLOAT],
            Self::Q8 => [wgsl!("shared/weight_q8.wgsl"), GROUPS],
            Self::Q4 => [wgsl!("shared/weight_q4.wgsl"), GROUPS],
        }
    }
}

/// A part that several kernels share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// `row_stride`: rows are padded to a multiple of 8 floats.
    Rows,
    /// `CONSUMED`, `TOKENS`, `first_position`; the body binds `control`.
    Control,
    /// Layout of a layer's selection.
    Selection,
    /// The token bucket.
    Bucket,
    /// `softplus`, `sigmoid`, `silu`.
    Activation,
    /// `rotation`; the body binds `table`.
    Rotary,
    /// `uniform_at`.
    Random,
    /// `SUBGROUP`, `subgroup_sum`.
    Lanes,
}

impl Shared {
    const fn source(self) -> &'static str {
        match self {
            Self::Rows => wgsl!("shared/rows.wgsl"),
            Self::Control => wgsl!("shared/control.wgsl"),
            Self::Selection => wgsl!("shared/selection.wgsl"),
            Self::Bucket => wgsl!("shared/bucket.wgsl"),
            Self::Activation => wgsl!("shared/activation.wgsl"),
            Self::Rotary => wgsl!("shared/rotary.wgsl"),
            Self::Random => wgsl!("shared/random.wgsl"),
            Self::Lanes => wgsl!("shared/lanes.wgsl"),
        }
    }
}

/// Lanes that can exchange numbers without workgroup memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subgroups {
    /// The fewest lanes of a subgroup, whatever the shader: a power of two, at least 4.
    pub fewest: u32,
    /// Whether a module must ask for them, as browsers want it; wgpu does not know the directive.
    pub enable: bool,
}

impl Subgroups {
    fn source(self) -> String {
        let enable = if self.enable { "enable subgroups;\n" } else { "" };
        // What is uniform in a workgroup is uniform in a subgroup, but not every compiler sees that of an override.
        let head = "diagnostic(off, subgroup_uniformity);\n";
        let part = wgsl!("shared/lanes_subgroup.wgsl");
        format!("{head}{enable}const SUBGROUP = {}u;\n{part}", self.fewest)
    }
}

/// Puts a module together: what the body enables, the weight prelude (for a kernel that reads a weight matrix), the shared
/// parts, the body. With subgroups a kernel that has a use for them gets them in place of its [`Shared::Lanes`].
#[must_use]
pub fn assemble(format: Option<WeightFormat>, shared: &[Shared], body: &str, subgroups: Option<Subgroups>) -> String {
    let enabled = body.lines().take_while(|line| line.starts_with("enable ")).map(|line| line.len() + 1).sum();
    let (enables, body) = body.split_at(enabled);
    let mut source = enables.to_owned();
    let lanes = subgroups.filter(|_| shared.contains(&Shared::Lanes));
    if let Some(subgroups) = lanes {
        source.push_str(&subgroups.source()); // directives come first
    }
    source.extend(format.into_iter().flat_map(WeightFormat::prelude));
    for part in shared.iter().filter(|part| lanes.is_none() || **part != Shared::Lanes) {
        source.push_str(part.source());
    }
    if cfg!(target_arch = "wasm32") {
        source.push_str(body); // no kernel of a page has such loops, and it need not load what writes them out
    } else {
        source.push_str(&written_out(body, STAGES));
    }
    source
}

/// The most stages that a loop over stages is written out for: those of a block whose rows more than a hundred workgroups
/// share. With more it stays a loop.
const STAGES: usize = 24;

/// Writes loops over so many stages out, `for (var stage = 0u; stage < N; stage += 1u) {` to the brace that closes it, as
/// compilers do not. Each stage then knows which it is, so that an array that it uses by that number can stay in registers.
#[must_use]
pub fn written_out(body: &str, most: usize) -> Cow<'_, str> {
    const HEAD: &str = "for (var stage = 0u; stage < ";
    let Some(start) = body.find(HEAD) else { return body.into() };
    let (before, found) = body.split_at(start);
    let ((head, rest), stages) = (found.split_once(" {").unwrap(), found[HEAD.len()..].split_once(';').unwrap().0);
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    let (inner, after) = rest.split_at(end.expect("a loop that ends"));
    let all = (0..most).map(|k| (k, inner.replace("stage", &format!("{k}u"))));
    let all: String = all.map(|(k, stage)| format!("if ({k}u < {stages}) {{{stage}}}\n")).collect();
    let after = written_out(&after[1..], most);
    format!("{before}if ({stages} <= {most}u) {{\n{all}}} else {{\n{head} {{{inner}}}\n}}{after}").into()
}

macro_rules! bodies {
    ($($name:ident = $path:literal $(+ $more:literal)*;)*) => {
        $(
            #[doc = concat!("Body of `", $path, "`.")]
            pub const $name: &str = wgsl!($path $(, $more)*);
        )*
    };
}

bodies! {
    EMBED = "embed.wgsl";
    MATMUL = "matmul.wgsl" + "shared/matmul.wgsl" + "shared/sixteen.wgsl";
    MATMUL_COOPERATIVE = "cooperative/matmul.wgsl" + "shared/matmul.wgsl" + "shared/cooperative.wgsl" + "shared/halves.wgsl";
    MATMUL_WIDE = "cooperative/wide/matmul.wgsl" + "shared/matmul.wgsl" + "shared/cooperative.wgsl" + "shared/halves.wgsl";
    MATVEC = "matvec.wgsl";
    CONCAT = "concat.wgsl";
    GEGLU = "geglu.wgsl";
    RMS_NORM = "rms_norm.wgsl";
    RMS_NORM_GATED = "rms_norm_gated.wgsl";
    LOGIT_MAXIMA = "logit_maxima.wgsl" + "shared/logits.wgsl";
    SAMPLE = "sample.wgsl" + "shared/logits.wgsl";
    CAUSAL_CONV1D = "conv1d/causal_conv1d.wgsl";
    CONV_APPEND = "conv1d/conv_append.wgsl";
    MIXER_UPDATE = "ssd/mixer_update.wgsl";
    MIXER_STEP = "ssd/mixer_step.wgsl" + "shared/block.wgsl" + "shared/waiting.wgsl";
    CHUNK_CUMSUM = "ssd/chunk_cumsum.wgsl";
    BMM_CHUNK = "ssd/bmm_chunk.wgsl" + "shared/along_steps.wgsl" + "shared/products.wgsl" + "shared/eight.wgsl"
        + "shared/sixteen.wgsl";
    CHUNK_STATE = "ssd/chunk_state.wgsl" + "shared/along_rows.wgsl" + "shared/products.wgsl" + "shared/eight.wgsl"
        + "shared/sixteen.wgsl";
    STATE_PASSING = "ssd/state_passing.wgsl";
    CHUNK_SCAN = "ssd/chunk_scan.wgsl" + "shared/along_rows.wgsl" + "shared/along_steps.wgsl" + "shared/products.wgsl"
        + "shared/decays.wgsl" + "shared/eight.wgsl" + "shared/sixteen.wgsl";
    CHUNK_STATE_COOPERATIVE = "cooperative/chunk_state.wgsl" + "shared/halves.wgsl";
    CHUNK_SCAN_COOPERATIVE = "cooperative/chunk_scan.wgsl" + "shared/decays.wgsl" + "shared/eight.wgsl" + "shared/halves.wgsl";
    TOKEN_GATE = "sal/token_gate.wgsl";
    TOKEN_GATE_KV = "sal/token_gate_kv.wgsl";
    COMPACT = "sal/compact.wgsl";
    ROTARY = "sal/rotary.wgsl";
    WINDOW_ATTENTION = "sal/window_attention.wgsl" + "shared/attention.wgsl";
    TOKEN_ATTENTION = "sal/token_attention.wgsl" + "shared/attention.wgsl";
    TOKEN_STEP = "sal/token_step.wgsl" + "shared/attend.wgsl" + "shared/block.wgsl" + "shared/waiting.wgsl";
    MERGE_ATTENTION = "sal/merge_attention.wgsl";
    KV_APPEND = "sal/kv_append.wgsl";
    ROUTE = "moe/route.wgsl";
    EXPERTS = "moe/experts.wgsl";
}

#[cfg(test)]
mod tests {
    use super::{strip, written_out};

    #[test]
    fn what_is_for_people_is_left_out() {
        let source = b"// what\nfn f() { // why\n  let a = 1 / 2;  \n\n  // more\n  return a; }  // end";
        let mut out = [0; 100];
        let len = strip(source, &mut out);
        assert_eq!(str::from_utf8(&out[..len]), Ok("\nfn f() {\nlet a = 1 / 2;\n\n\nreturn a; }"));
        assert_eq!(strip(source, &mut []), len);
    }

    #[test]
    fn loops_over_stages_are_written_out() {
        let one = "for (var stage = 0u; stage < N; stage += 1u) {\nif (stage == 1u) { a += stage; }\n}";
        let out = written_out(one, 3);
        for stage in ["if (N <= 3u) {", "if (0u < N) {\nif (0u == 1u) { a += 0u; }\n}", "if (2u < N) {", "} else {"] {
            assert!(out.contains(stage), "{stage} in {out}");
        }
        assert!(out.contains(one) && !out.contains("if (3u < N)"), "{out}");
        assert_eq!(written_out(&format!("{one} b; {one} c;"), 3), format!("{out} b; {out} c;"));
        assert_eq!(written_out("for (var i = 0u; i < N; i += 1u) { }", 3), "for (var i = 0u; i < N; i += 1u) { }");
    }
}
