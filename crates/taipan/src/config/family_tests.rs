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
    assert_eq!(
        message(r#"{"model_type": "mamba2", "quantization_config": {"quant_method": "fp8"}}"#),
        "config.json: `quantization_config` is {\"quant_method\":\"fp8\"}; allowed: none: weights that other tools quantised \
         are not read"
    );
    match parse(r#"{"model_type": "rwkv7"}"#) {
        Err(Error::UnsupportedModel { model_type, .. }) => assert_eq!(model_type, "rwkv7"),
        other => panic!("{other:?}"),
    }
}

/// The published config of mamba2attn-2.7b, as far as it is known here.
const ATTENDING: &str = r#"{"d_model": 2560, "n_layer": 3, "vocab_size": 50277, "pad_vocab_size_multiple": 16,
    "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [1], "attn_cfg": {"causal": true, "d_conv": 4, "head_dim": 128,
    "num_heads": 30, "out_proj_bias": false, "qkv_proj_bias": false, "rotary_emb_dim": 64}}"#;

#[test]
fn the_original_layout_attends_in_the_layers_that_are_listed() {
    let c = parse(ATTENDING).unwrap();
    assert_eq!(c.layer_types, [LayerType::Mamba2, LayerType::Attention, LayerType::Mamba2]);
    let a = c.attention.as_ref().unwrap();
    assert_eq!((a.num_heads, a.num_key_value_heads, a.head_dim, a.conv), (30, 30, 128, Some(4)));
    assert_eq!((a.rope, a.bias, a.out_bias), (Some(Rope { theta: 1e4, channels: 64 }), false, false));
    let tensors = c.expected_tensors();
    let shape = |name: &str| &tensors.iter().find(|(n, _)| n == name).expect(name).1[..];
    assert_eq!(shape("backbone.layers.1.mixer.in_proj.weight"), [3 * 3840, 2560]);
    assert_eq!(shape("backbone.layers.1.mixer.conv1d.weight"), [3 * 3840, 1, 4]);
    assert_eq!(shape("backbone.layers.1.mixer.out_proj.weight"), [2560, 3840]);
}

#[test]
fn the_original_layout_may_have_an_mlp_behind_every_layer() {
    let c = parse(&ATTENDING.replace("{\"d_model\"", "{\"d_intermediate\": 1000, \"d_model\"")).unwrap();
    assert_eq!(c.following_mlp(), Some(&MlpConfig::gated(1024)));
    let tensors = c.expected_tensors();
    let shape = |name: &str| &tensors.iter().find(|(n, _)| n == name).expect(name).1[..];
    for layer in 0..3 {
        assert_eq!(shape(&format!("backbone.layers.{layer}.norm2.weight")), [2560]);
        assert_eq!(shape(&format!("backbone.layers.{layer}.mlp.fc1.weight")), [2048, 2560]);
        assert_eq!(shape(&format!("backbone.layers.{layer}.mlp.fc2.weight")), [2560, 1024]);
    }
    assert_eq!(parse(ATTENDING).unwrap().mlp, None);
}

