use super::*;
use crate::testing::Random;

/// Every filter off, temperature 1.
fn plain() -> Sampling {
    Sampling { seed: 11, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, repeat_last_n: 0 }
}

/// How often each id is picked in `draws` positions, from untouched logits each time.
fn counts(s: &Sampling, logits: &[f32], draws: u32) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    for position in 0..draws {
        let id = sample(s, &mut logits.to_vec(), &[0; RECENT], position);
        counts[id as usize] += 1;
    }
    counts
}

/// Ids that can be picked: a high temperature makes all that pass the filters about equally likely.
fn support(s: &Sampling, logits: &[f32]) -> Vec<u32> {
    let hot = Sampling { temperature: 1e4, ..s.clone() };
    let picked = counts(&hot, logits, 60 * logits.len() as u32);
    (0u32..).zip(picked).filter(|(_, count)| *count > 0).map(|(id, _)| id).collect()
}

fn greedy(logits: &[f32]) -> u32 {
    let s = Sampling { temperature: 0.0, ..Sampling::default() };
    sample(&s, &mut logits.to_vec(), &[0; RECENT], 0)
}

#[test]
fn uniform_known_answers() {
    // Worked out apart from this code, in unbounded integers; a shader must give the same.
    let cases = [
        (0, 0, 13_332_926),
        (0, 1, 13_818_377),
        (1, 0, 14_935_555),
        (1 << 32, 0, 13_793_288),
        (0x0123_4567_89ab_cdef, 123_456, 579_167),
        (u64::MAX, u32::MAX, 3_943_744),
    ];
    for (seed, position, expected) in cases {
        assert_eq!(uniform(seed, position) * 16_777_216.0, expected as f32, "{seed} {position}");
    }
}

#[test]
fn uniform_is_flat_along_positions_and_along_seeds() {
    const BINS: usize = 64;
    const DRAWS: u32 = 64_000;
    type Stream = fn(u32) -> f32;
    let streams: [Stream; 4] = [
        |i| uniform(0, i),
        |i| uniform(0xdead_beef_0000_0001, i),
        |i| uniform(u64::from(i), 5),
        |i| uniform(u64::from(i) << 32, 5),
    ];
    for (index, stream) in streams.iter().enumerate() {
        let mut bins = [0u32; BINS];
        for i in 0..DRAWS {
            let u = stream(i);
            assert!((0.0..1.0).contains(&u));
            bins[(u * BINS as f32) as usize] += 1;
        }
        let expected = f64::from(DRAWS) / BINS as f64;
        let chi2: f64 = bins.iter().map(|&b| (f64::from(b) - expected).powi(2) / expected).sum();
        // 63 degrees of freedom: mean 63, standard deviation 11.2; five of those either way.
        assert!((7.0..119.0).contains(&chi2), "stream {index}: chi² {chi2}");
    }
}

#[test]
fn uniform_neighbours_are_uncorrelated() {
    let n = 50_000u32;
    let pairs: [fn(u32) -> (f32, f32); 3] = [
        |i| (uniform(3, i), uniform(3, i + 1)),
        |i| (uniform(3, i), uniform(4, i)),
        |i| (uniform(3, i), uniform(3 | 1 << 32, i)),
    ];
    for (index, pair) in pairs.iter().enumerate() {
        let centred = |u: f32| f64::from(u) - 0.5;
        let sum: f64 = (0..n).map(pair).map(|(a, b)| centred(a) * centred(b)).sum();
        // Correlation of independent draws has standard deviation 1/√n = 0.0045.
        let correlation = 12.0 * sum / f64::from(n);
        assert!(correlation.abs() < 0.02, "pair {index}: {correlation}");
    }
}

#[test]
fn uniform_repeats_nothing_within_a_stream_but_the_dropped_bits() {
    // A bijection of the position: 2¹⁶ draws of 24 bits collide about 128 times; a poor hash far more.
    let mut seen: Vec<u32> = (0..1 << 16).map(|i| (uniform(9, i) * 16_777_216.0) as u32).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > (1 << 16) - 300, "{}", seen.len());
}

