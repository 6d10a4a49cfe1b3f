//! Any bytes as a GGUF file: a typed error, or a model whose tensors are those that its config calls for.

use taipan::{Config, Gguf, Tokenizer};

/// Takes any bytes; returns whether they were a model.
///
/// # Panics
/// If they are neither refused properly nor usable.
pub fn check(input: &[u8]) -> bool {
    match Gguf::from_bytes("model.gguf", input.to_vec().into()) {
        Ok(model) => {
            let config = Config::from_json(&model.config).unwrap();
            model.weights.check(&config).unwrap();
            for info in &model.weights.headers().tensors {
                let tensor = model.weights.get(&info.name).unwrap();
                assert_eq!(tensor.to_vec_f32().len(), info.elements());
                let _ = tensor.check_finite();
            }
            if let Some(Err(error)) = model.tokenizer.map(|bytes| Tokenizer::from_bytes(&bytes)) {
                assert_eq!(error.code(), "tokenizer");
            }
            true
        }
        Err(error) => {
            let code = error.code();
            assert!(["weights-invalid", "config-invalid", "model-unsupported"].contains(&code), "{code}: {error}");
            assert!(error.to_string().len() < 2000);
            false
        }
    }
}
