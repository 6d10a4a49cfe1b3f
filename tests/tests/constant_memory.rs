//! Memory does not grow with the text. A process of its own, because what is measured is the process.

use pollster::block_on;
use taipan::{Device, Session, SessionOptions, Stats};
use taipan_tests::drive::{endless, random, save, take};
use taipan_tests::tiny::Tiny;

const SHORT: u32 = 4_000;
const LONG: u32 = 200_000;

/// Numbers in kB that the system keeps about this process: resident memory, and the most there ever was.
#[cfg(target_os = "linux")]
fn resident() -> Option<[f64; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let number = |key| status.lines().find_map(|l| l.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse().ok());
    Some([number("VmRSS:")?, number("VmHWM:")?])
}

#[cfg(not(target_os = "linux"))]
fn resident() -> Option<[f64; 2]> {
    None
}

struct Measure {
    stats: Stats,
    saved: usize,
    resident: Option<[f64; 2]>,
}

fn measure(session: &mut Session, position: u32) -> Measure {
    // Generating and saving are part of a session's life.
    let _ = take(session, &endless(random(1)), 3);
    let saved = save(session).len();
    let stats = block_on(session.stats()).unwrap();
    assert_eq!(stats.tokens, u64::from(position) + 3, "saving consumes the last of three tokens");
    Measure { stats, saved, resident: resident() }
}

#[test]
fn two_hundred_thousand_tokens_take_what_four_thousand_take() {
    let tiny = Tiny::new("ms")
        .with("vocab_size", 16)
        .with("hidden_size", 8)
        .with("mamba2.head_dim", 8)
        .with("mamba2.d_state", 4)
        .with("selective_attention.head_dim", 4)
        .with("selective_attention.window", 32)
        .with("selective_attention.intermediate_size", 8);
    let model = tiny.open(&Device::cpu());
    let ids = |range: std::ops::Range<u32>| range.map(|i| i.wrapping_mul(2_654_435_761) >> 28);
    let mut session = model.session(SessionOptions::default()).unwrap();
    block_on(session.prefill_iter(ids(0..SHORT))).unwrap();
    let short = measure(&mut session, SHORT);
    let at = short.stats.tokens as u32;
    block_on(session.prefill_iter(ids(at..LONG))).unwrap();
    let long = measure(&mut session, LONG);

    assert_eq!(long.stats.bytes, short.stats.bytes);
    let selected = long.stats.sal[0].selected as f64 / f64::from(LONG);
    assert!((0.1..0.9).contains(&selected), "attention took part: {selected}");
    // Only numbers in the header have grown, by digits.
    assert!(long.saved.abs_diff(short.saved) < 64, "{} and {} bytes saved", short.saved, long.saved);
    if cfg!(target_os = "linux") {
        let (short, long) = (short.resident.unwrap(), long.resident.unwrap());
        for (what, (short, long)) in ["resident", "most ever resident"].iter().zip(short.iter().zip(long)) {
            let growth = (long - short).abs() / short;
            assert!(growth <= 0.05, "{what}: {short} kB at {SHORT} tokens, {long} kB at {LONG}");
        }
    }
}