#[test]
fn defaults_are_those_of_llama_cpp() {
    let s = Sampling::default();
    assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p), (0.8, 40, 0.95, 0.05));
    assert_eq!((s.repeat_penalty, s.repeat_last_n, s.seed), (1.0, 64, 0));
}

#[test]
fn greedy_takes_the_lowest_of_the_largest() {
    assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]), 1);
    assert_eq!(greedy(&[-5.0, -7.0]), 0);
    assert_eq!(greedy(&[0.0, -0.0]), 0);
    assert_eq!(greedy(&[f32::NAN, f32::NEG_INFINITY, -1.0]), 2);
}

#[test]
fn a_negative_or_missing_temperature_is_greedy() {
    for temperature in [-1.0, 0.0, f32::NAN] {
        let s = Sampling { temperature, ..plain() };
        assert_eq!(counts(&s, &[0.0, 0.1, 0.0], 50), [0, 50, 0]);
    }
}

#[test]
fn frequencies_follow_the_softmax_at_the_temperature() {
    const DRAWS: u32 = 40_000;
    let logits = [0.5, -1.0, 2.0, 1.5, -3.0];
    for temperature in [0.5, 1.0, 2.0] {
        let s = Sampling { temperature, ..plain() };
        let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / f64::from(temperature)).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (id, (count, w)) in counts(&s, &logits, DRAWS).into_iter().zip(&weights).enumerate() {
            let p = w / total;
            let deviation = (p * (1.0 - p) / f64::from(DRAWS)).sqrt();
            let error = (f64::from(count) / f64::from(DRAWS) - p).abs();
            assert!(error < 4.0 * deviation, "id {id} at {temperature}: off by {error}");
        }
    }
}

#[test]
fn the_draw_walks_ids_in_order() {
    // Equal weights: the id is the quarter that u falls into.
    for position in 0..200 {
        let id = sample(&plain(), &mut [7.0; 4], &[0; RECENT], position);
        assert_eq!(id, (uniform(11, position) * 4.0) as u32);
    }
}

#[test]
fn a_draw_of_zero_skips_tokens_without_weight() {
    let logits = [f32::NEG_INFINITY, 0.0, 0.0];
    assert_eq!(draw(&logits, &[0, 1, 2], 0.0, 1.0, 0.0), 1);
}

#[test]
fn tiny_temperatures_do_not_overflow() {
    let s = Sampling { temperature: 1e-30, ..plain() };
    assert_eq!(counts(&s, &[100.0, -100.0, 100.5], 50), [0, 0, 50]);
}

