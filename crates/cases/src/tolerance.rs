//! How far a kernel may be from its twin, as `|a − b| / (1 + |b|)`: one table, a reason for each row.

/// The tolerance of a kernel.
///
/// # Panics
/// If a kernel is missing from the table.
#[must_use]
pub fn tolerance(kernel: &str) -> f64 {
    match kernel {
        // Copies and integers: nothing to round.
        "embed" | "concat" | "conv_append" | "kv_append" | "compact" | "logit_maxima" | "sample" => 0.0,
        // A short f32 sum and one elementwise step.
        "rms_norm" | "rms_norm_gated" | "geglu" | "causal_conv1d" | "token_gate" => 1e-5,
        // A series of f32 products for sin and cos.
        "rotary" => 1e-5,
        // f32 sums of up to 600 products of size one.
        "matvec" | "matmul" | "bmm_chunk" => 5e-5,
        // exp of segment sums (each a few ulp off) times sums over a chunk.
        "chunk_cumsum" | "chunk_state" | "state_passing" | "chunk_scan" | "mixer_update" => 1e-4,
        // Two such sums, one after the other, with a state between them.
        "mixer_step" | "token_step" => 1e-4,
        // Sums as in `matvec`, and an activation or a weighted sum of them.
        "experts" => 1e-4,
        // Experts and the bits of their weights, compared as numbers: exp and division are a few ulp off.
        "route" => 1e-5,
        // A few exps and a division.
        "merge_attention" => 1e-5,
        // A softmax of f32 scores.
        "window_attention" | "token_attention" | "token_gate_kv" => 5e-4,
        other => panic!("no tolerance for kernel {other}"),
    }
}
