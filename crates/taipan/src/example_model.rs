// The model of the examples in the documentation, which include this file: two small layers with random weights.

pub const CONFIG: &str = r#"{
    "model_type": "taipan", "vocab_size": 48, "hidden_size": 32,
    "layer_types": ["mamba2", "selective_attention"],
    "mamba2": { "d_state": 8, "d_conv": 4, "expand": 2, "head_dim": 16, "n_groups": 1 },
    "selective_attention": { "num_heads": 2, "head_dim": 16, "window": 8, "intermediate_size": 48 }
}"#;

pub async fn example_model() -> taipan::Result<taipan::Model> {
    let files = taipan::ModelFiles::random(CONFIG, 1)?;
    taipan::Model::from_bytes(files, &taipan::Device::cpu(), taipan::LoadOptions::default()).await
}
