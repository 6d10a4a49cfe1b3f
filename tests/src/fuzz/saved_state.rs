//! Any bytes as a saved state: a typed error and an unchanged session, or a session that works.
//!
//! The first byte chooses how the rest is used, so that the fuzzer need not find a fingerprint or a checksum.

use std::cell::OnceCell;

use futures::StreamExt;
use pollster::block_on;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use taipan::weights::{ElementType, serialize};
use taipan::{
    AttentionBound, Config, Device, GenerateOptions, LoadOptions, Model, ModelFiles, Sampling, Session, SessionOptions,
};

const HEADER_LENGTH: usize = 12;
const HEADER: usize = 16;
const CHECKSUM: usize = 8;

thread_local! {
    static BASE: OnceCell<(Model, Vec<u8>)> = const { OnceCell::new() };
}

/// Takes any bytes; returns whether they were a state.
///
/// # Panics
/// If they are neither refused properly nor usable.
pub fn check(input: &[u8]) -> bool {
    let Some((&mode, rest)) = input.split_first() else { return false };
    BASE.with(|base| {
        let (model, state) = base.get_or_init(base_state);
        let bytes = match mode % 4 {
            0 => rest.to_vec(),
            1 => with_header(state, rest),
            2 => with_tensors(state, rest),
            _ => with_edits(state, rest),
        };
        restore(model, &bytes)
    })
}

/// Restores the bytes into a session that has lived, and uses it.
fn restore(model: &Model, bytes: &[u8]) -> bool {
    let mut session = model.session(SessionOptions::default()).unwrap();
    block_on(session.prefill(&[1, 2])).unwrap();
    let before = block_on(session.save()).unwrap();
    if let Err(error) = block_on(session.restore(bytes)) {
        assert_eq!(error.code(), "saved-state");
        assert!(error.to_string().len() < 4000);
        assert!(block_on(session.save()).unwrap() == before, "a refused state changes nothing");
        return false;
    }
    go_on(&mut session);
    let saved = block_on(session.save()).unwrap();
    block_on(session.restore(&saved)).expect("what a session saves, a session takes");
    true
}

/// Errors are fine, as at the end of all positions.
fn go_on(session: &mut Session) {
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, repeat_penalty: 1.1, ..Sampling::default() };
        let options = GenerateOptions { max_tokens: Some(2), sampling, stop: vec!["ab".into()], ..Default::default() };
        let _: Vec<_> = block_on(session.generate(options).collect());
    }
    let _ = session.finish_text();
    let _ = block_on(session.prefill(&[1, 2, 3, 4, 5]));
    let _ = block_on(session.decode(6));
    let _ = block_on(session.stats());
}

/// The rest is a header, or what to put over the real one.
fn with_header(state: &[u8], rest: &[u8]) -> Vec<u8> {
    let end = tensors_at(state);
    let mut header: Value = serde_json::from_slice(&state[HEADER..end]).unwrap();
    let header = match serde_json::from_slice::<Value>(rest) {
        Ok(over) if over.is_object() => {
            merge(&mut header, over);
            header.to_string().into_bytes()
        }
        _ => rest.to_vec(),
    };
    let length = (header.len() as u32).to_le_bytes();
    sealed([&state[..HEADER_LENGTH], &length, &header, &state[end..]].concat())
}

fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(map), Value::Object(over)) => {
            over.into_iter().for_each(|(key, over)| merge(map.entry(key).or_insert(Value::Null), over));
        }
        (value, over) => *value = over,
    }
}

/// The rest is the end of the tensors: the layers come last, the last one is attention, its bucket is the very end.
fn with_tensors(state: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = state.to_vec();
    let end = bytes.len() - CHECKSUM;
    let count = rest.len().min(end - tensors_at(state));
    bytes[end - count..end].copy_from_slice(&rest[..count]);
    sealed(bytes)
}

/// The rest is a list of edits, three bytes each: where, and what to add. Half of the inputs keep the old checksum.
fn with_edits(state: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = state.to_vec();
    for edit in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[at] = bytes[at].wrapping_add(edit[2]);
    }
    if rest.len().is_multiple_of(2) { sealed(bytes) } else { bytes }
}

fn tensors_at(state: &[u8]) -> usize {
    HEADER + u32::from_le_bytes(state[HEADER_LENGTH..HEADER].try_into().unwrap()) as usize
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CHECKSUM;
    let digest = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest[..CHECKSUM]);
    bytes
}

/// A model with both kinds of layer and text, and a state in the middle of it all.
fn base_state() -> (Model, Vec<u8>) {
    let config = json!({
        "model_type": "taipan", "vocab_size": 8, "hidden_size": 8, "eos_token_id": 7,
        "layer_types": ["mamba2", "selective_attention"],
        "mamba2": { "d_state": 4, "d_conv": 4, "expand": 1, "head_dim": 4, "n_groups": 1 },
        "selective_attention": { "num_heads": 2, "head_dim": 4, "window": 4, "intermediate_size": 8 },
    });
    let config = config.to_string().into_bytes();
    let tensors = Config::from_json(&config).unwrap().expected_tensors();
    let mut word = 1u32;
    let mut number = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((word >> 8) as f32 / 8_388_608.0 - 1.0).to_le_bytes()
    };
    let data: Vec<Vec<u8>> =
        tensors.iter().map(|(_, shape)| (0..shape.iter().product()).flat_map(|_: usize| number()).collect()).collect();
    let entries: Vec<_> =
        tensors.iter().zip(&data).map(|((n, s), d)| (&n[..], ElementType::F32, &s[..], &d[..])).collect();
    let weights = vec![("model.safetensors".to_owned(), serialize(&entries).into())];
    let files = ModelFiles { config: config.into(), weights, tokenizer: Some(tokenizer().into()) };
    let model = block_on(Model::from_bytes(files, &Device::cpu(), LoadOptions::default())).unwrap();
    let bound = AttentionBound::new(0.25, 2.0).unwrap();
    let mut session =
        model.session(SessionOptions { attention_bound: Some(bound), ..SessionOptions::default() }).unwrap();
    block_on(session.prefill(&[1, 2, 3, 4, 5, 6])).unwrap();
    let options = GenerateOptions { max_tokens: Some(3), ignore_eos: true, ..Default::default() };
    let _: Vec<_> = block_on(session.generate(options).collect());
    let state = block_on(session.save()).unwrap();
    (model, state)
}

/// Letters and single bytes of a character of three.
fn tokenizer() -> Vec<u8> {
    let vocab = json!({ "a": 0, "b": 1, "ab": 2, "â": 3, "Ĥ": 4, "¬": 5, "âĤ": 6, "!": 7 });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let file = json!({ "version": "1.0", "added_tokens": [], "decoder": byte_level, "pre_tokenizer": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] } });
    file.to_string().into_bytes()
}
