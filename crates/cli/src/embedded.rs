//! The model inside this program.

use std::borrow::Cow;

use taipan::ModelFiles;

static CONFIG: &[u8] = include_bytes!("../model/config.json");
static WEIGHTS: &[u8] = include_bytes!("../model/model.safetensors");
static TOKENIZER: &[u8] = include_bytes!("../model/tokenizer.json");

/// The name it goes by in messages and JSON.
pub(crate) const NAME: &str = "embedded";

/// Its three files.
pub(crate) fn files() -> ModelFiles {
    ModelFiles { config: Cow::Borrowed(CONFIG), weights: weights(), tokenizer: Some(Cow::Borrowed(TOKENIZER)) }
}

/// config.json.
pub(crate) fn config() -> &'static [u8] {
    CONFIG
}

/// Its one weight file, by name.
pub(crate) fn weights() -> Vec<(String, Cow<'static, [u8]>)> {
    vec![("model.safetensors".to_owned(), Cow::Borrowed(WEIGHTS))]
}
