//! The spellings of config.json that others use.

use super::*;
use crate::Error;

fn parse(text: &str) -> crate::Result<Config> {
    Config::from_json(text.as_bytes())
}

fn message(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn mamba2_has_the_defaults_of_its_class() {
    let c = parse(r#"{"model_type": "mamba2"}"#).unwrap();
    assert_eq!((c.family, c.vocab_size, c.hidden_size, c.layer_types.len()), (Family::Mamba2, 32_768, 4096, 64));
    assert!(!c.tie_word_embeddings);
    let m = c.mamba2.unwrap();
    assert_eq!((m.num_heads, m.head_dim, m.n_groups, m.d_state, m.d_conv), (128, 64, 8, 128, 4));
    assert_eq!((m.conv_bias, m.in_bias, m.out_bias, m.norm_eps), (true, false, false, 1e-5));
    assert_eq!(m.time_step_limit, (0.0, f32::INFINITY));
}

#[test]
fn an_infinite_limit_has_three_spellings() {
    for text in ["[0.5, Infinity]", r#"[0.5, {"__float__": "Infinity"}]"#, "[0.5, null]"] {
        let c = parse(&format!(
            r#"{{"model_type": "mamba2", "_name_or_path": "a \"Infinity\" \\", "time_step_limit": {text}}}"#
        ));
        assert_eq!(c.unwrap().mamba2.unwrap().time_step_limit, (0.5, f32::INFINITY), "{text}");
    }
    for text in ["[0, -Infinity]", "[0, NaN]", "[0, Infinite]", "[0, \"Infinity\"]", "[Infinity, Infinity]"] {
        let error = parse(&format!(r#"{{"model_type": "mamba2", "time_step_limit": {text}}}"#)).unwrap_err();
        assert_eq!(error.code(), "config-invalid", "{text}: {error}");
    }
}

#[test]
fn the_original_layout_has_the_defaults_of_its_class() {
    let c = parse(r#"{"ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16, "attn_cfg": {}}"#).unwrap();
    assert_eq!((c.family, c.vocab_size, c.hidden_size, c.layer_types.len()), (Family::StateSpaces, 50_288, 2560, 64));
    assert!(c.tie_word_embeddings);
    let m = c.mamba2.unwrap();
    assert_eq!((m.num_heads, m.head_dim, m.n_groups, m.d_state, m.gate), (80, 64, 1, 128, GateMode::NormAfterGate));
}

#[test]
fn what_is_not_supported_is_named() {
    let original = |cfg: &str| message(&format!(r#"{{"ssm_cfg": {{"layer": "Mamba2", {cfg}}}}}"#));
    assert_eq!(message(r#"{"ssm_cfg": {}}"#), "config.json: `ssm_cfg.layer` is missing");
    assert_eq!(
        message(r#"{"ssm_cfg": {"layer": "Mamba1"}}"#),
        "config.json: `ssm_cfg.layer` is \"Mamba1\"; allowed: \"Mamba2\""
    );
    assert_eq!(original(r#""D_has_hdim": true"#), "config.json: `ssm_cfg.D_has_hdim` is true; allowed: false");
    assert_eq!(original(r#""d_ssm": 64"#), "config.json: `ssm_cfg.d_ssm` is 64; allowed: 5120");
    assert!(original(r#""A_init_range": [1, 16]"#).contains("`ssm_cfg.A_init_range` is [1,16]; allowed: no such key"));
    assert_eq!(
        message(r#"{"ssm_cfg": {"layer": "Mamba2"}, "rms_norm": false}"#),
        "config.json: `rms_norm` is false; allowed: true"
    );
    assert_eq!(
        message(r#"{"model_type": "mamba2", "hidden_act": "relu"}"#),
        "config.json: `hidden_act` is \"relu\"; allowed: \"silu\" or \"swish\""
    );
    assert_eq!(
        message(r#"{"model_type": "mamba2", "head_dim": 32}"#),
        "config.json: `head_dim` is 32; allowed: expand × hidden_size / num_heads = 8192 / 128"
    );
    assert_eq!(
        message(r#"{"model_type": "mamba2", "n_groups": 3}"#),
        "config.json: `n_groups` is 3; allowed: a divisor of 128"
    );
    match parse(r#"{"model_type": "rwkv7"}"#) {
        Err(Error::UnsupportedModel { model_type, .. }) => assert_eq!(model_type, "rwkv7"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn equal_sizes_of_two_families_are_not_one_model() {
    let original = r#"{"d_model": 64, "n_layer": 2, "vocab_size": 64, "ssm_cfg": {"layer": "Mamba2", "ngroups": 1}}"#;
    let class = r#"{"model_type": "mamba2", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 64, "num_heads": 2,
                    "n_groups": 1, "tie_word_embeddings": true}"#;
    let [a, b] = [original, class].map(|text| parse(text).unwrap());
    assert_eq!(a.mamba2, b.mamba2);
    assert_ne!(a.to_canonical_json(), b.to_canonical_json());
    let names = |c: &Config| c.expected_tensors().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&a)[..2], ["backbone.embedding.weight", "backbone.layers.0.norm.weight"]);
    assert_eq!(names(&b)[..2], ["backbone.embeddings.weight", "backbone.layers.0.norm.weight"]);
    assert_eq!(names(&a).last().unwrap(), "backbone.norm_f.weight");
}
