//! Keeps the newest keys and values of a selective-attention layer.
//!
//! `window[position mod w] = kv[position]` for the last min(n, w) tokens of a segment; kv `[n, cols]` with rows
//! `[k | v]`, k after rotary, window `[w, cols]` or as much of it as the text fills. In prefill it runs after the segment's attention, which still reads
//! the older entries. Source: spec 1.2 steps 4 and 5.

/// Stores the newest rows of the `n` tokens whose first stands at position `first`.
pub fn kv_append(kv: &[f32], cols: usize, w: usize, first: usize, n: usize, window: &mut [f32]) {
    let slots = (first + n).min(w);
    assert!(window.len() >= slots * cols, "kv_append: window has a slot for each of the newest w positions");
    for t in n.saturating_sub(w)..n {
        let slot = (first + t) % w;
        window[slot * cols..][..cols].copy_from_slice(&kv[t * cols..][..cols]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_positions_modulo_the_window() {
        let mut window = [0.; 6];
        kv_append(&[1., 2., 3., 4.], 2, 3, 5, 2, &mut window);
        assert_eq!(window, [3., 4., 0., 0., 1., 2.]);
    }

    #[test]
    fn a_segment_longer_than_the_window_leaves_its_newest_rows() {
        let kv: Vec<f32> = (0..8).map(|v| v as f32).collect();
        let mut window = [f32::NAN; 3];
        // Positions 1..9; the newest three, 6, 7, 8, are tokens 5, 6, 7.
        kv_append(&kv, 1, 3, 1, 8, &mut window);
        assert_eq!(window, [5., 6., 7.]);
    }

    #[test]
    fn a_window_of_one_holds_the_last_row() {
        let mut window = [f32::NAN; 2];
        kv_append(&[1., 2., 3., 4.], 2, 1, 9, 2, &mut window);
        assert_eq!(window, [3., 4.]);
    }
}
