//! Token embedding.
//!
//! `out[t] = table[ids[t]]·scale`; table `[vocab, cols]`, ids `[n]`, out `[n, cols]`. Source: spec section 1; the
//! scale is 1 for Taipan and an `embedding_multiplier` in other families.

/// Copies the row of each id, scaled.
pub fn embed(table: &[f32], cols: usize, ids: &[u32], scale: f32, out: &mut [f32]) {
    assert!(table.len().is_multiple_of(cols), "embed: table is not whole rows of {cols}");
    assert_eq!(out.len(), ids.len() * cols, "embed: out is not [n, {cols}]");
    for (&id, out) in ids.iter().zip(out.chunks_exact_mut(cols)) {
        let row = &table[id as usize * cols..][..cols];
        for (o, &v) in out.iter_mut().zip(row) {
            *o = v * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_the_rows_in_order_and_scales() {
        let table = [0., 1., 10., 11., 20., 21.];
        let mut out = [f32::NAN; 6];
        embed(&table, 2, &[2, 0, 2], 0.5, &mut out);
        assert_eq!(out, [10., 10.5, 0., 0.5, 10., 10.5]);
    }

    #[test]
    #[should_panic]
    fn an_id_past_the_vocabulary_is_refused() {
        embed(&[0.0; 6], 2, &[3], 1.0, &mut [0.0; 2]);
    }
}
