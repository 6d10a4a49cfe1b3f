use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Error;

const EMBEDDED: &[u8] = include_bytes!("../../../cli/model/config.json");

/// A small valid config with every key.
fn full() -> Value {
    json!({
        "model_type": "taipan", "architectures": ["TaipanForCausalLM"],
        "vocab_size": 64, "hidden_size": 32, "tie_word_embeddings": false, "rms_norm_eps": 1e-6,
        "layer_types": ["mamba2", "selective_attention"],
        "mamba2": { "d_state": 16, "d_conv": 4, "expand": 2, "head_dim": 8, "n_groups": 2, "chunk_size": 32,
                    "conv_bias": true, "proj_bias": true, "time_step_limit": [0.001, 0.2], "norm_eps": 1e-4 },
        "selective_attention": { "num_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "window": 16,
                                 "intermediate_size": 96, "rope_theta": 10000.0, "attention_budget": 0.15 },
        "bos_token_id": 1, "eos_token_id": [3, 2, 3], "max_trained_length": 4096
    })
}

fn parse(value: &Value) -> crate::Result<Config> {
    Config::from_json(value.to_string().as_bytes())
}

/// The full config with the value at a JSON pointer replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = full();
    *config.pointer_mut(pointer).expect("the pointer names a key") = value;
    config
}

fn without(pointer: &str) -> Value {
    let mut config = full();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.remove(key).expect("the pointer names a key");
    config
}

#[test]
fn reads_every_key() {
    let c = parse(&full()).unwrap();
    assert_eq!((c.vocab_size, c.hidden_size, c.tie_word_embeddings), (64, 32, false));
    assert_eq!(c.layer_types, [LayerType::Mamba2, LayerType::SelectiveAttention]);
    let m = c.mamba2.as_ref().unwrap();
    assert_eq!((m.num_heads, m.d_inner(), m.conv_channels(), m.in_proj_rows()), (8, 64, 128, 200));
    assert_eq!((m.time_step_limit, m.norm_eps, m.in_bias && m.out_bias), ((0.001, 0.2), 1e-4, true));
    let s = c.selective_attention.as_ref().unwrap();
    assert_eq!((s.q_width(), s.kv_width(), s.rope_theta), (32, 16, Some(10000.0)));
    assert_eq!((c.bos_token_id, c.eos_token_ids, c.max_trained_length), (Some(1), vec![2, 3], Some(4096)));
}

#[test]
fn optional_keys_have_the_documented_defaults() {
    let mut config = full();
    for pointer in [
        "/tie_word_embeddings",
        "/rms_norm_eps",
        "/bos_token_id",
        "/eos_token_id",
        "/max_trained_length",
        "/mamba2/chunk_size",
        "/mamba2/conv_bias",
        "/mamba2/proj_bias",
        "/mamba2/time_step_limit",
        "/mamba2/norm_eps",
        "/selective_attention/num_key_value_heads",
        "/selective_attention/rope_theta",
        "/selective_attention/attention_budget",
    ] {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    }
    let c = parse(&config).unwrap();
    assert_eq!((c.tie_word_embeddings, c.rms_norm_eps), (true, 1e-5));
    assert_eq!((c.bos_token_id, c.eos_token_ids.len(), c.max_trained_length), (None, 0, None));
    let m = c.mamba2.unwrap();
    assert_eq!((m.chunk_size, m.conv_bias, m.in_bias || m.out_bias, m.norm_eps), (256, true, false, 1e-5));
    assert_eq!(m.time_step_limit, (0.0, f32::INFINITY));
    let s = c.selective_attention.unwrap();
    assert_eq!((s.num_key_value_heads, s.rope_theta, s.attention_budget), (4, None, None));
}

