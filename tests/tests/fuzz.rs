//! The fuzz targets' checks on their seeds, and on thousands of mutations of them that are the same every time.

use std::path::Path;

use taipan_tests::fuzz::{gguf_header, pickle, saved_state, weight_header};
use taipan_tests::tiny::Numbers;

const MUTATIONS: u32 = 4_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/taipan/fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{}: {} seeds", dir.display(), paths.len());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A number below `n`.
fn below(numbers: &mut Numbers, n: usize) -> usize {
    (numbers.between(0.0, n as f32) as usize).min(n.saturating_sub(1))
}

/// One to four changes of the kinds that break parsers: bytes, digits, cut ends, doubled pieces, other inputs' pieces.
fn mutate(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"\0", b"\xff\xff\xff\xff", b"-1", b"18446744073709551615", b"[]", b"{\"a\":", b"null", b"1e999"];
    let mut bytes = seed.to_vec();
    for _ in 0..=below(numbers, 4) {
        let at = below(numbers, bytes.len() + 1).min(bytes.len());
        let end = (at + below(numbers, 9)).min(bytes.len());
        match below(numbers, 7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(numbers, 8),
            1 if at < bytes.len() => bytes[at] = below(numbers, 256) as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            5 => drop(bytes.splice(at..end, WORDS[below(numbers, WORDS.len())].iter().copied())),
            _ => {
                let from = below(numbers, other.len());
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Demands that some inputs are accepted and some refused: a check that never gets past the first byte proves nothing.
fn replay(target: &str, check: fn(&[u8]) -> bool) {
    let seeds = seeds(target);
    let mut numbers = Numbers { seed: 11, drawn: 0 };
    let taken = seeds.iter().filter(|seed| check(seed)).count();
    assert!(taken > 0, "{target}: no seed is accepted");
    let (mut accepted, mut refused) = (0, 0);
    for i in 0..MUTATIONS {
        let seed = &seeds[i as usize % seeds.len()];
        let other = &seeds[below(&mut numbers, seeds.len())];
        let input = mutate(seed, other, &mut numbers);
        // The input that fails is what one wants to know.
        let result = std::panic::catch_unwind(|| check(&input));
        match result.unwrap_or_else(|_| panic!("{target}: {}", input.escape_ascii())) {
            true => accepted += 1,
            false => refused += 1,
        }
    }
    assert!(
        accepted > MUTATIONS / 100 && refused > MUTATIONS / 100,
        "{target}: {accepted} accepted, {refused} refused"
    );
}

#[test]
fn any_bytes_as_a_weight_file() {
    replay("weight_header", weight_header::check);
}

#[test]
fn any_bytes_as_a_pytorch_checkpoint() {
    replay("pickle", pickle::check);
}

#[test]
fn any_bytes_as_a_saved_state() {
    replay("saved_state", saved_state::check);
}

#[test]
fn any_bytes_as_a_gguf_file() {
    // Of every architecture with layers of its own kind.
    assert!(seeds("gguf_header").iter().all(|seed| gguf_header::check(seed)));
    replay("gguf_header", gguf_header::check);
}
