//! A checkpoint against its config.

use std::path::Path;

use super::*;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/model");

const CONFIG: &str = r#"{"model_type":"taipan","vocab_size":4,"hidden_size":4,"layer_types":["mamba2"],
    "mamba2":{"d_state":2,"d_conv":2,"expand":1,"head_dim":2,"n_groups":1}}"#;

fn config() -> Config {
    Config::from_json(CONFIG.as_bytes()).unwrap()
}

type Owned = (String, ElementType, Vec<usize>);

/// The tensors of `config()`, all F16.
fn tensors() -> Vec<Owned> {
    let expected = config().expected_tensors();
    expected.into_iter().map(|(name, shape)| (name, ElementType::F16, shape)).collect()
}

fn build(tensors: &[Owned]) -> Weights {
    let data: Vec<Vec<u8>> =
        tensors.iter().map(|(_, e, shape)| vec![0; shape.iter().product::<usize>() * e.bits() as usize / 8]).collect();
    let parts: Vec<_> = tensors.iter().zip(&data).map(|((n, e, s), d)| (n.as_str(), *e, &s[..], &d[..])).collect();
    load(serialize(&parts)).unwrap()
}

fn refused(tensors: &[Owned]) -> String {
    let error = build(tensors).check(&config()).unwrap_err();
    assert_eq!(error.code(), "weights-mismatch");
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn the_embedded_model_is_whole_and_finite() {
    let dir = Path::new(MODEL);
    let config = Config::from_json(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let w = Weights::open(dir).unwrap();
    w.check(&config).unwrap();
    let headers = Weights::open_headers(dir).unwrap();
    headers.check(&config).unwrap();
    assert_eq!(headers.tensors, w.headers().tensors);
    let elements: usize = headers.tensors.iter().map(|t| t.elements()).sum();
    assert_eq!(elements as u64, config.parameters());
    for t in &headers.tensors {
        w.get(&t.name).unwrap().check_finite().unwrap();
    }
}

#[test]
fn exactly_the_expected_tensors_are_accepted() {
    build(&tensors()).check(&config()).unwrap();
    let mut mixed = tensors();
    mixed[0].1 = ElementType::BF16;
    mixed[1].1 = ElementType::F32;
    mixed.push(("layers.0.attn.rotary_emb.inv_freq".into(), ElementType::F64, vec![3]));
    mixed.push(("mtp.layers.0.weight".into(), ElementType::U8, vec![3]));
    build(&mixed).check(&config()).unwrap();
}

#[test]
fn messages() {
    let mut t = tensors();
    t.remove(1);
    assert_eq!(refused(&t), "tensor `layers.0.norm.weight` is missing from model.safetensors");
    t.remove(0);
    assert_eq!(refused(&t), "tensor `embedding.weight` is missing from model.safetensors (and 1 more like it)");
    let mut t = tensors();
    t[0].2 = vec![4, 5];
    assert_eq!(
        refused(&t),
        "model.safetensors: tensor `embedding.weight` has shape [4, 5], config.json asks for [4, 4]"
    );
    let mut t = tensors();
    t[0].1 = ElementType::I16;
    assert_eq!(refused(&t), "model.safetensors: tensor `embedding.weight` is stored as I16; allowed: F32, F16, BF16");
    let mut t = tensors();
    t.push(("lm_head.weight".into(), ElementType::F16, vec![4, 4]));
    assert_eq!(refused(&t), "model.safetensors: tensor `lm_head.weight` belongs to no layer of config.json");
    t.push(("not.mtp.weight".into(), ElementType::F16, vec![1]));
    assert_eq!(
        refused(&t),
        "model.safetensors: tensor `lm_head.weight` belongs to no layer of config.json (and 1 more like it)"
    );
}

#[test]
fn a_reshaped_tensor_of_the_same_size_is_refused() {
    let mut t = tensors();
    let conv = t.iter().position(|(name, ..)| name.ends_with("conv1d.weight")).unwrap();
    let shape = t[conv].2.clone();
    t[conv].2 = vec![shape[0], shape[2]];
    assert!(refused(&t).contains("conv1d.weight` has shape"));
}