#[test]
fn every_other_key_is_required() {
    for pointer in [
        "/model_type",
        "/vocab_size",
        "/hidden_size",
        "/layer_types",
        "/mamba2",
        "/selective_attention",
        "/mamba2/d_state",
        "/mamba2/d_conv",
        "/mamba2/expand",
        "/mamba2/head_dim",
        "/mamba2/n_groups",
        "/selective_attention/num_heads",
        "/selective_attention/head_dim",
        "/selective_attention/window",
        "/selective_attention/intermediate_size",
    ] {
        let expected = pointer[1..].replace('/', ".");
        match parse(&without(pointer)) {
            Err(Error::ConfigMissing { key, .. }) => assert_eq!(key, expected),
            other => panic!("{pointer}: {other:?}"),
        }
    }
}

#[test]
fn a_section_is_needed_only_by_a_layer_of_its_kind() {
    let mut config = without("/selective_attention");
    config["layer_types"] = json!(["mamba2"]);
    assert_eq!(parse(&config).unwrap().selective_attention, None);
    config["selective_attention"] = json!({ "num_heads": 0 });
    assert!(matches!(parse(&config), Err(Error::ConfigValue { key, .. }) if key == "selective_attention.num_heads"));
}

#[test]
fn impossible_values_name_the_key() {
    let huge = u64::MAX;
    let cases = [
        ("/vocab_size", json!(0)),
        ("/vocab_size", json!(-1)),
        ("/vocab_size", json!(1.5)),
        ("/vocab_size", json!(huge)),
        ("/vocab_size", json!("64")),
        ("/vocab_size", json!(null)),
        ("/hidden_size", json!(0)),
        ("/hidden_size", json!(1e300)),
        ("/tie_word_embeddings", json!(1)),
        ("/rms_norm_eps", json!(0)),
        ("/rms_norm_eps", json!(-1e-5)),
        ("/rms_norm_eps", json!(1e-300)),
        ("/rms_norm_eps", json!("1e-5")),
        ("/layer_types", json!([])),
        ("/layer_types", json!("mamba2")),
        ("/layer_types", json!(vec!["mamba2"; 1025])),
        ("/mamba2", json!([])),
        ("/mamba2", json!(null)),
        ("/mamba2/d_state", json!(0)),
        ("/mamba2/d_conv", json!(1)),
        ("/mamba2/d_conv", json!(9)),
        ("/mamba2/expand", json!(0)),
        ("/mamba2/head_dim", json!(7)),
        ("/mamba2/n_groups", json!(3)),
        ("/mamba2/n_groups", json!(9)),
        ("/mamba2/n_groups", json!(0)),
        ("/mamba2/chunk_size", json!(0)),
        ("/mamba2/conv_bias", json!("yes")),
        ("/mamba2/time_step_limit", json!([0.0])),
        ("/mamba2/time_step_limit", json!([0.2, 0.1])),
        ("/mamba2/time_step_limit", json!([-1.0, 0.1])),
        ("/mamba2/time_step_limit", json!([0, 0])),
        ("/mamba2/time_step_limit", json!([null, 1])),
        ("/mamba2/time_step_limit", json!([1e60, 1e61])),
        ("/mamba2/time_step_limit", json!([0, "Infinity"])),
        ("/selective_attention/num_heads", json!(0)),
        ("/selective_attention/num_key_value_heads", json!(3)),
        ("/selective_attention/num_key_value_heads", json!(8)),
        ("/selective_attention/head_dim", json!(9)),
        ("/selective_attention/window", json!(0)),
        ("/selective_attention/window", json!(huge)),
        ("/selective_attention/intermediate_size", json!(0)),
        ("/selective_attention/rope_theta", json!(0)),
        ("/selective_attention/attention_budget", json!(1.1)),
        ("/bos_token_id", json!(64)),
        ("/eos_token_id", json!(-1)),
        ("/eos_token_id", json!([1, 64])),
        ("/eos_token_id", json!({})),
        ("/max_trained_length", json!(0)),
        ("/model_type", json!(7)),
    ];
    for (pointer, value) in cases {
        let expected = pointer[1..].replace('/', ".");
        match parse(&with(pointer, value.clone())) {
            Err(Error::ConfigValue { key, .. }) => assert_eq!(key, expected, "{value}"),
            other => panic!("{pointer} = {value}: {other:?}"),
        }
    }
}

