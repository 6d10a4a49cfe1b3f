//! Picks the next token: repeat penalty → top-k → top-p → min-p → temperature → draw, llama.cpp's order.
//!
//! The generator is counter-based, `u = hash(seed, position)`, so a session's randomness is a number in its state and
//! nothing else. The same text on every device is promised for greedy decoding only: here the probabilities are f64,
//! on a GPU f32. logits `[vocab]`, recent `[RECENT]`. Source: spec section 6 (greedy); order and defaults of the
//! samplers: llama.cpp's command line.

/// Length of the ring of consumed ids that the repeat penalty looks at; slot = position mod `RECENT`.
pub const RECENT: usize = 1024;

/// How to pick a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Key of the random numbers.
    pub seed: u64,
    /// Divides the logits before the draw; 0 or less is greedy.
    pub temperature: f32,
    /// Keep this many largest logits; 0 = all.
    pub top_k: u32,
    /// Keep the smallest set of most probable tokens with at least this mass; 1 or more = all.
    pub top_p: f32,
    /// Keep tokens at least this probable relative to the most probable one; 0 or less = all.
    pub min_p: f32,
    /// Makes recently seen tokens less likely; 1 = off.
    pub repeat_penalty: f32,
    /// How many of the newest tokens count as recent, at most [`RECENT`]; 0 = none.
    pub repeat_last_n: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { seed: 0, temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty: 1.0, repeat_last_n: 64 }
    }
}

/// A number in [0, 1) from `(seed, position)`: the top 24 bits of a u32 hash, so that f32 holds it exactly.
///
/// Only wrapping u32 operations, so a shader gives the same bits. The position goes in first and the seed words after
/// a full mix: the streams of two seeds are then not shifted copies of each other.
#[must_use]
pub fn uniform(seed: u64, position: u32) -> f32 {
    let (lo, hi) = (seed as u32, (seed >> 32) as u32);
    let mut h = mix(position.wrapping_add(0x9e37_79b9));
    h = mix((h ^ lo).wrapping_add(0x85eb_ca6b));
    h = mix((h ^ hi).wrapping_add(0xc2b2_ae35));
    (h >> 8) as f32 / 16_777_216.0
}

/// A bijection of u32 in which every input bit reaches every output bit.
fn mix(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x7feb_352d);
    h ^= h >> 15;
    h = h.wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

/// Picks the next token's id. Penalises `logits` in place.
///
/// `recent` holds the newest consumed ids and `consumed` is how many tokens were consumed, which is also the position
/// of the random number. Logits are finite; a NaN is never picked while there is anything else.
pub fn sample(s: &Sampling, logits: &mut [f32], recent: &[u32], consumed: u32) -> u32 {
    assert!(!logits.is_empty(), "sample: an empty vocabulary");
    penalise(s, logits, recent, consumed);
    let best = argmax(logits);
    let max = logits[best as usize];
    // Written so that a NaN temperature is greedy too.
    let warm = s.temperature > 0.0;
    if !warm || max.is_nan() {
        return best;
    }
    let mut kept = top_k(logits, s.top_k);
    if s.top_p < 1.0 {
        let floor = top_p_floor(logits, &kept, max, f64::from(s.top_p));
        kept.retain(|&id| logits[id as usize] >= floor);
    }
    if s.min_p > 0.0 {
        let floor = (f64::from(max) + f64::from(s.min_p).ln()).min(f64::from(max));
        kept.retain(|&id| f64::from(logits[id as usize]) >= floor);
    }
    draw(logits, &kept, max, f64::from(s.temperature), uniform(s.seed, consumed))
}

/// Each id among the newest `repeat_last_n` once: a positive logit is divided by the penalty, any other multiplied.
pub(crate) fn penalise(s: &Sampling, logits: &mut [f32], recent: &[u32], consumed: u32) {
    if s.repeat_penalty == 1.0 {
        return;
    }
    let count = s.repeat_last_n.min(consumed).min(RECENT as u32);
    let mut ids: Vec<u32> = (consumed - count..consumed).map(|position| recent[position as usize % RECENT]).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            if *logit <= 0.0 {
                *logit *= s.repeat_penalty;
            } else {
                *logit /= s.repeat_penalty;
            }
        }
    }
}

/// The lowest id of the largest logit.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() && !logit.is_nan() {
            best = id;
        }
    }
    best as u32
}

/// Ids of the k largest logits in increasing order; of those equal to the k-th, the lowest ids.
fn top_k(logits: &[f32], k: u32) -> Vec<u32> {
    let numbers = || (0u32..).zip(logits).filter(|(_, logit)| !logit.is_nan());
    let mut values: Vec<f32> = numbers().map(|(_, &logit)| logit).collect();
    let k = k as usize;
    if k == 0 || k >= values.len() {
        return numbers().map(|(id, _)| id).collect();
    }
    let (above, &mut threshold, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let mut ties = k - above.iter().filter(|&&v| v > threshold).count();
    numbers()
        .filter(|&(_, &logit)| {
            let tie = logit == threshold && ties > 0;
            ties -= usize::from(tie);
            tie || logit > threshold
        })
        .map(|(id, _)| id)
        .collect()
}

/// The largest logit V such that the kept tokens with logit ≥ V hold at least `p` of the kept mass at temperature 1.
fn top_p_floor(logits: &[f32], kept: &[u32], max: f32, p: f64) -> f32 {
    let mut sorted: Vec<f32> = kept.iter().map(|&id| logits[id as usize]).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let mass = |logit: f32| (f64::from(logit) - f64::from(max)).exp();
    let target = p * sorted.iter().map(|&logit| mass(logit)).sum::<f64>();
    let mut sum = 0.0;
    for &logit in &sorted {
        sum += mass(logit);
        if sum >= target {
            return logit;
        }
    }
    f32::NEG_INFINITY
}

/// Draws from p ∝ exp((logit − max)/temperature): the first id, in increasing order, whose cumulative sum exceeds
/// u·total.
fn draw(logits: &[f32], kept: &[u32], max: f32, temperature: f64, u: f32) -> u32 {
    let weight = |&id: &u32| ((f64::from(logits[id as usize]) - f64::from(max)) / temperature).exp();
    let target = f64::from(u) * kept.iter().map(weight).sum::<f64>();
    let mut sum = 0.0;
    for id in kept {
        sum += weight(id);
        if sum > target {
            return *id;
        }
    }
    // Only rounding of the last addition can lead here.
    kept[kept.len() - 1]
}

#[cfg(test)]
mod tests;
