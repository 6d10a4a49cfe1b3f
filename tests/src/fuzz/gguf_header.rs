//! Any bytes as a GGUF file: a typed error, or a model whose tensors are those that its config calls for, and which loads or
//! says why not.

use pollster::block_on;
use taipan::{Config, Device, Gguf, LoadOptions, Model, Tokenizer};

/// Takes any bytes; returns whether they were a model.
///
/// # Panics
/// If they are neither refused properly nor usable.
pub fn check(input: &[u8]) -> bool {
    let file = match Gguf::from_bytes("model.gguf", input.to_vec().into()) {
        Ok(file) => file,
        Err(error) => {
            let code = error.code();
            assert!(["weights-invalid", "config-invalid", "model-unsupported"].contains(&code), "{code}: {error}");
            assert!(error.to_string().len() < 2000);
            return false;
        }
    };
    let config = Config::from_json(&file.description.config).unwrap();
    let weights = block_on(file.weights()).unwrap();
    weights.check(&config).unwrap();
    for info in &weights.headers().tensors {
        let tensor = weights.get(&info.name).unwrap();
        assert_eq!(tensor.to_vec_f32().len(), info.elements());
        let _ = tensor.check_finite();
    }
    if let Some(Err(error)) = file.description.tokenizer.as_deref().map(Tokenizer::from_bytes) {
        assert_eq!(error.code(), "tokenizer");
    }
    // Sizes that no tensor has, such as that of a group's state, can ask for memory that is not there.
    let cpu = Device::cpu();
    let loaded = Model::from_source(&file.description.config, None, &file, &cpu, LoadOptions::default());
    if let Err(error) = block_on(loaded) {
        assert!(["weights-value", "out-of-memory"].contains(&error.code()), "{}: {error}", error.code());
    }
    true
}