#[test]
fn an_attention_head_has_as_many_channels_as_the_kernel_holds() {
    let head = |n: usize| parse(&with("/selective_attention/head_dim", json!(n)));
    assert_eq!(head(256).unwrap().selective_attention.unwrap().head_dim, 256);
    assert_eq!(
        head(257).unwrap_err().to_string(),
        "config.json: `selective_attention.head_dim` is 257; allowed: an integer from 1 to 256"
    );
}

#[test]
fn sizes_fine_alone_and_absurd_together_are_refused() {
    let mut config = with("/vocab_size", json!(1 << 24));
    config["hidden_size"] = json!(1 << 16);
    let error = parse(&config).unwrap_err();
    assert!(error.to_string().contains("embedding.weight"), "{error}");
    let mut config = with("/selective_attention/window", json!(1 << 20));
    config["selective_attention"]["num_heads"] = json!(1024);
    config["selective_attention"]["num_key_value_heads"] = json!(1024);
    config["selective_attention"]["head_dim"] = json!(256);
    let error = parse(&config).unwrap_err();
    assert!(error.to_string().contains("window"), "{error}");
}

#[test]
fn messages() {
    let message = |config: &Value| {
        let error = parse(config).unwrap_err();
        format!("{error} | {} | {}", error.code(), error.hint().unwrap_or_default())
    };
    assert_eq!(
        message(&without("/mamba2/d_state")),
        "config.json: `mamba2.d_state` is missing | config-invalid | correct config.json, or take the one published with the weights"
    );
    assert_eq!(
        message(&with("/layer_types/1", json!("attention"))),
        "config.json: `layer_types[1]` is \"attention\"; allowed: \"mamba2\" or \"selective_attention\" | config-invalid | \
         correct config.json, or take the one published with the weights"
    );
    assert_eq!(
        message(&with("/mamba2/head_dim", json!(7))),
        "config.json: `mamba2.head_dim` is 7; allowed: a divisor of expand × hidden_size = 64 | config-invalid | \
         correct config.json, or take the one published with the weights"
    );
    assert_eq!(
        message(&with("/model_type", json!("llama"))),
        "config.json: model_type \"llama\" is not supported | model-unsupported | this build runs taipan and mamba2, state-spaces, granitemoehybrid, bamba, falcon_h1, nemotron_h, zamba2"
    );
    let cut = Config::from_json(b"{\"vocab_size\": 1").unwrap_err();
    assert_eq!(cut.to_string(), "config.json: not valid JSON: EOF while parsing an object at line 1 column 16");
    assert_eq!(cut.code(), "config-invalid");
}

#[test]
fn the_parameter_counts_of_the_paper_come_out() {
    let preset = |d: usize, groups: usize, heads: usize, f: usize| {
        let mut layers = Vec::new();
        for _ in 0..groups {
            layers.extend(["mamba2"; 6]);
            layers.push("selective_attention");
        }
        let mut config = full();
        config["vocab_size"] = json!(128_256);
        config["hidden_size"] = json!(d);
        config["tie_word_embeddings"] = json!(true);
        config["layer_types"] = json!(layers);
        config["mamba2"] = json!({ "d_state": 128, "d_conv": 4, "expand": 2, "head_dim": 64, "n_groups": 1 });
        config["selective_attention"] =
            json!({ "num_heads": heads, "head_dim": 64, "window": 2048, "intermediate_size": f });
        parse(&config).unwrap().parameters()
    };
    assert_eq!(preset(768, 3, 12, 2048), 187_520_022);
    assert_eq!(preset(1024, 6, 16, 2752), 444_888_460);
    assert_eq!(preset(2048, 5, 32, 5504), 1_291_158_666);
}

#[test]
fn the_embedded_config_loads() {
    let c = Config::from_json(EMBEDDED).unwrap();
    assert_eq!(c.count(LayerType::Mamba2) + c.count(LayerType::SelectiveAttention), c.layer_types.len());
    assert!(c.count(LayerType::SelectiveAttention) > 0);
}