#[test]
fn what_attention_of_the_original_layout_does_not_do_here_is_named() {
    let with = |from: &str, to: &str| message(&ATTENDING.replace(from, to));
    assert_eq!(with(r#""causal": true, "#, ""), "config.json: `attn_cfg.causal` is missing");
    assert_eq!(with("true", "false"), "config.json: `attn_cfg.causal` is false; allowed: true");
    assert_eq!(
        with("[1]", "[3]"),
        "config.json: `attn_layer_idx` is [3]; allowed: a list of numbers below n_layer = 3"
    );
    assert_eq!(
        with(r#""rotary_emb_dim": 64"#, r#""rotary_emb_dim": 63"#),
        "config.json: `attn_cfg.rotary_emb_dim` is 63; allowed: an even number"
    );
    assert!(with(r#""d_conv": 4"#, r#""mlp_dim": 4"#).contains("`attn_cfg.mlp_dim` is 4; allowed: 0"));
    assert!(with(r#""d_conv": 4"#, r#""rotary_emb_interleaved": true"#).contains("allowed: false"));
    assert!(with(r#""d_conv": 4"#, r#""d_conv": 1"#).contains("`attn_cfg.d_conv` is 1; allowed: 0, or 2 to 8"));
    assert!(with(r#""d_conv": 4"#, r#""dropout": 4"#).contains("allowed: no such key"));
    assert!(with(r#""head_dim": 128,"#, "").contains("`attn_cfg.num_heads` is 30; allowed: a divisor of 2560"));
    assert!(with(r#""head_dim": 128"#, r#""head_dim": 512"#).contains("512; allowed: an integer from 1 to 256"));
}

/// As transformers writes one, with few layers.
const ZAMBA2: &str = r#"{"model_type": "zamba2", "hidden_size": 2048, "num_hidden_layers": 5, "num_mem_blocks": 2,
    "layers_block_type": ["mamba", "hybrid", "linear_attention", "hybrid", "hybrid"], "n_mamba_heads": 64,
    "use_shared_attention_adapter": true, "use_mem_rope": true, "num_attention_heads": 32}"#;

#[test]
fn zamba2_shares_blocks_and_keeps_adapters() {
    let c = parse(ZAMBA2).unwrap();
    let (mixer, shared) = (LayerType::Mamba2, LayerType::Shared);
    assert_eq!(c.layer_types, [mixer, shared, mixer, shared, shared]);
    assert!(c.tie_word_embeddings && c.following_mlp().is_none());
    assert_eq!((c.mamba2.as_ref().unwrap().head_dim, c.mamba2.as_ref().unwrap().norm_eps), (64, 1e-5));
    let a = c.attention.as_ref().unwrap();
    assert_eq!((a.head_dim, a.scale, a.rope.unwrap().channels), (128, 0.125, 128));
    let tensors = c.expected_tensors();
    let find = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, shape)| &shape[..]);
    let block = |layer: usize, name: &str| find(&format!("model.layers.{layer}.shared_transformer.{name}"));
    assert_eq!(block(1, "self_attn.q_proj.weight"), Some(&[4096, 4096][..]));
    assert_eq!(block(3, "self_attn.o_proj.weight"), Some(&[2048, 4096][..]));
    assert_eq!(block(4, "self_attn.o_proj.weight"), None);
    // The third layer that shares a block has the first again, and an adapter of its own in it.
    assert_eq!(block(1, "feed_forward.gate_up_proj_adapter_list.2.1.weight"), Some(&[16_384, 128][..]));
    assert_eq!(block(3, "feed_forward.gate_up_proj_adapter_list.2.1.weight"), None);
    assert_eq!(find("model.layers.4.mamba_decoder.mamba.out_proj.weight"), Some(&[2048, 4096][..]));
    assert_eq!(find("model.layers.4.linear.weight"), Some(&[2048, 2048][..]));
}

#[test]
fn what_zamba2_does_not_do_here_is_named() {
    let with = |from: &str, to: &str| message(&ZAMBA2.replace(from, to));
    assert!(with("\"hybrid\"", "\"g\"").contains("`layers_block_type[1]` is \"g\"; allowed: \"mamba\" or \"hybrid\""));
    assert!(with(r#""use_mem_rope": true"#, r#""hidden_act": "gelu_new""#).contains("allowed: \"gelu\""));
    assert!(with(r#""use_mem_rope": true"#, r#""attention_head_dim": 64"#).contains("is 64; allowed: 128"));
    assert!(with(r#""layers_block_type""#, r#""layers""#).contains("`layers_block_type` is missing"));
}

/// The published config of Granite-4.0-H-350M, as far as it is known here.
const GRANITE: &str = r#"{"model_type": "granitemoehybrid", "hidden_size": 768, "num_hidden_layers": 4, "vocab_size": 100352,
    "layer_types": ["mamba", "linear_attention", "attention", "full_attention"], "mamba_n_heads": 48, "mamba_d_head": 32,
    "mamba_d_state": 128, "num_attention_heads": 12, "num_key_value_heads": 4, "position_embedding_type": "nope",
    "embedding_multiplier": 12, "residual_multiplier": 0.246, "attention_multiplier": 0.015625, "logits_scaling": 3,
    "shared_intermediate_size": 2048, "num_local_experts": 0, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#;

#[test]
fn granite_reads_its_multipliers_and_both_spellings_of_layers() {
    let c = parse(GRANITE).unwrap();
    let (mixer, attention) = (LayerType::Mamba2, LayerType::Attention);
    assert_eq!(c.layer_types, [mixer, mixer, attention, attention]);
    assert_eq!((c.scales.embedding, c.scales.residual, c.scales.logits), (12.0, 0.246, 3f32.recip()));
    let a = c.attention.as_ref().unwrap();
    assert_eq!((a.num_heads, a.num_key_value_heads, a.head_dim, a.scale, a.rope), (12, 4, 64, 0.015_625, None));
    assert_eq!(parse(&GRANITE.replace("layer_types", "layers_block_type")).unwrap(), c);
    let wide = parse(&GRANITE.replace("\"hidden_size\"", "\"head_dim\": 96, \"hidden_size\"")).unwrap();
    assert_eq!((wide.attention.as_ref().unwrap().head_dim, wide.attention.unwrap().q_width()), (96, 12 * 96));
    let tensors = c.expected_tensors();
    let shape = |name: &str| &tensors.iter().find(|(n, _)| n == name).expect(name).1[..];
    assert_eq!(shape("model.layers.0.mamba.in_proj.weight"), [2 * 1536 + 2 * 128 + 48, 768]);
    assert_eq!(shape("model.layers.2.self_attn.k_proj.weight"), [256, 768]);
    assert_eq!(shape("model.layers.3.shared_mlp.input_linear.weight"), [4096, 768]);
}

#[test]
fn what_granite_does_not_do_here_is_named() {
    let with = |key: &str, value: &str| {
        let mut config: serde_json::Value = serde_json::from_str(GRANITE).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        message(&config.to_string())
    };
    for (key, value, expected) in [
        (
            "position_embedding_type",
            "\"alibi\"",
            "`position_embedding_type` is \"alibi\"; allowed: \"rope\" or \"nope\"",
        ),
        (
            "layer_types",
            "[\"mamba\"]",
            "`layer_types` is [\"mamba\"]; allowed: a list of num_hidden_layers = 4 entries",
        ),
        ("residual_multiplier", "0", "`residual_multiplier` is 0; allowed: a number above 0"),
        ("mamba_d_head", "64", "`mamba_d_head` is 64; allowed: the inner width / mamba_n_heads = 1536 / 48"),
        ("num_key_value_heads", "5", "`num_key_value_heads` is 5; allowed: a divisor of 12"),
        (
            "num_attention_heads",
            "2",
            "`num_attention_heads` is 2; allowed: hidden_size / 256 or more: heads of at most so many channels",
        ),
    ] {
        assert_eq!(with(key, value), format!("config.json: {expected}"));
    }
}

#[test]
fn bamba_rotates_half_of_a_head_in_both_spellings() {
    let rope = |keys: &str| {
        let text =
            format!(r#"{{"model_type": "bamba", "attn_layer_indices": [9, 18, 27], {keys} "mamba_d_head": "auto"}}"#);
        parse(&text).map(|c| c.attention.unwrap().rope.unwrap())
    };
    assert_eq!(rope("").unwrap(), Rope { theta: 10_000.0, channels: 64 });
    assert_eq!(rope(r#""rope_theta": 5e5, "rope_scaling": null,"#).unwrap(), Rope { theta: 5e5, channels: 64 });
    let new = r#""rope_parameters": {"rope_theta": 100, "rope_type": "default", "partial_rotary_factor": 0.25},"#;
    assert_eq!(rope(new).unwrap(), Rope { theta: 100.0, channels: 32 });
    // What is there in the older spelling counts, and nothing in it does not.
    let both = r#""rope_scaling": {"rope_theta": 50}, "rope_parameters": {"rope_theta": 100},"#;
    assert_eq!(rope(both).unwrap().theta, 50.0);
    assert_eq!(rope(r#""rope_scaling": {}, "rope_parameters": {"rope_theta": 100},"#).unwrap().theta, 100.0);
    for (keys, expected) in [
        (r#""rope_scaling": {"type": "linear"},"#, "`rope_scaling.type` is \"linear\"; allowed: \"default\""),
        (
            r#""rope_parameters": {"rope_type": "yarn"},"#,
            "`rope_parameters.rope_type` is \"yarn\"; allowed: \"default\"",
        ),
        (r#""rope_scaling": {"factor": 2.0},"#, "`rope_scaling.factor` is 2.0; allowed: no such key: this build knows"),
        (
            r#""rope_parameters": {"full_attention": {}},"#,
            "`rope_parameters.full_attention` is {}; allowed: no such key",
        ),
        (r#""rope_scaling": "linear","#, "`rope_scaling` is \"linear\"; allowed: an object"),
        (r#""rope_parameters": {"rope_theta": 0},"#, "`rope_parameters.rope_theta` is 0; allowed: a positive number"),
        (r#""partial_rotary_factor": 1.0,"#, "`partial_rotary_factor` is 1.0; allowed: 0.5"),
    ] {
        let error = rope(keys).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(rope(r#""partial_rotary_factor": 0.5,"#).is_ok());
    let c = parse(r#"{"model_type": "bamba", "attn_layer_indices": [9, 18, 27]}"#).unwrap();
    assert_eq!(c.count(LayerType::Attention), 3);
    assert!(message(r#"{"model_type": "bamba", "attn_layer_indices": [32]}"#).contains("below num_hidden_layers = 32"));
}

#[test]
fn falcon_has_its_multipliers_and_an_inner_width_of_its_own() {
    let text = r#"{"model_type": "falcon_h1", "hidden_size": 1024, "num_hidden_layers": 2, "mamba_d_ssm": 1536,
        "mamba_n_heads": 24, "mamba_d_head": 64, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
        "key_multiplier": 0.5, "ssm_multipliers": [1, 2, 3, 4, 5], "mlp_multipliers": [0.5, 0.25], "rope_theta": 1e11,
        "attention_in_multiplier": 2, "ssm_in_multiplier": 3, "mamba_rms_norm": false}"#;
    let c = parse(text).unwrap();
    assert_eq!(c.layer_types, [LayerType::Parallel; 2]);
    let m = c.mamba2.as_ref().unwrap();
    assert_eq!(
        (m.d_inner(), m.gate, m.scales.input, m.scales.projected),
        (1536, GateMode::GateOnly, 3.0, [1.0, 2.0, 3.0, 4.0, 5.0])
    );
    let a = c.attention.as_ref().unwrap();
    assert_eq!(
        (a.q_width(), a.scale, a.in_scale, a.rope),
        (512, 0.0625, 2.0, Some(Rope { theta: 1e11, channels: 64 }))
    );
    let mlp = c.following_mlp().unwrap();
    assert_eq!((mlp.gate_scale, mlp.out_scale, mlp.bias), (0.5, 0.25, false));
    // The class does not look at a part of a head that would rotate.
    for keys in ["\"partial_rotary_factor\": 0.5", "\"rope_parameters\": {\"partial_rotary_factor\": 0.5}"] {
        let error = message(&text.replace("\"rope_theta\": 1e11", keys));
        assert!(error.contains("partial_rotary_factor` is 0.5; allowed: 1"), "{error}");
    }
    let heads = |key: &str| parse(&text.replace("\"num_key_value_heads\": 2", key)).unwrap().attention.unwrap();
    let with_16 = |key: &str| heads(&format!("{key}, \"num_attention_heads\": 16")).num_key_value_heads;
    assert_eq!((with_16("\"num_key_value_heads\": null"), with_16("\"x\": 0")), (16, 8));
    let error = message(&text.replace("[1, 2, 3, 4, 5]", "[1, 2, 3, 4]"));
    assert_eq!(error, "config.json: `ssm_multipliers` is [1,2,3,4]; allowed: a list of 5 numbers above 0");
    let normed = parse(&text.replace("\"mamba_rms_norm\": false", "\"mamba_rms_norm\": true")).unwrap();
    assert_eq!(normed.mamba2.unwrap().gate, GateMode::NormBeforeGate);
}

#[test]
fn nemotron_spells_its_layers_in_letters_or_words() {
    let layers = |keys: &str| parse(&format!(r#"{{"model_type": "nemotron_h", {keys}}}"#)).map(|c| c.layer_types);
    let expected = [LayerType::Mamba2, LayerType::Mlp, LayerType::Attention];
    assert_eq!(layers(r#""hybrid_override_pattern": "M-*""#).unwrap(), expected);
    assert_eq!(layers(r#""layers_block_type": ["mamba", "mlp", "full_attention"]"#).unwrap(), expected);
    let error = |keys: &str| layers(keys).unwrap_err().to_string();
    assert!(error(r#""hybrid_override_pattern": 7"#).contains("1 to 1024 layers"));
    let limit = r#""mamba_dt_limit": [0.01, 0.5], "hybrid_override_pattern": "M""#;
    let c = parse(&format!(r#"{{"model_type": "nemotron_h", {limit}}}"#)).unwrap();
    assert_eq!(c.mamba2.unwrap().time_step_limit, (0.01, 0.5));
    assert!(error(r#""hybrid_override_pattern": "M+""#).contains("a text of the letters M, *, - and E"));
    assert!(error(r#""hybrid_override_pattern": """#).contains("1 to 1024 layers"));
    assert!(error(r#""layers_block_type": ["mamba", "rwkv"]"#).contains("`layers_block_type[1]` is \"rwkv\""));
    assert_eq!(error(r#""x": 1"#), "config.json: `layers_block_type` is missing");
    assert!(error(r#""mlp_hidden_act": "silu", "hybrid_override_pattern": "M""#).contains("allowed: \"relu2\""));
}

#[test]
fn experts_stand_beside_the_mlp_or_alone() {
    // Absent, the number of Granite's experts is that of its class.
    let granite = parse(&GRANITE.replace("num_local_experts", "x")).unwrap();
    let e = granite.following_experts().unwrap();
    assert_eq!((e.routing.experts, e.routing.top, e.routing.sigmoid), (8, 2, false));
    assert_eq!(e.shared.as_ref(), granite.mlp.as_ref());
    assert_eq!(granite.following_mlp(), None);
    let tensors = granite.expected_tensors();
    let shape = |name: &str| &tensors.iter().find(|(n, _)| n == name).expect(name).1[..];
    assert_eq!(shape("model.layers.1.block_sparse_moe.input_linear.weight"), [8, 22_016, 768]);
    assert_eq!(shape("model.layers.1.shared_mlp.input_linear.weight"), [4096, 768]);

    let nemotron = |keys: &str| {
        parse(&format!(r#"{{"model_type": "nemotron_h", "hidden_size": 64, "hybrid_override_pattern": "ME", {keys}}}"#))
    };
    let c = nemotron(r#""n_routed_experts": 16, "n_group": 4, "topk_group": 2, "moe_latent_size": 32"#).unwrap();
    let e = c.experts.as_ref().unwrap();
    assert_eq!((e.routing.groups, e.routing.kept, e.routing.sigmoid, e.latent), (4, 2, true, Some(32)));
    assert_eq!((c.following_experts(), c.mlp.as_ref()), (None, None));
    let tensors = c.expected_tensors();
    let shape = |name: &str| &tensors.iter().find(|(n, _)| n == name).expect(name).1[..];
    assert_eq!(shape("backbone.layers.1.mixer.experts.15.down_proj.weight"), [32, 7688]);
    assert_eq!(shape("backbone.layers.1.mixer.fc2_latent_proj.weight"), [64, 32]);
    let error = |keys: &str| nemotron(keys).unwrap_err().to_string();
    assert!(error(r#""n_group": 3"#).contains("`n_group` is 3; allowed: a divisor of 8"));
    assert!(error(r#""n_group": 8"#).contains("at most 32 groups of at least two experts"));
    assert!(error(r#""num_experts_per_tok": 5, "n_group": 2"#).contains("an integer from 1 to 4"));
    assert!(error(r#""n_shared_experts": 2"#).contains("allowed: 1"));
    assert!(error(r#""moe_latent_size": 33"#).contains("even widths"));
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