#[test]
fn top_k_counts_ties_and_keeps_the_lowest_ids() {
    let logits = [1.0, 5.0, 3.0, 3.0, 3.0, 0.0];
    let keep = |k| support(&Sampling { top_k: k, ..plain() }, &logits);
    assert_eq!(keep(1), [1]);
    assert_eq!(keep(2), [1, 2]);
    assert_eq!(keep(3), [1, 2, 3]);
    assert_eq!(keep(4), [1, 2, 3, 4]);
    assert_eq!(keep(5), [0, 1, 2, 3, 4]);
    for all in [0, 6, 7, u32::MAX] {
        assert_eq!(keep(all), [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn top_k_treats_both_zeros_as_equal() {
    assert_eq!(top_k(&[-0.0, 0.0, -1.0], 1), [0]);
    assert_eq!(top_k(&[-1.0, -0.0, 0.0, 0.0], 2), [1, 2]);
}

#[test]
fn top_k_agrees_with_a_stable_sort() {
    let mut random = Random::new(8);
    for _ in 0..200 {
        let n = 1 + random.below(40);
        let logits: Vec<f32> = (0..n).map(|_| random.below(12) as f32 - 6.0).collect();
        let k = 1 + random.below(n);
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
        order.truncate(k);
        order.sort_unstable();
        assert_eq!(top_k(&logits, k as u32), order, "k {k} of {logits:?}");
    }
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_the_mass() {
    // Probabilities .1, .4, .2, .3
    let logits = [0.1f32.ln(), 0.4f32.ln(), 0.2f32.ln(), 0.3f32.ln()];
    let keep = |p| support(&Sampling { top_p: p, ..plain() }, &logits);
    assert_eq!(keep(0.0), [1]);
    assert_eq!(keep(0.39), [1]);
    assert_eq!(keep(0.41), [1, 3]);
    assert_eq!(keep(0.69), [1, 3]);
    assert_eq!(keep(0.71), [1, 2, 3]);
    assert_eq!(keep(0.91), [0, 1, 2, 3]);
    assert_eq!(keep(1.0), [0, 1, 2, 3]);
}

#[test]
fn top_p_keeps_every_tie_at_its_edge() {
    let logits = [0.0, 0.0, 0.0, -1.0];
    assert_eq!(support(&Sampling { top_p: 0.01, ..plain() }, &logits), [0, 1, 2]);
}

#[test]
fn top_p_measures_the_set_that_top_k_left() {
    // Of .4, .3, .2, .1 top-k 2 leaves 4/7 and 3/7: .55 is then reached by the first alone.
    let logits = [0.4f32.ln(), 0.3f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
    assert_eq!(support(&Sampling { top_p: 0.55, ..plain() }, &logits), [0, 1]);
    assert_eq!(support(&Sampling { top_k: 2, top_p: 0.55, ..plain() }, &logits), [0]);
}

#[test]
fn top_p_agrees_with_enumeration() {
    let mut random = Random::new(9);
    for _ in 0..200 {
        let n = 1 + random.below(20);
        let logits: Vec<f32> = (0..n).map(|_| random.between(-4.0, 4.0)).collect();
        let p = f64::from(random.between(0.05, 0.999));
        let kept: Vec<u32> = (0..n as u32).collect();
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let mass = |v: f32| logits.iter().filter(|l| **l >= v).map(|&l| f64::from(l).exp()).sum::<f64>();
        let reaching = logits.iter().copied().filter(|&v| mass(v) >= p * total);
        let expected = reaching.fold(f32::NEG_INFINITY, f32::max);
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(top_p_floor(&logits, &kept, max, p), expected, "p {p} of {logits:?}");
    }
}

#[test]
fn min_p_is_relative_to_the_largest() {
    let logits = [0.0, 0.26f32.ln(), 0.24f32.ln(), 0.06f32.ln()];
    let keep = |p| support(&Sampling { min_p: p, ..plain() }, &logits);
    assert_eq!(keep(0.25), [0, 1]);
    assert_eq!(keep(0.05), [0, 1, 2, 3]);
    assert_eq!(keep(-1.0), [0, 1, 2, 3]);
    // More than certain still leaves the most probable token.
    assert_eq!(keep(2.0), [0]);
}

#[test]
fn min_p_looks_at_logits_before_the_temperature() {
    // At temperature 4 the second token is half as likely as the first, but 1/16 at temperature 1.
    let s = Sampling { min_p: 0.1, temperature: 4.0, ..plain() };
    assert_eq!(counts(&s, &[0.0, (1.0f32 / 16.0).ln()], 200), [200, 0]);
}

fn penalised(s: &Sampling, recent: &[u32], consumed: u32) -> Vec<f32> {
    let mut logits = vec![2.0, -2.0, 0.0, 4.0];
    sample(s, &mut logits, recent, consumed);
    logits
}

#[test]
fn the_penalty_divides_positive_and_multiplies_other_logits_once() {
    let s = Sampling { repeat_penalty: 2.0, repeat_last_n: 64, ..plain() };
    let mut recent = [0; RECENT];
    recent[..5].copy_from_slice(&[0, 1, 0, 0, 2]);
    assert_eq!(penalised(&s, &recent, 5), [1.0, -4.0, 0.0, 4.0]);
    let off = Sampling { repeat_penalty: 1.0, ..s.clone() };
    assert_eq!(penalised(&off, &recent, 5), [2.0, -2.0, 0.0, 4.0]);
    let none = Sampling { repeat_last_n: 0, ..s };
    assert_eq!(penalised(&none, &recent, 5), [2.0, -2.0, 0.0, 4.0]);
}

#[test]
fn the_penalty_reads_the_newest_tokens_only() {
    let mut recent = [0; RECENT];
    recent[..3].copy_from_slice(&[3, 1, 0]);
    let last = |n| Sampling { repeat_penalty: 2.0, repeat_last_n: n, ..plain() };
    assert_eq!(penalised(&last(1), &recent, 3), [1.0, -2.0, 0.0, 4.0]);
    assert_eq!(penalised(&last(2), &recent, 3), [1.0, -4.0, 0.0, 4.0]);
    assert_eq!(penalised(&last(3), &recent, 3), [1.0, -4.0, 0.0, 2.0]);
    // Slots past `consumed` have never been written: their zeros are not tokens.
    assert_eq!(penalised(&last(64), &recent, 2), [2.0, -4.0, 0.0, 2.0]);
    assert_eq!(penalised(&last(64), &recent, 0), [2.0, -2.0, 0.0, 4.0]);
}

#[test]
fn the_penalty_window_wraps_and_ends_at_the_ring() {
    let s = |n| Sampling { repeat_penalty: 2.0, repeat_last_n: n, ..plain() };
    // Positions 1023 (slot 1023) and 1024 (slot 0) are the newest two of 1025.
    let mut recent = [2; RECENT];
    (recent[1023], recent[0], recent[1]) = (0, 1, 3);
    assert_eq!(penalised(&s(2), &recent, 1025), [1.0, -4.0, 0.0, 4.0]);
    // Slot 1 is the oldest: reached only by the full ring, and by asking for more.
    assert_eq!(penalised(&s(1023), &recent, 1025), [1.0, -4.0, 0.0, 4.0]);
    assert_eq!(penalised(&s(1024), &recent, 1025), [1.0, -4.0, 0.0, 2.0]);
    assert_eq!(penalised(&s(u32::MAX), &recent, 1025), [1.0, -4.0, 0.0, 2.0]);
}

#[test]
fn greedy_sees_the_penalty() {
    let s = Sampling { temperature: 0.0, repeat_penalty: 3.0, ..Sampling::default() };
    assert_eq!(sample(&s, &mut [2.0, 1.0], &[0; RECENT], 1), 1);
    assert_eq!(sample(&s, &mut [2.0, 1.0], &[0; RECENT], 0), 0);
}

#[test]
fn an_id_outside_the_vocabulary_is_ignored() {
    let s = Sampling { repeat_penalty: 2.0, repeat_last_n: 4, ..plain() };
    assert_eq!(penalised(&s, &[99; RECENT], 3), [2.0, -2.0, 0.0, 4.0]);
}

#[test]
fn odd_logits_never_panic() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for mut logits in [vec![odd; 3], vec![0.0, odd, 1.0], vec![odd, 0.0, odd]] {
            let s = Sampling { top_k: 2, ..Sampling::default() };
            assert!(sample(&s, &mut logits, &[0; RECENT], 7) < 3);
        }
    }
    // A NaN is not picked, a masked (−∞) logit neither.
    assert_eq!(support(&plain(), &[f32::NAN, 0.0, f32::NEG_INFINITY, 0.0]), [1, 3]);
}

#[test]
fn equal_calls_pick_equal_tokens_and_seeds_differ() {
    let mut random = Random::new(10);
    let logits = random.values(50);
    let run = |seed| -> Vec<u32> {
        let s = Sampling { seed, ..plain() };
        (0..100).map(|p| sample(&s, &mut logits.clone(), &[0; RECENT], p)).collect()
    };
    assert_eq!(run(1), run(1));
    let equal = run(1).iter().zip(run(2)).filter(|(a, b)| *a == b).count();
    assert!(equal < 20, "{equal} of 100 equal");
}