#[test]
fn canonical_text_is_one_text_per_config() {
    let c = parse(&full()).unwrap();
    assert_eq!(Config::from_json(c.to_canonical_json().as_bytes()).unwrap(), c);
    let mut reordered = full();
    reordered["unknown"] = json!([1, 2]);
    reordered["eos_token_id"] = json!([2, 3]);
    assert_eq!(parse(&reordered).unwrap().to_canonical_json(), c.to_canonical_json());
    let mut changed = full();
    changed["mamba2"]["norm_eps"] = json!(2e-4);
    assert_ne!(parse(&changed).unwrap().to_canonical_json(), c.to_canonical_json());
    // Changing this text makes every saved state unusable.
    let small = parse(&json!({ "model_type": "taipan", "vocab_size": 2, "hidden_size": 4, "layer_types": ["mamba2"],
        "mamba2": { "d_state": 1, "d_conv": 2, "expand": 1, "head_dim": 4, "n_groups": 1, "norm_eps": 0.5 },
        "rms_norm_eps": 0.25 }));
    assert_eq!(
        small.unwrap().to_canonical_json(),
        r#"{"bos_token_id":null,"eos_token_id":[],"hidden_size":4,"layer_types":["mamba2"],"mamba2":{"chunk_size":256,"conv_bias":true,"d_conv":2,"d_state":1,"expand":1,"head_dim":4,"n_groups":1,"norm_eps":0.5,"proj_bias":false,"time_step_limit":[0.0,null]},"max_trained_length":null,"model_type":"taipan","rms_norm_eps":0.25,"selective_attention":null,"tie_word_embeddings":true,"vocab_size":2}"#
    );
}

/// Numbers at the edges, and values of every other JSON type.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            0u64,
            1,
            2,
            3,
            8,
            16,
            1 << 16,
            1 << 20,
            1 << 24,
            1 << 31,
            1 << 32,
            1 << 53,
            u64::MAX
        ])
        .prop_map(|n| json!(n)),
        any::<i64>().prop_map(|n| json!(n)),
        (0u64..2000).prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)), // NaN and infinities become null
        any::<bool>().prop_map(|b| json!(b)),
        ".{0,8}".prop_map(|s| json!(s)),
        prop::collection::vec(any::<u32>(), 0..4).prop_map(|v| json!(v)),
        prop::collection::vec(any::<f32>(), 2..3).prop_map(|v| json!(v)),
        Just(json!({})),
        Just(Value::Null),
    ]
}

fn any_pointer() -> impl Strategy<Value = String> {
    let mut pointers = Vec::new();
    for (key, value) in full().as_object().unwrap() {
        pointers.push(format!("/{key}"));
        if let Value::Object(section) = value {
            pointers.extend(section.keys().map(|inner| format!("/{key}/{inner}")));
        }
    }
    prop::sample::select(pointers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever stands in the file, the outcome is a typed error or a config whose sizes can be computed with.
    #[test]
    fn mutated_configs_never_panic(changes in prop::collection::vec((any_pointer(), any_value()), 1..4)) {
        let mut config = full();
        for (pointer, value) in changes {
            if let Some(place) = config.pointer_mut(&pointer) {
                *place = value;
            }
        }
        match parse(&config) {
            Ok(c) => {
                prop_assert!(c.parameters() > 0);
                for (_, shape) in c.expected_tensors() {
                    let elements: u64 = shape.iter().map(|&n| n as u64).product();
                    prop_assert!(elements > 0 && elements < 1 << 30);
                }
                prop_assert_eq!(Config::from_json(c.to_canonical_json().as_bytes()).unwrap(), c);
            }
            Err(e) => prop_assert!(["config-invalid", "model-unsupported"].contains(&e.code()), "{e}"),
        }
    }

    #[test]
    fn damaged_bytes_never_panic(at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000) {
        let mut bytes = full().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len().saturating_sub(cut / 20));
        let _ = Config::from_json(&bytes);
    }
}
